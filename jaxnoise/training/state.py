"""Everything that the next step reads."""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import jax
import jax.numpy as jnp
import optax
from flax import struct

Params = Any


class Stepped(Protocol):
    """Any state that counts its steps: that of a model, or of a rater of noise."""

    step: jax.Array


State = TypeVar("State", bound=Stepped)


class TrainState(struct.PyTreeNode):
    """The state of a run: a plain pytree, replicated over devices.

    Args:
      step: int32[], how many updates were made.
      params: {"network": the student's parameters, "objective": the objective's own}, float32.
      opt_state: the optimizer's state.
      ema: bias-corrected moving average of `params`, None without one, or a tuple of several, the
        main one first.
      teacher: the teacher's own parameters under a teacher EMA, or None.
      pace: state of the pacing of noise levels, () for one without.
    """

    step: jax.Array
    params: Params
    opt_state: optax.OptState
    ema: Params
    teacher: Params
    pace: Any

    @property
    def sampling_params(self) -> Params:
        """What samples are drawn with: the main moving average where there is one."""
        averages = self.averages
        return averages[0] if averages else self.params

    @property
    def averages(self) -> tuple[Params, ...]:
        """The moving averages, the main one first."""
        if self.ema is None:
            return ()
        return self.ema if isinstance(self.ema, tuple) else (self.ema,)


def create_state(
    init: Callable[[jax.Array], Params],
    optimizer: optax.GradientTransformation,
    key: jax.Array,
    teacher: bool,
    pace: Any = (),
    averages: int = 1,
) -> TrainState:
    """The state before the first update; `jax.eval_shape` of it costs nothing.

    Args:
      init: PRNG key -> parameters.
      optimizer: an optax optimizer.
      key: PRNG key.
      teacher: whether the teacher keeps parameters of its own.
      pace: the pacing's first state.
      averages: how many moving averages of the parameters are kept.
    """
    params = init(key)
    return _distinct(
        TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            opt_state=optimizer.init(params),
            ema=_one_or_several((params,) * averages),
            teacher=params if teacher else None,
            pace=pace,
        )
    )


def _one_or_several(averages: tuple[Params, ...]) -> Params:
    """As a state has them: one average is no tuple, as in every checkpoint from before."""
    return (averages[0] if len(averages) == 1 else averages) if averages else None


def _distinct(state: TrainState) -> TrainState:
    """The state with a buffer of its own for every leaf: the step donates it, each buffer once."""
    seen: set[int] = set()

    def own(leaf: Any) -> Any:
        if id(leaf) in seen:
            return jnp.copy(leaf)
        seen.add(id(leaf))
        return leaf

    return jax.tree.map(own, state)

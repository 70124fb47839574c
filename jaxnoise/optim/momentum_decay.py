"""Momentum that decays over training, with the learning rate that compensates for it."""

from math import log
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from jaxnoise.errors import ArgumentError, check_finite, check_numbers, check_positive

_INTEGER = "an integer >= 1"


def decayed_momentum(progress: ArrayLike, b1: float = 0.9) -> jax.Array:
    """First-moment decay rate after a share tau of training.

    `beta = b1 (1 - tau) / ((1 - b1) + b1 (1 - tau))`

    What `momentum_decay` uses, for pictures and for optimizers of one's own.

    Args:
      progress: float[...], tau = k/K in [0, 1]; beyond an end it is taken for that end.
      b1: decay rate at tau = 0, in [0, 1).

    Returns:
      float[...], falling from b1 to 0.

    Raises:
      ArgumentError: `b1` outside [0, 1).

    Example:
      >>> from jaxnoise.optim import decayed_momentum
      >>> print(f"{decayed_momentum(0.5):.3f}")
      0.818

    Reference: "Towards Faster Training of Diffusion Models" (arXiv 2404.07946).
    """
    left = 1 - _checked(progress, b1)
    return b1 * left / ((1 - b1) + b1 * left)


def learning_rate_compensation(progress: ArrayLike, b1: float = 0.9) -> jax.Array:
    """Learning-rate factor that keeps `lr (1 - beta)` constant while the momentum decays.

    `lr / lr0 = (1 - b1) / (1 - beta) = 1 - b1 tau`

    What `momentum_decay` uses, for pictures and for optimizers of one's own.

    Args:
      progress: float[...], tau = k/K in [0, 1]; beyond an end it is taken for that end.
      b1: decay rate at tau = 0, in [0, 1).

    Returns:
      float[...], falling from 1 to 1 - b1.

    Raises:
      ArgumentError: `b1` outside [0, 1).

    Example:
      >>> from jaxnoise.optim import learning_rate_compensation
      >>> print(f"{learning_rate_compensation(0.5):.2f}")
      0.55

    Reference: "Towards Faster Training of Diffusion Models" (arXiv 2404.07946).
    """
    return 1 - b1 * _checked(progress, b1)


def _checked(progress: ArrayLike, b1: float) -> jax.Array:
    """The share of training, no more than all of it."""
    check_numbers("b1", b1, lambda x: (x >= 0) & (x < 1), "a number in [0, 1)")
    return jnp.clip(jnp.asarray(progress, jnp.result_type(float)), 0, 1)


class MomentumDecayState(NamedTuple):
    """State of `momentum_decay`.

    Args:
      taken: int32[], steps taken so far.
      mass: float[], `1 - prod_i beta_i` over the steps taken: what the weights in `mu` sum to.
      mu: first moment, like the parameters.
      nu: second moment, like the parameters; the empty tuple without one.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnoise.optim import momentum_decay
      >>> state = momentum_decay(0.1, total_steps=10).init(jnp.zeros(3))
      >>> int(state.taken), state.mu.shape
      (0, (3,))
    """

    taken: jax.Array
    mass: jax.Array
    mu: optax.Updates
    nu: optax.Updates


def momentum_decay(
    learning_rate: optax.ScalarOrSchedule,
    total_steps: int,
    b1: float = 0.9,
    b2: float | None = 0.999,
    eps: float = 1e-8,
    decay_momentum: bool = True,
    compensate: bool = True,
) -> optax.GradientTransformation:
    """Adam, or SGD, with decaying momentum and learning-rate compensation (MDLRC).

    With tau = min(k/K, 1) at step k = 0, 1, ..:
    `beta_k = b1 (1-tau) / ((1-b1) + b1 (1-tau))`, `lr_k = lr (1 - b1 tau)`,
    `m <- beta_k m + (1-beta_k) g`, `v <- b2 v + (1-b2) g^2`,
    `update = -lr_k m/(1 - prod_i beta_i) / (sqrt(v/(1 - b2^(k+1))) + eps)`.

    The compensation is a learning-rate decay, and so a confound: compare with
    `decay_momentum=False`, which keeps beta = b1 and decays the learning rate alike.

    For diffusion models that should train in fewer steps; its authors combine it with a curriculum
    (`jaxnoise.noise.CLTS`). Numbers may be traced, as `optax.inject_hyperparams` hands them over.

    Args:
      learning_rate: lr, a number or a schedule of the step, multiplied by the compensation.
      total_steps: an integer K >= 1; from K on, beta = 0 and the factor on lr is 1 - b1.
      b1: first-moment decay rate at step 0, in [0, 1).
      b2: second-moment decay rate, in (0, 1); None divides by no second moment (SGD).
      eps: added to the root of the second moment, > 0.
      decay_momentum: whether beta decays; otherwise it stays b1.
      compensate: whether lr is multiplied by 1 - b1 tau.

    Returns:
      An optax transformation; chain weight decay or clipping around it.

    Raises:
      ArgumentError: an argument is outside its range.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnoise.optim import momentum_decay
      >>> optimizer = momentum_decay(0.5, total_steps=10, b2=None)
      >>> params = jnp.asarray([1.0, -2.0])
      >>> updates, state = optimizer.update(params, optimizer.init(params))
      >>> print(updates)
      [-0.5  1. ]

    Reference: "Towards Faster Training of Diffusion Models" (arXiv 2404.07946).
    """
    if not callable(learning_rate):
        check_finite("learning_rate", learning_rate)
    # optax.inject_hyperparams makes float arrays of integers.
    if isinstance(total_steps, float):
        raise ArgumentError("total_steps", total_steps, _INTEGER)
    check_numbers("total_steps", total_steps, lambda x: (x >= 1) & (x == x // 1), _INTEGER)
    check_numbers("b1", b1, lambda x: (x >= 0) & (x < 1), "a number in [0, 1)")
    if b2 is not None:
        check_numbers("b2", b2, lambda x: (x > 0) & (x < 1), "a number in (0, 1), or None")
    check_positive("eps", eps)

    def zeros(p: jax.Array) -> jax.Array:
        # In bfloat16 b2 = .999 is 1, and a second moment would never decay.
        narrow = jnp.issubdtype(p.dtype, jnp.floating) and jnp.finfo(p.dtype).bits < 32
        return jnp.zeros_like(p, jnp.float32 if narrow else None)

    def init(params: optax.Params) -> MomentumDecayState:
        return MomentumDecayState(
            jnp.zeros((), jnp.int32),
            jnp.zeros((), jnp.result_type(float)),
            jax.tree.map(zeros, params),
            () if b2 is None else jax.tree.map(zeros, params),
        )

    def update(
        updates: optax.Updates, state: MomentumDecayState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, MomentumDecayState]:
        del params
        progress = jnp.minimum(state.taken.astype(jnp.result_type(float)) / total_steps, 1)
        beta = decayed_momentum(progress if decay_momentum else jnp.zeros_like(progress), b1)
        rate = learning_rate(state.taken) if callable(learning_rate) else learning_rate
        if compensate:
            rate = rate * learning_rate_compensation(progress, b1)
        taken = optax.safe_increment(state.taken)
        # The same recursion as for a gradient of 1: a constant gradient is recovered exactly.
        mass = beta * state.mass + (1 - beta)

        def first_moment(m: jax.Array, g: jax.Array) -> jax.Array:
            weight = beta.astype(m.dtype)
            return weight * m + (1 - weight) * g.astype(m.dtype)

        mu = jax.tree.map(first_moment, state.mu, updates)
        scale = -rate / mass
        if b2 is None:
            steps = jax.tree.map(
                lambda m, g: (scale.astype(m.dtype) * m).astype(g.dtype), mu, updates
            )
            return steps, MomentumDecayState(taken, mass, mu, ())

        def second_moment(v: jax.Array, g: jax.Array) -> jax.Array:
            kept, new = jnp.asarray(b2, v.dtype), jnp.asarray(1 - b2, v.dtype)
            return kept * v + new * g.astype(v.dtype) ** 2

        nu = jax.tree.map(second_moment, state.nu, updates)
        # 1 - b2^count would lose digits in float32.
        log_b2 = jnp.log(b2) if isinstance(b2, jax.Array) else log(b2)
        mass2 = -jnp.expm1(taken.astype(mass.dtype) * log_b2)

        def step(m: jax.Array, v: jax.Array, g: jax.Array) -> jax.Array:
            size = jnp.sqrt(v / mass2.astype(v.dtype)) + jnp.asarray(eps, v.dtype)
            return (scale.astype(m.dtype) * m / size).astype(g.dtype)

        return jax.tree.map(step, mu, nu, updates), MomentumDecayState(taken, mass, mu, nu)

    return optax.GradientTransformation(init, update)

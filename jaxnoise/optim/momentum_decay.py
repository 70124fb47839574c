"""Momentum that decays over training, with the learning rate that compensates for it."""

from math import log
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from jaxnoise.errors import ArgumentError


def decayed_momentum(progress: ArrayLike, b0: float = 0.9) -> jax.Array:
    """First-moment decay rate after a share tau of training.

    `beta = b0 (1 - tau) / ((1 - b0) + b0 (1 - tau))`

    Args:
      progress: float[...], tau = k/K in [0, 1].
      b0: decay rate at tau = 0, in [0, 1).

    Returns:
      float[...], falling from b0 to 0.

    Example:
      >>> print(f"{decayed_momentum(0.5):.3f}")
      0.818

    Reference: "Towards Faster Training of Diffusion Models" (arXiv 2404.07946).
    """
    left = 1 - jnp.asarray(progress, jnp.result_type(float))
    return b0 * left / ((1 - b0) + b0 * left)


def learning_rate_compensation(progress: ArrayLike, b0: float = 0.9) -> jax.Array:
    """Learning-rate factor that keeps `lr (1 - beta)` constant while the momentum decays.

    `lr / lr0 = (1 - b0) / (1 - beta) = 1 - b0 tau`

    Args:
      progress: float[...], tau = k/K in [0, 1].
      b0: decay rate at tau = 0, in [0, 1).

    Returns:
      float[...], falling from 1 to 1 - b0.

    Example:
      >>> print(f"{learning_rate_compensation(0.5):.2f}")
      0.55

    Reference: "Towards Faster Training of Diffusion Models" (arXiv 2404.07946).
    """
    return 1 - b0 * jnp.asarray(progress, jnp.result_type(float))


class MomentumDecayState(NamedTuple):
    """State of `momentum_decay`.

    Args:
      taken: int32, steps taken so far.
      mass: scalar, `1 - prod_i beta_i` over the steps taken: what the weights in `mu` sum to.
      mu: first moment, like the parameters.
      nu: second moment, like the parameters; the empty tuple without one.
    """

    taken: jax.Array
    mass: jax.Array
    mu: optax.Updates
    nu: optax.Updates


def momentum_decay(
    learning_rate: optax.ScalarOrSchedule,
    total_steps: int,
    b0: float = 0.9,
    b2: float | None = 0.999,
    eps: float = 1e-8,
    decay_momentum: bool = True,
    compensate: bool = True,
) -> optax.GradientTransformation:
    """Adam, or SGD, with decaying momentum and learning-rate compensation (MDLRC).

    With tau = min(k/K, 1) at step k = 0, 1, ..:
    `beta_k = b0 (1-tau) / ((1-b0) + b0 (1-tau))`, `lr_k = lr (1 - b0 tau)`,
    `m <- beta_k m + (1-beta_k) g`, `v <- b2 v + (1-b2) g^2`,
    `update = -lr_k m/(1 - prod_i beta_i) / (sqrt(v/(1 - b2^(k+1))) + eps)`.

    The compensation is a learning-rate decay, and so a confound: compare with
    `decay_momentum=False`, which keeps beta = b0 and decays the learning rate alike.

    Args:
      learning_rate: lr, a number or a schedule of the step, multiplied by the compensation.
      total_steps: K >= 1; from K on, beta = 0 and the factor on lr is 1 - b0.
      b0: first-moment decay rate at step 0, in [0, 1).
      b2: second-moment decay rate, in (0, 1); None divides by no second moment (SGD).
      eps: added to the root of the second moment, > 0.
      decay_momentum: whether beta decays; otherwise it stays b0.
      compensate: whether lr is multiplied by 1 - b0 tau.

    Returns:
      An optax transformation; chain weight decay or clipping around it.

    Raises:
      ArgumentError: an argument is outside its range.

    Example:
      >>> optimizer = momentum_decay(0.5, total_steps=10, b2=None)
      >>> params = jnp.asarray([1.0, -2.0])
      >>> updates, state = optimizer.update(params, optimizer.init(params))
      >>> print(updates)
      [-0.5  1. ]

    Reference: "Towards Faster Training of Diffusion Models" (arXiv 2404.07946).
    """
    if total_steps < 1:
        raise ArgumentError("total_steps", total_steps, "at least 1")
    if not 0 <= b0 < 1:
        raise ArgumentError("b0", b0, "a number in [0, 1)")
    if b2 is not None and not 0 < b2 < 1:
        raise ArgumentError("b2", b2, "a number in (0, 1), or None")
    if not eps > 0:
        raise ArgumentError("eps", eps, "a number > 0")

    def init(params: optax.Params) -> MomentumDecayState:
        return MomentumDecayState(
            jnp.zeros((), jnp.int32),
            jnp.zeros((), jnp.result_type(float)),
            jax.tree.map(jnp.zeros_like, params),
            () if b2 is None else jax.tree.map(jnp.zeros_like, params),
        )

    def update(
        updates: optax.Updates, state: MomentumDecayState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, MomentumDecayState]:
        del params
        progress = jnp.minimum(state.taken.astype(jnp.result_type(float)) / total_steps, 1)
        beta = decayed_momentum(progress if decay_momentum else jnp.zeros_like(progress), b0)
        rate = learning_rate(state.taken) if callable(learning_rate) else learning_rate
        if compensate:
            rate = rate * learning_rate_compensation(progress, b0)
        taken = optax.safe_increment(state.taken)
        # The same recursion as for a gradient of 1: a constant gradient is recovered exactly.
        mass = beta * state.mass + (1 - beta)

        def first_moment(m: jax.Array, g: jax.Array) -> jax.Array:
            weight = beta.astype(m.dtype)
            return weight * m + (1 - weight) * g.astype(m.dtype)

        mu = jax.tree.map(first_moment, state.mu, updates)
        scale = -rate / mass
        if b2 is None:
            steps = jax.tree.map(lambda m: scale.astype(m.dtype) * m, mu)
            return steps, MomentumDecayState(taken, mass, mu, ())
        nu = jax.tree.map(
            lambda v, g: b2 * v + (1 - b2) * g.astype(v.dtype) ** 2, state.nu, updates
        )
        # 1 - b2^count would lose digits in float32.
        mass2 = -jnp.expm1(taken.astype(mass.dtype) * log(b2))

        def step(m: jax.Array, v: jax.Array) -> jax.Array:
            return scale.astype(m.dtype) * m / (jnp.sqrt(v / mass2.astype(v.dtype)) + eps)

        return jax.tree.map(step, mu, nu), MomentumDecayState(taken, mass, mu, nu)

    return optax.GradientTransformation(init, update)

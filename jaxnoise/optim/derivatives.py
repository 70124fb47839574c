"""Whether an optimizer's update has a derivative at all."""

import jax
import jax.numpy as jnp
import optax

from jaxnoise.compilation import run_once

_UPDATES = 64


def follows_gradient(optimizer: optax.GradientTransformation) -> bool:
    """Whether a small change of the gradient changes the update, as a meta-gradient needs.

    The update of Lion, of signSGD and of their kin is a sign, whose derivative is 0 wherever it
    has one: a gradient through such training is exactly 0. It is tried out on four numbers and
    64 updates, since some optimizers gather gradients first.

    Args:
      optimizer: from optax.

    Returns:
      Whether the derivative of the updates' sum by the gradients is other than 0.

    Example:
      >>> import optax
      >>> from jaxnoise.optim import follows_gradient
      >>> follows_gradient(optax.adam(1e-3)), follows_gradient(optax.lion(1e-3))
      (True, False)
    """
    params = {"w": jnp.asarray([[0.5, -1.0], [2.0, 0.25]])}
    keys = jax.random.split(jax.random.key(0))

    def slopes(gradients: jax.Array, direction: jax.Array) -> jax.Array:
        def update(state: optax.OptState, gradient: jax.Array) -> tuple[optax.OptState, jax.Array]:
            updates, state = optimizer.update({"w": gradient}, state, params)
            return state, jnp.asarray(updates["w"])

        def whole(gradients: jax.Array) -> jax.Array:
            # A first update settles the dtypes of the state.
            state, first = update(optimizer.init(params), gradients[0])
            return first + jnp.sum(jax.lax.scan(update, state, gradients[1:])[1], axis=0)

        # optax raises floats to integer step counts, which strict promotion would refuse.
        with jax.numpy_dtype_promotion("standard"):
            return jax.jvp(whole, (gradients,), (direction,))[1]

    draws = (jax.random.normal(key, (_UPDATES, 2, 2)) for key in keys)
    return bool(jnp.any(run_once(slopes, *draws) != 0))

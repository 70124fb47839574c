"""Whether an optimizer's update has a derivative at all."""

import jax
import jax.numpy as jnp
import optax

from jaxnoise.compilation import run_once


def follows_gradient(optimizer: optax.GradientTransformation) -> bool:
    """Whether a small change of the gradient changes the update, as a meta-gradient needs.

    The update of Lion, of signSGD and of their kin is a sign, whose derivative is 0 wherever it
    has one: a gradient through such training is exactly 0. It is tried out on four numbers, after
    three updates, since Adam's first update is a sign as well.

    Args:
      optimizer: from optax.

    Returns:
      Whether the derivative of the fourth update by its gradient is other than 0.

    Example:
      >>> import optax
      >>> from jaxnoise.optim import follows_gradient
      >>> follows_gradient(optax.adam(1e-3)), follows_gradient(optax.lion(1e-3))
      (True, False)
    """
    params = {"w": jnp.asarray([[0.5, -1.0], [2.0, 0.25]])}

    def moved(gradients: jax.Array) -> jax.Array:
        state = optimizer.init(params)
        # optax raises floats to integer step counts, which strict promotion would refuse.
        with jax.numpy_dtype_promotion("standard"):
            for gradient in gradients[:3]:
                _, state = optimizer.update({"w": gradient}, state, params)

            def update(gradient: jax.Array) -> jax.Array:
                return jnp.asarray(optimizer.update({"w": gradient}, state, params)[0]["w"])

            return jax.jvp(update, (gradients[3],), (jnp.ones((2, 2)),))[1]

    slopes = run_once(moved, jax.random.normal(jax.random.key(0), (4, 2, 2)))
    return bool(jnp.any(slopes != 0))

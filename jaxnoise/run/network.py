"""The network of a run: what its user's own must be, and in which forms it is asked."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxnoise.data.augmentation import LABELS
from jaxnoise.data.images import Images
from jaxnoise.errors import ArgumentError, ConfigError, describe
from jaxnoise.experiment import Run
from jaxnoise.models import DiT, UNet
from jaxnoise.objectives import DerivedObjective, Objective
from jaxnoise.objectives.derivative import forward_derivative
from jaxnoise.training.state import Params
from jaxnoise.user_code import failure


def told_of_augmentation(run: Run, network: Any) -> Any:
    """The network with an input for the labels of an augmentation, where there is one.

    Raises:
      ConfigError: a network of the user's own that has none.
    """
    if not run.data.augment:
        return network
    if not hasattr(network, "augment_labels"):
        raise ConfigError(
            f"config.data.augment={run.data.augment}: must be 0 for "
            f"model.name={run.config['model']['name']!r}, which has no field augment_labels"
        )
    return network.clone(augment_labels=LABELS)


def noise_label(objective: Objective, count: int) -> jax.Array:
    """Zeros of the shape in which an objective tells its network of the noise: [B] or [B, n]."""
    seen: list[jax.Array] = []

    def network(x: jax.Array, c_noise: jax.Array) -> jax.Array:
        seen.append(c_noise)
        return x

    ones = jax.ShapeDtypeStruct((count,), jnp.float32)
    images = jax.ShapeDtypeStruct((count, 1, 1, 1), jnp.float32)
    jax.eval_shape(objective.denoiser(network), images, ones)
    return jnp.zeros(seen[0].shape, jnp.float32)


def derivable(network: Any) -> Any:
    """The network with ordinary derivatives, and in float32; a user's own as far as it is fused.

    A hand-written backward pass allows no forward mode.
    """
    changed: dict[str, Any] = {"fused": False} if hasattr(network, "fused") else {}
    if isinstance(network, UNet | DiT):
        # In half precision the derivative by the noise level is mostly rounding.
        changed["dtype"] = jnp.dtype(jnp.float32)
    return network.clone(**changed)


def applied(
    network: Any,
    params: Params,
    x: jax.Array,
    c_noise: jax.Array,
    labels: jax.Array | None = None,
    dropout_keys: jax.Array | None = None,
    augmentation: jax.Array | None = None,
) -> jax.Array:
    """The raw network `F`; unless it is told otherwise, images are not augmented."""
    told = not_augmented(network, x.shape[0]) if augmentation is None else (augmentation,)
    return jnp.asarray(network.apply(params, x, c_noise, labels, dropout_keys, *told))


def not_augmented(network: Any, count: int) -> tuple[jax.Array, ...]:
    """What a network is told of images that were not augmented: zeros, or nothing if it is not."""
    size = getattr(network, "augment_labels", 0)
    return (jnp.zeros((count, size), jnp.float32),) if size else ()


def check_network(run: Run, images: Images, network: Any) -> None:
    """Traces a user's own network once, and its derivative where the objective takes it.

    Raises:
      ConfigError: it fails, or what it gives has not the shape of images.
    """
    name = run.config["model"]["name"]
    if ":" not in name:
        return
    x = jax.ShapeDtypeStruct((2, *images.image_shape), jnp.float32)
    c_noise = jax.eval_shape(lambda: noise_label(run.objective, 2))
    labels = jax.ShapeDtypeStruct((2,), jnp.int32) if network.num_classes else None

    told = not_augmented(network, 2)

    def ask(key: jax.Array, x: jax.Array, c_noise: jax.Array, labels: jax.Array | None) -> Any:
        params = network.init(key, x, c_noise, labels, None, *told)
        if isinstance(run.objective, DerivedObjective):
            drops = (getattr(network, "dropout", 0) or 0) > 0
            keys = jax.random.split(key, x.shape[0]) if drops else None
            asked = partial(applied, derivable(network), params, labels=labels, dropout_keys=keys)
            forward_derivative(asked, (x, c_noise), (x, c_noise), x)
        return network.apply(params, x, c_noise, labels, None, *told)

    try:
        found = jax.eval_shape(ask, jax.random.key(0), x, c_noise, labels)
    except ArgumentError as error:
        if error.argument == "teacher":
            raise ConfigError(
                f"config.model.name={name!r}: must be {error.allowed}, for "
                f"objective.name={run.config['objective']['name']!r}"
            ) from error
        raise does_not_fit("model", error, images) from error
    except Exception as error:
        # What it may not have reckoned with.
        noise = f" (it is told c_noise {describe(c_noise)})" if c_noise.ndim > 1 else ""
        raise ConfigError(f"config.model.name={name!r}: {failure(name, error)}{noise}") from error
    if getattr(found, "shape", None) != x.shape:
        raise ConfigError(
            f"config.model.name={name!r}: must give {describe(x)} for {describe(x)}; "
            f"it gave {describe(found)!r:.80}"
        )


def does_not_fit(section: str, error: ArgumentError, images: Images) -> ConfigError:
    """That what a section describes does not suit the images."""
    return ConfigError(f"config.{section}.{error} (images are {images.image_shape})")

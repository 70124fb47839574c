"""What `model` and `rater` of a config can name: networks."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax.numpy as jnp

from jaxnoise import models
from jaxnoise.config.choices import Choices, own_keys
from jaxnoise.config.sections import keys_of, with_keys
from jaxnoise.errors import ArgumentError, one_of

Fitted = Callable[[tuple[int, int, int], int], Any]
"""`(image shape, number of classes) -> the network`, a flax module."""


def _family(
    network: Callable[..., Any], presets: Mapping[str, Mapping[str, Any]]
) -> dict[str, Callable[..., Fitted]]:
    """One choice for each preset; its keys are the network's fields, its defaults the preset's.

    Channels come from the images and the number of classes from the labels, so a config says
    `class_conditional` alone.
    """
    fields = inspect.signature(network).parameters
    hidden = ("out_channels", "num_classes", "augment_labels", "dtype", "fused", "parent", "name")
    keys = [name for name in fields if name not in hidden]

    def member(preset: Mapping[str, Any]) -> Callable[..., Fitted]:
        def build(class_conditional: bool, dtype: str, **given: Any) -> Fitted:
            """The network.

            Args:
              class_conditional: whether it sees the images' labels.
              dtype: "float32" or "bfloat16", in which it computes; parameters are float32.
              **given: its fields.
            """
            one_of("dtype", dtype, ("float32", "bfloat16"))
            network(**given)
            return partial(_fit, network, class_conditional, {"dtype": jnp.dtype(dtype), **given})

        def key(name: str, default: Any, annotation: Any) -> inspect.Parameter:
            kind = inspect.Parameter.KEYWORD_ONLY
            return inspect.Parameter(name, kind, default=default, annotation=annotation)

        own = [key(k, preset.get(k, fields[k].default), fields[k].annotation) for k in keys]
        shared = [key("class_conditional", False, bool), key("dtype", "float32", str)]
        return with_keys(build, own + shared)

    return {name: member(preset) for name, preset in presets.items()}


def _fit(
    network: Callable[..., Any],
    class_conditional: bool,
    given: Mapping[str, Any],
    image_shape: tuple[int, int, int],
    num_classes: int,
) -> Any:
    if class_conditional and not num_classes:
        raise ArgumentError("class_conditional", True, "False: the images have no label")
    seen = num_classes if class_conditional else 0
    return network(out_channels=image_shape[-1], num_classes=seen, **given)


def _own(network: Callable[..., Any]) -> Callable[..., Fitted]:
    """A user's flax module with the fields `out_channels` and `num_classes`."""
    hidden = ("out_channels", "num_classes", "augment_labels", "parent", "name")
    found = own_keys(network, taken=("class_conditional",))
    for field in ("out_channels", "num_classes"):
        if field not in [key.name for key in found]:
            raise ArgumentError("name", network.__name__, f"a flax module with a field {field!r}")
    keys = [key for key in found if key.name not in hidden]

    def build(class_conditional: bool = False, **given: Any) -> Fitted:
        return partial(_fit, network, class_conditional, given)

    shared = [key for name, key in keys_of(build).items() if name == "class_conditional"]
    return with_keys(build, [*keys, *shared])


def _rater(name: str) -> Callable[..., Any]:
    """A rater's own fields as keys; builds the flax module.

    The number of labels comes from the images, so a config says `class_conditional` alone; until
    they are open, one label stands for all.
    """
    network = models.RATERS[name]
    fields = inspect.signature(network).parameters
    hidden = ("num_classes", "dtype", "parent", "name")

    labelled = "num_classes" in fields

    def build(dtype: str, class_conditional: bool = False, **own: Any) -> Any:
        """The rater.

        Args:
          dtype: "float32" or "bfloat16", in which it computes; parameters are float32.
          class_conditional: whether it sees the images' labels.
          **own: its fields.
        """
        one_of("dtype", dtype, ("float32", "bfloat16"))
        seen: dict[str, Any] = {"num_classes": int(class_conditional)} if labelled else {}
        return network(**own, **seen, dtype=jnp.dtype(dtype))

    shared = [key for key in keys_of(build).values() if key.name != "own"]
    dtype = shared[0].replace(default="float32")
    added = [dtype, shared[1]] if labelled else [dtype]
    return with_keys(build, [*(fields[key] for key in fields if key not in hidden), *added])


RATERS = {name: _rater(name) for name in models.RATERS}
MODELS = Choices(
    {**_family(models.UNet, models.PRESETS), **_family(models.DiT, models.DIT_PRESETS)},
    own=_own,
    gives=("init", "apply", "num_classes"),
)

"""What a distance is measured in: features of images, from one of several extractors.

An extractor is a function of uint8 images on the host; its name, the digest of its weights and how
it resizes belong to every number that it gives.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
import numpy.typing as npt
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxnoise.errors import ArgumentError, Described, check_callable, describe, one_of
from jaxnoise.evaluation.checks import check_count, check_images, check_kind, check_path
from jaxnoise.evaluation.efficientnet_weights import efficientnet_input, load_efficientnet
from jaxnoise.evaluation.inception_weights import load_inception
from jaxnoise.evaluation.moments import Moments
from jaxnoise.evaluation.resize import RESIZES, inception_input
from jaxnoise.models.efficientnet import FEATURES, EfficientNetLite0
from jaxnoise.models.inception import Inception
from jaxnoise.user_code import imported

Pixels = npt.NDArray[np.uint8]

INCEPTION_FEATURES = 2048


class Features(NamedTuple):
    """What an extractor sees in some images.

    Attributes:
      features: float[n, D].
      logits: float[n, classes], for the Inception score, or None.

    Example:
      >>> import numpy as np
      >>> from jaxnoise.evaluation import Features, raw_pixels
      >>> seen = raw_pixels().extract(np.zeros((5, 8, 8, 1), np.uint8))
      >>> isinstance(seen, Features), seen.features.shape, seen.logits
      (True, (5, 64), None)
    """

    features: npt.NDArray[Any]
    logits: npt.NDArray[Any] | None = None


@dataclass(frozen=True, eq=False)
class Extractor:
    """A feature space for distances between sets of images.

    Attributes:
      name: in records, such as "inception-v3".
      distance: what its Fréchet distance is called: "FID" for Inception in the reference's own
        form alone, "FD (name)" otherwise.
      sha256: digest of the weights or of the function, or "" where there is nothing to digest.
      resize: how images are brought to the network's size, or "none".
      extract: `uint8[n, H, W, C] -> Features`.
      dimension: image shape (H, W, C) -> D, or None if it is only known from features.

    Raises:
      ArgumentError: a field of another kind.

    Example:
      >>> import numpy as np
      >>> from jaxnoise.evaluation import Extractor, Features, extract
      >>> grey = Extractor(
      ...     name="mean grey",
      ...     distance="FD (mean grey)",
      ...     sha256="",
      ...     resize="none",
      ...     extract=lambda images: Features(images.mean(axis=(1, 2))),
      ...     dimension=lambda shape: shape[-1],
      ... )
      >>> extract(grey, [np.full((2, 8, 8, 1), 7, np.uint8)]).moments.mean.tolist()
      [7.0]
    """

    name: str
    distance: str
    sha256: str
    resize: str
    extract: Callable[[Pixels], Features]
    dimension: Callable[[tuple[int, ...]], int] | None

    def __post_init__(self) -> None:
        for argument in ("name", "distance", "sha256", "resize"):
            check_kind(argument, getattr(self, argument), str, "a string")
        check_callable("extract", self.extract, "uint8[n, H, W, C] -> Features")
        if self.dimension is not None:
            check_callable("dimension", self.dimension, "(H, W, C) -> D, or None")


def raw_pixels() -> Extractor:
    """Pixels in [-1, 1] themselves, H W C of them.

    Example:
      >>> import numpy as np
      >>> from jaxnoise.evaluation import raw_pixels
      >>> features, _ = raw_pixels().extract(np.full((1, 1, 1, 2), 255, np.uint8))
      >>> features.tolist()
      [[1.0, 1.0]]
    """

    def extract(images: Pixels) -> Features:
        check_images("images", images)
        return Features(images.reshape(len(images), -1).astype(np.float64) / 127.5 - 1)

    return Extractor(
        name="raw pixels",
        distance="Fréchet, raw pixels in [-1, 1]",
        sha256="",
        resize="none",
        extract=extract,
        dimension=lambda shape: int(np.prod(shape)),
    )


def inception(
    path: str | None = None, resize: str = "tf1", fetch: bool = False, batch: int = 64
) -> Extractor:
    """Inception-v3 in the FID graph, 2048 pooled features and logits without bias.

    Args:
      path: the weights' file, or None for the one in the cache folder.
      resize: "tf1", the reference's own, or "clean", antialiased.
      fetch: whether to download the weights once if they are not there.
      batch: images at once.

    Returns:
      The extractor; its distance is FID with "tf1" and "FD (inception-v3, clean)" with "clean".

    Raises:
      ArgumentError: an unknown `resize`, a batch below 1, or an argument of another kind.
      ConfigError: the weights are not there or damaged; says what to do.

    Example:
      >>> from jaxnoise.evaluation import inception
      >>> inception("no_such_file.pth")
      Traceback (most recent call last):
      jaxnoise.errors.ConfigError: cannot read no_such_file.pth: No such file or directory

    Reference: Heusel et al. (arXiv 1706.08500); Parmar et al. (arXiv 2104.11222) for "clean".
    """
    if path is not None:
        check_path("path", path)
    one_of("resize", resize, RESIZES)
    check_kind("fetch", fetch, bool, "True or False")
    check_count("batch", batch)
    weights = load_inception(path, fetch=fetch)
    network = Inception()

    def apply(images: jax.Array) -> Features:
        out = network.apply({"params": weights.params}, inception_input(images, resize))
        return Features(out.features, out.logits_unbiased)  # type: ignore[union-attr]

    return Extractor(
        name="inception-v3",
        distance="FID" if resize == "tf1" else f"FD (inception-v3, {resize})",
        sha256=weights.sha256,
        resize=resize,
        extract=partial(over_devices(apply, batch), channels=3),
        dimension=partial(_of_colours, INCEPTION_FEATURES),
    )


def efficientnet(batch: int = 64) -> Extractor:
    """EfficientNet-Lite0, 1280 pooled features; its weights come in the extra "extractor".

    Args:
      batch: images at once.

    Returns:
      The extractor; its distance is "FD (efficientnet-lite0)", never FID.

    Raises:
      ArgumentError: a batch below 1.
      ConfigError: the extra is not installed, or its file is damaged.

    Example:
      >>> from jaxnoise.evaluation import efficientnet
      >>> efficientnet().dimension((32, 32, 3))
      1280
    """
    check_count("batch", batch)
    weights = load_efficientnet()
    network = EfficientNetLite0()

    def apply(images: jax.Array) -> Features:
        out = network.apply({"params": weights.params}, efficientnet_input(images))
        return Features(out.features)  # type: ignore[union-attr]

    return Extractor(
        name="efficientnet-lite0",
        distance="FD (efficientnet-lite0)",
        sha256=weights.sha256,
        resize="clean",
        extract=partial(over_devices(apply, batch), channels=3),
        dimension=partial(_of_colours, FEATURES),
    )


def from_function(path: str) -> Extractor:
    """A user's own function, imported by name.

    Args:
      path: "module:function", where the function maps uint8[n, H, W, C] to float[n, D] and the
        module can be imported.

    Returns:
      The extractor, called "FD (module:function)", with the digest of the function's source.

    Raises:
      ArgumentError: no such module or function.

    Example:
      >>> from jaxnoise.evaluation import from_function
      >>> from_function("numpy:asarray").distance
      'FD (numpy:asarray)'
    """
    check_kind("path", path, str, "'module:function'")
    function = imported("path", path)
    try:
        source = inspect.getsource(function)
    except (OSError, TypeError):
        source = path

    def extract(images: Pixels) -> Features:
        check_images("images", images)
        try:
            features = np.asarray(function(images))
        except Exception as error:
            raised = f"{type(error).__name__}: {error}".splitlines()[0]
            raise ArgumentError("path", path, f"a function of uint8 images ({raised})") from error
        if features.ndim != 2 or len(features) != len(images):
            raise ArgumentError(
                "path", path, f"a function to float[{len(images)}, D], not {features.shape}"
            )
        return Features(features)

    return Extractor(
        name=path,
        distance=f"FD ({path})",
        sha256=hashlib.sha256(source.encode()).hexdigest(),
        resize="none",
        extract=extract,
        dimension=None,
    )


def _of_colours(dimension: int, shape: tuple[int, ...]) -> int:
    """The dimension of a network of colour images, which grey ones are made into."""
    if shape[-1] not in (1, 3):
        raise ArgumentError(
            "name", f"{shape[-1]} channels", "one for these images: it takes 1 or 3"
        )
    return dimension


def over_devices(apply: Callable[[jax.Array], Features], batch: int) -> Callable[..., Features]:
    """A jitted network as a host function: fixed-size batches split over this process's devices.

    Every process extracts all images, so that no exchange of moments is needed.

    Args:
      apply: `uint8[batch, H, W, C] -> Features`.
      batch: images at once; rounded up to a multiple of the number of devices.

    Returns:
      `(images uint8[n, H, W, C], channels) -> Features` of numpy arrays; grey images are repeated
      to `channels`.

    Raises:
      ArgumentError: a batch below 1.
    """
    check_count("batch", batch)
    devices = jax.local_devices()
    size = -(-batch // len(devices)) * len(devices)
    split = NamedSharding(Mesh(np.asarray(devices), ("data",)), P("data"))
    jitted = jax.jit(apply)

    def extract(images: Pixels, channels: int | None = None) -> Features:
        check_images("images", images)
        if not len(images):
            raise ArgumentError("images", describe(images), "at least one image")
        if channels is not None and images.shape[-1] == 1:
            images = np.repeat(images, channels, axis=-1)
        if channels is not None and images.shape[-1] != channels:
            raise ArgumentError("images", images.shape, f"with 1 or {channels} channels")
        parts = []
        for start in range(0, len(images), size):
            part = images[start : start + size]
            # One shape is one compilation; the padding is cut off again.
            padded = np.concatenate([part, np.repeat(part[-1:], size - len(part), axis=0)])
            out = jitted(jax.device_put(padded, split))
            parts.append(jax.tree.map(np.asarray, out))
        joined = jax.tree.map(lambda *arrays: np.concatenate(arrays)[: len(images)], *parts)
        return Features(*joined)

    return extract


def _check_features(extractor: Extractor, seen: object, count: int) -> None:
    """Raises ArgumentError unless an extractor gave the features of `count` images."""
    found = seen.features if isinstance(seen, Features) else seen
    shape: tuple[int, ...] = getattr(found, "shape", ())
    if not isinstance(seen, Features) or len(shape) != 2 or shape[0] != count:
        kind = describe(found) if shape else type(found).__name__
        shown = Described(f"{extractor.name} to {kind}")
        raise ArgumentError("extractor", shown, f"one to Features of float[{count}, D]")


class Extracted(NamedTuple):
    """What is kept of a set of images.

    Attributes:
      moments: of the features, in float64.
      features: float[n, D], or None where only the moments are kept.
      logits: float[n, classes], or None where they are not kept or the extractor has none.
      sha256: digest of the pixels.

    Example:
      >>> import numpy as np
      >>> from jaxnoise.evaluation import extract, raw_pixels
      >>> seen = extract(raw_pixels(), [np.zeros((5, 8, 8, 1), np.uint8)], keep=True)
      >>> seen.moments.count, seen.features.shape, seen.logits, len(seen.sha256)
      (5, (5, 64), None, 64)
    """

    moments: Moments
    features: npt.NDArray[Any] | None
    logits: npt.NDArray[Any] | None
    sha256: str


def extract(extractor: Extractor, batches: Iterable[Pixels], keep: bool = False) -> Extracted:
    """Streams images through an extractor; memory holds one batch, or all features if kept.

    Args:
      extractor: the feature space.
      batches: uint8[b, H, W, C], any sizes.
      keep: whether features and logits are kept, as all but the Fréchet distance need.

    Returns:
      Moments in float64, and what was asked to be kept.

    Raises:
      ArgumentError: images that are not uint8[b, H, W, C], no image, an extractor that gives no
        float[b, D], or features that are not finite.

    Example:
      >>> import numpy as np
      >>> from jaxnoise.evaluation import extract, raw_pixels
      >>> batches = (np.full((2, 8, 8, 1), grey, np.uint8) for grey in (0, 255))
      >>> extract(raw_pixels(), batches).moments.count
      4
    """
    check_kind("extractor", extractor, Extractor, "an Extractor, such as raw_pixels()")
    if hasattr(batches, "shape") or not isinstance(batches, Iterable):
        allowed = "an iterable of uint8[b, H, W, C], such as [images]"
        raise ArgumentError("batches", describe(batches), allowed)
    moments: Moments | None = None
    kept: list[Features] = []
    digest = hashlib.sha256()
    for images in batches:
        dtype, shape = getattr(images, "dtype", None), getattr(images, "shape", ())
        if dtype != np.uint8 or len(shape) != 4:
            shown = describe(images) if dtype is None else f"{dtype}{list(shape)}"
            raise ArgumentError("batches", shown, "of uint8[b, H, W, C]")
        if not len(images):
            continue
        seen = extractor.extract(images)
        _check_features(extractor, seen, len(images))
        digest.update(np.ascontiguousarray(images).tobytes())
        moments = Moments.of(seen.features) if moments is None else moments.update(seen.features)
        if keep:
            kept.append(seen)
    if moments is None:
        raise ArgumentError("batches", "none", "at least one image")
    features = np.concatenate([seen.features for seen in kept]) if keep else None
    logits = [seen.logits for seen in kept if seen.logits is not None]
    return Extracted(
        moments, features, np.concatenate(logits) if logits else None, digest.hexdigest()
    )

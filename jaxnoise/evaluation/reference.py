"""The reference that images are compared with, and its floor: real images at the same number."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from jaxnoise.data.images import Images, digest
from jaxnoise.errors import ArgumentError, Described, describe, one_of
from jaxnoise.evaluation.checks import (
    check_count,
    check_integer,
    check_kind,
    check_path,
)
from jaxnoise.evaluation.extractors import Extractor, Pixels, extract
from jaxnoise.evaluation.frechet import FrechetReference
from jaxnoise.evaluation.measured import measured
from jaxnoise.evaluation.moments import Moments
from jaxnoise.evaluation.samples import AT_ONCE, check_data
from jaxnoise.evaluation.splits import Indices, floor_indices, reference_split
from jaxnoise.evaluation.statistics_files import load_statistics, save_statistics
from jaxnoise.files import user_path

METRICS = ("frechet", "kernel", "inception_score", "precision_recall")

_EXTRACTOR = "an Extractor, such as raw_pixels()"
_HALF = "FID (against half of the images)"
_VERSION = "2"
"""Of what is kept in the cache: raised where the same images would give other numbers."""
_LEAST = {"precision_recall": 4, "kernel": 4, "inception_score": 10}
"""How many images a metric needs at least; others need 2."""


@dataclass(frozen=True, eq=False)
class Reference:
    """A reference set in an extractor's space with its floor; see `reference_from`.

    Attributes:
      name: what the reference is, in words.
      extractor: the feature space.
      sha256: digest of the reference's pixels, or of its published mean and covariance.
      count: images in the reference, or None where a published file does not tell.
      n: images required of every generated set.
      image_shape: (H, W, C).
      metrics: what is measured, of `METRICS`.
      distance: what the Fréchet distance is called.
      floor_count: images in the floor set.
      frechet: the reference's mean and covariance, decomposed.
      features: of the reference, kept where a metric needs them.
      floor: each metric of the floor set.
      floor_is_apart: whether the floor set is known not to be in the reference; of a published one
        it is not known what it was made of.

    Raises:
      ArgumentError: a field of another kind.

    Example:
      >>> import numpy as np
      >>> from jaxnoise.data import ArrayImages
      >>> from jaxnoise.evaluation import raw_pixels, reference_from
      >>> pixels = np.random.RandomState(0).randint(0, 256, (40, 2, 2, 1)).astype(np.uint8)
      >>> images = ArrayImages("noise", pixels, np.zeros(40, int), 0)
      >>> reference = reference_from(raw_pixels(), images, 20, "noise, first half")
      >>> reference.count, reference.image_shape, list(reference.floor)
      (20, (2, 2, 1), ['frechet_floor'])
    """

    name: str
    extractor: Extractor
    sha256: str
    count: int | None
    n: int
    image_shape: tuple[int, ...]
    metrics: tuple[str, ...]
    distance: str
    floor_count: int
    frechet: FrechetReference
    features: npt.NDArray[np.float64] | None
    floor: Mapping[str, float]
    floor_is_apart: bool = True

    def __post_init__(self) -> None:
        check_kind("name", self.name, str, "a string")
        check_kind("extractor", self.extractor, Extractor, _EXTRACTOR)
        check_count("n", self.n)
        check_kind("image_shape", self.image_shape, tuple, "(H, W, C)")
        check_kind("frechet", self.frechet, FrechetReference, "a FrechetReference")
        check_kind("floor", self.floor, Mapping, "a mapping of numbers")

    @property
    def is_underdetermined(self) -> bool:
        """Whether a set has fewer images than features, so that its covariance is singular."""
        least = min(self.n, self.floor_count, self.n if self.count is None else self.count)
        return least < self.frechet.mean.size


def reference_from(
    extractor: Extractor,
    images: Images,
    n: int,
    name: str,
    *,
    metrics: Sequence[str] = ("frechet",),
    few_samples: bool = False,
    held_out: Images | None = None,
    published: str | Path | None = None,
    cache: str | Path | None = None,
) -> Reference:
    """The reference of a run: half of its training images, all of them, or published statistics.

    Args:
      extractor: the feature space.
      images: the training images; the split is `reference_split(images.num_examples, n)`.
      n: images in the floor set and in every generated set; with `held_out` or `published` it may
        be more than there are real images, and the floor is then of all of them.
      name: what the reference is, for the record; with `published` it is the file's name.
      metrics: what is measured, of `METRICS`.
      few_samples: whether generated images, the reference or the floor may be fewer than features.
      held_out: images that are not trained on, for the floor; the reference is then all of
        `images`, as in the numbers that papers print, or `published`. None for halves of `images`;
        with `published` the floor is then of `images`, which the reference may hold.
      published: a .npz of mean and covariance in the same feature space, as other tools write it;
        only the Fréchet distance and the Inception score can be taken then. Where the file tells
        its extractor, weights and resize, they must be these.
      cache: folder in which the reference's mean and covariance are kept between runs, under a
        digest of data, extractor and resize; None to compute them anew. One that cannot be written
        costs time only.

    Returns:
      What `report` compares generated images with.

    Raises:
      ArgumentError: an unknown metric, one that the extractor or the published file cannot give,
        fewer images in a set than features without `few_samples`, held-out images that are those
        trained on, statistics of another feature space, or an argument of another kind.

    Example:
      >>> import numpy as np
      >>> from jaxnoise.data import ArrayImages
      >>> from jaxnoise.evaluation import raw_pixels, reference_from
      >>> pixels = np.random.RandomState(0).randint(0, 256, (40, 2, 2, 1)).astype(np.uint8)
      >>> images = ArrayImages("noise", pixels, np.zeros(40, int), 0)
      >>> reference_from(raw_pixels(), images, 20, "noise, first half").distance
      'Fréchet, raw pixels in [-1, 1]'
    """
    check_kind("extractor", extractor, Extractor, _EXTRACTOR)
    check_data("images", images)
    check_integer("n", n)
    check_kind("name", name, str, "a string")
    if held_out is not None:
        check_data("held_out", held_out)
        if held_out.fingerprint == images.fingerprint:
            raise ArgumentError("held_out", held_out.name, "other images than those trained on")
        if held_out.image_shape != images.image_shape:
            allowed = f"of the images' shape {images.image_shape}"
            raise ArgumentError("held_out", held_out.image_shape, allowed)
    for argument, path in (("published", published), ("cache", cache)):
        if path is not None:
            check_path(argument, path)
    metrics = checked_metrics(extractor, metrics, published is not None)
    dimension = None if extractor.dimension is None else extractor.dimension(images.image_shape)
    floor_images = images if held_out is None else held_out
    halves = published is None and held_out is None
    floor_idx = floor_indices(floor_images.num_examples, n, halves)
    sizes = sizes_of_sets(n, images, held_out, published is not None)
    check_sizes(sizes, metrics, dimension, few_samples)
    keep = bool({"kernel", "precision_recall"} & set(metrics))
    features = None
    count: int | None
    if published is not None:
        frechet, sha256, count = _published(extractor, published, dimension)
        name = Path(published).name
        if count is not None:
            sizes["published"] = count
    else:
        reference_idx = np.arange(images.num_examples)
        if halves:
            reference_idx, _ = reference_split(images.num_examples, n)
        if cache is not None and not keep:
            frechet, sha256, count = _cached(extractor, images, reference_idx, user_path(cache))
        else:
            seen = extract(extractor, _batches(images, reference_idx), keep)
            frechet, sha256, count = _frechet(seen.moments), seen.sha256, seen.moments.count
            features = seen.features
    check_sizes(sizes, metrics, frechet.mean.size, few_samples)
    batches = _batches(floor_images, floor_idx)
    floor = extract(extractor, batches, keep=set(metrics) != {"frechet"})
    return Reference(
        name=name,
        extractor=extractor,
        sha256=sha256,
        count=count,
        n=n,
        image_shape=images.image_shape,
        metrics=metrics,
        distance=_HALF if halves and extractor.distance == "FID" else extractor.distance,
        floor_count=len(floor_idx),
        frechet=frechet,
        features=features,
        floor=measured(metrics, frechet, features, floor, "floor"),
        floor_is_apart=published is None or held_out is not None,
    )


def checked_metrics(
    extractor: Extractor, metrics: Sequence[str], published: bool
) -> tuple[str, ...]:
    """The metrics, refused where they cannot be taken.

    Raises:
      ArgumentError: an unknown metric, or one that needs what is not there.
    """
    if isinstance(metrics, str) or not isinstance(metrics, Sequence):
        raise ArgumentError("metrics", describe(metrics), f"a tuple, of {', '.join(METRICS)}")
    for metric in metrics:
        one_of("metrics", metric, METRICS)
        if metric == "inception_score" and extractor.name != "inception-v3":
            raise ArgumentError("metrics", metric, "taken with the extractor 'inception' only")
        if metric in ("kernel", "precision_recall") and published:
            raise ArgumentError(
                "metrics", metric, "taken without published statistics, which hold no features"
            )
    if "frechet" not in metrics:
        raise ArgumentError("metrics", tuple(metrics), "a tuple that holds 'frechet'")
    return tuple(metrics)


def sizes_of_sets(
    n: int, images: Images, held_out: Images | None, published: bool
) -> dict[str, int]:
    """How many images are compared, by the argument of `reference_from` that they depend on.

    Args:
      n: generated images.
      images: that are trained on.
      held_out: of the floor, or None.
      published: whether statistics are given instead of a reference.
    """
    sizes = {"n": n}
    if held_out is not None:
        sizes["held_out"] = min(n, held_out.num_examples)
        if not published:
            sizes["images"] = images.num_examples
    elif published:
        sizes["images"] = min(n, images.num_examples)
    return sizes


def check_sizes(
    sizes: Mapping[str, int], metrics: Sequence[str], dimension: int | None, few_samples: bool
) -> None:
    """Raises ArgumentError where a set of images is too small for what is measured.

    Args:
      sizes: how many images, by the argument that they depend on.
      metrics: what is measured.
      dimension: number of features, or None if it is not known yet.
      few_samples: whether fewer images than features are accepted.
    """
    for argument, size in sizes.items():
        shown = size if argument == "n" else Described(f"{size} images")
        for metric in metrics:
            if size < _LEAST.get(metric, 2):
                raise ArgumentError(argument, shown, f"at least {_LEAST.get(metric, 2)}: {metric}")
        if dimension is not None and size < dimension and not few_samples:
            raise ArgumentError(
                argument,
                shown,
                f"at least {dimension}, the number of features, for a covariance of full rank; "
                "few_samples=True accepts less and says so in the record",
            )


def check_same_space(extractor: Extractor, metadata: Mapping[str, object]) -> None:
    """Raises ArgumentError where statistics say that they are of another feature space."""
    here = {
        "extractor": extractor.name,
        "extractor_sha256": extractor.sha256,
        "resize": extractor.resize,
    }
    for key, value in here.items():
        if isinstance(metadata.get(key), str) and metadata[key] != value:
            shown = Described(f"statistics of {key} {metadata[key]!r}")
            raise ArgumentError("published", shown, f"of {key} {value!r}, by which images are seen")


def _published(
    extractor: Extractor, path: str | Path, dimension: int | None
) -> tuple[FrechetReference, str, int | None]:
    statistics = load_statistics(path, dimension)
    check_same_space(extractor, statistics.metadata)
    frechet = FrechetReference.of(statistics.mean, statistics.covariance)
    sha256 = digest(statistics.mean.tobytes(), statistics.covariance.tobytes())
    return frechet, sha256, statistics.count


def _cached(
    extractor: Extractor, images: Images, indices: Indices, folder: Path
) -> tuple[FrechetReference, str, int]:
    what = {
        "data": images.fingerprint,
        "images": digest(indices.tobytes()),
        "extractor": extractor.name,
        "extractor_sha256": extractor.sha256,
        "resize": extractor.resize,
        "version": _VERSION,
    }
    path = folder / f"reference_{digest(*what.values())}.npz"
    # A file that was damaged or put there by hand is made anew.
    with contextlib.suppress(ArgumentError):
        statistics = load_statistics(path)
        if {key: statistics.metadata.get(key) for key in what} == what and statistics.count:
            decomposed = FrechetReference.of(statistics.mean, statistics.covariance)
            return decomposed, str(statistics.metadata["pixels_sha256"]), statistics.count
    seen = extract(extractor, _batches(images, indices))
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        save_statistics(path, seen.moments, {**what, "pixels_sha256": seen.sha256})
    return _frechet(seen.moments), seen.sha256, seen.moments.count


def _frechet(moments: Moments) -> FrechetReference:
    return FrechetReference.of(moments.mean, moments.covariance)


def _batches(images: Images, indices: Indices) -> Iterator[Pixels]:
    for start in range(0, len(indices), AT_ONCE):
        yield images.load(indices[start : start + AT_ONCE])[0]

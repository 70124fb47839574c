"""What a distance means: the reference, the sample size, the floor, and the record of all three.

A distance depends on the extractor, the reference and the number of samples (Fréchet's bias falls
like 1/n), so that a bare number says nothing. Here every number is taken with the SAME reference
and the SAME n as its floor, the distance of real held-out images: a generator that draws perfect
samples would score the floor, not 0.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from jaxnoise.data.images import Images, digest
from jaxnoise.errors import ArgumentError, check_finite, check_numbers, describe, one_of
from jaxnoise.evaluation.checks import (
    check_count,
    check_integer,
    check_kind,
    check_path,
)
from jaxnoise.evaluation.extractors import Extractor, Pixels, extract
from jaxnoise.evaluation.frechet import FrechetReference
from jaxnoise.evaluation.measured import kernel_subset, measured
from jaxnoise.evaluation.moments import Moments
from jaxnoise.evaluation.samples import AT_ONCE, check_data, checked_samples
from jaxnoise.evaluation.splits import Indices, floor_indices, reference_split
from jaxnoise.evaluation.statistics_files import load_statistics, save_statistics

METRICS = ("frechet", "kernel", "inception_score", "precision_recall")

_EXTRACTOR = "an Extractor, such as raw_pixels()"
_HALF = "FID (against half of the training images)"


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

    def __post_init__(self) -> None:
        check_kind("name", self.name, str, "a string")
        check_kind("extractor", self.extractor, Extractor, _EXTRACTOR)
        check_count("n", self.n)
        check_kind("image_shape", self.image_shape, tuple, "(H, W, C)")
        check_kind("frechet", self.frechet, FrechetReference, "a FrechetReference")
        check_kind("floor", self.floor, Mapping, "a mapping of numbers")

    @property
    def is_underdetermined(self) -> bool:
        """Whether n is below the number of features, so that covariances are singular."""
        return self.n < self.frechet.mean.size


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
      few_samples: whether n may be below the number of features.
      held_out: images that are not trained on, for the floor; the reference is then all of
        `images`, as in the numbers that papers print. None for halves of `images`.
      published: a .npz of mean and covariance in the same feature space, as other tools write it;
        only the Fréchet distance and the Inception score can be taken then.
      cache: folder in which the reference's mean and covariance are kept between runs, under a
        digest of data, extractor and resize; None to compute them anew.

    Returns:
      What `report` compares generated images with.

    Raises:
      ArgumentError: an unknown metric, one that the extractor or the published file cannot give,
        n below the number of features without `few_samples`, or an argument of another kind.

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
        if published is not None:
            raise ArgumentError("held_out", held_out.name, "None with a published reference")
        if held_out.image_shape != images.image_shape:
            allowed = f"of the images' shape {images.image_shape}"
            raise ArgumentError("held_out", held_out.image_shape, allowed)
    for argument, path in (("published", published), ("cache", cache)):
        if path is not None:
            check_path(argument, path)
    metrics = checked_metrics(extractor, metrics, published is not None)
    dimension = None if extractor.dimension is None else extractor.dimension(images.image_shape)
    check_n(n, dimension, few_samples)
    floor_images = images if held_out is None else held_out
    halves = published is None and held_out is None
    floor_idx = floor_indices(floor_images.num_examples, n, halves)
    keep = bool({"kernel", "precision_recall"} & set(metrics))
    features = None
    count: int | None
    if published is not None:
        statistics = load_statistics(published, dimension)
        frechet = FrechetReference.of(statistics.mean, statistics.covariance)
        sha256 = digest(statistics.mean.tobytes(), statistics.covariance.tobytes())
        count, name = statistics.count, Path(published).name
    else:
        reference_idx = np.arange(images.num_examples)
        if halves:
            reference_idx, _ = reference_split(images.num_examples, n)
        if cache is not None and not keep:
            frechet, sha256, count = _cached(extractor, images, reference_idx, Path(cache))
        else:
            seen = extract(extractor, _batches(images, reference_idx), keep)
            frechet, sha256, count = _frechet(seen.moments), seen.sha256, seen.moments.count
            features = seen.features
    check_n(n, frechet.mean.size, few_samples)
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


def check_n(n: int, dimension: int | None, few_samples: bool) -> None:
    """Raises ArgumentError for fewer samples than features, unless that is asked for."""
    if dimension is not None and n < dimension and not few_samples:
        raise ArgumentError(
            "n",
            n,
            f"at least {dimension}, the number of features, for a covariance of full rank; "
            "few_samples=True accepts less and says so in the record",
        )


def report(
    reference: Reference,
    samples: Mapping[str, Pixels | Iterable[Pixels]],
    *,
    nfe: Mapping[str, int],
    levels: Mapping[str, Sequence[float]],
    weights: str,
    images_seen: int,
    seed: int,
    guidance: float = 1.0,
    labels: str | None = None,
) -> dict[str, object]:
    """Distances of generated images to a reference, with everything that gives them a meaning.

    Args:
      reference: the reference set and its floor.
      samples: generated images by name (say "1step"), each uint8[reference.n, H, W, C], or
        portions of them, of which memory holds one at a time.
      nfe: network evaluations per image, for each name in `samples`.
      levels: noise levels that each sampler visits, in data units.
      weights: which weights drew the samples, "raw" or "ema".
      images_seen: training images seen by those weights.
      seed: of the generated images' noise.
      guidance: scale of classifier-free guidance.
      labels: how the labels of generated images were chosen, or None without classes. A distance
        to data of unequal classes means nothing unless they are as frequent as there.

    Returns:
      A dict that JSON can hold: `distance` (what it is called), `frechet_<name>` for each set of
      samples and the other metrics likewise, the same for "floor", `n`, `extractor`,
      `extractor_sha256`, `resize`, `reference`, `reference_count`, `reference_sha256`, `nfe`,
      `levels`, `weights`, `images_seen`, `seed`, `guidance`; where it applies `labels`,
      `kernel_subset`, `floor_n` (a floor of fewer images), `fewer_samples_than_features`.

    Raises:
      ArgumentError: a set of samples of another dtype, shape or size than the floor's, a name
        without its NFE, unknown weights, or an argument of another kind.

    Example:
      >>> import numpy as np
      >>> from jaxnoise.data import ArrayImages
      >>> from jaxnoise.evaluation import raw_pixels, reference_from, report
      >>> pixels = np.random.RandomState(0).randint(0, 256, (60, 2, 2, 1)).astype(np.uint8)
      >>> images = ArrayImages("noise", pixels[:40], np.zeros(40, int), 0)
      >>> record = report(
      ...     reference_from(raw_pixels(), images, 20, "noise, first half"),
      ...     {"1step": pixels[40:]},
      ...     nfe={"1step": 1},
      ...     levels={"1step": (80.0,)},
      ...     weights="ema",
      ...     images_seen=128_000,
      ...     seed=0,
      ... )
      >>> [key for key in record if key.startswith("frechet")]
      ['frechet_1step', 'frechet_floor']
    """
    check_kind("reference", reference, Reference, "a Reference, made by reference_from")
    check_kind("samples", samples, Mapping, "generated images by name")
    one_of("weights", weights, ["raw", "ema"])
    check_count("images_seen", images_seen, 0)
    check_integer("seed", seed)
    check_finite("guidance", guidance)
    for argument, given in (("nfe", nfe), ("levels", levels)):
        check_kind(argument, given, Mapping, "a mapping from the names of the samples")
        if set(given) != set(samples) or "floor" in samples:
            raise ArgumentError(
                argument, sorted(given), f"given for each of {sorted(samples)}, none called 'floor'"
            )
    for name in samples:
        check_count("nfe", nfe[name], 0)
        check_numbers("levels", levels[name], lambda x: x.ndim == 1, "numbers for each name")
    numbers: dict[str, float] = {}
    keep = set(reference.metrics) != {"frechet"}
    for name, images in samples.items():
        portions = checked_samples(reference.n, reference.image_shape, name, images)
        seen = extract(reference.extractor, portions, keep)
        numbers |= measured(reference.metrics, reference.frechet, reference.features, seen, name)
    extractor = reference.extractor
    record: dict[str, object] = {
        "distance": reference.distance,
        **numbers,
        **reference.floor,
        "n": reference.n,
        "extractor": extractor.name,
        "extractor_sha256": extractor.sha256,
        "resize": extractor.resize,
        "reference": reference.name,
        "reference_count": reference.count,
        "reference_sha256": reference.sha256,
        "nfe": dict(nfe),
        "levels": {name: [float(f"{x:.4g}") for x in levels[name]] for name in samples},
        "weights": weights,
        "images_seen": images_seen,
        "seed": seed,
        "guidance": guidance,
    }
    if labels is not None:
        record["labels"] = labels
    if "kernel" in reference.metrics and reference.features is not None:
        record["kernel_subset"] = kernel_subset(len(reference.features), reference.n)
    if reference.floor_count != reference.n:
        record["floor_n"] = reference.floor_count
    if reference.is_underdetermined:
        record["fewer_samples_than_features"] = True
    return record


def _cached(
    extractor: Extractor, images: Images, indices: Indices, folder: Path
) -> tuple[FrechetReference, str, int]:
    what = {
        "data": images.fingerprint,
        "images": digest(indices.tobytes()),
        "extractor": extractor.name,
        "extractor_sha256": extractor.sha256,
        "resize": extractor.resize,
    }
    path = folder / f"reference_{digest(*what.values())}.npz"
    # A file that was damaged or put there by hand is made anew.
    with contextlib.suppress(ArgumentError):
        statistics = load_statistics(path)
        if {key: statistics.metadata.get(key) for key in what} == what and statistics.count:
            decomposed = FrechetReference.of(statistics.mean, statistics.covariance)
            return decomposed, str(statistics.metadata["pixels_sha256"]), statistics.count
    seen = extract(extractor, _batches(images, indices))
    folder.mkdir(parents=True, exist_ok=True)
    save_statistics(path, seen.moments, {**what, "pixels_sha256": seen.sha256})
    return _frechet(seen.moments), seen.sha256, seen.moments.count


def _frechet(moments: Moments) -> FrechetReference:
    return FrechetReference.of(moments.mean, moments.covariance)


def _batches(images: Images, indices: Indices) -> Iterator[Pixels]:
    for start in range(0, len(indices), AT_ONCE):
        yield images.load(indices[start : start + AT_ONCE])[0]

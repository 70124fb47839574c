"""What a distance means: the reference, the sample size, the floor, and the record of all three.

A distance depends on the extractor, the reference and the number of samples (Fréchet's bias falls
like 1/n), so that a bare number says nothing. Here every number is taken with the SAME reference
and the SAME n as its floor, the distance of real held-out images: a generator that draws perfect
samples would score the floor, not 0.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from jaxnoise.data.images import Images, digest
from jaxnoise.errors import ArgumentError, one_of
from jaxnoise.evaluation.extractors import Extracted, Extractor, Pixels, extract
from jaxnoise.evaluation.frechet import FrechetReference
from jaxnoise.evaluation.inception_score import inception_score
from jaxnoise.evaluation.kernel import kernel_distance
from jaxnoise.evaluation.moments import Moments
from jaxnoise.evaluation.precision_recall import precision_and_recall
from jaxnoise.evaluation.score_keys import frechet_key
from jaxnoise.evaluation.statistics_files import load_statistics, save_statistics

Indices = npt.NDArray[np.int64]

METRICS = ("frechet", "kernel", "inception_score", "precision_recall")

_AT_ONCE = 1024
_HALF = "FID (against half of the training images)"
_KERNEL_SUBSET = 1000


def reference_split(num_examples: int, n: int, seed: int = 0) -> tuple[Indices, Indices]:
    """Splits the training images into a reference and a floor set, by one fixed shuffle.

    The first half of the shuffle (the larger one when the number is odd) is the reference; the
    floor set is `n` images of the other half. The halves are disjoint, because a floor measured
    on images that are also in the reference would be too low, and n generated images are then
    compared with the same reference.

    Args:
      num_examples: number of training images, at least 4.
      n: images in the floor set, and in every generated set; 2 <= n <= num_examples // 2.
      seed: of the shuffle; a number is comparable only with numbers of the same seed.

    Returns:
      (reference_idx, floor_idx), int64, ascending and disjoint.

    Raises:
      ArgumentError: too few examples, or an n outside its range.

    Example:
      >>> reference_idx, floor_idx = reference_split(1797, 898)
      >>> len(reference_idx), len(floor_idx), len(set(reference_idx) & set(floor_idx))
      (899, 898, 0)
    """
    if num_examples < 4:
        raise ArgumentError("num_examples", num_examples, "at least 4")
    if not 2 <= n <= num_examples // 2:
        raise ArgumentError("n", n, f"in 2..{num_examples // 2} (half of num_examples)")
    # RandomState's stream is frozen for good; numpy's newer generators may change between versions.
    order = np.random.RandomState(seed).permutation(num_examples).astype(np.int64)
    half = num_examples - num_examples // 2
    return np.sort(order[:half]), np.sort(order[half : half + n])


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
    published: str | Path | None = None,
    cache: Path | None = None,
) -> Reference:
    """The reference of a run: half of its training images, or published statistics.

    Args:
      extractor: the feature space.
      images: the training images; the split is `reference_split(images.num_examples, n)`.
      n: images in the floor set and in every generated set; with `published` it may be more than
        there are training images, and the floor is then of all of them.
      name: what the reference is, for the record; with `published` it is the file's name.
      metrics: what is measured, of `METRICS`.
      few_samples: whether n may be below the number of features.
      published: a .npz of mean and covariance in the same feature space, as other tools write it;
        only the Fréchet distance and the Inception score can be taken then.
      cache: folder in which the reference's mean and covariance are kept between runs, under a
        digest of data, extractor and resize; None to compute them anew.

    Returns:
      What `report` compares generated images with.

    Raises:
      ArgumentError: an unknown metric, one that the extractor or the published file cannot give,
        or n below the number of features without `few_samples`.
    """
    metrics = checked_metrics(extractor, metrics, published is not None)
    dimension = None if extractor.dimension is None else extractor.dimension(images.image_shape)
    check_n(n, dimension, few_samples)
    total = images.num_examples
    if published is None or n <= total // 2:
        reference_idx, floor_idx = reference_split(total, n)
    else:
        # What the published reference was made of is not known, so no images are kept apart.
        floor_idx = np.sort(np.random.RandomState(0).permutation(total)[:n]).astype(np.int64)
    keep = bool({"kernel", "precision_recall"} & set(metrics))
    features = None
    count: int | None
    if published is not None:
        statistics = load_statistics(published, dimension)
        frechet = FrechetReference.of(statistics.mean, statistics.covariance)
        sha256 = digest(statistics.mean.tobytes(), statistics.covariance.tobytes())
        count, name = statistics.count, Path(published).name
    elif cache is not None and not keep:
        frechet, sha256, count = _cached(extractor, images, reference_idx, cache)
    else:
        seen = extract(extractor, _batches(images, reference_idx), keep)
        frechet, sha256, count = _frechet(seen.moments), seen.sha256, seen.moments.count
        features = seen.features
    check_n(n, frechet.mean.size, few_samples)
    held_out = extract(extractor, _batches(images, floor_idx), keep=set(metrics) != {"frechet"})
    return Reference(
        name=name,
        extractor=extractor,
        sha256=sha256,
        count=count,
        n=n,
        image_shape=images.image_shape,
        metrics=metrics,
        distance=extractor.distance if published or extractor.distance != "FID" else _HALF,
        floor_count=len(floor_idx),
        frechet=frechet,
        features=features,
        floor=_measured(metrics, frechet, features, held_out, "floor"),
    )


def checked_metrics(
    extractor: Extractor, metrics: Sequence[str], published: bool
) -> tuple[str, ...]:
    """The metrics, refused where they cannot be taken.

    Raises:
      ArgumentError: an unknown metric, or one that needs what is not there.
    """
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
        without its NFE, or unknown weights.
    """
    one_of("weights", weights, ["raw", "ema"])
    if images_seen < 0:
        raise ArgumentError("images_seen", images_seen, "at least 0")
    for argument, given in (("nfe", nfe), ("levels", levels)):
        if set(given) != set(samples) or "floor" in samples:
            raise ArgumentError(
                argument, sorted(given), f"given for each of {sorted(samples)}, none called 'floor'"
            )
    numbers: dict[str, float] = {}
    keep = set(reference.metrics) != {"frechet"}
    for name, images in samples.items():
        seen = extract(reference.extractor, _checked(reference, name, images), keep)
        numbers |= _measured(reference.metrics, reference.frechet, reference.features, seen, name)
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
        record["kernel_subset"] = _kernel_subset(len(reference.features), reference.n)
    if reference.floor_count != reference.n:
        record["floor_n"] = reference.floor_count
    if reference.is_underdetermined:
        record["fewer_samples_than_features"] = True
    return record


def _measured(
    metrics: Iterable[str],
    frechet: FrechetReference,
    features: npt.NDArray[np.float64] | None,
    seen: Extracted,
    name: str,
) -> dict[str, float]:
    """Every metric of one set of images."""
    numbers = {frechet_key(name): frechet.distance(seen.moments.mean, seen.moments.covariance)}
    for metric in metrics:
        if metric == "kernel":
            assert features is not None
            assert seen.features is not None
            size = _kernel_subset(len(features), len(seen.features))
            kernel = kernel_distance(features, seen.features, subset_size=size)
            numbers[f"kernel_{name}"] = kernel.mean
            numbers[f"kernel_deviation_{name}"] = kernel.standard_deviation
        elif metric == "inception_score":
            assert seen.logits is not None
            score = inception_score(seen.logits)
            numbers[f"inception_score_{name}"] = score.mean
            numbers[f"inception_score_deviation_{name}"] = score.standard_deviation
        elif metric == "precision_recall":
            assert features is not None
            assert seen.features is not None
            # Manifolds compare at equal sizes only; data sets may be sorted by class.
            rows = min(len(features), len(seen.features))
            some = np.random.RandomState(0).permutation(len(features))[:rows]
            both = precision_and_recall(features[some], seen.features[:rows])
            numbers[f"precision_{name}"] = both.precision
            numbers[f"recall_{name}"] = both.recall
    return numbers


def _kernel_subset(real: int, generated: int) -> int:
    """Small beside both sets, or the subsets of all rounds would be nearly the same."""
    return min(_KERNEL_SUBSET, real // 2, generated // 2)


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
    for start in range(0, len(indices), _AT_ONCE):
        yield images.load(indices[start : start + _AT_ONCE])[0]


def _checked(
    reference: Reference, name: str, images: Pixels | Iterable[Pixels]
) -> Iterator[Pixels]:
    """Portions of generated images, refused where they have no floor to stand beside."""
    expected = (reference.n, *reference.image_shape)
    count = 0

    def refused(dtype: object, shape: tuple[int, ...]) -> ArgumentError:
        return ArgumentError(
            "samples",
            f"{name!r}: {dtype}{[count, *shape]}",
            f"uint8{list(expected)}, the floor set's",
        )

    for portion in _portions(images) if isinstance(images, np.ndarray) else images:
        count += len(portion)
        if portion.dtype != np.uint8 or portion.shape[1:] != reference.image_shape:
            raise refused(portion.dtype, portion.shape[1:])
        yield portion
    # The distance's bias depends on n.
    if count != reference.n:
        raise refused("uint8", reference.image_shape)


def _portions(images: Pixels) -> Iterator[Pixels]:
    for start in range(0, len(images), _AT_ONCE):
        yield images[start : start + _AT_ONCE]

"""What a distance means: the reference, the sample size, the floor, and the record of all three.

A distance depends on the extractor, the reference and the number of samples (Fréchet's bias falls
like 1/n), so that a bare number says nothing. Here every number is taken with the SAME reference
and the SAME n as its floor, the distance of real held-out images: a generator that draws perfect
samples would score the floor, not 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from jaxnoise.errors import ArgumentError, check_finite, check_numbers, one_of
from jaxnoise.evaluation.checks import check_count, check_integer, check_kind
from jaxnoise.evaluation.extractors import Pixels, extract
from jaxnoise.evaluation.measured import kernel_subset, measured
from jaxnoise.evaluation.reference import Reference
from jaxnoise.evaluation.samples import checked_samples


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
      `kernel_subset`, `floor_n` (a floor of fewer images), `floor_may_be_in_reference` (of a
      published one), `fewer_samples_than_features`.

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
        "levels": {name: recorded_levels(levels[name]) for name in samples},
        "weights": weights,
        "images_seen": images_seen,
        "seed": seed,
        "guidance": guidance,
    }
    if labels is not None:
        record["labels"] = labels
    if "kernel" in reference.metrics and reference.features is not None:
        fewest = min(reference.n, reference.floor_count)
        record["kernel_subset"] = kernel_subset(len(reference.features), fewest)
    if reference.floor_count != reference.n:
        record["floor_n"] = reference.floor_count
    if not reference.floor_is_apart:
        record["floor_may_be_in_reference"] = True
    if reference.is_underdetermined:
        record["fewer_samples_than_features"] = True
    return record


def recorded_levels(levels: Sequence[float]) -> list[float]:
    """A sampler's levels as a record tells them, by four digits.

    Example:
      >>> recorded_levels((80.0, 0.82112))
      [80.0, 0.8211]
    """
    return [float(f"{x:.4g}") for x in levels]

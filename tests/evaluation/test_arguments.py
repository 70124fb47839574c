"""What this room refuses, by name: kinds, shapes and numbers that would give no distance."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise.data import ArrayImages
from jaxnoise.errors import ArgumentError
from jaxnoise.evaluation import (
    Extractor,
    Features,
    FrechetReference,
    Moments,
    Reference,
    Statistics,
    efficientnet,
    extract,
    frechet_distance,
    from_function,
    image_moments,
    inception,
    inception_score,
    kernel_distance,
    load_statistics,
    precision_and_recall,
    raw_pixels,
    reference_from,
    reference_split,
    report,
    save_statistics,
    squared_mmd,
)

ROWS = np.random.RandomState(0).standard_normal((8, 2))
PIXELS = np.random.RandomState(0).randint(0, 256, (40, 2, 2, 1)).astype(np.uint8)
IMAGES = ArrayImages("noise", PIXELS, np.zeros(40, int), 0)
REFERENCE = reference_from(raw_pixels(), IMAGES, 20, "noise")
MOMENTS = Moments.of(ROWS)
SAID = {
    "nfe": {"a": 1},
    "levels": {"a": (80.0,)},
    "weights": "raw",
    "images_seen": 0,
    "seed": 1,
}
TWO_SETS = [kernel_distance, squared_mmd, precision_and_recall]


def extractor(**changes):
    fields = {name: getattr(raw_pixels(), name) for name in Extractor.__dataclass_fields__}
    return Extractor(**fields | changes)


def seen_as(given):
    return extract(extractor(extract=lambda images: given), [PIXELS])


def reported(**changes):
    given = {"reference": REFERENCE, "samples": {"a": PIXELS[:20]}, **SAID, **changes}
    return report(given.pop("reference"), given.pop("samples"), **given)


def reference(**changes):
    given = {"extractor": raw_pixels(), "images": IMAGES, "n": 20, "name": "noise", **changes}
    return reference_from(**given)


@pytest.mark.parametrize("distance", TWO_SETS)
@pytest.mark.parametrize(
    "real,generated,message",
    [
        (None, ROWS, r"real=None: must be real numbers, float\[n, D\]"),
        ("rows", ROWS, r"real='rows'"),
        (ROWS, np.full((8, 2), "a"), r"generated=<U1\[8,2\]: must be real numbers"),
        (ROWS.astype(complex), ROWS, r"real=complex128\[8,2\]: must be real numbers"),
        (ROWS > 0, ROWS, r"real=bool\[8,2\]"),
        ([[1.0], [1.0, 2.0]], ROWS, r"real=rows of different lengths"),
        (ROWS, ROWS[0], r"generated=\(2,\): must be of shape \[n, D\]"),
        (ROWS, np.zeros((8, 3)), r"generated=\(8, 3\): must be of shape \[n, 2\], as real"),
        (ROWS[:1], ROWS, r"real=\(1, 2\): must be of at least 2 rows"),
        (ROWS, ROWS[:1], r"generated=\(1, 2\): must be of at least 2 rows"),
        (ROWS, ROWS * np.nan, r"generated='8 of 8 rows not finite"),
    ],
)
def test_features_of_the_wrong_kind(distance, real, generated, message):
    with pytest.raises(ArgumentError, match=f"^{message}"):
        distance(real, generated)


def test_what_is_traced_is_on_no_host():
    for call in (lambda x: squared_mmd(ROWS, x), Moments.of, image_moments, inception_score):
        with pytest.raises(ArgumentError, match="='a traced array': must be concrete"):
            jax.jit(call)(ROWS)


def test_device_arrays_and_lists_are_taken_as_before():
    expected = squared_mmd(ROWS, ROWS[:4])
    assert squared_mmd(ROWS.tolist(), ROWS[:4].tolist()) == expected
    halves = jnp.asarray(ROWS, jnp.bfloat16)
    assert squared_mmd(halves, halves[:4]) == pytest.approx(expected, abs=0.1)


@pytest.mark.parametrize(
    "message,call",
    [
        (r"subset_size=4\.0: must be an integer", lambda: kernel_distance(ROWS, ROWS, 4.0)),
        (r"subsets='9'", lambda: kernel_distance(ROWS, ROWS, 4, "9")),
        (r"seed=-1: must be in 0\.\.2\^32", lambda: kernel_distance(ROWS, ROWS, 4, 2, -1)),
        (r"seed=None", lambda: kernel_distance(ROWS, ROWS, 4, 2, None)),
        (r"k=1\.5", lambda: precision_and_recall(ROWS, ROWS, 1.5)),
        (r"splits=2\.0", lambda: inception_score(ROWS, 2.0)),
        (r"logits='p'", lambda: inception_score("p")),
        (r"mu1='a'", lambda: frechet_distance("a", np.eye(1), [0.0], np.eye(1))),
        (r"cov2=None", lambda: frechet_distance([0.0], np.eye(1), [0.0], None)),
        (r"mu2=\(3,\)", lambda: frechet_distance(np.ones(2), np.eye(2), np.ones(3), np.eye(3))),
        (r"mean=float64\[2,2\]", lambda: FrechetReference(np.eye(2), 1.0, np.eye(2))),
        (r"trace=nan", lambda: FrechetReference(np.ones(2), np.nan, np.eye(2))),
        (r"factor=float64\[2\]", lambda: FrechetReference(np.ones(2), 1.0, np.ones(2))),
        (r"mean=None", lambda: FrechetReference.of(None, np.eye(2))),
        (r"dimension=2\.5", lambda: Moments.empty(2.5)),
        (r"features='a'", lambda: Moments.of("a")),
        (r"batch=None", lambda: MOMENTS.update(None)),
        (r"other=float64\[8,2\]: must be Moments", lambda: MOMENTS.merge(ROWS)),
        (r"count=-1", lambda: Moments(-1, np.ones(2), np.eye(2))),
        (r"mean=2", lambda: Moments(1, 2, np.eye(2))),
        (r"scatter=float64\[3,3\]", lambda: Moments(1, np.ones(2), np.eye(3))),
        (r"images='images of different sizes'", lambda: image_moments([[1], [2, 3]])),
        (r"images=\(\)", lambda: image_moments(None)),
        (r"name=3", lambda: extractor(name=3)),
        (r"resize=None", lambda: extractor(resize=None)),
        (r"extract=None: must be a function uint8", lambda: extractor(extract=None)),
        (r"dimension=64", lambda: extractor(dimension=64)),
        (r"images=float64\[40,2,2,1\]", lambda: raw_pixels().extract(PIXELS / 255)),
        (r"images=uint8\[2,2,1\]", lambda: raw_pixels().extract(PIXELS[0])),
        (r"images=float64\[40,2,2,1\]", lambda: from_function("numpy:sum").extract(PIXELS / 255)),
        (r"images=uint8\[0,2,2,1\]: must be at least", lambda: efficientnet().extract(PIXELS[:0])),
        (r"images=None", lambda: efficientnet().extract(None)),
        (r"path=builtin_function_or_method", lambda: from_function(sum)),
        (r"path=3", lambda: inception(3)),
        (r"fetch='no'", lambda: inception(fetch="no")),
        (r"batch=0: must be at least 1", lambda: inception(batch=0)),
        (r"batch=1\.5", lambda: efficientnet(batch=1.5)),
        (r"extractor='raw'", lambda: extract("raw", [PIXELS])),
        (r"batches=uint8\[40,2,2,1\]: must be an iterable", lambda: extract(raw_pixels(), PIXELS)),
        (r"batches=3", lambda: extract(raw_pixels(), 3)),
        (r"batches='a'", lambda: extract(raw_pixels(), ["a"])),
        (r"extractor=raw pixels to NoneType: must be one to", lambda: seen_as(None)),
        (r"extractor=raw pixels to float64\[8,2\]", lambda: seen_as(ROWS)),
        (r"extractor=raw pixels to float64\[8,2\]: .*\[40, D\]", lambda: seen_as(Features(ROWS))),
        (r"path=None", lambda: save_statistics(None, MOMENTS, {})),
        (r"moments=float64\[8,2\]", lambda: save_statistics("a.npz", ROWS, {})),
        (r"metadata=list", lambda: save_statistics("a.npz", MOMENTS, ["a"])),
        (r"path=3: must be a path", lambda: load_statistics(3)),
        (r"dimension='2'", lambda: load_statistics("a.npz", "2")),
        (r"covariance=float64\[3,3\]", lambda: Statistics(np.ones(2), np.eye(3))),
        (r"count='n'", lambda: Statistics(np.ones(2), np.eye(2), "n")),
        (r"metadata=None", lambda: Statistics(np.ones(2), np.eye(2), 3, None)),
        (r"num_examples=10\.5", lambda: reference_split(10.5, 2)),
        (r"n=2\.5", lambda: reference_split(10, 2.5)),
        (r"seed='a'", lambda: reference_split(10, 2, "a")),
        (r"extractor=None", lambda: reference(extractor=None)),
        (r"images=uint8\[40,2,2,1\]", lambda: reference(images=PIXELS)),
        (r"n='20'", lambda: reference(n="20")),
        (r"name=None", lambda: reference(name=None)),
        (r"metrics='frechet': must be a tuple", lambda: reference(metrics="frechet")),
        (r"metrics=None", lambda: reference(metrics=None)),
        (r"published=3", lambda: reference(published=3)),
        (r"cache=True", lambda: reference(cache=True)),
        (r"reference=None", lambda: reported(reference=None)),
        (r"samples=uint8\[20,2,2,1\]", lambda: reported(samples=PIXELS[:20])),
        (r"samples='a': int", lambda: reported(samples={"a": 3})),
        (r"samples='a': str", lambda: reported(samples={"a": ["b"]})),
        (r"nfe=1: must be a mapping", lambda: reported(nfe=1)),
        (r"nfe='one'", lambda: reported(nfe={"a": "one"})),
        (r"levels=\('high',\)", lambda: reported(levels={"a": ("high",)})),
        (r"levels=80\.0", lambda: reported(levels={"a": 80.0})),
        (r"images_seen=1\.5", lambda: reported(images_seen=1.5)),
        (r"seed=None", lambda: reported(seed=None)),
        (r"guidance=None", lambda: reported(guidance=None)),
    ],
)
def test_other_arguments_of_the_wrong_kind(message, call):
    with pytest.raises(ArgumentError, match=f"^{message}"):
        call()


def test_a_data_set_of_latents_has_no_reference():
    class Latents:
        num_examples, image_shape, dtype = 40, (2, 2, 1), np.dtype(np.float32)

        def load(self, indices):
            return PIXELS[indices] / np.float32(255), np.zeros(len(indices), np.int32)

    with pytest.raises(
        ArgumentError, match=r"^images=Latents of float32: must be a data set of uint8"
    ):
        reference(images=Latents())


def test_a_cache_may_be_named_by_a_string(tmp_path: Path) -> None:
    reference(cache=str(tmp_path))
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("name,value", [("frechet", None), ("n", 2.5), ("image_shape", 3)])
def test_a_reference_of_other_fields(name, value):
    fields = {field: getattr(REFERENCE, field) for field in Reference.__dataclass_fields__}
    with pytest.raises(ArgumentError, match=f"^{name}="):
        Reference(**fields | {name: value})

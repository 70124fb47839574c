"""The protocol: disjoint fixed halves, one n for every arm, and a record that says it all."""

import json
from collections.abc import Iterator

import numpy as np
import pytest
from sklearn.datasets import load_digits

from jaxnoise.data import ArrayImages
from jaxnoise.errors import ArgumentError
from jaxnoise.evaluation import (
    Extractor,
    Features,
    Moments,
    Reference,
    extract,
    frechet_distance,
    kernel_distance,
    precision_and_recall,
    raw_pixels,
    reference_from,
    reference_split,
    report,
    save_statistics,
)


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    # 17 grey levels, 0..16, spread over a byte.
    return np.round(load_digits().images[..., None] * (255 / 16)).astype(np.uint8)


def as_images(pixels: np.ndarray) -> ArrayImages:
    return ArrayImages("digits", pixels, np.zeros(len(pixels), int), 0)


@pytest.fixture(scope="module")
def reference(digits: np.ndarray) -> Reference:
    return reference_from(raw_pixels(), as_images(digits), 898, "digits, first half")


def test_split_covers_the_digits_once() -> None:
    reference_idx, floor_idx = reference_split(1797, 898)
    assert (len(reference_idx), len(floor_idx)) == (899, 898)
    np.testing.assert_array_equal(np.sort(np.r_[reference_idx, floor_idx]), np.arange(1797))
    # A shuffle, not the first half: the two means differ by far less than the halves of arange.
    assert abs(reference_idx.mean() - floor_idx.mean()) < 100


def test_split_is_fixed_for_good() -> None:
    reference_idx, floor_idx = reference_split(10, 3)
    assert reference_idx.tolist() == [1, 2, 4, 8, 9]
    assert floor_idx.tolist() == [3, 6, 7]
    other, _ = reference_split(10, 3, seed=1)
    assert other.tolist() == [0, 2, 4, 6, 9]


def test_smaller_n_keeps_the_reference() -> None:
    small, large = reference_split(100, 10), reference_split(100, 50)
    np.testing.assert_array_equal(small[0], large[0])
    assert set(small[1]) < set(large[1])


@pytest.mark.parametrize("n", [1, 0, 6])
def test_split_refuses_an_n_outside_its_range(n: int) -> None:
    with pytest.raises(ArgumentError, match=rf"n={n}: must be in 2..5"):
        reference_split(11, n)
    with pytest.raises(ArgumentError, match="num_examples=3"):
        reference_split(3, n)


SAID = {
    "nfe": {"a": 1},
    "levels": {"a": (80.0,)},
    "weights": "raw",
    "images_seen": 0,
    "seed": 1,
}


def moments(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    pixels = images.reshape(len(images), -1) / 127.5 - 1
    return pixels.mean(axis=0), np.cov(pixels.T)


def test_report_holds_the_distances_and_the_protocol(
    digits: np.ndarray, reference: Reference
) -> None:
    reference_idx, floor_idx = reference_split(len(digits), 898)
    noise = np.random.RandomState(0).randint(0, 256, (898, 8, 8, 1)).astype(np.uint8)
    result = report(
        reference,
        {"1step": noise, "2step": digits[floor_idx]},
        nfe={"1step": 1, "2step": 2},
        levels={"1step": (80.0,), "2step": (80.0, 0.82112)},
        weights="ema",
        images_seen=128_000,
        seed=7,
    )
    real = moments(digits[reference_idx])
    expected = frechet_distance(*moments(noise), *real)
    assert result.pop("frechet_1step") == pytest.approx(expected, rel=1e-9)
    floor = result.pop("frechet_floor")
    assert result.pop("frechet_2step") == pytest.approx(floor, rel=1e-12)
    assert floor == pytest.approx(frechet_distance(*moments(digits[floor_idx]), *real), rel=1e-9)
    # Held-out digits are far closer to the reference than noise, and not at 0.
    assert 0.1 < floor < 1 < expected
    digest = result.pop("reference_sha256")
    assert isinstance(digest, str)
    assert len(digest) == 64
    assert result == {
        "distance": "Fréchet, raw pixels in [-1, 1]",
        "n": 898,
        "extractor": "raw pixels",
        "extractor_sha256": "",
        "resize": "none",
        "reference": "digits, first half",
        "reference_count": 899,
        "nfe": {"1step": 1, "2step": 2},
        "levels": {"1step": [80.0], "2step": [80.0, 0.8211]},
        "weights": "ema",
        "images_seen": 128_000,
        "seed": 7,
        "guidance": 1.0,
    }
    assert json.loads(json.dumps(result)) == result


def test_another_reference_has_another_digest(digits: np.ndarray) -> None:
    changed = digits[:200].copy()
    changed[:, 0, 0, 0] += 1
    both = [
        reference_from(raw_pixels(), as_images(rows), 64, "x") for rows in (digits[:200], changed)
    ]
    assert both[0].sha256 != both[1].sha256


def test_report_refuses_arms_that_have_no_floor_to_stand_beside(
    digits: np.ndarray, reference: Reference
) -> None:
    def tried(images: np.ndarray, **changes: object) -> None:
        report(reference, {"a": images}, **SAID | changes)

    tried(digits[:898])
    with pytest.raises(ArgumentError, match=r"samples=\"'a': uint8\[897, 8, 8, 1\]"):
        tried(digits[:897])
    with pytest.raises(ArgumentError, match=r"samples=.*float64"):
        tried(digits[:898] / 255)
    with pytest.raises(ArgumentError, match="nfe="):
        tried(digits[:898], nfe={"b": 1})
    with pytest.raises(ArgumentError, match="levels="):
        tried(digits[:898], levels={})
    with pytest.raises(ArgumentError, match="did you mean 'ema'"):
        tried(digits[:898], weights="emma")
    with pytest.raises(ArgumentError, match="images_seen=-1"):
        tried(digits[:898], images_seen=-1)


def test_with_held_out_images_the_reference_is_all_of_the_others(digits: np.ndarray) -> None:
    train, test = as_images(digits[:200]), as_images(digits[200:300])
    whole = reference_from(raw_pixels(), train, 150, "digits, all", held_out=test)
    moments = [raw_pixels().extract(part).features for part in (digits[:200], digits[200:300])]
    distance = frechet_distance(
        *(m for part in moments for m in (part.mean(0), np.cov(part, rowvar=False)))
    )
    # There are only 100 of the 150 images asked for.
    assert (whole.count, whole.floor_count) == (200, 100)
    assert whole.floor["frechet_floor"] == pytest.approx(distance, rel=1e-6)
    samples = {"a": digits[300:450]}
    record = report(whole, samples, **SAID)
    assert (record["reference"], record["reference_count"]) == ("digits, all", 200)
    assert (record["n"], record["floor_n"]) == (150, 100)
    # Fewer are a choice of a fixed shuffle.
    few = reference_from(raw_pixels(), train, 64, "digits, all", held_out=test)
    assert few.floor_count == 64
    half = as_images(digits[200:300, :4])
    with pytest.raises(ArgumentError, match=r"held_out=\(4, 8, 1\): must be of the images' shape"):
        reference_from(raw_pixels(), train, 64, "x", held_out=half)


def test_samples_may_come_in_portions(digits: np.ndarray, reference: Reference) -> None:
    def portions(count: int) -> Iterator[np.ndarray]:
        for start in range(0, count, 100):
            yield digits[start : min(start + 100, count)]

    whole = report(reference, {"a": digits[:898]}, **SAID)
    split = report(reference, {"a": portions(898)}, **SAID)
    assert split.pop("frechet_a") == pytest.approx(whole.pop("frechet_a"), rel=1e-9)
    assert split == whole
    with pytest.raises(ArgumentError, match=r"samples=\"'a': uint8\[899, 8, 8, 1\]"):
        report(reference, {"a": portions(899)}, **SAID)
    with pytest.raises(ArgumentError, match=r"samples=.*uint8\[100, 7, 8, 1\]"):
        report(reference, {"a": (part[:, 1:] for part in portions(898))}, **SAID)


def test_fewer_samples_than_features_are_refused_or_labelled(digits: np.ndarray) -> None:
    images = as_images(digits[:200])
    with pytest.raises(ArgumentError, match="n=63: must be at least 64, the number of features"):
        reference_from(raw_pixels(), images, 63, "x")
    few = reference_from(raw_pixels(), images, 63, "x", few_samples=True)
    assert report(few, {"a": digits[:63]}, **SAID)["fewer_samples_than_features"] is True
    enough = reference_from(raw_pixels(), images, 64, "x")
    assert "fewer_samples_than_features" not in report(enough, {"a": digits[:64]}, **SAID)


def test_every_metric_is_taken_of_the_samples_and_of_the_floor(digits: np.ndarray) -> None:
    metrics = ("frechet", "kernel", "precision_recall")
    images = as_images(digits[:400])
    made = reference_from(raw_pixels(), images, 150, "x", metrics=metrics)
    result = report(made, {"a": digits[400:550]}, **SAID)
    real_idx, floor_idx = reference_split(400, 150)

    def features(pixels: np.ndarray) -> np.ndarray:
        return pixels.reshape(len(pixels), -1) / 127.5 - 1

    real = features(digits[real_idx])
    for name, pixels in (("a", digits[400:550]), ("floor", digits[floor_idx])):
        kernel = kernel_distance(real, features(pixels), subset_size=75)
        assert result[f"kernel_{name}"] == pytest.approx(kernel.mean, rel=1e-9)
        assert result[f"kernel_deviation_{name}"] == pytest.approx(kernel.standard_deviation)
        some = np.random.RandomState(0).permutation(200)[:150]
        both = precision_and_recall(real[some], features(pixels))
        assert result[f"precision_{name}"] == both.precision
        assert result[f"recall_{name}"] == both.recall


@pytest.mark.parametrize(
    "metrics, message",
    [
        (("frechet", "kid"), "did you mean"),
        (("kernel",), "holds 'frechet'"),
        (("frechet", "inception_score"), "extractor 'inception' only"),
    ],
)
def test_metrics_that_cannot_be_taken(
    digits: np.ndarray, metrics: tuple[str, ...], message: str
) -> None:
    if metrics[-1] == "kid":
        message = "one of frechet, kernel"
    with pytest.raises(ArgumentError, match=message):
        reference_from(raw_pixels(), as_images(digits[:200]), 64, "x", metrics=metrics)


def test_published_statistics_take_the_place_of_the_reference(digits: np.ndarray, tmp_path) -> None:
    mean, covariance = moments(digits[:500])
    path = tmp_path / "published.npz"
    np.savez(path, mu=mean, sigma=covariance)
    made = reference_from(raw_pixels(), as_images(digits), 100, "x", published=path)
    result = report(made, {"a": digits[900:1000]}, **SAID)
    expected = frechet_distance(*moments(digits[900:1000]), mean, covariance)
    assert result["frechet_a"] == pytest.approx(expected, rel=1e-9)
    _, floor_idx = reference_split(len(digits), 100)
    expected = frechet_distance(*moments(digits[floor_idx]), mean, covariance)
    assert result["frechet_floor"] == pytest.approx(expected, rel=1e-9)
    assert result["reference"] == "published.npz"
    assert result["reference_count"] is None
    with pytest.raises(ArgumentError, match="metrics='kernel': must be taken without published"):
        reference_from(
            raw_pixels(),
            as_images(digits),
            100,
            "x",
            metrics=("frechet", "kernel"),
            published=path,
        )
    np.savez(path, mu=mean[:5], sigma=covariance[:5, :5])
    with pytest.raises(ArgumentError, match="5"):
        reference_from(raw_pixels(), as_images(digits), 100, "x", published=path)


def test_reference_statistics_are_kept_under_what_they_depend_on(
    digits: np.ndarray, tmp_path
) -> None:
    first = reference_from(raw_pixels(), as_images(digits[:200]), 64, "x", cache=tmp_path)
    (kept,) = tmp_path.iterdir()
    again = reference_from(raw_pixels(), as_images(digits[:200]), 64, "x", cache=tmp_path)
    assert again.sha256 == first.sha256
    assert again.count == first.count == 100
    np.testing.assert_array_equal(again.frechet.mean, first.frechet.mean)
    # What is kept is what is used.
    save_statistics(
        kept,
        Moments.of(np.random.RandomState(0).standard_normal((100, 64))),
        json.loads(str(np.load(kept)["metadata"])),
    )
    other = reference_from(raw_pixels(), as_images(digits[:200]), 64, "x", cache=tmp_path)
    assert not np.allclose(other.frechet.mean, first.frechet.mean)
    reference_from(raw_pixels(), as_images(digits[:202]), 64, "x", cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_sorted_data_set_has_all_its_classes_in_the_manifold() -> None:
    """Images of ten far-away classes, sorted by class, as data sets on disk often are."""
    random = np.random.RandomState(0)
    labels = np.repeat(np.arange(10), 100)
    pixels = (25 * labels[:, None, None, None] + random.randint(0, 4, (1000, 2, 2, 1))).astype(
        np.uint8
    )
    metrics = ("frechet", "precision_recall")
    made = reference_from(raw_pixels(), as_images(pixels), 100, "x", metrics=metrics)
    fair = report(made, {"a": pixels[random.permutation(1000)[:100]]}, **SAID)
    assert fair["precision_a"] > 0.8
    assert fair["recall_a"] > 0.8
    assert made.floor["precision_floor"] > 0.8


def by_class(features: int) -> Extractor:
    """An extractor that sees an image's class, as logits too; the class is its first grey level."""

    def extract(images: np.ndarray) -> Features:
        labels = images[:, 0, 0, 0] // 25
        grey = images.reshape(len(images), -1)[:, :features] / 127.5 - 1
        return Features(grey, np.where(np.eye(10)[labels], 12.0, 0.0))

    return Extractor("inception-v3", "FID", "0f", "tf1", extract, lambda shape: features)


def classes_one_after_another(count: int) -> np.ndarray:
    random = np.random.RandomState(count)
    grey = 25 * np.repeat(np.arange(10), count // 10)[:, None, None, None]
    return (grey + random.randint(0, 4, (count, 2, 2, 1))).astype(np.uint8)


def test_sets_sorted_by_class_score_as_mixed_ones_do() -> None:
    """The Inception score is taken of parts, and manifolds of equal numbers."""
    metrics = ("frechet", "inception_score", "precision_recall")
    mixed = np.random.RandomState(1).permutation
    train, test = classes_one_after_another(200), classes_one_after_another(2000)
    found = []
    for images, floor in ((train, test), (train[mixed(200)], test[mixed(2000)])):
        held_out = ArrayImages("digits", floor, np.zeros(len(floor), int), 0)
        made = reference_from(
            by_class(4), as_images(images), 1000, "x", metrics=metrics, held_out=held_out
        )
        record = report(made, {"a": floor[mixed(2000)[:1000]]}, **SAID)
        found.append(record)
        assert record["inception_score_floor"] == pytest.approx(9.6, abs=0.15)
        assert record["inception_score_a"] == pytest.approx(9.6, abs=0.15)
        assert record["recall_floor"] > 0.8
        assert record["recall_floor"] == pytest.approx(record["recall_a"], abs=0.1)
    for key in ("inception_score_floor", "recall_floor", "precision_floor"):
        assert found[0][key] == pytest.approx(found[1][key], abs=0.1)


def test_the_floor_of_a_published_reference_may_be_of_held_out_images(
    digits: np.ndarray, tmp_path
) -> None:
    path = tmp_path / "published.npz"
    mean, covariance = moments(digits[:1000])
    np.savez(path, mu=mean, sigma=covariance)
    train, test = as_images(digits[:1000]), as_images(digits[1000:1500])
    given = {"published": path, "held_out": test}
    made = reference_from(raw_pixels(), train, 500, "x", **given)
    expected = frechet_distance(*moments(digits[1000:1500]), mean, covariance)
    assert made.floor["frechet_floor"] == pytest.approx(expected, rel=1e-9)
    samples = {"a": digits[:500]}
    assert "floor_may_be_in_reference" not in report(made, samples, **SAID)
    # Of images trained on it is half of what it should be, and the record says why.
    near = reference_from(raw_pixels(), train, 500, "x", published=path)
    assert near.floor["frechet_floor"] < 0.7 * expected
    assert report(near, samples, **SAID)["floor_may_be_in_reference"] is True


def test_held_out_images_are_other_images(digits: np.ndarray) -> None:
    train = as_images(digits[:200])
    with pytest.raises(ArgumentError, match=r"held_out='digits': must be other images than those"):
        reference_from(raw_pixels(), train, 100, "x", held_out=as_images(digits[:200]))


def test_published_statistics_are_of_the_same_features(digits: np.ndarray, tmp_path) -> None:
    path = tmp_path / "published.npz"
    own = Moments.of(raw_pixels().extract(digits[:500]).features)

    def tried(metadata: dict[str, object]) -> None:
        save_statistics(path, own, metadata)
        reference_from(raw_pixels(), as_images(digits), 100, "x", published=path)

    same = {"extractor": "raw pixels", "extractor_sha256": "", "resize": "none"}
    # What other tools write in their own form is not judged.
    for metadata in (same, {}, {"data": "digits"}, {"extractor": {"name": "another"}}):
        tried(metadata)
    for key in same:
        with pytest.raises(ArgumentError, match=rf"published=statistics of {key} 'x': must be of"):
            tried(same | {key: "x"})


@pytest.mark.parametrize(
    "train, test, name", [(50, 200, "images=50 images"), (200, 50, "held_out=50 images")]
)
def test_every_set_has_as_many_images_as_features(
    digits: np.ndarray, train: int, test: int, name: str
) -> None:
    images, held_out = as_images(digits[:train]), as_images(digits[train : train + test])
    with pytest.raises(ArgumentError, match=f"{name}: must be at least 64, the number of features"):
        reference_from(raw_pixels(), images, 100, "x", held_out=held_out)
    few = reference_from(raw_pixels(), images, 100, "x", held_out=held_out, few_samples=True)
    record = report(few, {"a": digits[300:400]}, **SAID)
    assert record["fewer_samples_than_features"] is True


def test_a_metric_needs_some_images(digits: np.ndarray) -> None:
    given = {"metrics": ("frechet", "precision_recall"), "few_samples": True}
    with pytest.raises(ArgumentError, match=r"n=3: must be at least 4: precision_recall"):
        reference_from(raw_pixels(), as_images(digits), 3, "x", **given)
    assert reference_from(raw_pixels(), as_images(digits), 4, "x", **given).n == 4


@pytest.mark.parametrize("place", ["file/cache", "file"])
def test_a_cache_that_cannot_be_written_costs_time_only(
    digits: np.ndarray, tmp_path, place: str
) -> None:
    (tmp_path / "file").write_text("")
    images = as_images(digits[:200])
    kept = reference_from(raw_pixels(), images, 64, "x", cache=tmp_path / place)
    assert kept.sha256 == reference_from(raw_pixels(), images, 64, "x").sha256


def test_a_damaged_file_of_statistics_is_made_anew(digits: np.ndarray, tmp_path) -> None:
    first = reference_from(raw_pixels(), as_images(digits[:200]), 64, "x", cache=tmp_path)
    (kept,) = tmp_path.iterdir()
    whole = kept.read_bytes()
    kept.write_bytes(whole[: len(whole) // 2])
    again = reference_from(raw_pixels(), as_images(digits[:200]), 64, "x", cache=tmp_path)
    np.testing.assert_array_equal(again.frechet.mean, first.frechet.mean)
    assert len(kept.read_bytes()) == len(whole)


def test_a_published_reference_takes_more_samples_than_there_are_images(
    digits: np.ndarray, tmp_path
) -> None:
    path = tmp_path / "published.npz"
    mean, covariance = moments(digits)
    np.savez(path, mu=mean, sigma=covariance)
    made = reference_from(raw_pixels(), as_images(digits[:100]), 300, "x", published=path)
    result = report(made, {"a": digits[:300]}, **SAID)
    assert (result["n"], result["floor_n"]) == (300, 100)


def test_streams_of_any_portions_give_the_same_moments(digits: np.ndarray) -> None:
    whole = extract(raw_pixels(), [digits])
    for size in (1, 97, 1000):
        parts = (digits[i : i + size] for i in range(0, len(digits), size))
        split = extract(raw_pixels(), parts)
        assert split.sha256 == whole.sha256
        np.testing.assert_allclose(split.moments.mean, whole.moments.mean, rtol=0, atol=1e-12)
        scatter = split.moments.scatter - whole.moments.scatter
        assert np.abs(scatter).max() < 1e-10 * np.abs(whole.moments.scatter).max()


def test_only_images_are_taken(digits: np.ndarray) -> None:
    with pytest.raises(ArgumentError, match="batches='float64"):
        extract(raw_pixels(), [digits / 255])
    for nothing in ([], [digits[:0]]):
        with pytest.raises(ArgumentError, match="batches='none'"):
            extract(raw_pixels(), nothing)
    assert extract(raw_pixels(), [digits[:5], digits[:0]], keep=True).features.shape == (5, 64)

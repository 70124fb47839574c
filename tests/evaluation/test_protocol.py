"""The protocol: disjoint fixed halves, one n for every arm, and a record that says it all."""

import json

import numpy as np
import pytest
from sklearn.datasets import load_digits

from jaxnoise.errors import ArgumentError
from jaxnoise.evaluation import (
    RawPixelReference,
    frechet_distance,
    raw_pixel_reference,
    raw_pixel_report,
    reference_split,
)


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    # 17 grey levels, 0..16, spread over a byte.
    return np.round(load_digits().images[..., None] * (255 / 16)).astype(np.uint8)


@pytest.fixture(scope="module")
def reference(digits: np.ndarray) -> RawPixelReference:
    reference_idx, floor_idx = reference_split(len(digits), 898)
    return raw_pixel_reference(digits[reference_idx], digits[floor_idx], "digits, first half")


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


def test_report_holds_the_distances_and_the_protocol(
    digits: np.ndarray, reference: RawPixelReference
) -> None:
    reference_idx, floor_idx = reference_split(len(digits), 898)
    noise = np.random.RandomState(0).randint(0, 256, (898, 8, 8, 1)).astype(np.uint8)
    report = raw_pixel_report(
        reference,
        {"1step": noise, "2step": digits[floor_idx]},
        nfe={"1step": 1, "2step": 2},
        weights="ema",
        images_seen=128_000,
    )

    def moments(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        pixels = images.reshape(len(images), -1) / 127.5 - 1
        return pixels.mean(axis=0), np.cov(pixels.T)

    real = moments(digits[reference_idx])
    expected = frechet_distance(*moments(noise), *real)
    assert report.pop("frechet_1step") == pytest.approx(expected, rel=1e-9)
    floor = report.pop("frechet_floor")
    assert report.pop("frechet_2step") == floor
    assert floor == pytest.approx(frechet_distance(*moments(digits[floor_idx]), *real), rel=1e-9)
    # Held-out digits are far closer to the reference than noise, and not at 0.
    assert 0.1 < floor < 1 < expected
    digest = report.pop("reference_sha256")
    assert isinstance(digest, str)
    assert len(digest) == 64
    assert report == {
        "n": 898,
        "extractor": "raw pixels",
        "reference": "digits, first half",
        "reference_count": 899,
        "nfe": {"1step": 1, "2step": 2},
        "weights": "ema",
        "images_seen": 128_000,
    }
    assert json.loads(json.dumps(report)) == report


def test_another_reference_has_another_digest(digits: np.ndarray) -> None:
    changed = digits[:10].copy()
    changed[0, 0, 0, 0] += 1
    digests = {
        raw_pixel_reference(rows, digits[20:30], "x").sha256 for rows in (digits[:10], changed)
    }
    assert len(digests) == 2


def test_report_refuses_arms_that_have_no_floor_to_stand_beside(
    digits: np.ndarray, reference: RawPixelReference
) -> None:
    def report(images: np.ndarray, **changes: object) -> None:
        arguments = {"nfe": {"a": 1}, "weights": "raw", "images_seen": 0, **changes}
        raw_pixel_report(reference, {"a": images}, **arguments)

    report(digits[:898])
    with pytest.raises(ArgumentError, match=r"samples=\"'a': uint8\[897, 8, 8, 1\]"):
        report(digits[:897])
    with pytest.raises(ArgumentError, match=r"samples=.*float64"):
        report(digits[:898] / 255)
    with pytest.raises(ArgumentError, match="nfe="):
        report(digits[:898], nfe={"b": 1})
    with pytest.raises(ArgumentError, match="did you mean 'ema'"):
        report(digits[:898], weights="emma")
    with pytest.raises(ArgumentError, match="images_seen=-1"):
        report(digits[:898], images_seen=-1)


def test_reference_refuses_other_arrays(digits: np.ndarray) -> None:
    with pytest.raises(ArgumentError, match="reference='float64'"):
        raw_pixel_reference(digits[:9] / 255, digits[9:], "x")
    with pytest.raises(ArgumentError, match=r"held_out=\(1, 8, 8, 1\)"):
        raw_pixel_reference(digits[:9], digits[9:10], "x")
    with pytest.raises(ArgumentError, match=r"held_out=\(5, 4, 8, 1\)"):
        raw_pixel_reference(digits[:9], digits[9:14, :4], "x")

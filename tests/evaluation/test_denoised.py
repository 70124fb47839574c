"""Images noised and denoised level by level, against what is known of simple denoisers."""

import numpy as np
import pytest

from jaxnoise.data import ArrayImages
from jaxnoise.evaluation import frechet_distance, raw_pixels, reference_from, reference_split
from jaxnoise.evaluation.denoised import by_band, denoised_by_level, sigmas_between

PIXELS = np.random.RandomState(0).randint(60, 190, (60, 2, 2, 1)).astype(np.uint8)
IMAGES = ArrayImages("noise", PIXELS, np.zeros(60, int), 0)


@pytest.fixture(scope="module")
def reference():
    return reference_from(raw_pixels(), IMAGES, 30, "noise, first half")


def test_a_constant_shift_has_its_square_for_an_error(reference):
    indices = reference_split(60, 30)[1]
    asked = []

    def shifted(pixels, labels, rows, sigma):
        asked.append((len(pixels), rows.tolist(), sigma))
        return (pixels.astype(np.float32) / 127.5 - 1) + np.float32(sigma)

    shifts = [0.0, 2 / 127.5, 20 / 127.5]
    found = denoised_by_level(shifted, IMAGES, indices, reference, shifts)
    assert asked == [(30, indices.tolist(), shift) for shift in shifts]
    assert found["sigma"] == shifts
    assert found["error"] == pytest.approx([shift**2 for shift in shifts], rel=1e-5)
    # With nothing changed, the distance is the floor; a shift of the mean adds its square.
    floor = reference.floor["frechet_floor"]
    assert found["frechet"][0] == pytest.approx(floor, rel=1e-9)
    features = raw_pixels().extract(PIXELS).features
    held_out, real = features[indices], features[reference_split(60, 30)[0]]
    moments = (real.mean(0), np.cov(real.T), held_out.mean(0) + shifts[1], np.cov(held_out.T))
    assert found["frechet"][1] == pytest.approx(frechet_distance(*moments), rel=1e-6)
    assert found["frechet"][2] > found["frechet"][1] > floor


def test_levels_are_evenly_spaced_in_their_logarithm():
    sigmas = np.array(sigmas_between(16))
    assert (sigmas[0], sigmas[-1]) == pytest.approx((0.002, 80.0))
    steps = np.diff(np.log(sigmas))
    np.testing.assert_allclose(steps, steps[0])
    assert set(by_band({"sigma": sigmas, "error": sigmas, "frechet": sigmas})) == {
        f"denoised_{what}_{band}"
        for what in ("error", "frechet")
        for band in ("<0.1", "0.1-1", "1-10", ">10")
    }

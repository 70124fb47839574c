import numpy as np
import pytest

from jaxnoise.export import evaluations
from jaxnoise.noise import Cosine, karras_levels
from jaxnoise.objectives import (
    DenoisingObjective,
    Prediction,
    karras_preconditioning,
    uniform_weight,
)
from jaxnoise.objectives.parameterization import over_pixels
from jaxnoise.sampling import consistency_samplers, ddim_sampler, euler_sampler, heun_sampler


def column(rows, name):
    return np.array([row[name] for row in rows], np.float64)


@pytest.mark.takes_a_second
def test_a_consistency_chain_visits_its_levels_with_karras_preconditioning():
    def denoiser(network):
        def f(x, sigma):
            c = karras_preconditioning(sigma, 0.5, 0.002)
            raw = network(over_pixels(c.c_in, x) * x, c.c_noise)
            return over_pixels(c.c_skip, x) * x + over_pixels(c.c_out, x) * raw

        return f

    rows = evaluations(consistency_samplers((0.821, 0.1), 0.002, 80.0)[1], denoiser)
    sigma = column(rows, "sigma")
    np.testing.assert_allclose(sigma, [80, 0.821, 0.1], rtol=1e-6)
    above = sigma - 0.002
    np.testing.assert_allclose(column(rows, "c_skip"), 0.25 / (above**2 + 0.25), rtol=1e-5)
    root = np.sqrt(sigma**2 + 0.25)
    np.testing.assert_allclose(column(rows, "c_out"), 0.5 * above / root, rtol=1e-5)
    np.testing.assert_allclose(column(rows, "c_in"), 1 / root, rtol=1e-5)
    np.testing.assert_allclose(column(rows, "c_noise"), np.log(sigma) / 4, rtol=1e-5)


V = DenoisingObjective(Cosine(), uniform_weight("v"), Prediction("v")).denoiser


@pytest.mark.takes_a_second
def test_heun_visits_every_level_but_the_first_twice():
    rows = evaluations(heun_sampler(3, 0.01, 10.0), V)
    low, middle, high = np.asarray(karras_levels(3, 0.01, 10.0, 7.0))
    np.testing.assert_allclose(column(rows, "sigma"), [high, middle, middle, low, low], rtol=1e-6)


@pytest.mark.takes_a_second
@pytest.mark.parametrize("sampler", [euler_sampler(5), heun_sampler(5), ddim_sampler(5)])
def test_there_is_one_row_for_each_evaluation(sampler):
    rows = evaluations(sampler, V)
    assert len(rows) == sampler.nfe
    sigma = column(rows, "sigma")
    assert (np.diff(sigma) <= 0).all()
    # v-prediction: x0 = alpha (alpha x) - s v, with x over alpha and alpha^2 = 1 / (1 + sigma^2).
    np.testing.assert_allclose(column(rows, "c_skip"), 1 / (1 + sigma**2), rtol=1e-5)
    np.testing.assert_allclose(column(rows, "c_out"), -sigma / np.sqrt(1 + sigma**2), rtol=1e-5)

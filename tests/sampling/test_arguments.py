"""What samplers refuse, by name, and what they still take."""

from math import inf

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise.errors import ArgumentError
from jaxnoise.sampling import (
    Sampler,
    consistency_samplers,
    ddim,
    ddim_sampler,
    euler,
    euler_sampler,
    guided,
    heun,
    heun_sampler,
    image_noise,
    multistep,
    one_step,
    to_uint8,
)

KEYS = jax.random.split(jax.random.key(0), 3)
NOISE = jnp.ones((3, 4, 4, 1))
SIGMAS = jnp.ones(3)


def half(x, sigma):
    return 0.5 * x


def steps(denoiser=half, noise=NOISE, sigmas=(0.8,), keys=KEYS, sigma_min=0.002, sigma_max=80.0):
    return multistep(denoiser, noise, sigmas, keys, sigma_min=sigma_min, sigma_max=sigma_max)


def single(denoiser=half, noise=NOISE, sigma_max=80.0):
    return one_step(denoiser, noise, sigma_max)


def by_heun(denoiser=half, noise=NOISE, levels=(0.1, 1.0, 9.0)):
    return heun(denoiser, noise, levels)


def by_euler(denoiser=half, noise=NOISE, levels=(0.1, 1.0, 9.0)):
    return euler(denoiser, noise, levels)


def by_ddim(denoiser=half, noise=NOISE, lambdas=(-4.0, 0.0, 4.0), trained_range=(-9.0, 9.0)):
    return ddim(denoiser, noise, lambdas, trained_range=trained_range)


ALL = [single, steps, by_heun, by_euler, by_ddim]
MAKERS = [heun_sampler, euler_sampler, ddim_sampler]


@pytest.mark.parametrize("run", ALL)
@pytest.mark.parametrize(
    "given,message",
    [
        ({"denoiser": None}, r"denoiser=None: must be a function \(x float\[B, H, W, C\]"),
        ({"denoiser": SIGMAS}, r"denoiser=float32\[3\]: must be a function"),
        (
            {"denoiser": lambda x, sigma: sigma},
            r"denoiser=a function to float32\[3\]: .*\[3,4,4,1\]",
        ),
        ({"denoiser": lambda x, sigma: x[:1]}, r"denoiser=a function to float32\[1,4,4,1\]"),
        ({"denoiser": lambda x, sigma: (x, sigma)}, r"denoiser=a function to tuple"),
        ({"denoiser": lambda x, sigma: x > 0}, r"denoiser=a function to bool\[3,4,4,1\]"),
        ({"noise": 1.0}, r"noise=1\.0: must be float\[B, \.\.\.\]"),
        ({"noise": [[1.0]]}, r"noise=\[\[1\.0\]\]"),
        ({"noise": NOISE.astype(int)}, r"noise=int32\[3,4,4,1\]"),
        ({"noise": NOISE[:, 0, 0, 0]}, r"noise=float32\[3\]"),
        ({"noise": KEYS}, r"noise=key<fry>\[3\]"),
    ],
)
def test_a_denoiser_or_noise_of_the_wrong_kind(run, given, message):
    with pytest.raises(ArgumentError, match=f"^{message}"):
        run(**given)
    with pytest.raises(ArgumentError, match=f"^{message}"):
        jax.eval_shape(lambda: run(**given))


@pytest.mark.parametrize(
    "message,call",
    [
        (r"sigma_max='80'", lambda: single(sigma_max="80")),
        (r"sigma_max=inf: must be a finite number > 0", lambda: single(sigma_max=inf)),
        (r"sigma_max=float32\[3\]: must be one finite number", lambda: single(sigma_max=SIGMAS)),
        (r"sigma_max=None", lambda: steps(sigma_max=None)),
        (r"sigma_min='low'", lambda: steps(sigma_min="low")),
        (r"sigmas=0\.8: must be a tuple of levels", lambda: steps(sigmas=0.8)),
        (r"sigmas=\('a',\): must be numbers, in order", lambda: steps(sigmas=("a",))),
        (r"sigmas=\(\(1\.0, 2\.0\),\)", lambda: steps(sigmas=((1.0, 2.0),))),
        (r"sigmas=None", lambda: steps(sigmas=None)),
        (r"keys=key<fry>\[2\]: must be key\[3\]", lambda: steps(keys=KEYS[:2])),
        (r"keys=key<fry>\[\]", lambda: steps(keys=KEYS[0])),
        (r"keys=7", lambda: steps(keys=7)),
        (r"keys=float32\[3\]: must be key\[B\]", lambda: image_noise(SIGMAS, (4, 4, 1), 0)),
        (r"shape=4: must be a tuple of sizes", lambda: image_noise(KEYS, 4, 0)),
        (r"shape=\(4\.0, 4, 1\)", lambda: image_noise(KEYS, (4.0, 4, 1), 0)),
        (r"shape=\(-4, 4, 1\)", lambda: image_noise(KEYS, (-4, 4, 1), 0)),
        (r"draw_index=0\.5: must be a Python integer", lambda: image_noise(KEYS, (4, 4, 1), 0.5)),
        (r"levels=\[9\.0, 0\.1, 1\.0\]: .*strictly", lambda: by_heun(levels=[9.0, 0.1, 1.0])),
        (r"levels=\[9\.0, 0\.1, 1\.0\]: .*strictly", lambda: by_euler(levels=[9.0, 0.1, 1.0])),
        (r"levels=\['a'\]: must be numbers", lambda: by_heun(levels=["a"])),
        (r"levels=None: must be numbers", lambda: by_euler(levels=None)),
        (r"levels=\(\)", lambda: by_heun(levels=3.0)),
        (r"lambdas=\[4\.0, -4\.0, 0\.0\]", lambda: by_ddim(lambdas=[4.0, -4.0, 0.0])),
        (r"trained_range=3: must be \(lowest, highest\)", lambda: by_ddim(trained_range=3)),
        (r"trained_range=\('a', 'b'\)", lambda: by_ddim(trained_range=("a", "b"))),
        (r"trained_range=\(1\.0,\)", lambda: by_ddim(trained_range=(1.0,))),
        (r"conditional=3", lambda: guided(3, half, 2.0)),
        (r"unconditional=None", lambda: guided(half, None, 1.0)),
        (r"scale='2'", lambda: guided(half, half, "2")),
        (r"scale=float32\[3\]: must be one finite number", lambda: guided(half, half, SIGMAS)),
        (
            r"conditional=a function to float32\[1,4,4,1\]",
            lambda: guided(lambda x, sigma: x[:1], half, 2.0)(NOISE, SIGMAS),
        ),
        (
            r"unconditional=a function to float32\[3\]",
            lambda: guided(half, lambda x, sigma: sigma, 2.0)(NOISE, SIGMAS),
        ),
        (
            r"images=uint8\[2\]: must be float\[\.\.\.\] in \[-1, 1\]",
            lambda: to_uint8(np.uint8([0, 255])),
        ),
        (r"images='grey'", lambda: to_uint8("grey")),
        (r"images=None", lambda: to_uint8(None)),
        (r"images=\[\[1\.0\], \[\]\]", lambda: to_uint8([[1.0], []])),
        (r"images='a traced array'", lambda: jax.jit(to_uint8)(NOISE)),
        (r"sigmas=\(0\.3, 0\.3\)", lambda: consistency_samplers((0.3, 0.3), 0.002, 80.0)),
        (r"sigma_max='80'", lambda: consistency_samplers((), 0.002, "80")),
        (r"name=3: must be a string", lambda: Sampler(3, 1, (80.0,), half)),
        (r"nfe=0: must be at least 1", lambda: Sampler("a", 0, (80.0,), half)),
        (r"nfe=1\.5", lambda: Sampler("a", 1.5, (80.0,), half)),
        (r"levels=\[80\.0\]: must be a tuple", lambda: Sampler("a", 1, [80.0], half)),
        (r"levels=\('high',\)", lambda: Sampler("a", 1, ("high",), half)),
        (r"draw=None: must be a function", lambda: Sampler("a", 1, (80.0,), None)),
        (r"rho='7'", lambda: heun_sampler(4, rho="7")),
    ],
)
def test_other_arguments_of_the_wrong_kind(message, call):
    with pytest.raises(ArgumentError, match=f"^{message}"):
        call()


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize(
    "given,message",
    [
        ({"steps": 4.0}, r"steps=4\.0: must be a Python integer"),
        ({"steps": "4"}, r"steps='4'"),
        ({"sigma_min": "low"}, r"sigma_min='low'"),
        ({"sigma_max": SIGMAS}, r"sigma_max=float32\[3\]"),
        ({"trained_range": 9.0}, r"trained_range=9\.0"),
    ],
)
def test_makers_refuse_what_is_no_number(make, given, message):
    with pytest.raises(ArgumentError, match=f"^{message}"):
        make(**given)


@pytest.mark.parametrize("argument", ["sigma_min", "sigma_max", "steps"])
@pytest.mark.parametrize("make", MAKERS)
def test_samplers_are_laid_out_before_a_run(make, argument):
    with pytest.raises(ArgumentError, match=f"^{argument}="):
        jax.jit(lambda x: make(**{argument: x}).nfe)(1)


@pytest.mark.takes_a_second
def test_traced_numbers_pass():
    def everything(noise, keys, sigma, scale):
        first = one_step(guided(half, lambda x, s: x, scale), noise, sigma)
        return first + steps(noise=noise, keys=keys, sigmas=(0.8,), sigma_max=sigma)

    found = jax.jit(everything)(NOISE, KEYS, 80.0, 3.0)
    np.testing.assert_allclose(found, everything(NOISE, KEYS, 80.0, 3.0), rtol=1e-6)
    one_by_one = jax.vmap(lambda z, k: everything(z[None], k[None], 80.0, 3.0)[0])(NOISE, KEYS)
    np.testing.assert_allclose(one_by_one, found, rtol=1e-6)
    slope = jax.grad(lambda sigma: jnp.sum(single(sigma_max=sigma)))(80.0)
    np.testing.assert_allclose(slope, 0.5 * NOISE.size)


@pytest.mark.parametrize("run", [single, by_heun, by_euler, by_ddim])
def test_the_number_of_images_may_be_symbolic(run):
    images = jax.ShapeDtypeStruct((*jax.export.symbolic_shape("b"), 4, 4, 1), jnp.float32)
    exported = jax.export.export(jax.jit(lambda noise: run(noise=noise)))(images)
    np.testing.assert_allclose(exported.call(NOISE), run(), rtol=1e-6)

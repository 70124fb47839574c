"""The network and its resize against torch-fidelity's, with the same seeded weights and images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import lax
from reference import make_inception_features as reference

from jaxnoise.errors import ArgumentError
from jaxnoise.evaluation import inception_weights, resize
from jaxnoise.evaluation.inception_weights import convert_torch_state_dict
from jaxnoise.evaluation.resize import inception_input
from jaxnoise.models import inception
from jaxnoise.models.inception import Inception

pytestmark = pytest.mark.slow

BATCH = 16


@pytest.fixture(autouse=True, scope="module")
def optimised():
    """Here running takes longer than compiling."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture(scope="module")
def stored():
    with np.load(reference.FOLDER / "inception_features.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def tensors(stored):
    shapes = [tuple(int(n) for n in shape.split("x") if n) for shape in stored["shapes"]]
    return reference.state_dict(dict(zip(stored["names"], shapes, strict=True)))


@pytest.fixture(scope="module")
def params(tensors):
    return jax.device_put(convert_torch_state_dict(tensors))


@pytest.fixture(scope="module")
def one_image():
    return jnp.asarray(reference.images()[0][:1])


def compiled():
    return jax.jit(lambda params, images: Inception().apply({"params": params}, images))


@pytest.fixture(scope="module")
def network():
    return compiled()


def relative_error(found, expected):
    found, expected = np.asarray(found), np.asarray(expected)
    difference = np.linalg.norm(found - expected, axis=-1)
    return np.max(difference / np.linalg.norm(expected, axis=-1))


def test_features_and_logits_are_those_of_pytorch(network, params, stored):
    images = jnp.concatenate([inception_input(jnp.asarray(b)) for b in reference.images()])
    assert images.shape == (64, 299, 299, 3)
    outputs = [network(params, images[i : i + BATCH]) for i in range(0, len(images), BATCH)]
    features = np.concatenate([output.features for output in outputs])
    logits = np.concatenate([output.logits_unbiased for output in outputs])[reference.LOGITS]
    assert features.dtype == logits.dtype == np.float32
    assert features.shape == (64, 2048)
    assert logits.shape == (16, 1008)
    assert relative_error(features, stored["features"]) < 2e-6
    assert relative_error(logits, stored["logits_unbiased"]) < 2e-6
    # A Fréchet distance sees what images differ in, which is smaller than what they share.
    centre = stored["features"].mean(axis=0)
    assert relative_error(features - centre, stored["features"] - centre) < 1e-4


@pytest.fixture(scope="module")
def exact(network, params, one_image, stored):
    """The error of the unchanged network on the image that the controls below take."""
    output = network(params, inception_input(one_image))
    return relative_error(output.features, stored["features"][:1])


def padded_average(x):
    return nn.pool(x, 0.0, lax.add, (3, 3), (1, 1), "SAME") / 9


@pytest.mark.parametrize(
    "name, wrong", [("average_pool", padded_average), ("max_pool", inception.average_pool)]
)
def test_another_pool_is_noticed(
    name, wrong, monkeypatch, exact, params, one_image, stored, network
):
    monkeypatch.setattr(inception, name, wrong)
    output = compiled()(params, inception_input(one_image))
    assert exact < 2e-6
    assert relative_error(output.features, stored["features"][:1]) > 1e-3


def test_another_batch_norm_epsilon_is_noticed(
    monkeypatch, exact, tensors, network, one_image, stored
):
    monkeypatch.setattr(inception_weights, "_BATCH_NORM_EPSILON", 1e-5)
    output = network(convert_torch_state_dict(tensors), inception_input(one_image))
    assert exact < 2e-6
    assert relative_error(output.features, stored["features"][:1]) > 1e-3


def half_pixel(images):
    shape = (len(images), 299, 299, 3)
    resized = jax.image.resize(images.astype(jnp.float32), shape, "bilinear", antialias=False)
    return (resized - 128) / 128


INPUTS = {
    "half-pixel centres": half_pixel,
    "clean": lambda images: inception_input(images, "clean"),
    "another range": lambda images: resize.resize_tf1(images) / 127.5 - 1,
    "swapped colours": lambda images: inception_input(images[..., ::-1]),
}


@pytest.mark.parametrize("name", INPUTS)
def test_another_input_is_noticed(name, exact, params, network, one_image, stored):
    output = network(params, INPUTS[name](one_image))
    assert exact < 2e-6
    assert relative_error(output.features, stored["features"][:1]) > 1e-3


def test_pools_leave_the_padding_out():
    x = jnp.arange(-6.0, 6.0).reshape(1, 3, 4, 1)
    mean, top = inception.average_pool(x)[0, ..., 0], inception.max_pool(x)[0, ..., 0]
    assert mean[0, 0] == np.mean([-6, -5, -2, -1])
    assert mean[1, 1] == np.mean([-6, -5, -4, -2, -1, 0, 2, 3, 4])
    assert mean[2, 1] == np.mean([-2, -1, 0, 2, 3, 4])
    assert (top[0, 0], top[1, 1], top[2, 3]) == (-1, 4, 5)


@pytest.mark.parametrize("shape", [(1, 299, 299, 1), (1, 32, 32, 3), (299, 299, 3)])
def test_images_of_another_shape_are_refused(shape, params):
    with pytest.raises(ArgumentError, match=r"must be \[B, 299, 299, 3\]") as caught:
        Inception().apply({"params": params}, jnp.zeros(shape))
    assert caught.value.argument == "images"


def test_images_that_were_not_prepared_are_refused(params):
    with pytest.raises(ArgumentError, match=r"uint8.*floating"):
        Inception().apply({"params": params}, jnp.zeros((1, 299, 299, 3), jnp.uint8))

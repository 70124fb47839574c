"""The network and its input against PyTorch's layers in float64, seeded and real weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from reference import make_efficientnet_features as reference
from sklearn.datasets import load_sample_image

from jaxnoise.errors import ArgumentError
from jaxnoise.evaluation import efficientnet_weights
from jaxnoise.evaluation.efficientnet_weights import (
    convert_torch_state_dict,
    efficientnet_input,
    load_efficientnet,
)
from jaxnoise.evaluation.resize import resize_clean, resize_tf1
from jaxnoise.models.efficientnet import EfficientNetLite0


@pytest.fixture(scope="module")
def stored():
    with np.load(reference.FOLDER / "efficientnet_features.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def tensors(stored):
    shapes = [tuple(int(n) for n in shape.split("x") if n) for shape in stored["shapes"]]
    return reference.state_dict(dict(zip(stored["names"], shapes, strict=True)))


@pytest.fixture(scope="module")
def params(tensors):
    return jax.device_put(convert_torch_state_dict(tensors))


@pytest.fixture(scope="module")
def real_params():
    return jax.device_put(load_efficientnet().params)


@pytest.fixture(scope="module")
def pictures():
    """Two images of each size; the first of them is the one that the controls take."""
    return [jnp.asarray(batch[: reference.REAL]) for batch in reference.images()]


@pytest.fixture(scope="module")
def network():
    """One compilation, for two images."""
    return compiled()


def compiled():
    return jax.jit(lambda params, images: EfficientNetLite0().apply({"params": params}, images))


def relative_error(found, expected):
    found, expected = np.asarray(found), np.asarray(expected)
    difference = np.linalg.norm(found - expected, axis=-1)
    return np.max(difference / np.linalg.norm(expected, axis=-1))


def outputs(network, params, batches):
    images = jnp.concatenate([efficientnet_input(jnp.asarray(batch)) for batch in batches])
    parts = [network(params, images[i : i + 2]) for i in range(0, len(images), 2)]
    return [np.concatenate(part) for part in zip(*parts, strict=True)]


@pytest.mark.takes_a_second
def test_features_and_logits_are_those_of_pytorch(network, params, stored):
    features, logits = outputs(network, params, reference.images())
    assert features.dtype == logits.dtype == np.float32
    assert features.shape == (8, 1280)
    assert logits.shape == (8, 1000)
    assert relative_error(features, stored["features"]) < 2e-6
    assert relative_error(logits, stored["logits"]) < 2e-6
    # A Fréchet distance sees what images differ in, which is smaller than what they share.
    centre = stored["features"].mean(axis=0)
    assert relative_error(features - centre, stored["features"] - centre) < 3e-5


@pytest.mark.takes_a_second
def test_with_the_real_weights_too(network, real_params, pictures, stored):
    features, logits = outputs(network, real_params, pictures)
    assert relative_error(features, stored["real_features"]) < 5e-6
    assert relative_error(logits, stored["real_logits"]) < 5e-6


@pytest.mark.takes_a_second
def test_the_real_weights_know_real_photographs(network, real_params):
    photographs = [load_sample_image(name) for name in ("flower.jpg", "china.jpg")]
    logits = outputs(network, real_params, [np.stack([p[:, 106:533] for p in photographs])])[1]
    daisy, palace = 985, 698
    assert logits.argmax(axis=-1).tolist() == [daisy, palace]


@pytest.fixture(scope="module")
def exact(network, params, pictures, stored):
    """The error of the unchanged network on the images that the controls below take."""
    output = network(params, efficientnet_input(pictures[0]))
    return relative_error(output.features, stored["features"][: reference.REAL])


CONV = nn.Conv


def symmetric(features, kernel, stride, padding, **options):
    assert padding == "SAME"
    return CONV(features, kernel, stride, [(k // 2, k // 2) for k in kernel], **options)


@pytest.mark.takes_a_second
@pytest.mark.parametrize("name, wrong", [("relu6", nn.relu), ("Conv", symmetric)])
def test_another_layer_is_noticed(name, wrong, monkeypatch, exact, params, pictures, stored):
    monkeypatch.setattr(nn, name, wrong)
    output = compiled()(params, efficientnet_input(pictures[0]))
    assert exact < 2e-6
    assert relative_error(output.features, stored["features"][: reference.REAL]) > 1e-2


@pytest.mark.takes_a_second
def test_another_batch_norm_epsilon_is_noticed(
    monkeypatch, exact, tensors, network, pictures, stored
):
    monkeypatch.setattr(efficientnet_weights, "_BATCH_NORM_EPSILON", 1e-5)
    output = network(convert_torch_state_dict(tensors), efficientnet_input(pictures[0]))
    assert exact < 2e-6
    assert relative_error(output.features, stored["features"][: reference.REAL]) > 1e-3


INPUTS = {
    "another resize": lambda images: (resize_tf1(images, 224) - 127) / 128,
    "another centre": lambda images: (resize_clean(images, 224) - 128) / 128,
    "another scale": lambda images: (resize_clean(images, 224) - 127) / 127,
    "swapped colours": lambda images: efficientnet_input(images[..., ::-1]),
}


@pytest.mark.takes_a_second
@pytest.mark.parametrize("name", INPUTS)
def test_another_input_is_noticed(name, exact, params, network, pictures, stored):
    output = network(params, INPUTS[name](pictures[0]))
    assert exact < 2e-6
    assert relative_error(output.features, stored["features"][: reference.REAL]) > 2e-4


@pytest.mark.parametrize("shape", [(1, 224, 224, 1), (1, 32, 32, 3), (224, 224, 3)])
def test_images_of_another_shape_are_refused(shape, params):
    with pytest.raises(ArgumentError, match=r"must be \[B, 224, 224, 3\]") as caught:
        EfficientNetLite0().apply({"params": params}, jnp.zeros(shape))
    assert caught.value.argument == "images"


def test_images_that_were_not_prepared_are_refused(params):
    with pytest.raises(ArgumentError, match=r"uint8.*floating"):
        EfficientNetLite0().apply({"params": params}, jnp.zeros((1, 224, 224, 3), jnp.uint8))


@pytest.mark.parametrize(
    "shape, dtype, message",
    [
        ((1, 8, 8, 1), jnp.uint8, r"must be of shape \[B, H, W, 3\]"),
        ((8, 8, 3), jnp.uint8, r"must be of shape \[B, H, W, 3\]"),
        ((1, 8, 8, 3), jnp.float32, r"float32.*must be uint8"),
    ],
)
def test_an_input_that_is_no_image_is_refused(shape, dtype, message):
    with pytest.raises(ArgumentError, match=message) as caught:
        efficientnet_input(jnp.zeros(shape, dtype))
    assert caught.value.argument == "images"

import numpy as np
import safetensors.numpy

from jaxnoise.export import load_weights, save_weights


def tree():
    rng = np.random.default_rng(0)
    kernel = rng.standard_normal((3, 3, 2, 4)).astype(np.float32)
    bias = rng.standard_normal(4).astype(np.float32)
    return {"network": {"params": {"conv": {"kernel": kernel, "bias": bias}}}}


def test_every_array_comes_back_under_its_name():
    params = tree()
    data = save_weights(params)
    flat = safetensors.numpy.load(data)
    assert sorted(flat) == ["network/params/conv/bias", "network/params/conv/kernel"]
    conv = load_weights(data)["network"]["params"]["conv"]
    for name, array in params["network"]["params"]["conv"].items():
        np.testing.assert_array_equal(conv[name], array)
        assert conv[name].dtype == np.float32


def test_a_number_stays_a_number():
    assert load_weights(save_weights({"gain": np.float32(2)}))["gain"].shape == ()


def test_the_order_of_names_and_of_memory_changes_no_byte():
    params = tree()
    conv = params["network"]["params"]["conv"]
    turned = {"bias": conv["bias"], "kernel": np.asfortranarray(conv["kernel"])}
    assert save_weights({"network": {"params": {"conv": turned}}}) == save_weights(params)

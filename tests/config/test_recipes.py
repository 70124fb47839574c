"""Settings that a config calls somebody else's are theirs."""

import importlib

import pytest

from jaxnoise import experiment


def config(name):
    return experiment.read(importlib.import_module(f"configs.{name}").get_config()).config


@pytest.mark.parametrize("name", ["cifar_edm", "cifar_cosine"])
def test_edm_on_cifar(name):
    read = config(name)
    # 10,000 kimg in batches of 512; half of the weight within half a million images.
    assert read["optimizer"]["warmup_steps"] == 19_531 == 10_000 * 1000 // 512
    assert read["ema"]["rate"] == pytest.approx(0.5 ** (512 / 500_000)) == pytest.approx(0.99929)
    assert (read["optimizer"]["learning_rate"], read["optimizer"]["clip_norm"]) == (1e-3, None)
    # Images are mirrored in EDM's augmentation alone.
    assert read["data"]["flip"] is False
    assert read["train"]["steps"] * read["train"]["batch"] == 204_800_000


@pytest.mark.parametrize("name", ["ffhq64_noise_selected", "imagenet64_noise_selected"])
def test_edm_on_64_pixels(name):
    read = config(name)
    assert read["optimizer"]["learning_rate"] == 2e-4
    assert read["optimizer"]["warmup_steps"] == 39_062 == 10_000 * 1000 // 256
    assert read["model"]["channel_mult"] == (1, 2, 2, 2)
    assert read["ema"]["rate"] == pytest.approx(0.5 ** (256 / 500_000))
    assert read["data"]["flip"] is False


@pytest.mark.parametrize("name", ["cifar_poly", "cifar_poly_constant", "cifar_lognormal"])
def test_high_noise_scheduling(name):
    """The authors' prototype: element-wise, c = .001 sqrt(D), D = 3 * 32 * 32, no flips."""
    read = config(name)
    distance = read["objective"]["distance"]
    assert distance["elementwise"] is True
    assert distance["c"] == pytest.approx(0.001 * (3 * 32 * 32) ** 0.5)
    assert read["data"]["flip"] is False


def test_ict_has_its_own_distance():
    distance = config("cifar_ict")["objective"]["distance"]
    assert (distance["c"], distance["elementwise"]) == (None, False)


def test_ect_on_cifar():
    """The authors' script: eight stages of 250 ticks of 12,800 images, batches of 128."""
    read = config("cifar_ect")
    assert read["train"]["steps"] * read["train"]["batch"] == 25_600_000 == 8 * 250 * 12_800
    # ln sigma ~ N(-1.1, 2^2) is log SNR ~ N(2.2, 4^2).
    assert (read["law"]["mean"], read["law"]["std"]) == (2.2, 4.0)
    assert [read["gap"][key] for key in ("stages", "q", "k", "b")] == [8, 2.0, 8.0, 1.0]
    assert (read["optimizer"]["name"], read["optimizer"]["learning_rate"]) == ("radam", 1e-4)
    assert (read["ema"]["rate"], read["model"]["dropout"]) == (0.9999, 0.2)
    assert (read["objective"]["weight"], read["objective"]["distance"]) == (
        "inverse_gap",
        {"name": "l2"},
    )


def test_scm_on_cifar():
    """Its authors' settings, and the wider law that NVIDIA's FastGen gives EDM's weights."""
    read = config("cifar_scm")
    # ln sigma ~ N(-1, 1.8^2) is log SNR ~ N(2, 3.6^2).
    assert (read["law"]["mean"], read["law"]["std"]) == (2.0, 3.6)
    kept = [read["objective"][key] for key in ("name", "warmup_steps", "normalization")]
    assert kept == ["scm", 10_000, 0.1]
    assert read["objective"]["uncertainty"]["name"] == "fourier"
    assert (read["optimizer"]["name"], read["model"]["dropout"]) == ("radam", 0.2)
    ect = config("cifar_ect")
    assert {**read["train"], "init_from": ""} == {**ect["train"], "init_from": ""}


def test_mean_flow_on_cifar():
    """The authors' script for CIFAR-10, "v1"."""
    read = config("cifar_meanflow")
    # logit t ~ N(-.6, 1.6^2) and logit r ~ N(-4, 1.6^2) as log SNR, -2 of each.
    laws = [read["law"], read["objective"]["lower"]]
    assert [(law["mean"], law["std"]) for law in laws] == [(1.2, 3.2), (8.0, 3.2)]
    kept = [read["objective"][key] for key in ("interval", "power", "offset")]
    assert kept == [0.75, 0.75, 1e-3]
    optimizer = read["optimizer"]
    assert (optimizer["name"], optimizer["learning_rate"]) == ("adam", 6e-4)
    assert optimizer["warmup_steps"] == int(200 * 50_000 / 1024)
    assert read["train"]["steps"] * read["train"]["batch"] == 819_200_000
    assert (read["ema"]["rate"], read["model"]["dropout"]) == (0.9999, 0.2)
    assert (read["model"]["channel_mult_noise"], read["data"]["augment"]) == (2, 0.12)


@pytest.mark.takes_a_second
@pytest.mark.parametrize(
    "name, statistic, warmup_steps, bins",
    [
        ("cifar_adaptive", "entropy_rate", 10_000, 100),
        ("digits_adaptive", "gradient", 100, 40),
        ("fashion_adaptive", "loss", 500, 50),
    ],
)
def test_laws_that_learn_themselves(name, statistic, warmup_steps, bins):
    pacing = config(name)["pacing"]
    assert (pacing["statistic"], pacing["warmup_steps"], pacing["bins"]) == (
        statistic,
        warmup_steps,
        bins,
    )
    # Only InfoNoise trains for what is drawn; with a floor of .2 no loss is weighted above 5.
    assert pacing["compensate"] is (name != "cifar_adaptive")
    assert pacing["floor"] == 0.2

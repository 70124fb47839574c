"""Pieces that several configs share; a config states its own claim and nothing else.

`Cost` in a config's first lines is an estimate, not a measurement: memory as `--mode=dry_run`
adds it up, with every activation that the backward pass keeps before the compiler fuses anything,
which bounds it from above; hours are the operations of all steps, as XLA counts them before it
optimises, at 100 TFLOP/s. That is a tenth of an H100's dense bfloat16 rate, and about what U-Nets
on images of this size reach in public code (MeanFlow's on CIFAR-10: 610 images/s at four forward
passes' cost, on an H200). `model.dtype="bfloat16"` halves the activations; parameters, their
averages, noise levels and losses stay float32. A test bounds what it changes on short runs; a
whole run by it was not made.
"""

from math import sqrt

from ml_collections import ConfigDict


def half_life(images: int, batch: int) -> float:
    """The rate of an average whose weights halve over so many images."""
    return float(0.5 ** (batch / images))


def cifar(steps: int) -> ConfigDict:
    """CIFAR-10 consistency training in the setting of the high-noise-scheduling experiments.

    As in their public prototype: RAdam 1e-4, batch 256, dropout .02, no EMA, no flips, pseudo-Huber
    for each element with c = .001 sqrt(3072), 12.8 million images. A step was counted there once
    for each of 2 GPUs, so "100k steps" are 50,000 updates. Which network is not known: DDPM++ is
    our choice.
    """
    config = ConfigDict()
    config.seed = 0
    config.data = ConfigDict({"dataset": "cifar10", "data_dir": "data"})
    config.model = ConfigDict({"name": "ddpmpp", "dropout": 0.02})
    config.grid = ConfigDict({"name": "karras"})
    config.law = ConfigDict()
    config.curriculum = ConfigDict()
    distance = {"name": "pseudo_huber", "elementwise": True, "c": 0.001 * sqrt(3072)}
    config.objective = ConfigDict(
        {"name": "consistency", "weight": "inverse_gap", "distance": distance}
    )
    config.optimizer = ConfigDict({"name": "radam", "learning_rate": 1e-4})
    config.ema = ConfigDict({"rate": 0.0})
    config.train = ConfigDict(
        {
            "steps": steps,
            "batch": 256,
            "steps_per_dispatch": 10,
            "log_every": 100,
            "sample_every": 5_000,
            "checkpoint_every": 5_000,
        }
    )
    config.sample = ConfigDict({"method": {"name": "multistep", "sigmas": (0.821,)}})
    config.evaluate = fid()
    return config


def fid() -> ConfigDict:
    """FID as papers print it: 50,000 samples against all training images, beside the test split's.

    Without Inception's weights a run says where they belong and scores in raw pixels;
    `--mode=evaluate` takes the FID once they are there.
    """
    return ConfigDict(
        {
            "n": 50_000,
            "held_out": "test",
            "extractor": {"name": "inception", "fetch": True},
            "fallback": True,
        }
    )


def cifar_denoising() -> ConfigDict:
    """CIFAR-10 denoising in EDM's setting: DDPM++ of 56M parameters, cosine law, target v.

    EDM's: Adam 1e-3 without clipping, a learning rate ramped over 10 million images (19,531 updates
    of 512), an average with a half-life of half a million images, dropout .13, 200 million images.
    EDM mirrors images only as part of an augmentation, which we leave out, so there are no flips;
    `data.augment=0.12` is that augmentation.
    That every law is tried in EDM's setting is our choice; EDM warms up its average too, ours is
    bias-corrected.
    """
    config = ConfigDict()
    config.seed = 0
    config.data = ConfigDict({"dataset": "cifar10", "data_dir": "data"})
    config.model = ConfigDict({"name": "ddpmpp", "dropout": 0.13})
    config.law = ConfigDict({"name": "cosine"})
    config.objective = ConfigDict(
        {"name": "denoising", "target": "v", "weight": {"name": "uniform", "space": "v"}}
    )
    config.optimizer = ConfigDict(
        {"name": "adam", "learning_rate": 1e-3, "warmup_steps": 10_000_000 // 512}
    )
    config.ema = ConfigDict({"rate": half_life(500_000, batch=512)})
    config.train = ConfigDict(
        {
            "steps": 400_000,
            "batch": 512,
            "steps_per_dispatch": 10,
            "log_every": 100,
            "sample_every": 20_000,
            "checkpoint_every": 10_000,
        }
    )
    config.sample = ConfigDict({"method": {"name": "heun", "steps": 18}})
    config.evaluate = fid()
    return config


def digits_denoising() -> ConfigDict:
    """Denoising of the 8x8 digits: cosine law, target v, Heun's method at 35 evaluations."""
    config = ConfigDict()
    config.seed = 0
    config.data = ConfigDict({"dataset": "digits"})
    config.model = ConfigDict({"name": "tiny", "class_conditional": True})
    config.law = ConfigDict({"name": "cosine"})
    config.objective = ConfigDict(
        {"name": "denoising", "target": "v", "weight": {"name": "uniform", "space": "v"}}
    )
    config.optimizer = ConfigDict({"name": "adam", "learning_rate": 1e-3})
    config.ema = ConfigDict({"rate": 0.998})
    config.train = ConfigDict(
        {"steps": 1_200, "batch": 64, "log_every": 50, "sample_every": 400, "checkpoint_every": 400}
    )
    config.sample = ConfigDict({"method": {"name": "heun", "steps": 18}})
    config.evaluate = ConfigDict({"n": 898})
    return config


def ect(config: ConfigDict, start: str) -> ConfigDict:
    """Easy consistency tuning, in the authors' setting for CIFAR-10, of what a config trains.

    ln sigma ~ N(-1.1, 2^2), a gap that halves in each of eight equal parts of training, the norm
    of the difference over the gap, RAdam, two steps through sigma = .821 (arXiv 2406.14548).

    Args:
      config: of denoising, whose data, network and length stay; changed.
      start: weights that were trained with EDM's target, for `train.init_from`.
    """
    config.law = ConfigDict({"name": "normal", "mean": 2.2, "std": 4.0})
    config.gap = ConfigDict({"name": "shrinking", "stages": 8, "q": 2.0, "k": 8.0, "b": 1.0})
    config.objective = ConfigDict({"name": "ect", "distance": {"name": "l2"}})
    return _tuned(config, start)


def scm(config: ConfigDict, start: str) -> ConfigDict:
    """Continuous-time consistency training (sCM) of what a config trains.

    A derivative that comes in over 10,000 updates, normalised with c = .1, and a learned
    uncertainty, as its authors have it (arXiv 2410.11081). ln sigma ~ N(-1, 1.8^2): theirs is
    1.4 wide, for weights that were trained on TrigFlow's own schedule; NVIDIA's FastGen widens it
    to 1.8 for EDM's. RAdam and two steps through sigma = .821 as in `ect`.

    Args:
      config: of denoising, whose data, network and length stay; changed.
      start: weights that were trained with EDM's target, for `train.init_from`.
    """
    config.law = ConfigDict({"name": "normal", "mean": 2.0, "std": 3.6})
    config.objective = ConfigDict({"name": "scm", "uncertainty": {"name": "fourier"}})
    return _tuned(config, start)


def mean_flow(config: ConfigDict) -> ConfigDict:
    """MeanFlow of what a config trains, with the laws of its authors' CIFAR-10 code.

    logit t ~ N(-.6, 1.6^2), logit r ~ N(-4, 1.6^2) on three quarters of the images, weight
    (L + .001)^-.75 (arXiv 2505.13447, its PyTorch code, "v1").

    Args:
      config: of denoising, whose data, network and length stay; changed.
    """
    config.law = ConfigDict({"name": "normal", "mean": 1.2, "std": 3.2})
    lower = {"name": "normal", "mean": 8.0, "std": 3.2}
    config.objective = ConfigDict({"name": "meanflow", "lower": lower})
    config.sample.method = ConfigDict({"name": "multistep", "sigmas": (0.821,)})
    return config


def _tuned(config: ConfigDict, start: str) -> ConfigDict:
    """What tunings of a denoiser to consistency share."""
    config.optimizer = ConfigDict({"name": "radam", "learning_rate": 1e-4})
    config.train.init_from = start
    config.sample.method = ConfigDict({"name": "multistep", "sigmas": (0.821,)})
    return config


def rating(config: ConfigDict) -> ConfigDict:
    """A config that trains a rater of noise, with inner models that train as `config` says.

    Inner models have no moving average, and nobody looks at their samples.
    """
    for name in ("ema", "sample", "evaluate"):
        del config[name]
    return config


def digits_noise() -> ConfigDict:
    """What the digits_noise runs share: `digits_denoising` with a network of 41,313 parameters.

    The learning rate is constant, so the first k steps of a run are a run of k steps, and scores on
    the way compare runs at equal steps and at equal cost.
    """
    config = digits_denoising()
    config.model.update(model_channels=16, channel_mult=(1,), num_blocks=1)
    config.train.update(steps=1_000, checkpoint_every=500, sample_every=1_000)
    config.evaluate.every = 200
    return config


def noise_rater(config: ConfigDict) -> ConfigDict:
    """Stage 1 of NoiseRater on top of a denoising config, by the recipe of DataRater.

    Two inner steps, eight inner models that live on, inner and outer batches of 128 images, 8,000
    meta-steps (arXiv 2505.17895). Our choice: four draws of noise compete for the weight of each
    image, inner models are U-Nets of 2.8M parameters and live for 2,000 meta-steps.
    """
    config = rating(config)
    config.model.name = "small"
    config.optimizer.warmup_steps = 500
    config.train = ConfigDict(
        {
            "steps": 8_000,
            "batch": 128,
            "log_every": 50,
            "sample_every": 1_000,
            "checkpoint_every": 1_000,
        }
    )
    config.rater = ConfigDict({"name": "conv"})
    config.meta = ConfigDict(
        {
            "inner_steps": 2,
            "population": 8,
            "lifetime": 2_000,
            "outer_batch": 128,
            "candidates": 4,
            "probe_every": 1_000,
            "optimizer": {"learning_rate": 1e-3},
        }
    )
    return config


def images64(data_dir: str, class_conditional: bool) -> ConfigDict:
    """Denoising of 64x64 images from a folder of image files, in EDM's setting for FFHQ.

    EDM's: learning rate 2e-4, channel multipliers (1, 2, 2, 2), dropout .05, batch 256, the ramp,
    the average and the 200 million images of `cifar_denoising`. For ImageNet EDM has another
    network; that this one serves there too is our choice.
    """
    config = cifar_denoising()
    config.data = ConfigDict({"dataset": "folder", "data_dir": data_dir})
    config.model.update(
        dropout=0.05, channel_mult=(1, 2, 2, 2), class_conditional=class_conditional
    )
    config.optimizer.update(learning_rate=2e-4, warmup_steps=10_000_000 // 256)
    config.ema.rate = half_life(500_000, batch=256)
    config.train.update(batch=256, steps=800_000)
    # Half of the images is compared with, since a folder may have no other split.
    config.evaluate = fid()
    config.evaluate.update(n=10_000, held_out=None)
    return config

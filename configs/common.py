"""Pieces that several configs share; a config states its own claim and nothing else."""

from ml_collections import ConfigDict


def cifar(steps: int) -> ConfigDict:
    """CIFAR-10 consistency training in the setting of the high-noise-scheduling experiments.

    RAdam 1e-4, batch 256, dropout .02, no EMA, 12.8 million images. Those experiments counted a
    step once for each of 2 GPUs, so their "100k steps" are 50,000 updates. Which network they used
    is not known: DDPM++ is our choice.
    """
    config = ConfigDict()
    config.seed = 0
    config.data = ConfigDict({"dataset": "cifar10", "data_dir": "data", "flip": True})
    config.model = ConfigDict({"name": "ddpmpp", "dropout": 0.02})
    config.grid = ConfigDict({"name": "karras"})
    config.law = ConfigDict()
    config.curriculum = ConfigDict()
    config.objective = ConfigDict(
        {"name": "consistency", "weight": "inverse_gap", "distance": {"name": "pseudo_huber"}}
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
    config.evaluate = ConfigDict({"n": 10_000})
    return config


def cifar_denoising() -> ConfigDict:
    """CIFAR-10 denoising: DDPM++ of 56M parameters, cosine law, target v, as in `cifar` otherwise.

    Adam 1e-3 with 10,000 steps of warm-up, batch 512, dropout .13 and 200 million images are EDM's;
    that every law is tried in EDM's setting is our choice.
    """
    config = ConfigDict()
    config.seed = 0
    config.data = ConfigDict({"dataset": "cifar10", "data_dir": "data", "flip": True})
    config.model = ConfigDict({"name": "ddpmpp", "dropout": 0.13})
    config.law = ConfigDict({"name": "cosine"})
    config.objective = ConfigDict(
        {"name": "denoising", "target": "v", "weight": {"name": "uniform", "space": "v"}}
    )
    config.optimizer = ConfigDict(
        {"name": "adam", "learning_rate": 1e-3, "warmup_steps": 10_000, "clip_norm": 1.0}
    )
    config.ema = ConfigDict({"rate": 0.9999})
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
    config.evaluate = ConfigDict({"n": 10_000})
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
    """Denoising of 64x64 images from a folder of image files, otherwise as `cifar_denoising`."""
    config = cifar_denoising()
    config.data = ConfigDict({"dataset": "folder", "data_dir": data_dir, "flip": True})
    config.model.update(dropout=0.05, class_conditional=class_conditional)
    config.train.update(batch=256, steps=800_000)
    return config

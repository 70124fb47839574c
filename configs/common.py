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
    """What the digits_noise runs share: `digits_denoising` with a network of a tenth of the size.

    The learning rate stays, so the run is its own beginning: scores on the way compare runs at
    equal steps and at equal cost.
    """
    config = digits_denoising()
    config.model.update(model_channels=16, channel_mult=(1,), num_blocks=1)
    config.train.update(steps=1_600, checkpoint_every=800, sample_every=1_600)
    config.evaluate.every = 200
    return config

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

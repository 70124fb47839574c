"""EDM: lognormal sigma, EDM's target and weight, Heun's sampler at 35 evaluations; no augmentation.

Command:      python run.py --config=configs/cifar_edm.py
Hardware:     eight accelerators with 40 GB or more; on fewer the batch is split over them.
Cost:         41 GB in all, split over the devices; some 70 hours of one H100 (2.5e19 operations).
Images seen:  204.8 million (400,000 updates of 512).
Paper:        FID 1.97 with augmentation, unconditional (arXiv 2206.00364, table 2).
Ours:         not run yet.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    config = common.cifar_denoising()
    config.law.update(name="normal", mean=2.4, std=2.4)
    config.objective.target = "edm"
    config.objective.weight = ConfigDict({"name": "edm"})
    return config

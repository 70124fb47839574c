"""Denoising under the cosine law, target v: the plain twin of the other CIFAR-10 runs that denoise.

Command:      python run.py --config=configs/cifar_cosine.py
Hardware:     eight accelerators with 40 GB or more; on fewer the batch is split over them.
Cost:         41 GB in all, split over the devices; some 70 hours of one H100 (2.5e19 operations).
Images seen:  204.8 million (400,000 updates of 512).
Paper:        none in this setting.
Ours:         not run yet.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    return common.cifar_denoising()

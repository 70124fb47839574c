"""Annealing from high noise down over half of the run; configs/cifar_cosine.py but for the pacing.

Command:      python run.py --config=configs/cifar_anneal.py
Hardware:     eight accelerators with 40 GB or more; on fewer the batch is split over them.
Cost:         41 GB in all, split over the devices; some 70 hours of one H100 (2.5e19 operations).
Images seen:  204.8 million (400,000 updates of 512).
Paper:        none; in the style of arXiv 2404.06353, which gives no formula.
Ours:         not run yet.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    config = common.cifar_denoising()
    config.pacing = ConfigDict({"name": "high_to_low", "annealing_steps": 200_000, "width": 0.1})
    return config

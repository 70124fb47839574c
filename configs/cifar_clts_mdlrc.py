"""Curriculum timestep schedule with momentum decay and learning-rate compensation.

Claim: both together converge faster than configs/cifar_cosine.py. The compensation alone is a
learning-rate decay; --config.optimizer.decay_momentum=False is the control.

Command:      python run.py --config=configs/cifar_clts_mdlrc.py
Hardware:     eight accelerators with 40 GB or more; on fewer the batch is split over them.
Cost:         41 GB in all, split over the devices; some 70 hours of one H100 (2.5e19 operations).
Images seen:  204.8 million (400,000 updates of 512).
Paper:        none in this setting; in the style of arXiv 2404.07946, which leaves widths open.
Ours:         not run yet.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    config = common.cifar_denoising()
    config.pacing = ConfigDict({"name": "clts", "mu": 0.3, "sig": 0.2, "max_weight": 0.5})
    config.optimizer.update(name="momentum_decay", b1=0.9)
    return config

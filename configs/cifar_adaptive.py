"""A law that learns itself by the rate of information; configs/cifar_cosine.py but for the pacing.

Claim: drawing levels by how much they tell of the image reaches the cosine law's score in fewer
steps. The paper is known to us by its abstract; that the rate is cut off at log SNR 8, since for
continuous data it never falls, is our choice.

Command:      python run.py --config=configs/cifar_adaptive.py
Hardware:     eight accelerators with 40 GB or more; on fewer the batch is split over them.
Cost:         41 GB in all, split over the devices; some 70 hours of one H100 (2.5e19 operations).
Images seen:  204.8 million (400,000 updates of 512).
Paper:        InfoNoise (arXiv 2602.18647): up to 1.4 times faster on CIFAR-10.
Ours:         not run yet.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    config = common.cifar_denoising()
    config.pacing = ConfigDict(
        {
            "name": "adaptive",
            "statistic": "entropy_rate",
            "range": (-8.0, 8.0),
            "compensate": False,
            "warmup_steps": 10_000,
        }
    )
    return config

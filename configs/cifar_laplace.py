"""Importance sampling of log SNR by the Laplace law; configs/cifar_cosine.py but for the law.

Claim: concentrating on log SNR near 0 reaches a given quality in fewer updates.

Command:      python run.py --config=configs/cifar_laplace.py
Hardware:     eight accelerators with 40 GB or more; on fewer the batch is split over them.
Cost:         41 GB in all, split over the devices; some 70 hours of one H100 (2.5e19 operations).
Images seen:  204.8 million (400,000 updates of 512).
Paper:        none on CIFAR-10. At 256 pixels (arXiv 2407.03297, DiT-B, 500,000 updates of 256) FID
              7.96 against 10.85 of cosine at guidance 3, but 16.69 against 12.74 of a scaled cosine
              at guidance 1.5.
Ours:         not run yet.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    config = common.cifar_denoising()
    config.law.update(name="laplace", mu=0.0, b=0.5)
    return config

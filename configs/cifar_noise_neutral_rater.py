"""Stage 1 on CIFAR-10 with a rater of the noisy image; writes rater.npz.

configs/cifar_noise_rater.py but for what the rater sees and what competes: all draws of a batch.

Command:      python run.py --config=configs/cifar_noise_neutral_rater.py
Hardware:     one accelerator with 80 GB, or several.
Cost:         4 GB; half an hour of one H100 (1.4e17 operations).
Paper:        none; that the rater sees the noisy image alone is ours.
Ours:         not run yet.
"""

from ml_collections import ConfigDict

from configs import cifar_noise_rater


def get_config() -> ConfigDict:
    config = cifar_noise_rater.get_config()
    config.rater.name = "noisy"
    config.meta.update(candidates=None, floor=0.1)
    return config

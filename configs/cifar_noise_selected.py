"""Stage 2 of NoiseRater on CIFAR-10; configs/cifar_cosine.py but for the selection.

Command:      python run.py --config=configs/cifar_noise_selected.py
First:        python run.py --config=configs/cifar_noise_rater.py
Hardware:     eight accelerators with 40 GB or more; fewer take longer.
Cost:         41 GB in all, split over the devices; some 70 hours of one H100 (2.5e19
              operations) and the rater's, whose share cost.json tells.
Paper:        the abstract of NoiseRater (arXiv 2605.08144) gives no setting.
Ours:         not run yet.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    config = common.cifar_denoising()
    config.selection = ConfigDict({"name": "rater", "file": "runs/cifar_noise_rater/rater.npz"})
    return config

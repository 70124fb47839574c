"""Stage 2 of NoiseRater on ImageNet at 64x64: the best of four draws of noise by a rater.

The images are yours: files of 64x64 pixels in data/imagenet64, a sub-folder for each class.

Command:      python run.py --config=configs/imagenet64_noise_selected.py
First:        python run.py --config=configs/imagenet64_noise_rater.py
Hardware:     eight accelerators with 40 GB or more; fewer take longer.
Cost:         51 GB in all, split over the devices; some 140 hours of one H100 (5.0e19
              operations) and the rater's, whose share cost.json tells.
Paper:        the abstract of NoiseRater (arXiv 2605.08144) gives no setting.
Ours:         not run yet.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    config = common.images64("data/imagenet64", class_conditional=True)
    config.selection = ConfigDict(
        {"name": "rater", "file": "runs/imagenet64_noise_rater/rater.npz"}
    )
    return config

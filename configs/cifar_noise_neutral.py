"""The best quarter of a pool of distinct images by a rater of the noisy image, on CIFAR-10.

configs/cifar_cosine.py but for the selection: steps of 512 examples from a pool of 2,048 images.

Command:      python run.py --config=configs/cifar_noise_neutral.py
First:        python run.py --config=configs/cifar_noise_neutral_rater.py
Hardware:     eight accelerators with 40 GB or more; fewer take longer.
Cost:         41 GB in all, split over the devices; some 70 hours of one H100 (2.5e19
              operations) and the rater's of four times as many images (cost.json).
Paper:        none; a selection that leaves the best denoiser alone is ours.
Ours:         not run yet.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    config = common.cifar_denoising()
    config.train.batch *= 4
    config.selection = ConfigDict(
        {
            "name": "neutral_pool",
            "file": "runs/cifar_noise_neutral_rater/rater.npz",
            "share": 0.25,
            "bins": 8,
            "floor": 0.25,
        }
    )
    return config

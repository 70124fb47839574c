"""The best quarter of a pool of distinct images by a rater of the noisy image, level by level.

Steps are of 64 examples, as in the other digits_noise runs, from a pool of 256 images.

Command:      python run.py --config=configs/digits_noise_neutral.py
First:        python run.py --config=configs/digits_noise_neutral_rater.py
Hardware:     two CPU cores.
Paper:        none; a selection that leaves the best denoiser alone is ours.
Ours:         .840, without a floor .821; random of 4 .806, plain .840, real images .338 (three
              seeds; docs/evidence/noise_rater.md). After 800 steps by a rater that saw labels,
              without a floor, 1.41 (seed 0; random .87).
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    config = common.digits_noise()
    config.train.batch = 256
    config.selection = ConfigDict(
        {
            "name": "neutral_pool",
            "file": "runs/digits_noise_neutral_rater/rater.npz",
            "share": 0.25,
            "bins": 8,
            "floor": 0.25,
        }
    )
    return config

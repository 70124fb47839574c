"""Stage 2 of NoiseRater: the best of four draws of noise by a frozen rater.

Command:      python run.py --config=configs/digits_noise_selected.py
First:        python run.py --config=configs/digits_noise_rater.py
Hardware:     two CPU cores.
Paper:        none on digits.
Ours:         1.18 (.81, 1.55, 1.19), random of four .806 (docs/evidence/noise_rater.md).
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    config = common.digits_noise()
    config.selection = ConfigDict({"name": "rater", "file": "runs/digits_noise_rater/rater.npz"})
    return config

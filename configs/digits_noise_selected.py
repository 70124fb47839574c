"""Stage 2 of NoiseRater: the best of four draws of noise by a frozen rater.

Command:      python run.py --config=configs/digits_noise_selected.py
First:        python run.py --config=configs/digits_noise_rater.py
Hardware:     two CPU cores.
Paper:        none on digits.
Ours:         see docs/noise_rater_digits.md.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    config = common.digits_noise()
    config.selection = ConfigDict({"name": "rater", "file": "runs/digits_noise_rater/rater.npz"})
    return config

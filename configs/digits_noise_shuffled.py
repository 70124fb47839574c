"""Control: the rater's scores of another image at about the same level.

Command:      python run.py --config=configs/digits_noise_shuffled.py
First:        python run.py --config=configs/digits_noise_rater.py
Hardware:     two CPU cores.
Paper:        none on digits.
Ours:         see docs/noise_rater_digits.md.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    config = common.digits_noise()
    config.selection = ConfigDict(
        {"name": "rater_shuffled", "file": "runs/digits_noise_rater/rater.npz"}
    )
    return config

"""Control: one of four draws of noise at random, through the path of selection.

Command:      python run.py --config=configs/digits_noise_random.py
Hardware:     two CPU cores.
Paper:        none on digits.
Ours:         see docs/noise_rater_digits.md.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    config = common.digits_noise()
    config.selection = ConfigDict({"name": "random"})
    return config

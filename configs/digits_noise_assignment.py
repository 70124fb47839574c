"""Control: noise handed around the batch so that it is near to its image.

Command:      python run.py --config=configs/digits_noise_assignment.py
Hardware:     two CPU cores.
Paper:        none on digits.
Ours:         see docs/noise_rater_digits.md.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    config = common.digits_noise()
    config.selection = ConfigDict({"name": "assignment"})
    return config

"""Control: the draw of noise of four that is nearest to the image.

Command:      python run.py --config=configs/digits_noise_nearest.py
Hardware:     two CPU cores.
Paper:        none on digits.
Ours:         see docs/noise_rater_digits.md.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    config = common.digits_noise()
    config.selection = ConfigDict({"name": "nearest"})
    return config

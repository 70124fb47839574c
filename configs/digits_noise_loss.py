"""Control: the draw of noise of four at which the model's loss is highest.

Command:      python run.py --config=configs/digits_noise_loss.py
Hardware:     two CPU cores.
Paper:        none on digits.
Ours:         see docs/noise_rater_digits.md.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    config = common.digits_noise()
    config.selection = ConfigDict({"name": "loss"})
    return config

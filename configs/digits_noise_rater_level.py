"""Control of configs/digits_noise_rater_batch.py: a rater that sees the noise level alone.

Command:      python run.py --config=configs/digits_noise_rater_level.py
Hardware:     two CPU cores.
Paper:        none on digits.
Ours:         see docs/noise_rater_digits.md.
"""

from ml_collections import ConfigDict

from configs import digits_noise_rater_batch


def get_config() -> ConfigDict:
    config = digits_noise_rater_batch.get_config()
    config.rater = ConfigDict({"name": "level"})
    return config

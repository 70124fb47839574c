"""Control of configs/digits_noise_rater.py: a rater that sees the noise level alone.

Its candidates would tie, so weights compete over the batch.

Command:      python run.py --config=configs/digits_noise_rater_level.py
Hardware:     two CPU cores.
Paper:        none on digits.
Ours:         see docs/noise_rater_digits.md.
"""

from ml_collections import ConfigDict

from configs import digits_noise_rater


def get_config() -> ConfigDict:
    config = digits_noise_rater.get_config()
    config.rater = ConfigDict({"name": "level"})
    config.train.update(steps=400, batch=64)
    config.meta.candidates = None
    return config

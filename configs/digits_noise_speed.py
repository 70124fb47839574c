"""Control: SpeeD's law of time, which draws the noisiest levels rarely and knows no noise.

The boundary is where SpeeD's log SNR of -4.18 lies under the cosine law.

Command:      python run.py --config=configs/digits_noise_speed.py
Hardware:     two CPU cores.
Paper:        none on digits.
Ours:         see docs/noise_rater_digits.md.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    config = common.digits_noise()
    config.pacing = ConfigDict({"name": "asymmetric", "boundary": 0.922})
    return config

"""The best quarter of a pool by a frozen rater, in strata of the noise level.

Command:      python run.py --config=configs/digits_noise_pool.py
First:        python run.py --config=configs/digits_noise_rater_batch.py
Hardware:     two CPU cores.
Paper:        none on digits.
Ours:         see docs/noise_rater_digits.md.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    config = common.digits_noise()
    config.selection = ConfigDict(
        {"name": "rater_pool", "file": "runs/digits_noise_rater_batch/rater.npz"}
    )
    return config

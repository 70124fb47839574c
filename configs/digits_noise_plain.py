"""No selection: the plain twin of the other digits_noise runs.

Command:      python run.py --config=configs/digits_noise_plain.py
Hardware:     two CPU cores.
Paper:        none on digits.
Ours:         .840 (three seeds; docs/evidence/noise_rater.md).
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    return common.digits_noise()

"""Denoising under the cosine law: the plain twin of the other digits runs that denoise.

Command:      python run.py --config=configs/digits_cosine.py
Hardware:     two CPU cores.
Paper:        none; the papers have no digits.
Ours:         .348, real images .338 (three seeds; docs/evidence/log_snr.md).
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    return common.digits_denoising()

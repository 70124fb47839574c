"""Denoising under the cosine law: the plain twin of the other digits runs that denoise.

Command:      python run.py --config=configs/digits_cosine.py
Hardware:     two CPU cores.
Paper:        none; the papers have no digits.
Ours:         see docs/digits.md.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    return common.digits_denoising()

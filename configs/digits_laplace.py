"""Importance sampling of log SNR by the Laplace law; configs/digits_cosine.py but for the law.

Command:      python run.py --config=configs/digits_laplace.py
Hardware:     two CPU cores.
Paper:        none; the paper (arXiv 2407.03297) has no digits.
Ours:         .594; with b = 1 .347, cosine .348 (three seeds; docs/evidence/log_snr.md).
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    config = common.digits_denoising()
    config.law.update(name="laplace", mu=0.0, b=0.5)
    return config

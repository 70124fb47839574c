"""Stage 1 of NoiseRater on the digits, for a pool: all draws of a batch compete for weight.

A rater whose draws compete for one image learns nothing of how images or levels compare, which is
what the best of a pool asks: configs/digits_noise_selected.py with
--config.selection="{'name': 'rater_pool', 'file': 'runs/digits_noise_rater_batch/rater.npz'}".

Command:      python run.py --config=configs/digits_noise_rater_batch.py
Hardware:     two CPU cores.
Paper:        none on digits.
Ours:         see docs/evidence/noise_rater.md.
"""

from ml_collections import ConfigDict

from configs import digits_noise_rater


def get_config() -> ConfigDict:
    config = digits_noise_rater.get_config()
    config.train.batch = 64
    config.meta.candidates = None
    return config

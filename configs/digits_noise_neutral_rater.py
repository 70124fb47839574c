"""Stage 1 on the digits with a rater of the noisy image, which cannot bend the model.

configs/digits_noise_rater_batch.py but for what the rater sees, and a floor under its weights.

Command:      python run.py --config=configs/digits_noise_neutral_rater.py
Hardware:     two CPU cores.
Paper:        none; that the rater sees the noisy image alone is ours.
Ours:         see docs/evidence/noise_rater.md.
"""

from ml_collections import ConfigDict

from configs import digits_noise_rater_batch


def get_config() -> ConfigDict:
    config = digits_noise_rater_batch.get_config()
    config.rater.name = "noisy"
    config.meta.floor = 0.1
    return config

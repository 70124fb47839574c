"""Stage 2 of NoiseRater, annealed: best of four draws, of three, of two, plain noise in the end.

Command:      python run.py --config=configs/digits_noise_annealed.py
First:        python run.py --config=configs/digits_noise_rater.py
Hardware:     two CPU cores.
Paper:        none on digits.
Ours:         see docs/noise_rater_digits.md.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    config = common.digits_noise()
    # Each number of candidates stays for 200 steps; after 600, training is plain.
    config.selection = ConfigDict(
        {"name": "rater", "file": "runs/digits_noise_rater/rater.npz", "anneal_steps": 800}
    )
    return config

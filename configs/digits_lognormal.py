"""The baseline of configs/digits_poly.py: lognormal law, doubling curriculum, plain Karras levels.

Command:      python run.py --config=configs/digits_lognormal.py
Hardware:     two CPU cores.
Paper:        none; the papers have no digits.
Ours:         .54 at one step, .53 at two, configs/digits_poly.py .68 and .66 (three seeds;
              docs/evidence/high_noise.md).
"""

from ml_collections import ConfigDict

from configs import digits_poly


def get_config() -> ConfigDict:
    config = digits_poly.get_config()
    config.grid = ConfigDict({"name": "karras"})
    config.law = ConfigDict({"name": "lognormal", "p_mean": -1.1, "p_std": 2.0, "sampling": "iid"})
    config.curriculum = ConfigDict({"name": "doubling", "s0": 20, "s1": 250})
    return config

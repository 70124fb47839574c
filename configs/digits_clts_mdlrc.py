"""Curriculum timestep schedule with momentum decay and learning-rate compensation.

The compensation alone is a learning-rate decay: configs/digits_clts_lrdecay.py is the control with
the same decay at constant momentum, configs/digits_cosine.py the plain twin.

Command:      python run.py --config=configs/digits_clts_mdlrc.py
Hardware:     two CPU cores.
Paper:        none; the paper (arXiv 2404.07946) has no digits.
Ours:         .322, as at constant momentum; no curriculum .348 (three seeds;
              docs/evidence/pacing.md).
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    config = common.digits_denoising()
    config.pacing = ConfigDict({"name": "clts", "mu": 0.3, "sig": 0.2, "max_weight": 0.5})
    config.optimizer.update(name="momentum_decay", b1=0.9)
    return config

"""The control of configs/digits_clts_mdlrc.py: the same learning-rate decay at constant momentum.

Command:      python run.py --config=configs/digits_clts_lrdecay.py
Hardware:     two CPU cores.
Paper:        none; the paper (arXiv 2404.07946) has no digits.
Ours:         .322; constant learning rate .328, no curriculum .348 (three seeds;
              docs/evidence/pacing.md).
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    config = common.digits_denoising()
    config.pacing = ConfigDict({"name": "clts", "mu": 0.3, "sig": 0.2, "max_weight": 0.5})
    config.optimizer.update(name="momentum_decay", b1=0.9, decay_momentum=False)
    return config

"""EDM on the digits: lognormal sigma, EDM's target and weight; beside configs/digits_cosine.py.

Command:      python run.py --config=configs/digits_edm.py
Hardware:     two CPU cores.
Paper:        none; the paper (arXiv 2206.00364) has no digits.
Ours:         .352; its law with v and a weight of 1 .320, cosine .348 (three seeds;
              docs/evidence/log_snr.md).
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    config = common.digits_denoising()
    config.law.update(name="normal", mean=2.4, std=2.4)
    config.objective.target = "edm"
    config.objective.weight = ConfigDict({"name": "edm"})
    return config

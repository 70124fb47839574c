"""Annealing from high noise down over half of the run; differs from configs/digits_cosine.py in it.

Command:      python run.py --config=configs/digits_anneal.py
Hardware:     two CPU cores.
Paper:        none; in the style of arXiv 2404.06353, which gives no formula.
Ours:         .416; all noise .348, real images .338 (three seeds; docs/evidence/pacing.md).
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    config = common.digits_denoising()
    config.pacing = ConfigDict({"name": "high_to_low", "annealing_steps": 600, "width": 0.1})
    return config

"""MeanFlow on the digits: one or two steps from nothing, without a grid of levels.

Claim: at as many images as configs/digits_lognormal.py, 140,800, it draws better images.

Command:      python run.py --config=configs/digits_meanflow.py
Hardware:     two CPU cores.
Paper:        none; the paper (arXiv 2505.13447) has no digits.
Ours:         .45 at one step, .39 at two; configs/digits_lognormal.py .54 and .53 (three seeds
              each, of which every one is better).
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    config = common.mean_flow(common.digits_denoising())
    config.optimizer.update(learning_rate=1e-3, decay="cosine")
    config.train.update(steps=2_200, checkpoint_every=1_100, sample_every=1_100)
    return config

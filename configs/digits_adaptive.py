"""A law that learns itself by the gradient's size; configs/digits_cosine.py but for the pacing.

Claim: drawing levels by the size of their gradients, with the loss weighted so that the objective
stays that of the cosine law, makes the gradient vary less, and training end better at equal steps.

Command:      python run.py --config=configs/digits_adaptive.py
Hardware:     two CPU cores.
Paper:        none; in the style of importance sampling (arXiv 1803.00942), which has no diffusion.
Ours:         0.368 (seed 0; the floor is 0.338).
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    config = common.digits_denoising()
    config.pacing = ConfigDict(
        {
            "name": "adaptive",
            "statistic": "gradient",
            "range": (-10.0, 10.0),
            "bins": 40,
            "warmup_steps": 100,
        }
    )
    return config

"""Stage 1 of NoiseRater on the digits: learns which noise is worth a step; writes rater.npz.

Inner models are those that configs/digits_noise_selected.py trains in stage 2. The rater is small,
so that asking it about four draws of noise costs little beside a step.

Command:      python run.py --config=configs/digits_noise_rater.py
Hardware:     two CPU cores.
Paper:        none; the abstract of NoiseRater (arXiv 2605.08144) names no digits.
Ours:         see docs/evidence/noise_rater.md.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    config = common.rating(common.digits_denoising())
    config.model.update(model_channels=16, channel_mult=(1,), num_blocks=1)
    config.train = ConfigDict(
        {"steps": 800, "batch": 16, "log_every": 20, "sample_every": 400, "checkpoint_every": 200}
    )
    config.rater = ConfigDict({"name": "conv", "width": 8, "depth": 1})
    config.meta = ConfigDict(
        {
            "population": 2,
            # A life is 780 steps, about as many as stage 2 is compared at.
            "lifetime": 390,
            "outer_batch": 64,
            "candidates": 4,
            "probe_every": 200,
            "optimizer": {"learning_rate": 3e-3},
        }
    )
    return config

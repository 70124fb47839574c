"""Stage 1 of NoiseRater on FFHQ at 64x64: learns which noise is worth a step; writes rater.npz.

The images are yours: files of 64x64 pixels in data/ffhq64.

Command:      python run.py --config=configs/ffhq64_noise_rater.py
Hardware:     one accelerator with 80 GB, or several.
Cost:         40 GB; some 4 hours of one H100 (1.5e18 operations).
Paper:        the abstract of NoiseRater (arXiv 2605.08144) gives no setting.
Ours:         not run yet.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    return common.noise_rater(common.images64("data/ffhq64", class_conditional=False))

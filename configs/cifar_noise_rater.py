"""Stage 1 of NoiseRater on CIFAR-10: learns which noise is worth a step; writes rater.npz.

Command:      python run.py --config=configs/cifar_noise_rater.py
Hardware:     one accelerator with 80 GB, or several.
Cost:         12 GB; some 90 minutes of one H100 (5.1e17 operations).
Paper:        the abstract of NoiseRater (arXiv 2605.08144) gives no setting.
Ours:         not run yet.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    return common.noise_rater(common.cifar_denoising())

"""The difficulty curriculum, noisy stages first; configs/digits_cosine.py but for the pacing.

Ten clusters of log SNR and a patience of 20 steps, since the run is 1,200 steps long.

Command:      python run.py --config=configs/digits_difficulty.py
Hardware:     two CPU cores.
Paper:        none; the paper (arXiv 2403.10348) has no digits.
Ours:         .459; all noise .348, real images .338 (three seeds; docs/evidence/pacing.md).
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    config = common.digits_denoising()
    config.pacing = ConfigDict(
        {"name": "difficulty", "clusters": 10, "patience": 20, "partition": "snr"}
    )
    return config

"""The difficulty curriculum, noisy stages first; configs/cifar_cosine.py but for the pacing.

Claim: training from easy (noisy) to hard (clean) tasks converges faster and ends better.

Command:      python run.py --config=configs/cifar_difficulty.py
Hardware:     eight accelerators with 40 GB or more; on fewer the batch is split over them.
Cost:         41 GB in all, split over the devices; some 70 hours of one H100 (2.5e19 operations).
Images seen:  204.8 million (400,000 updates of 512).
Paper:        none in this setting (arXiv 2403.10348: 20 clusters, patience 200).
Ours:         not run yet.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    config = common.cifar_denoising()
    config.pacing = ConfigDict(
        {"name": "difficulty", "clusters": 20, "patience": 200, "partition": "snr"}
    )
    return config

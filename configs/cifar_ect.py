"""Easy consistency tuning of EDM's CIFAR-10 network, as its authors' script of 200,000 updates.

Claim: a diffusion model becomes a consistency model at an eighth of the images that it took.

Command:      python run.py --config=configs/cifar_ect.py
First:        EDM's published weights edm-cifar10-32x32-uncond-vp.pkl, in the folder weights/
Hardware:     one accelerator with 16 GB or more; on several the batch is split over them.
Cost:         11 GB in all; some 12 hours of one H100 (4.2e18 operations).
Images seen:  25.6 million (200,000 updates of 128), on top of the 200 million of EDM.
Paper:        FID 3.86 at one step, 2.15 at two (arXiv 2406.14548, its code's table, "200k").
Ours:         not run yet.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    config = common.ect(common.cifar_denoising(), start="weights/edm-cifar10-32x32-uncond-vp.pkl")
    config.model.dropout = 0.2
    config.ema.rate = 0.9999
    config.train.update(steps=200_000, batch=128)
    return config

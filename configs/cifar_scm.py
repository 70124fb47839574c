"""Continuous-time consistency training (sCM) of EDM's CIFAR-10 network, as long as cifar_ect.py.

Claim: with no gap between levels one step is as good as ECT's, and better at equal images.

Command:      python run.py --config=configs/cifar_scm.py
First:        EDM's published weights edm-cifar10-32x32-uncond-vp.pkl, in the folder weights/
Hardware:     one accelerator with 16 GB or more; on several the batch is split over them.
Cost:         11 GB in all; some 14 hours of one H100 (5.2e18 operations).
Images seen:  25.6 million (200,000 updates of 128), on top of the 200 million of EDM.
Paper:        FID 2.97 at one step, 2.06 at two (arXiv 2410.11081), of a network that was trained on
              its own schedule and for longer; dropout as NVIDIA's FastGen has it, batch, updates
              and average those of cifar_ect.py, which is our choice.
Ours:         not run yet.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    config = common.scm(common.cifar_denoising(), start="weights/edm-cifar10-32x32-uncond-vp.pkl")
    config.model.dropout = 0.2
    config.ema.rate = 0.9999
    config.train.update(steps=200_000, batch=128)
    return config

"""iCT in its own setting: lognormal law, doubling curriculum 10 to 1280, pseudo-Huber, dropout .3.

Command:      python run.py --config=configs/cifar_ict.py
Hardware:     eight accelerators with 40 GB or more (batch 1024).
Cost:         81 GB in all, split over the devices; some 185 hours of one H100 (6.7e19 operations).
Images seen:  409.6 million (400,000 updates of 1024).
Paper:        FID 2.83 at one step, 2.46 at two (arXiv 2310.14189, table 2).
Ours:         not run yet.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    config = common.cifar(steps=400_000)
    config.data.flip = True
    config.objective.distance = ConfigDict({"name": "pseudo_huber"})
    config.model.update(name="ncsnpp", dropout=0.3, fourier_scale=0.02)
    config.law.update(name="lognormal", p_mean=-1.1, p_std=2.0, sampling="iid")
    config.curriculum.update(name="doubling", s0=10, s1=1280)
    config.ema.rate = 0.99993
    config.train.update(batch=1024, sample_every=20_000, checkpoint_every=10_000)
    return config

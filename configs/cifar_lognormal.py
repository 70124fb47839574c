"""The baseline of high noise scheduling: lognormal law, doubling curriculum 20 to 250.

Command:      python run.py --config=configs/cifar_lognormal.py
Hardware:     one accelerator with 40 GB or more; on several the batch is split.
Cost:         21 GB; some 6 hours of one H100 (2.1e18 operations).
Images seen:  12.8 million (50,000 updates of 256).
Paper:        the baseline of arXiv 2404.06353; its number is not known to us.
Ours:         not run yet.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    config = common.cifar(steps=50_000)
    config.law.update(name="lognormal", p_mean=-1.1, p_std=2.0, sampling="iid")
    config.curriculum.update(name="doubling", s0=20, s1=250)
    return config

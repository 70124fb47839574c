"""High noise scheduling: polynomial law, predefined Karras levels, sinusoidal curriculum.

Claim: all three together beat the lognormal, doubling baseline (configs/cifar_lognormal.py) and the
same law with a constant number of levels (configs/cifar_poly_constant.py).

Command:      python run.py --config=configs/cifar_poly.py
Hardware:     one accelerator with 40 GB or more; on several the batch is split.
Cost:         21 GB; some 6 hours of one H100 (2.1e18 operations).
Images seen:  12.8 million (50,000 updates of 256).
Paper:        FID 30.48 at one step (arXiv 2404.06353).
Ours:         not run yet.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    config = common.cifar(steps=50_000)
    config.grid.update(name="predefined", rule="nested", table_size=251)
    config.law.update(name="polynomial", curve=4.0, variant="paper", sampling="stratified")
    config.curriculum.update(name="sinusoidal", s0=20, s1=250)
    return config

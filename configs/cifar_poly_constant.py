"""The polynomial law with a constant number of levels: what the sinusoidal curriculum adds.

Twin of configs/cifar_poly.py; they differ in the curriculum alone. The 20 levels are therefore
those of the twin's first plateau, from the same table of 251, not Karras levels of their own.

Command:      python run.py --config=configs/cifar_poly_constant.py
Hardware:     one accelerator with 40 GB or more; on several the batch is split.
Cost:         21 GB; some 6 hours of one H100 (2.1e18 operations).
Images seen:  12.8 million (50,000 updates of 256).
Paper:        FID 33.54 at one step (arXiv 2404.06353).
Ours:         not run yet.
"""

from ml_collections import ConfigDict

from configs import cifar_poly


def get_config() -> ConfigDict:
    config = cifar_poly.get_config()
    config.curriculum = ConfigDict({"name": "constant", "s0": 20})
    return config

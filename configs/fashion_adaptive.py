"""A law that learns itself by the loss, on small Fashion-MNIST; the loss gets even over log SNR.

Claim: with the objective of the cosine law kept by weights, levels drawn in proportion to their
loss train at least as well as those of the cosine law (`--config.pacing="{'name': 'none'}"`), and
nobody has to choose them.

Command:      python run.py --config=configs/fashion_adaptive.py
Hardware:     two CPU cores, about an hour; the images are those of data.data_dir or of Debian's
              package dataset-fashion-mnist, and else downloaded.
Images seen:  640,000 (5,000 updates of 128), halved to 14x14.
Paper:        none in this setting (VDM++, arXiv 2303.00848, "adaptive noise schedule").
Ours:         not run yet.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    config = common.digits_denoising()
    config.data = ConfigDict({"dataset": "fashion_mnist", "size": 14})
    config.pacing = ConfigDict(
        {
            "name": "adaptive",
            "statistic": "loss",
            "range": (-10.0, 10.0),
            "bins": 50,
            "warmup_steps": 500,
        }
    )
    config.train.update(
        steps=5_000, batch=128, log_every=100, sample_every=1_000, checkpoint_every=1_000
    )
    config.evaluate.n = 5_000
    return config

"""MeanFlow in its authors' setting for CIFAR-10: one step from nothing, without a grid of levels.

Claim: one step without distillation or a denoiser to begin with draws as iCT's one step does.

Command:      python run.py --config=configs/cifar_meanflow.py
Hardware:     eight accelerators with 16 GB or more (batch 1024).
Cost:         82 GB in all, split over the devices; some 460 hours of one H100 (1.7e20 operations).
Images seen:  819.2 million (800,000 updates of 1024).
Paper:        FID 2.92 at one step (arXiv 2505.13447), 2.80 with the laws of its PyTorch code, "v1",
              which are these. Not as there: the network sees z at unit variance; images are
              augmented by all of EDM's transformations, where theirs leave out turns and
              top-bottom mirrors; samples start at t = 80/81, not at 1; and the script's epochs
              come to 768,000 updates, where its page says 800,000.
Ours:         not run yet.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    config = common.mean_flow(common.cifar_denoising())
    config.data.augment = 0.12
    config.objective.sampling = "iid"
    config.model.update(dropout=0.2, channel_mult_noise=2, resample_filter=(1, 3, 3, 1))
    # A ramp over 200 passes through the data.
    config.optimizer.update(learning_rate=6e-4, warmup_steps=200 * 50_000 // 1024)
    config.ema.rate = 0.9999
    config.train.update(steps=800_000, batch=1024)
    return config

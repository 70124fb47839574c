"""Laplace law over log SNR for ImageNet 256x256 in the latent space of an autoencoder, DiT-B/2.

The latents are yours: images_00000.npy, ... of [n, 32, 32, 4] and labels_00000.npy, ... in one
folder, scaled to a standard deviation of 1 (for Stable Diffusion's autoencoder: times 0.18215).
Samples are written as .npy for you to decode and score.

Command:      python run.py --config=configs/imagenet256_laplace_dit_b.py --config.data.data_dir=DIR
Hardware:     eight accelerators with 40 GB or more.
Cost:         some 50 hours of one H100 (1.8e19 operations, by the count of the DiT paper).
Images seen:  128 million (500,000 updates of 256).
Paper:        FID 7.96 against 10.85 of cosine at guidance 3 (arXiv 2407.03297, DiT-B, 500,000
              updates of 256); at guidance 1.5 it is 16.69 against 12.74 of a scaled cosine.
Ours:         not run yet.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.seed = 0
    config.data = ConfigDict({"dataset": "arrays", "data_dir": "data/imagenet256_latents"})
    config.model = ConfigDict({"name": "dit_b_2", "class_conditional": True, "dtype": "bfloat16"})
    config.law = ConfigDict({"name": "laplace", "mu": 0.0, "b": 0.5})
    config.objective = ConfigDict(
        {
            "name": "denoising",
            "target": "v",
            "sigma_data": 1.0,
            "weight": {"name": "uniform", "space": "v"},
        }
    )
    config.optimizer = ConfigDict({"name": "adam", "learning_rate": 1e-4})
    config.ema = ConfigDict({"rate": 0.9999})
    config.train = ConfigDict(
        {
            "steps": 500_000,
            "batch": 256,
            "label_dropout": 0.1,
            "steps_per_dispatch": 10,
            "log_every": 100,
            "sample_every": 50_000,
            "checkpoint_every": 10_000,
        }
    )
    config.sample = ConfigDict(
        {"method": {"name": "heun", "steps": 32}, "guidance": 3.0, "count": 64}
    )
    config.evaluate = ConfigDict({"n": 0})
    return config

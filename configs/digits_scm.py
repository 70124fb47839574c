"""Continuous-time consistency training (sCM) on the digits, from a network that denoised.

Claim: at the images of configs/digits_ect.py, 140,800 with those of its denoiser, it draws better
images than that tuning does, at one step and at two. That the derivative comes in over 250 updates
and the learning rate falls to 0 is our choice.

Command:      python run.py --config=configs/digits_scm.py
First:        python run.py --config=configs/digits_edm.py
Hardware:     two CPU cores.
Paper:        none; the paper (arXiv 2410.11081) has no digits.
Ours:         .48 at one step, .38 at two, configs/digits_ect.py .59 and .44 from the same denoiser
              (three seeds each, of which every one is better). With the authors' own narrower law,
              law.std=2.8, .61 and .40, and at a learning rate of 3e-4 .58 and .37 (one seed).
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    config = common.scm(common.digits_denoising(), start="runs/digits_edm")
    config.objective.warmup_steps = 250
    config.optimizer.update(learning_rate=1e-3, decay="cosine")
    config.train.update(steps=1_000, checkpoint_every=500, sample_every=500)
    return config

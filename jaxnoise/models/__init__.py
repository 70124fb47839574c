"""Networks: U-Nets of EDM (DDPM++, NCSN++), diffusion transformers, raters of noise."""

from jaxnoise.models.dit import DIT_PRESETS, DiT
from jaxnoise.models.neutral_raters import LawRater, NoisyRater
from jaxnoise.models.rater import RATERS
from jaxnoise.models.unet import PRESETS, UNet, preset

__all__ = [
    "DIT_PRESETS",
    "PRESETS",
    "RATERS",
    "DiT",
    "LawRater",
    "NoisyRater",
    "UNet",
    "preset",
]

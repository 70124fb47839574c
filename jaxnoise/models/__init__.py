"""Networks: the U-Net family of EDM (DDPM++, NCSN++), diffusion transformers, and their layers."""

from jaxnoise.models.dit import DIT_PRESETS, DiT
from jaxnoise.models.unet import PRESETS, UNet, preset

__all__ = ["DIT_PRESETS", "PRESETS", "DiT", "UNet", "preset"]

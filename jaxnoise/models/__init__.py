"""Networks: the U-Net family of EDM (DDPM++, NCSN++) and its layers."""

from jaxnoise.models.unet import PRESETS, UNet, preset

__all__ = ["PRESETS", "UNet", "preset"]

"""Samplers: functions of a denoiser and of noise drawn image by image."""

from jaxnoise.sampling.consistency import image_noise, multistep, one_step
from jaxnoise.sampling.diffusion import ddim, euler, heun
from jaxnoise.sampling.guidance import guided
from jaxnoise.sampling.images import to_uint8
from jaxnoise.sampling.samplers import (
    Sampler,
    consistency_samplers,
    ddim_sampler,
    euler_sampler,
    heun_sampler,
)

__all__ = [
    "Sampler",
    "consistency_samplers",
    "ddim",
    "ddim_sampler",
    "euler",
    "euler_sampler",
    "guided",
    "heun",
    "heun_sampler",
    "image_noise",
    "multistep",
    "one_step",
    "to_uint8",
]

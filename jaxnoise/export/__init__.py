"""Trained samplers as files that are used without jaxnoise's training code."""

from jaxnoise.export.programs import PLATFORMS, argument_names, export_sampler, sampling_program
from jaxnoise.export.schedule import evaluations
from jaxnoise.export.weights import load_weights, save_weights

__all__ = [
    "PLATFORMS",
    "argument_names",
    "evaluations",
    "export_sampler",
    "load_weights",
    "sampling_program",
    "save_weights",
]

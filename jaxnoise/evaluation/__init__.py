"""Distances between sets of images, and the protocol that gives them a meaning."""

from jaxnoise.evaluation.frechet import Moments, frechet_distance, image_moments
from jaxnoise.evaluation.protocol import (
    RawPixelReference,
    raw_pixel_reference,
    raw_pixel_report,
    reference_split,
)

__all__ = [
    "Moments",
    "RawPixelReference",
    "frechet_distance",
    "image_moments",
    "raw_pixel_reference",
    "raw_pixel_report",
    "reference_split",
]

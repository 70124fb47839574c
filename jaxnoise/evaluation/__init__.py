"""Distances between sets of images, and the protocol that gives them a meaning."""

from jaxnoise.evaluation.frechet import FrechetReference, frechet_distance
from jaxnoise.evaluation.inception_score import InceptionScore, inception_score
from jaxnoise.evaluation.kernel import KernelDistance, kernel_distance, squared_mmd
from jaxnoise.evaluation.moments import Moments, image_moments
from jaxnoise.evaluation.precision_recall import PrecisionRecall, precision_and_recall
from jaxnoise.evaluation.protocol import (
    RawPixelReference,
    raw_pixel_reference,
    raw_pixel_report,
    reference_split,
)
from jaxnoise.evaluation.statistics_files import Statistics, load_statistics, save_statistics

__all__ = [
    "FrechetReference",
    "InceptionScore",
    "KernelDistance",
    "Moments",
    "PrecisionRecall",
    "RawPixelReference",
    "Statistics",
    "frechet_distance",
    "image_moments",
    "inception_score",
    "kernel_distance",
    "load_statistics",
    "precision_and_recall",
    "raw_pixel_reference",
    "raw_pixel_report",
    "reference_split",
    "save_statistics",
    "squared_mmd",
]

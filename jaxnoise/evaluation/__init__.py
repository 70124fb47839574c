"""Distances between sets of images, and the protocol that gives them a meaning."""

from jaxnoise.evaluation.extractors import (
    Extracted,
    Extractor,
    Features,
    efficientnet,
    extract,
    from_function,
    inception,
    raw_pixels,
)
from jaxnoise.evaluation.frechet import FrechetReference, frechet_distance
from jaxnoise.evaluation.inception_score import InceptionScore, inception_score
from jaxnoise.evaluation.kernel import KernelDistance, kernel_distance, squared_mmd
from jaxnoise.evaluation.moments import Moments, image_moments
from jaxnoise.evaluation.precision_recall import PrecisionRecall, precision_and_recall
from jaxnoise.evaluation.protocol import report
from jaxnoise.evaluation.reference import METRICS, Reference, reference_from
from jaxnoise.evaluation.splits import reference_split
from jaxnoise.evaluation.statistics_files import Statistics, load_statistics, save_statistics

__all__ = [
    "METRICS",
    "Extracted",
    "Extractor",
    "Features",
    "FrechetReference",
    "InceptionScore",
    "KernelDistance",
    "Moments",
    "PrecisionRecall",
    "Reference",
    "Statistics",
    "efficientnet",
    "extract",
    "frechet_distance",
    "from_function",
    "image_moments",
    "inception",
    "inception_score",
    "kernel_distance",
    "load_statistics",
    "precision_and_recall",
    "raw_pixels",
    "reference_from",
    "reference_split",
    "report",
    "save_statistics",
    "squared_mmd",
]

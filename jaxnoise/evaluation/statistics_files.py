"""Files of feature statistics: .npz with `mu` and `sigma`, as the field's tools exchange them.

Pickles are never opened: they run code.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from jaxnoise.errors import ArgumentError, check_shape
from jaxnoise.evaluation.checks import check_count, check_kind, check_path
from jaxnoise.evaluation.frechet import TOLERANCE
from jaxnoise.evaluation.moments import Array, Moments
from jaxnoise.files import user_path, write_whole

_ZIP = b"PK\x03\x04"
_PICKLE = b"\x80"
_KEYS = ("mu", "sigma", "n", "metadata")


@dataclass(frozen=True, eq=False)
class Statistics:
    """Mean and covariance of a set of features, as read from a file by `load_statistics`.

    Attributes:
      mean: float64[D].
      covariance: float64[D, D], symmetric.
      count: number of vectors, or None where the file does not tell.
      metadata: what `save_statistics` was given; {} in files of other tools.

    Raises:
      ArgumentError: a field of another kind or shape.

    Example:
      >>> import numpy as np
      >>> from jaxnoise.evaluation import FrechetReference, Statistics
      >>> published = Statistics(mean=np.zeros(2), covariance=np.eye(2))
      >>> reference = FrechetReference.of(published.mean, published.covariance)
      >>> reference.distance([3.0, 0.0], np.eye(2))
      9.0
    """

    mean: Array
    covariance: Array
    count: int | None = None
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_shape("mean", self.mean, (None,), "the mean of D features")
        check_shape("covariance", self.covariance, self.mean.shape * 2, "of the same features")
        if self.count is not None:
            check_count("count", self.count)
        check_kind("metadata", self.metadata, dict, "a dict")


def save_statistics(path: str | Path, moments: Moments, metadata: Mapping[str, object]) -> None:
    """Writes statistics as .npz, whole or not at all.

    The arrays are `mu` (float64[D]), `sigma` (float64[D, D], unbiased), `n` (int64) and `metadata`
    (JSON as a string); tools that read `mu` and `sigma` can use the file.

    Args:
      path: file to write; its folder must exist. Nothing is appended to the name.
      moments: of at least two vectors.
      metadata: JSON values: the extractor's name and hash, how images were resized, a fingerprint
        of the data; whatever must be equal before two numbers may be compared.

    Raises:
      ArgumentError: fewer than two vectors, metadata that is not JSON, or an argument of another
        kind.

    Example:
      >>> import tempfile
      >>> from pathlib import Path
      >>> from jaxnoise.evaluation import Moments, load_statistics, save_statistics
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     path = Path(folder) / "reference.npz"
      ...     save_statistics(path, Moments.of([[1.0], [3.0]]), {"extractor": "raw pixels"})
      ...     statistics = load_statistics(path, dimension=1)
      >>> float(statistics.covariance[0, 0]), statistics.count, statistics.metadata
      (2.0, 2, {'extractor': 'raw pixels'})
    """
    check_path("path", path)
    check_kind("moments", moments, Moments, "Moments")
    check_kind("metadata", metadata, Mapping, "a mapping of JSON values")
    if moments.count < 2:
        raise ArgumentError("moments", f"count {moments.count}", "of at least 2 vectors")
    try:
        text = json.dumps(dict(metadata), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ArgumentError("metadata", str(error), "JSON values") from error
    arrays: dict[str, Any] = {
        "mu": moments.mean,
        "sigma": moments.covariance,
        "n": np.int64(moments.count),
        "metadata": np.str_(text),
    }
    # An open file, because numpy appends .npz to a name.
    write_whole(user_path(path), lambda file: np.savez(file, **arrays))


def load_statistics(path: str | Path, dimension: int | None = None) -> Statistics:
    """Reads statistics written by `save_statistics` or published by other tools.

    Any .npz with arrays `mu` and `sigma` does: those of pytorch-fid, clean-fid and EDM, and ADM's
    reference batches, whose other arrays (images, spatial statistics) are not touched.

    Args:
      path: the file.
      dimension: length D that the features must have, or None for any.

    Returns:
      The statistics, in float64; count and metadata only from files that `save_statistics` wrote.

    Raises:
      ArgumentError: no such file, a file that is damaged or holds a pickle or lacks an array,
        values that are not finite, a sigma that is not symmetric and positive semi-definite, or
        another dimension.

    Example:
      >>> from jaxnoise.evaluation import load_statistics
      >>> load_statistics("no_such_file.npz")
      Traceback (most recent call last):
      jaxnoise.errors.ArgumentError: path='no_such_file.npz': must be an existing file
    """
    check_path("path", path)
    if dimension is not None:
        check_count("dimension", dimension)
    arrays = _read(path)
    lacking = [key for key in ("mu", "sigma") if key not in arrays]
    if lacking:
        raise ArgumentError("path", str(path), f"an .npz with {' and '.join(lacking)}")
    mean, covariance = arrays["mu"], arrays["sigma"]
    problem = _problem(mean, covariance, dimension)
    if problem:
        raise ArgumentError("path", str(path), problem)
    covariance = covariance.astype(np.float64)
    return Statistics(
        mean.astype(np.float64),
        (covariance + covariance.T) / 2,
        _count(arrays.get("n")),
        _metadata(arrays.get("metadata")),
    )


def check_file(path: str | Path) -> None:
    """Raises ArgumentError unless there is a file to read."""
    if not user_path(path).is_file():
        raise ArgumentError("path", str(path), "an existing file")


def _read(path: str | Path) -> dict[str, Any]:
    """The arrays that a statistics file may hold, as numpy reads them."""
    check_file(path)
    try:
        # Open here, because numpy leaves its own file open when the archive is damaged.
        with user_path(path).open("rb") as file, warnings.catch_warnings():
            magic = file.read(len(_ZIP))
            if magic[:1] == _PICKLE:
                raise ArgumentError("path", str(path), "an .npz of plain arrays: it is a pickle")
            if magic != _ZIP:
                raise ArgumentError("path", str(path), "an .npz file")
            file.seek(0)
            # Files of Python 2 are in use, and numpy only says that their headers are slow to read.
            warnings.simplefilter("ignore", UserWarning)
            with np.load(file, allow_pickle=False) as held:
                return {key: held[key] for key in _KEYS if key in held}
    except ArgumentError:
        raise
    except Exception as error:  # damaged bytes raise ten types, depending on where they are
        if "allow_pickle" in str(error):
            allowed = "an .npz of plain arrays: it holds a pickle"
        else:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            allowed = f"an intact, readable .npz file ({reason})"
        raise ArgumentError("path", str(path), allowed) from error


def _problem(mean: Any, covariance: Any, dimension: int | None) -> str:
    """What the arrays should be and are not, or ""."""
    for key, array in (("mu", mean), ("sigma", covariance)):
        if getattr(array, "dtype", np.dtype(object)).kind not in "fiu":
            return f"an .npz whose {key} holds real numbers"
    if mean.ndim != 1 or not mean.size or covariance.shape != (mean.size, mean.size):
        return f"an .npz of mu [D] and sigma [D, D], not {mean.shape} and {covariance.shape}"
    if dimension not in (None, mean.size):
        return f"statistics of {dimension}-dimensional features, not of {mean.size}-dimensional"
    for key, array in (("mu", mean), ("sigma", covariance)):
        if not np.isfinite(array).all():
            return f"an .npz whose {key} is finite"
    if np.abs(covariance - covariance.T).max() > TOLERANCE * np.abs(covariance).max():
        return "an .npz whose sigma is symmetric"
    covariance = np.asarray(covariance, np.float64)  # linalg takes no float128; float16 overflows
    slack = TOLERANCE * np.linalg.norm(covariance) + np.finfo(np.float64).tiny
    try:
        np.linalg.cholesky((covariance + covariance.T) / 2 + slack * np.eye(mean.size))
    except np.linalg.LinAlgError:
        return "an .npz whose sigma is positive semi-definite"
    return ""


def _count(n: Any) -> int | None:
    """The number of vectors, where `n` is one; other tools mean other things by the name."""
    whole = n is not None and n.shape == () and n.dtype.kind in "iu" and n >= 2
    return int(n) if whole else None


def _metadata(text: Any) -> dict[str, Any]:
    """What `save_statistics` was given; {} for the metadata of other tools."""
    try:
        metadata = json.loads(str(text))
    except json.JSONDecodeError:
        metadata = None
    return metadata if isinstance(metadata, dict) else {}

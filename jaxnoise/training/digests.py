"""Digests of a state's arrays and of the facts beside them, and whether its numbers are finite."""

import hashlib
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxnoise.training.parallel import to_host

T = TypeVar("T")

_LARGEST = 2.0**64
"""Its square is the first power of two that float32 does not hold."""

SEAL = "sha256"
"""Where the facts beside a state keep their own digest; older versions wrote none."""

PACE = ".pace"
"""Where a state keeps its pacing, whose lowest loss is infinite until there is one."""


def digests(tree: Any) -> dict[str, str]:
    """SHA-256 of every array of a pytree (shape, dtype and bytes), by its path."""
    return by_path(_sha256, tree)


def by_path(function: Callable[[np.ndarray], T], tree: Any) -> dict[str, T]:
    """What a function says of every array of a pytree, by its path; a pool of threads asks it."""

    def one(item: tuple[Any, Any]) -> tuple[str, T]:
        path, leaf = item
        return jax.tree_util.keystr(path), function(to_host(leaf))

    leaves = jax.tree_util.tree_leaves_with_path(tree)
    with ThreadPoolExecutor() as pool:
        return dict(pool.map(one, leaves))


def _sha256(array: np.ndarray) -> str:
    array = np.ascontiguousarray(array)
    sha = hashlib.sha256(f"{array.shape}{array.dtype}".encode())
    sha.update(array.reshape(-1).view(np.uint8).data)
    return sha.hexdigest()


def is_finite(array: np.ndarray) -> bool:
    """Whether all numbers are finite and their squares too: the next loss or norm takes them."""
    if not jnp.issubdtype(array.dtype, jnp.inexact):
        return True
    return bool(np.max(np.abs(array), initial=0) < _LARGEST)


def examined(tree: Any) -> tuple[dict[str, str], dict[str, bool]]:
    """The digest of every array and whether it is finite, by its path, in one pass."""
    both = by_path(lambda array: (_sha256(array), is_finite(array)), tree)
    digest, finite = zip(*both.values(), strict=True)
    return dict(zip(both, digest, strict=True)), dict(zip(both, finite, strict=True))


def what_is_not_finite(finite: dict[str, bool]) -> str:
    """The first array that is not and how many there are, or "" if all are."""
    bad = [path for path, whole in finite.items() if not whole and not path.startswith(PACE)]
    return f"{bad[0]} is not finite ({len(bad)} of {len(finite)} arrays)" if bad else ""


def seal(meta: dict[str, Any]) -> str:
    """SHA-256 of the facts beside a state, as JSON gives them back, without their own digest."""
    told = {name: value for name, value in meta.items() if name != SEAL}
    # Twice, since a key that is a number comes back as text and is sorted as such.
    text = json.dumps(json.loads(json.dumps(told)), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def check_seal(meta: dict[str, Any]) -> None:
    if SEAL in meta and meta[SEAL] != seal(meta):
        raise ValueError("the digest of its meta differs")

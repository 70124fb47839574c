"""What `evaluate.extractor` of a config can name.

Each choice gives what opens the extractor, so that weights are looked for before training starts
and not while a config is read.
"""

from collections.abc import Callable
from functools import partial

from jaxnoise.config.choices import Choices, own_keys
from jaxnoise.config.sections import with_keys
from jaxnoise.errors import ArgumentError, one_of
from jaxnoise.evaluation.extractors import (
    Extractor,
    efficientnet,
    from_function,
    inception,
    raw_pixels,
)
from jaxnoise.evaluation.resize import RESIZES

Opener = Callable[[], Extractor]


def _inception(
    path: str | None = None, resize: str = "tf1", fetch: bool = False, batch: int = 64
) -> Opener:
    one_of("resize", resize, RESIZES)
    if batch < 1:
        raise ArgumentError("batch", batch, "at least 1")
    return partial(inception, path, resize, fetch, batch)


def _efficientnet(batch: int = 64) -> Opener:
    if batch < 1:
        raise ArgumentError("batch", batch, "at least 1")
    return partial(efficientnet, batch)


def _function(path: str) -> Opener:
    return partial(from_function, path)


def _own(make: Callable[..., Extractor]) -> Callable[..., Opener]:
    return with_keys(lambda **keys: partial(make, **keys), own_keys(make))


EXTRACTORS = Choices(
    {
        "raw_pixels": lambda: raw_pixels,
        "efficientnet": _efficientnet,
        "inception": _inception,
        "function": _function,
    },
    own=_own,
    gives=Extractor,
)

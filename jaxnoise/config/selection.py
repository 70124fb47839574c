"""What `selection` of a config can name: how noise is chosen among several draws.

Each choice gives what opens the selection, so that a rater's file is looked for before training
starts and not while a config is read.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jaxnoise.config.choices import Choices, own_keys
from jaxnoise.config.sections import keys_of, with_keys
from jaxnoise.errors import ArgumentError
from jaxnoise.meta.candidates import (
    LossScore,
    NearestScore,
    RandomScore,
    RaterScore,
    Score,
    ShuffledScore,
)
from jaxnoise.meta.neutral import NeutralPool, NeutralWeights, NoisyRate
from jaxnoise.meta.pool import PoolSelection
from jaxnoise.meta.selection import NoiseAssignment, NoiseSelection, Selection
from jaxnoise.meta.softmax_draws import SoftmaxDraws
from jaxnoise.models.rater_file import SavedRater, load_rater
from jaxnoise.models.rater_layers import DRAW, LEVEL, NOISY, SEES
from jaxnoise.training.drawing import AXIS


@dataclass(frozen=True)
class OpenSelection:
    """A selection, and the frozen rater that it asks."""

    selection: Selection | None = None
    rater: SavedRater | None = None


Opener = Callable[[], OpenSelection]

_USE = {
    DRAW: "for selection.name='rater' and the like",
    NOISY: "for selection.name='neutral_pool' or 'neutral_weights': the best of several draws for "
    "one image would not be neutral",
    LEVEL: "whose numbers, in its result.json, go into config.law",
}

_FILE = inspect.Parameter("file", inspect.Parameter.KEYWORD_ONLY, annotation=str)


def _best_of(
    score: Score,
    total_steps: int,
    candidates: int = 4,
    plain_share: float = 0.0,
    anneal_steps: int | None = None,
) -> Selection:
    """The best of several draws for one image.

    Args:
      score: of the draws.
      total_steps: of training.
      candidates: draws of noise for one image, at least 1.
      plain_share: share of the images that keep their first draw, in [0, 1].
      anneal_steps: steps over which draws are taken away one by one, until the first is left; None
        keeps all.
    """
    if anneal_steps is not None and not 1 <= anneal_steps <= total_steps:
        allowed = f"in 1..{total_steps} (train.steps), or None"
        raise ArgumentError("anneal_steps", anneal_steps, allowed)
    return NoiseSelection(score, candidates, plain_share, anneal_steps)


def _pool(score: Score, candidates: int = 4, bins: int = 8) -> Selection:
    return PoolSelection(score, candidates, bins)


def _softmax(
    score: Score,
    candidates: int = 4,
    temperature: float = 1.0,
    floor: float = 0.1,
    inverse_probability: bool = True,
) -> Selection:
    return SoftmaxDraws(score, candidates, temperature, floor, inverse_probability)


def _neutral_weights(
    rate: NoisyRate, temperature: float = 1.0, floor: float = 0.1
) -> NeutralWeights:
    return NeutralWeights(rate, temperature, floor, axis_name=AXIS)


def _keys(function: Callable[..., Any]) -> list[inspect.Parameter]:
    return [
        key for name, key in keys_of(function).items() if name not in ("score", "rate", "axis_name")
    ]


def _by_score(score: Callable[..., Score]) -> Callable[..., Opener]:
    """The best of several candidates by a score without a rater; the score's keys are added."""
    own = keys_of(score)

    def build(**given: Any) -> Opener:
        # Made once here, so that bad values are named while the config is read.
        made = score(**{name: given.pop(name) for name in own})
        opened = OpenSelection(_best_of(made, **given))
        return lambda: opened

    return with_keys(build, [*own.values(), *_keys(_best_of)])


def _by_rater(
    select: Callable[..., Selection], score: Callable[..., Score] = RaterScore
) -> Callable[..., Opener]:
    """Selection by the file of a rater of draws; the keys of the selection and of the score."""
    own = {name: key for name, key in keys_of(score).items() if name not in ("rate", "score")}

    def made(rate: Any, **given: Any) -> Selection:
        settings = {name: given.pop(name) for name in own}
        rated = RaterScore(rate)
        return select(rated if score is RaterScore else score(rated, **settings), **given)

    return _by_file(made, [*own.values(), *_keys(select)], DRAW)


def _by_file(
    make: Callable[..., Selection], keys: list[inspect.Parameter], sees: str
) -> Callable[..., Opener]:
    """Selection by a rater's file.

    Args:
      make: the selection, of what rates and the keys.
      keys: of the selection.
      sees: what the rater must see.
    """

    def build(file: str, **given: Any) -> Opener:
        """What opens the selection.

        Args:
          file: path of the rater's file, the `rater.npz` of its run folder.
          **given: keys of the selection.
        """
        if not file.endswith(".npz"):
            raise ArgumentError("file", file, "the path of a rater, an .npz file")
        make(lambda *seen: seen[0], **given)  # bad values are named while the config is read

        def open_file() -> OpenSelection:
            rater = load_rater(file)
            if rater.sees != sees:
                other = f"a rater of the {sees}, {SEES[sees]}; it is one of the {rater.sees}"
                raise ArgumentError("file", file, f"{other}, {_USE[rater.sees]}")
            return OpenSelection(make(rater.rate, **given), rater)

        return open_file

    return with_keys(build, [_FILE, *keys])


def _own(make: Callable[..., Selection]) -> Callable[..., Opener]:
    def build(**keys: Any) -> Opener:
        opened = OpenSelection(make(**keys))
        return lambda: opened

    return with_keys(build, own_keys(make))


SELECTIONS = Choices(
    {
        "none": lambda: OpenSelection,
        "random": _by_score(RandomScore),
        "nearest": _by_score(NearestScore),
        "loss": _by_score(LossScore),
        "assignment": lambda: lambda: OpenSelection(NoiseAssignment()),
        "rater": _by_rater(_best_of),
        "rater_shuffled": _by_rater(_best_of, ShuffledScore),
        "rater_pool": _by_rater(_pool),
        "rater_softmax": _by_rater(_softmax),
        "neutral_pool": _by_file(NeutralPool, _keys(NeutralPool), NOISY),
        "neutral_weights": _by_file(_neutral_weights, _keys(_neutral_weights), NOISY),
    },
    own=_own,
    gives=("select",),
)

"""What `selection` of a config can name: how noise is chosen among several draws.

Each choice gives what opens the selection, so that a rater's file is looked for before training
starts and not while a config is read.
"""

from collections.abc import Callable
from typing import Any

from jaxnoise.config.noise_choices import Choices
from jaxnoise.config.sections import keys_of, with_keys
from jaxnoise.meta.candidates import LossScore, NearestScore, RandomScore, Score
from jaxnoise.meta.selection import NoiseAssignment, NoiseSelection, Selection

Opener = Callable[[], Selection | None]


def _best_of(score: Callable[..., Score]) -> Callable[..., Opener]:
    """Adds to a score's own keys those of choosing the best of several candidates."""

    def build(
        candidates: int = 4, plain_share: float = 0.0, anneal_steps: int | None = None, **own: Any
    ) -> Opener:
        # Made once here, so that bad values are named while the config is read.
        selection = NoiseSelection(score(**own), candidates, plain_share, anneal_steps)
        return lambda: selection

    shared = [key for name, key in keys_of(build).items() if name != "own"]
    return with_keys(build, [*keys_of(score).values(), *shared])


SELECTIONS: Choices = {
    "none": lambda: lambda: None,
    "random": _best_of(RandomScore),
    "nearest": _best_of(NearestScore),
    "loss": _best_of(LossScore),
    "assignment": lambda: NoiseAssignment,
}

"""What a study is for or against, and by which scores that can be judged."""

from collections.abc import Mapping
from dataclasses import dataclass

from jaxnoise.errors import ArgumentError, ConfigError, one_of
from jaxnoise.evaluation.score_keys import keys_of
from jaxnoise.experiment import ModelRun, Run
from jaxnoise.noise.bands import BAND_NAMES

EQUAL_COST = "equal_cost"
"""The name of the scores at equal cost, beside those of further scores."""


@dataclass(frozen=True)
class Claim:
    """That some arms score better than others: what a study finds out for or against.

    Args:
      says: the claim, one sentence.
      comparison: the comparison that judges it.
      pairs: an arm, and the one that it is said to beat; of more pairs the mean, such as the main
        effect of a factor over all pairs of cells that differ in it alone.
      score: the key of the score, such as "frechet_1step".
      further: the name of a further score, "" for a run's own, or "equal_cost" for distances where
        each arm has cost as much.
      source: who claims it, with their numbers and whether ours can be compared; "" for nobody.

    Raises:
      ArgumentError: no pair, or an arm beside itself.
    """

    says: str
    comparison: str
    pairs: tuple[tuple[str, str], ...]
    score: str = "frechet_1step"
    further: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        pairs = self.pairs if isinstance(self.pairs, tuple | list) else ()
        if not pairs or not all(map(_is_pair, pairs)):
            raise ArgumentError(
                "pairs", self.pairs, 'pairs of two arms, such as (("uniform", "plain"),)'
            )


def _is_pair(pair: object) -> bool:
    """Whether it names two arms."""
    if not isinstance(pair, tuple | list) or not all(isinstance(arm, str) for arm in pair):
        return False
    return len(set(pair)) == len(pair) == 2


def check_score(claim: Claim, run: Run, further: Mapping[str, ModelRun]) -> None:
    """Raises ConfigError unless a run is scored by what a claim is judged by.

    Args:
      claim: about the run's comparison.
      run: its config.
      further: name -> the run as it is scored once more.
    """
    if not isinstance(run, ModelRun):
        raise ConfigError(f"study claim {claim.says!r}: {claim.comparison} trains raters of noise")
    if claim.further == EQUAL_COST and not run.evaluate.every:
        raise ConfigError(
            f"study claim {claim.says!r}: config.evaluate.every=0: must be at least 1 in "
            f"{claim.comparison}, or no score is taken where arms have cost alike"
        )
    try:
        one_of("score", claim.score, _scores_taken(claim, further.get(claim.further, run)))
    except ArgumentError as error:
        raise ConfigError(f"study claim {claim.says!r}: {error}") from error


def _scores_taken(claim: Claim, run: ModelRun) -> list[str]:
    """The keys of what a run is scored by, its further averages' aside."""
    equal_cost = claim.further == EQUAL_COST
    metrics = ("frechet",) if equal_cost else run.evaluate.metrics
    found = [key for s in run.samplers for metric in metrics for key in keys_of(metric, s.name)]
    if run.evaluate.levels and not equal_cost:
        kinds = ("denoised_error", "denoised_frechet")
        found += [f"{kind}_{band}" for kind in kinds for band in BAND_NAMES]
    return found

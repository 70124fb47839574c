"""How long what is left of a study will take."""

import time
from collections.abc import Callable, Sequence

from jaxnoise.study.folder import StudyFolder
from jaxnoise.study.plan import PlannedRun


class Clock:
    """Tells the time left from the steps that were made since it was started.

    A step of one comparison may cost many times that of another, as images of 28x28 pixels do
    beside digits: steps are weighed by the seconds that their comparison's runs have taken for one.

    Args:
      folder: of the study.
      plan: all runs of the study; those that are finished tell what a step costs.
      made: those that are made from now on.
      now: seconds of a clock.
    """

    def __init__(
        self,
        folder: StudyFolder,
        plan: Sequence[PlannedRun],
        made: Sequence[PlannedRun],
        now: Callable[[], float] = time.monotonic,
    ):
        self._folder, self._plan, self._made, self._now = folder, plan, made, now
        self._start, self._before = now(), self._done()

    def left(self) -> str:
        """Such as "about 1 h 20 min left"."""
        done, costs = self._done(), self._seconds_per_step()
        work = sum(
            costs[run.comparison] * (steps - before)
            for run, steps, before in zip(self._made, done, self._before, strict=True)
        )
        rest = sum(
            costs[run.comparison] * (run.run.train.last_step - steps)
            for run, steps in zip(self._made, done, strict=True)
        )
        if work <= 0:
            return "time left unknown"
        minutes = round(rest / work * (self._now() - self._start) / 60)
        hours, minutes = divmod(minutes, 60)
        return f"about {f'{hours} h ' if hours else ''}{minutes} min left"

    def _done(self) -> list[int]:
        return [min(self._folder.steps_done(p), p.run.train.last_step) for p in self._made]

    def _seconds_per_step(self) -> dict[str, float]:
        """By comparison; one that has no record yet costs the mean of the others."""
        hours: dict[str, float] = {}
        steps: dict[str, int] = {}
        for run in self._plan:
            name = run.comparison
            hours[name] = hours.get(name, 0.0) + self._folder.hours(run)
            steps[name] = steps.get(name, 0) + self._folder.steps_done(run)
        known = {name: 3600 * hours[name] / steps[name] for name in steps if hours[name]}
        mean = sum(known.values()) / len(known) if known else 1.0
        return {name: known.get(name, mean) for name in steps}

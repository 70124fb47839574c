"""Studies: arms times seeds of one question, run by one command, compared by seed."""

from jaxnoise.study.claims import Claim
from jaxnoise.study.plan import PlannedRun, planned_runs
from jaxnoise.study.question import Budget, Comparison, Study

__all__ = ["Budget", "Claim", "Comparison", "PlannedRun", "Study", "planned_runs"]

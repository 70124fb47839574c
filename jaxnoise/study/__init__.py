"""Studies: arms times seeds of one question, run by one command, compared by seed."""

from jaxnoise.study.claims import Claim
from jaxnoise.study.plan import Budget, Comparison, PlannedRun, Study, planned_runs

__all__ = ["Budget", "Claim", "Comparison", "PlannedRun", "Study", "planned_runs"]

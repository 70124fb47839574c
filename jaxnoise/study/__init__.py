"""Studies: arms times seeds of one question, run by one command, compared by seed."""

from jaxnoise.study.plan import Budget, Claim, Comparison, PlannedRun, Study, planned_runs

__all__ = ["Budget", "Claim", "Comparison", "PlannedRun", "Study", "planned_runs"]

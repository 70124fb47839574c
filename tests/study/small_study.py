"""A study of the smallest network, in the form of a user's file."""

import tiny

from jaxnoise.study import Budget, Claim, Comparison, Study

RATER = "configs/digits_noise_rater.py"
ARMS = {"plain": {}, "uniform": {"law": {"name": "uniform"}}}


def shrunk(steps: int = 8) -> dict:
    """The settings that make a config of the digits a run of seconds."""
    config = tiny.digits_config()
    names = ("model", "train", "sample", "evaluate")
    return {name: config[name] for name in names} | {"train.steps": steps}


def comparison(
    arms=ARMS, control="plain", base="configs/digits_poly.py", further=None, shown=(), **budgets
) -> Comparison:
    budgets = budgets or {"smoke": Budget((0, 1))}
    return Comparison(base, arms, control, budgets, shrunk(), further or {}, shown)


def get_study(claims=(), **given) -> Study:
    return Study("Is it the law?", {"digits": comparison(**given)}, tuple(claims))


def claim(pair=("uniform", "plain"), comparison="digits", **given) -> Claim:
    return Claim("uniform noise is better", comparison, (pair,), **given)


def of_two(file: str | None = "{folder}/first/plain/seed_{seed}") -> Study:
    """Of which one comparison starts from weights of the other."""
    arms = {"plain": {}, "uniform": ARMS["uniform"] | {"train.init_from": file}}
    first = comparison(arms={"plain": {}})
    return Study("Is it the start?", {"first": first, "digits": comparison(arms=arms)})


def by_a_rater(**settings) -> Study:
    """Of which a model selects by a rater that the study trains, under settings of its own."""
    raters = {"raters": Comparison(RATER, {"conv": settings}, "conv", {"smoke": Budget((0,))})}
    selection = {"name": "rater", "file": "{folder}/raters/conv/seed_{seed}/rater.npz"}
    rated = comparison(arms={"plain": {"selection": selection}}, smoke=Budget((0,)))
    return Study("Does it pay?", raters | {"digits": rated})

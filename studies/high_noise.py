"""Which part of high noise scheduling carries its effect? Every factor against the same base cell.

Command:      python run.py --study=studies/high_noise.py --budget=smoke
Hardware:     two CPU cores; smoke: a minute or two, laptop: hours. gpu: one accelerator, in pieces:
              --budget=gpu --engine=together --minutes=8 --archive=high_noise.tar
Paper:        high noise scheduling, arXiv 2404.06353.

The base cell is the baseline of the paper in the smallest form: lognormal law, independent draws,
levels recomputed for every number of levels, which stays at 20. Each arm of the digits changes one
factor of it; the corners change all four, some or none. The cells that carry the paper's claim
are run on photographs of clothes too, beside the best cell of the digits, and with another
learning rate.
"""

from itertools import product
from typing import Any

from jaxnoise.study import Budget, Claim, Comparison, Study

LAWS = {
    "lognormal": {"name": "lognormal", "p_mean": -1.1, "p_std": 2.0},
    "uniform": {"name": "uniform"},
    "polynomial1.5": {"name": "polynomial", "curve": 1.5},
    "polynomial2.5": {"name": "polynomial", "curve": 2.5},
    "polynomial4": {"name": "polynomial", "curve": 4.0},
    "prototype2.5": {"name": "polynomial", "curve": 2.5, "variant": "prototype"},
    "beta": {"name": "beta", "a": 1.5, "b": 5.0},
}
LEVELS = {
    "recomputed": {"name": "karras"},
    "predefined": {"name": "predefined", "rule": "nested", "table_size": 251},
}
CURRICULA = {
    "constant": {"name": "constant", "s0": 20},
    "doubling": {"name": "doubling", "s0": 20, "s1": 250},
    "sinusoidal": {"name": "sinusoidal", "s0": 20, "s1": 250},
    "rising": {"name": "sinusoidal_rising", "s0": 20, "s1": 250},
}
METRICS = ("frechet", "precision_recall")
BASE = ("lognormal", "iid", "recomputed", "constant")
HIGH_NOISE = ("polynomial4", "stratified", "predefined", "sinusoidal")
AT_CONSTANT_LEVELS = (*HIGH_NOISE[:3], "constant")
DOUBLING = (*BASE[:3], "doubling")
BEST_OF_DIGITS = (*BASE[:3], "sinusoidal")
# Other images, another network, other features.
PAPER = "arXiv 2404.06353: FID {}, CIFAR-10, 12.8 million images seen; not comparable"


def cell(law: str, sampling: str, levels: str, curriculum: str) -> dict[str, Any]:
    return {
        "law": {**LAWS[law], "sampling": sampling},
        "grid": LEVELS[levels],
        "curriculum": CURRICULA[curriculum],
    }


def name_of(factors: tuple[str, ...]) -> str:
    return "-".join(factors)


def one_factor_at_a_time() -> list[tuple[str, ...]]:
    law, sampling, levels, curriculum = BASE
    return [
        BASE,
        *((other, sampling, levels, curriculum) for other in LAWS if other != law),
        (law, "stratified", levels, curriculum),
        (law, sampling, "predefined", curriculum),
        *((law, sampling, levels, other) for other in CURRICULA if other != curriculum),
    ]


def corners() -> list[tuple[str, ...]]:
    return list(product(*zip(BASE, HIGH_NOISE, strict=True)))


def main_effect(factor: int) -> tuple[tuple[str, str], ...]:
    """Each corner with the paper's choice of a factor, beside the one with the baseline's."""
    base, paper = BASE[factor], HIGH_NOISE[factor]
    return tuple(
        (name_of(corner), name_of((*corner[:factor], base, *corner[factor + 1 :])))
        for corner in corners()
        if corner[factor] == paper
    )


def beats(says: str, comparison: str, *pairs: tuple[str, str], source: str = "") -> list[Claim]:
    """A claim about one step and about two."""
    return [
        Claim(says, comparison, pairs, f"frechet_{steps}step", source=source) for steps in (1, 2)
    ]


def get_claims() -> tuple[Claim, ...]:
    found: list[Claim] = []
    for factor, says in enumerate(
        (
            "polynomial noise, curve 4, beats lognormal noise (mean of 8 pairs of corners)",
            "stratified draws beat independent ones (mean of 8 pairs of corners)",
            "predefined levels beat recomputed ones (mean of 8 pairs of corners)",
            "the sinusoidal curriculum beats 20 levels throughout (mean of 8 pairs of corners)",
        )
    ):
        found += beats(says, "digits", *main_effect(factor))
    base, paper = name_of(BASE), name_of(HIGH_NOISE)
    rising = name_of((*BASE[:3], "rising")), name_of(BEST_OF_DIGITS)
    found += beats("a sinusoid that ends at all levels beats one that ends at 30", "digits", rising)
    doubling = rising[1], name_of(DOUBLING)
    found += beats("the sinusoidal curriculum beats the doubling one", "digits", doubling)
    large = "fashion_mnist_14x14", "fashion_mnist_28x28"
    for comparison in ("digits", "digits_low_learning_rate", *large):
        found += beats(
            "high noise scheduling beats lognormal noise at 20 levels", comparison, (paper, base)
        )
    for comparison in ("digits", "digits_low_learning_rate", large[0]):
        constant = name_of(AT_CONSTANT_LEVELS)
        found += beats(
            "polynomial noise, stratified on predefined levels, beats lognormal noise at 20 levels",
            comparison,
            (constant, base),
            source=PAPER.format("33.54"),
        )
        found += beats(
            "the sinusoidal curriculum beats 20 levels under polynomial noise",
            comparison,
            (paper, constant),
            source=PAPER.format("30.48 against 33.54"),
        )
        found += beats(
            "high noise scheduling beats lognormal noise at levels that double",
            comparison,
            (paper, name_of(DOUBLING)),
            source=PAPER.format("30.48"),
        )
    best = name_of(BEST_OF_DIGITS)
    found += beats("the sinusoidal curriculum beats 20 levels", large[0], (best, base))
    found += beats(
        "high noise scheduling beats lognormal noise, same curriculum", large[0], (paper, best)
    )
    return tuple(found)


def get_study() -> Study:
    digits = dict.fromkeys([*one_factor_at_a_time(), *corners()])
    cells = [BASE, AT_CONSTANT_LEVELS, DOUBLING, HIGH_NOISE]
    names = tuple(map(name_of, cells))
    claimed = {name_of(factors): cell(*factors) for factors in cells}
    smoke = {"train.steps": 8, "train.log_every": 4, "train.checkpoint_every": 8}
    smoke |= {"train.sample_every": 8, "evaluate.n": 64}
    smoke |= {"model.model_channels": 8, "model.channel_mult": (1,), "model.num_blocks": 1}
    clothes = {
        "data": {"dataset": "fashion_mnist", "size": 14},
        "train.steps": 1_200,
        "train.batch": 128,
        "train.sample_every": 300,
        "train.checkpoint_every": 300,
        "evaluate.n": 5_000,
        "evaluate.every": 300,
        "evaluate.untrained": False,
        "evaluate.metrics": METRICS,
    }
    on_the_way = {"evaluate.every": 550, "evaluate.metrics": METRICS}
    raw_weights = {"evaluate.weights": "raw"}
    held_out = {"evaluate.split": "test", "evaluate.levels": 16}
    many_steps = {"train.steps_per_dispatch": 50}
    return Study(
        question="Which part of high noise scheduling carries its effect?",
        claims=get_claims(),
        comparisons={
            "digits": Comparison(
                base="configs/digits_poly.py",
                arms={name_of(factors): cell(*factors) for factors in digits},
                control=name_of(BASE),
                budgets={
                    "smoke": Budget((0,), smoke, names[:2]),
                    "laptop": Budget((0, 1, 2), on_the_way),
                    "gpu": Budget(tuple(range(8)), on_the_way | many_steps),
                },
                further={"raw_weights": raw_weights, "by_level": {"evaluate.levels": 16}},
                shown=names,
            ),
            "digits_low_learning_rate": Comparison(
                base="configs/digits_poly.py",
                arms=claimed,
                control=name_of(BASE),
                settings={"optimizer.learning_rate": 3e-4},
                budgets={"laptop": Budget((0, 1, 2), on_the_way)},
                further={"raw_weights": raw_weights},
            ),
            "fashion_mnist_14x14": Comparison(
                base="configs/digits_poly.py",
                arms=claimed | {name_of(BEST_OF_DIGITS): cell(*BEST_OF_DIGITS)},
                control=name_of(BASE),
                budgets={
                    "laptop": Budget((0, 1, 2, 3, 4)),
                    "gpu": Budget(tuple(range(8)), many_steps),
                },
                settings=clothes,
                further={"raw_weights": raw_weights, "held_out": held_out},
            ),
            "fashion_mnist_28x28": Comparison(
                base="configs/digits_poly.py",
                arms=claimed,
                control=name_of(BASE),
                budgets={
                    "laptop": Budget((0, 1), arms=(name_of(HIGH_NOISE),)),
                    "gpu": Budget(tuple(range(8)), many_steps),
                },
                settings=clothes | {"data": {"dataset": "fashion_mnist"}},
                further={"raw_weights": raw_weights, "held_out": held_out},
            ),
        },
    )

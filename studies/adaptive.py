"""Does a law that learns from its losses beat the fixed law that it starts from?

Command:      python run.py --study=studies/adaptive.py --budget=smoke
Hardware:     two CPU cores; smoke: two minutes, laptop: hours.
Papers:       VDM++, arXiv 2303.00848; improved DDPM, arXiv 2102.09672; Katharopoulos and Fleuret,
              arXiv 1803.00942; InfoNoise, arXiv 2602.18647.

Every statistic, with compensation (the objective stays the law's, and only its variance changes)
and without (what is drawn is what is trained for), from two laws: one that lies well, and the same
moved by 4 in log SNR, so that it lies badly on purpose; on the digits for as many steps as the
fixed laws of studies/log_snr.py, beside which they are read. In consistency training, whose losses
are spread over orders of magnitude, from lognormal noise on recomputed levels and from high noise
scheduling, both with its sinusoidal curriculum.
"""

from itertools import product
from typing import Any

from jaxnoise.study import Budget, Claim, Comparison, Study

METRICS = ("frechet", "precision_recall")
DENOISING = ("loss", "second_moment", "gradient", "entropy_rate", "progress")
CONSISTENCY = ("loss", "second_moment", "progress")
LAWS = {
    "cosine": {"name": "cosine", "low": -15.0, "high": 15.0},
    "shifted": {"name": "cosine", "shift": 4.0, "low": -15.0, "high": 15.0},
}
PAIRS: dict[str, dict[str, Any]] = {
    "lognormal": {"law": {"name": "lognormal", "sampling": "iid"}, "grid": {"name": "karras"}},
    "polynomial": {},
}
# What varies least in theory, and the newest law in print.
DECISIVE = ("gradient-compensated", "entropy_rate")
# In denoising; the first three are about the variance of an objective, which compensation keeps.
SOURCES = {
    "loss-compensated": "VDM++, arXiv 2303.00848",
    "second_moment-compensated": "arXiv 2102.09672",
    "gradient-compensated": "arXiv 1803.00942",
    "entropy_rate": "InfoNoise, arXiv 2602.18647: 1.4 times faster on CIFAR-10; not comparable",
}
SMALL = {
    "train.steps": 8,
    "train.log_every": 4,
    "train.checkpoint_every": 8,
    "train.sample_every": 8,
    "evaluate.n": 64,
    "model.model_channels": 8,
    "model.channel_mult": (1,),
    "model.num_blocks": 1,
}


def learning(statistic: str, compensate: bool) -> dict[str, Any]:
    return {"pacing": {"name": "adaptive", "statistic": statistic, "compensate": compensate}}


def arms(bases: dict[str, dict[str, Any]], statistics: tuple[str, ...]) -> dict[str, Any]:
    """Every base on its own, and under every statistic with and without compensation."""
    found: dict[str, Any] = {}
    for name, base in bases.items():
        found[name] = base
        for statistic in statistics:
            found[f"{name}-{statistic}"] = base | learning(statistic, compensate=False)
            found[f"{name}-{statistic}-compensated"] = base | learning(statistic, compensate=True)
    return found


def get_claims() -> tuple[Claim, ...]:
    """Each statistic against the law that it starts from: where that lies well, and where badly."""
    found: list[Claim] = []
    for comparison, bases, statistics, scores in (
        ("digits", LAWS, DENOISING, ("frechet_heun18",)),
        ("fashion_mnist_14x14", LAWS, DENOISING, ("frechet_heun18",)),
        ("digits_consistency", PAIRS, CONSISTENCY, ("frechet_1step", "frechet_2step")),
    ):
        for base, statistic, score in product(bases, statistics, scores):
            for end, says in (("", ""), ("-compensated", ", compensated,")):
                name = f"{statistic}{end}"
                if comparison.startswith("fashion") and name not in DECISIVE:
                    continue
                says = f"a law by `{statistic}`{says} beats the {base} law that it starts from"
                pairs = ((f"{base}-{name}", base),)
                source = SOURCES.get(name, "") if bases is LAWS else ""
                found.append(Claim(says, comparison, pairs, score, source=source))
    return tuple(found)


def get_study() -> Study:
    laws = arms({name: {"law": law} for name, law in LAWS.items()}, DENOISING)
    pairs = arms(PAIRS, CONSISTENCY)
    raw_weights = {"evaluate.weights": "raw"}
    chosen = {name: laws[name] for name in LAWS}
    chosen |= {f"{name}-{arm}": laws[f"{name}-{arm}"] for name in LAWS for arm in DECISIVE}
    return Study(
        question="Does a law that learns itself beat the one that it starts from?",
        claims=get_claims(),
        comparisons={
            "digits": Comparison(
                base="configs/digits_cosine.py",
                arms=laws,
                control="cosine",
                budgets={
                    "smoke": Budget((0,), SMALL, ("shifted-gradient-compensated",)),
                    "laptop": Budget((0, 1, 2), {"evaluate.every": 400}),
                },
                settings={"evaluate.metrics": METRICS},
                further={"raw_weights": raw_weights, "by_level": {"evaluate.levels": 16}},
                shown=tuple(chosen),
            ),
            "digits_consistency": Comparison(
                base="configs/digits_poly.py",
                arms=pairs,
                control="lognormal",
                budgets={"laptop": Budget((0, 1, 2), {"evaluate.every": 550})},
                settings={"evaluate.metrics": METRICS},
                further={"raw_weights": raw_weights},
            ),
            "fashion_mnist_14x14": Comparison(
                base="configs/fashion_adaptive.py",
                arms={name: {"pacing": {"name": "none"}} | arm for name, arm in chosen.items()},
                control="cosine",
                budgets={"laptop": Budget((0, 1, 2, 3, 4))},
                settings={
                    "train.steps": 1_200,
                    "train.sample_every": 300,
                    "train.checkpoint_every": 300,
                    "evaluate.every": 0,
                    "evaluate.untrained": False,
                    "evaluate.metrics": METRICS,
                },
                further={
                    "raw_weights": raw_weights,
                    "held_out": {"evaluate.split": "test", "evaluate.levels": 16},
                },
            ),
        },
    )

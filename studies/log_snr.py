"""Which law over log SNR, and which target, at the same weight?

Command:      python run.py --study=studies/log_snr.py --budget=smoke
Hardware:     two CPU cores; smoke: two minutes, laptop: hours. gpu: one accelerator, in pieces:
              --budget=gpu --engine=together --minutes=8 --archive=log_snr.tar
Paper:        improved noise schedule, arXiv 2407.03297.

The arms of "digits" predict v and weigh its squared error by 1, so that they differ in which levels
are drawn alone; two kinds do not. The compensated arms weigh by the density of the cosine law over
that of their own, clipped at 5, so that their objective is the cosine law's whatever is drawn. The
arm "edm" has the law "edm_normal", and EDM's own target and weight. Runs on the digits are as long
as it takes the cosine law to come to the distance of real images, where laws still differ.

"digits_min_snr" is every law with every target, at the same weight of each level: min-SNR's, gamma
5 (arXiv 2303.09556), which is at most 1 on the errors of eps and v and at most 5 on that of x0. A
weight of 1 on the error of v is 1 / alpha^2 on that of eps, without bound where noise is high, and
1 / sigma^2 on that of x0, without bound where it is low; two more arms keep it, and show what that
costs.
"""

from typing import Any

from jaxnoise.study import Budget, Claim, Comparison, Study

LAWS: dict[str, dict[str, Any]] = {
    "cosine": {"name": "cosine"},
    "laplace0.5": {"name": "laplace", "mu": 0.0, "b": 0.5},
    "laplace0.75": {"name": "laplace", "mu": 0.0, "b": 0.75},
    "laplace1": {"name": "laplace", "mu": 0.0, "b": 1.0},
    # Truncated: beyond, an image is as good as clean, or gone.
    "cauchy": {"name": "cauchy", "mu": 0.0, "gamma": 0.5, "low": -20.0, "high": 20.0},
    "cosine_scaled": {"name": "cosine", "scale": 2.0},
    "edm_normal": {"name": "normal", "mean": 2.4, "std": 2.4},
    "flow_matching": {"name": "linear_path"},
    "uniform": {"name": "uniform", "lo": -10.0, "hi": 10.0},
}
OTHERS = ("eps", "x0")
TARGETS = ("v", *OTHERS)
V_WEIGHT = "weight_of_v"
COMPENSATED = ("laplace0.5", "cauchy", "edm_normal")
# Where configs/digits_law_learned.py begins, and where its meta-gradients take it (seed 0).
LEARNED = {
    "learned_start-v": {"law": {"name": "laplace", "mu": 3.0, "b": 0.5}},
    "learned-v": {"law": {"name": "laplace", "mu": 1.36, "b": 2.08}},
}
LARGER = ("cosine", "laplace0.5", "cosine_scaled", "edm_normal")
METRICS = ("frechet", "precision_recall")
CONTROL = "cosine-v"


def arms() -> dict[str, dict[str, Any]]:
    """Every law with target v, the compensated ones, and one that meta-gradients learned."""
    found = {f"{name}-v": {"law": law} for name, law in LAWS.items()}
    compensation = {
        "objective.compensation": "importance",
        "objective.max_ratio": 5.0,
        "objective.weight": {"name": "density", "space": "v", "law": {"name": "cosine"}},
    }
    compensated = {
        f"{name}-v-compensated": {"law": LAWS[name]} | compensation for name in COMPENSATED
    }
    return found | compensated | LEARNED


def arms_of_targets() -> dict[str, dict[str, Any]]:
    """Every law with every target, and the cosine law's with a weight of 1 on the error of v."""
    found = {
        f"{name}-{target}": {"law": law, "objective.target": target}
        for target in TARGETS
        for name, law in LAWS.items()
    }
    unbounded = {"objective.weight": {"name": "uniform", "space": "v"}}
    return found | {
        f"cosine-{other}-{V_WEIGHT}": found[f"cosine-{other}"] | unbounded for other in OTHERS
    }


def get_claims() -> tuple[Claim, ...]:
    digits, targets, clothes = "digits", "digits_min_snr", "fashion_mnist_14x14"
    score, paper = "frechet_heun18", "arXiv 2407.03297: FID {}, ImageNet at 256; not comparable"
    found = [
        Claim(
            "the Laplace law, b = .5, beats the cosine law",
            comparison,
            (("laplace0.5-v", CONTROL),),
            score,
            source=paper.format("7.96 against 10.85 at guidance 3"),
        )
        for comparison in (digits, clothes)
    ]
    found += [
        Claim(
            "the Laplace law, b = .5, beats the cosine law scaled by 2",
            comparison,
            (("laplace0.5-v", "cosine_scaled-v"),),
            score,
            source=f"nobody; {paper.format('16.69 against 12.74 at guidance 1.5')}",
        )
        for comparison in (digits, clothes)
    ]
    found += [
        Claim("EDM's law beats the cosine law", comparison, (("edm_normal-v", CONTROL),), score)
        for comparison in (digits, clothes)
    ]
    says = "EDM's law, target and weight beat the cosine law, v and a weight of 1"
    found.append(Claim(says, digits, (("edm", CONTROL),), score))
    found += [
        Claim(
            f"a law learned by meta-gradients beats {beaten}", digits, (("learned-v", arm),), score
        )
        for beaten, arm in (
            ("the law that it starts from", "learned_start-v"),
            ("the cosine law", CONTROL),
        )
    ]
    for other in OTHERS:
        says = f"predicting v beats predicting {other} (mean of {len(LAWS)} laws)"
        pairs = tuple((f"{law}-v", f"{law}-{other}") for law in LAWS)
        source = "arXiv 2407.03297, at other weights"
        found.append(Claim(says, targets, pairs, score, source=source))
    for other in OTHERS:
        says = f"predicting {other}, min-SNR's weight beats a weight of 1 on the error of v"
        pairs = ((f"cosine-{other}", f"cosine-{other}-{V_WEIGHT}"),)
        found.append(Claim(says, targets, pairs, score))
    says = f"compensation improves a law (mean of {len(COMPENSATED)} laws)"
    pairs = tuple((f"{law}-v-compensated", f"{law}-v") for law in COMPENSATED)
    return (*found, Claim(says, digits, pairs, score))


def get_study() -> Study:
    small = {"train.steps": 8, "train.log_every": 4, "train.checkpoint_every": 8}
    small |= {"train.sample_every": 8, "evaluate.n": 64}
    small |= {"model.model_channels": 8, "model.channel_mult": (1,), "model.num_blocks": 1}
    on_the_way = {"evaluate.every": 400, "evaluate.metrics": METRICS}
    # An accelerator makes steps faster than a host can ask for them.
    many_steps = {"train.steps_per_dispatch": 50}
    raw_weights = {"evaluate.weights": "raw"}
    larger = {name: arm for name, arm in arms().items() if name in {f"{c}-v" for c in LARGER}}
    return Study(
        question="Which law over log SNR, and which target?",
        claims=get_claims(),
        comparisons={
            "digits": Comparison(
                base="configs/digits_cosine.py",
                arms=arms() | {"edm": {}},
                bases={"edm": "configs/digits_edm.py"},
                control=CONTROL,
                budgets={
                    "smoke": Budget((0,), small, ("laplace0.5-v",)),
                    "laptop": Budget((0, 1, 2), on_the_way),
                    "gpu": Budget(tuple(range(8)), on_the_way | many_steps),
                },
                further={"raw_weights": raw_weights, "by_level": {"evaluate.levels": 16}},
                shown=tuple(larger),
            ),
            "digits_min_snr": Comparison(
                base="configs/digits_cosine.py",
                arms=arms_of_targets(),
                control=CONTROL,
                budgets={
                    "laptop": Budget((0, 1, 2)),
                    "gpu": Budget(tuple(range(8)), many_steps),
                },
                settings={
                    "objective.weight": {"name": "min_snr"},
                    "evaluate.metrics": METRICS,
                    "evaluate.levels": 16,
                },
                further={"raw_weights": raw_weights | {"evaluate.levels": 0}},
                shown=(*(f"cosine-{target}" for target in TARGETS), f"cosine-eps-{V_WEIGHT}"),
            ),
            "fashion_mnist_14x14": Comparison(
                base="configs/digits_cosine.py",
                arms=larger,
                control=CONTROL,
                budgets={
                    "laptop": Budget((0, 1, 2, 3, 4)),
                    "gpu": Budget(tuple(range(8)), many_steps),
                },
                settings={
                    "data": {"dataset": "fashion_mnist", "size": 14},
                    "train.steps": 1_200,
                    "train.batch": 128,
                    "train.sample_every": 300,
                    "train.checkpoint_every": 300,
                    "evaluate.n": 5_000,
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

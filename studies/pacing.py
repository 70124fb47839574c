"""Does it pay to train on some noise first, and does momentum decay?

Command:      python run.py --study=studies/pacing.py --budget=smoke
Hardware:     two CPU cores; smoke: two minutes, laptop: an hour.
Papers:       curriculum timestep schedule and momentum decay, arXiv 2404.07946; difficulty
              curriculum, arXiv 2403.10348; high noise first, in the style of arXiv 2404.06353.

Momentum decay comes with a learning rate that decays, so it has a control: the same decay of the
learning rate at constant momentum.
"""

from jaxnoise.study import Budget, Claim, Comparison, Study

SHIPPED = ("digits_anneal", "digits_clts_lrdecay", "digits_clts_mdlrc", "digits_difficulty")
METRICS = ("frechet", "precision_recall")


# Who claims that an arm beats another; none of their numbers is for digits.
CLAIMS = (
    ("high noise first beats all noise", "digits_anneal", "plain", ""),
    ("noisy stages first beat all noise", "digits_difficulty", "plain", "arXiv 2403.10348"),
    ("a curriculum of timesteps beats none", "digits_clts", "plain", "arXiv 2404.07946"),
    (
        "momentum decay beats the same decay of the learning rate at constant momentum",
        "digits_clts_mdlrc",
        "digits_clts_lrdecay",
        "arXiv 2404.07946",
    ),
)


def get_study() -> Study:
    clts = {"pacing": {"name": "clts", "mu": 0.3, "sig": 0.2, "max_weight": 0.5}}
    small = {"train.steps": 8, "train.log_every": 4, "train.checkpoint_every": 8}
    small |= {"train.sample_every": 8, "evaluate.n": 64}
    small |= {"model.model_channels": 8, "model.channel_mult": (1,), "model.num_blocks": 1}
    return Study(
        question="Does it pay to train on some noise first, and does momentum decay?",
        claims=tuple(
            Claim(says, "digits", ((arm, other),), "frechet_heun18", source=source)
            for says, arm, other, source in CLAIMS
        ),
        comparisons={
            "digits": Comparison(
                base="configs/digits_cosine.py",
                bases={name: f"configs/{name}.py" for name in SHIPPED},
                arms={"plain": {}, "digits_clts": clts, **{name: {} for name in SHIPPED}},
                control="plain",
                budgets={
                    "smoke": Budget((0,), small, ("digits_clts_lrdecay",)),
                    "laptop": Budget(
                        (0, 1, 2),
                        {"evaluate.every": 400, "evaluate.metrics": METRICS},
                    ),
                },
                further={"raw_weights": {"evaluate.weights": "raw"}},
            )
        },
    )

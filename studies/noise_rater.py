"""Does learned selection of noise pay, and does it if it cannot bend the model?

Command:      python run.py --study=studies/noise_rater.py --budget=smoke
Hardware:     two CPU cores; smoke: minutes, most of them to compile; laptop: hours.
Papers:       NoiseRater, arXiv 2605.08144, with the blanks filled from DataRater, arXiv 2505.17895.

First raters are trained, one for each seed: of draws for one image, of all draws of a batch, of the
level alone, of the noisy image. Then models that select by them, beside controls that know nothing,
at equal images trained on and, in a table of its own, at equal cost. A rater that sees what the
network sees leaves the best denoiser alone; one that sees the image and its noise does not
(docs/noise_rater.md). The arm "softmax-weighted" takes that influence out again by weights.
"""

from typing import Any

from jaxnoise.study import Budget, Claim, Comparison, Study

SMALL = {
    "train.steps": 8,
    "train.log_every": 4,
    "train.checkpoint_every": 8,
    "train.sample_every": 8,
}
RATERS = {
    "candidates": "configs/digits_noise_rater.py",
    "batch": "configs/digits_noise_rater_batch.py",
    "level": "configs/digits_noise_rater_batch.py",
    "noisy": "configs/digits_noise_neutral_rater.py",
}


def by(rater: str, name: str, **settings: Any) -> dict[str, Any]:
    """Selection by the rater of the same seed."""
    file = f"{{folder}}/raters/{rater}/seed_{{seed}}/rater.npz"
    return {"selection": {"name": name, "file": file, **settings}}


def arms() -> dict[str, dict[str, Any]]:
    plain = {"selection": {"name": "none"}}
    # A quarter of the pool is trained on, as many images as by the others.
    neutral = {"train.batch": 256} | by("noisy", "neutral_pool", share=0.25, bins=8)
    return {
        "plain": plain,
        "random": {"selection": {"name": "random"}},
        "rater": by("candidates", "rater"),
        "rater-annealed": by("candidates", "rater", anneal_steps=800),
        "rater-shuffled": by("candidates", "rater_shuffled"),
        "rater-pool": by("batch", "rater_pool"),
        "rater-level": by("level", "rater_pool", bins=1),
        "softmax": by("candidates", "rater_softmax", inverse_probability=False),
        "softmax-weighted": by("candidates", "rater_softmax"),
        "neutral-pool": neutral,
        # A hard choice trains on nothing in what it leaves out; a floor and a larger share do.
        "neutral-pool-floor": {"train.batch": 256}
        | by("noisy", "neutral_pool", share=0.25, bins=8, floor=0.25),
        "neutral-half": {"train.batch": 128} | by("noisy", "neutral_pool", share=0.5, bins=8),
        "neutral-weights": by("noisy", "neutral_weights"),
        "loss": {"selection": {"name": "loss"}},
        "nearest": {"selection": {"name": "nearest"}},
        "assignment": {"selection": {"name": "assignment"}},
        "speed": plain | {"pacing": {"name": "asymmetric", "boundary": 0.922}},
    }


def get_claims() -> tuple[Claim, ...]:
    """At equal images trained on, and at equal cost, which counts what selection costs."""
    paper = "NoiseRater, arXiv 2605.08144, whose numbers are not known to us"
    said = (
        ("selection by the rater in the paper's form beats random", "rater", "random", paper),
        ("annealed to no selection, it beats random", "rater-annealed", "random", paper),
        ("the rater's scores beat the same scores shuffled", "rater", "rater-shuffled", ""),
        (
            "softmax draws by it are better with their inverse probabilities as weights",
            "softmax-weighted",
            "softmax",
            "",
        ),
        ("a neutral rater's best quarter of a pool beats random", "neutral-pool", "random", ""),
        ("with a floor, it beats random", "neutral-pool-floor", "random", ""),
        ("its better half of a pool beats random", "neutral-half", "random", ""),
        ("its soft weights beat random", "neutral-weights", "random", ""),
        ("a neutral rater's best quarter beats the paper's form", "neutral-pool", "rater", ""),
        ("random selection beats none", "random", "plain", ""),
    )
    return tuple(
        Claim(says, "digits", ((arm, other),), "frechet_heun18", further, source)
        for further in ("", "equal_cost")
        for says, arm, other, source in said
    )


def get_study() -> Study:
    # One inner model and one inner step: what is compiled grows with both.
    small_rater = SMALL | {"train.batch": 8, "meta.outer_batch": 8, "meta.population": 1}
    small_rater |= {"meta.inner_steps": 1, "meta.lifetime": 8, "meta.probe_every": 0}
    small_rater |= {"meta.probe_draws": 2, "meta.probe_repeats": 2}
    return Study(
        question="Does learned selection of noise pay?",
        claims=get_claims(),
        comparisons={
            "raters": Comparison(
                base=RATERS["candidates"],
                bases=RATERS,
                arms={name: {} for name in RATERS} | {"level": {"rater": {"name": "level"}}},
                control="candidates",
                budgets={
                    "smoke": Budget((0,), small_rater, ("noisy",)),
                    "laptop": Budget((0, 1, 2)),
                },
            ),
            "digits": Comparison(
                base="configs/digits_noise_selected.py",
                arms=arms(),
                control="random",
                budgets={
                    "smoke": Budget((0,), SMALL | {"evaluate.n": 64}, ("neutral-weights",)),
                    "laptop": Budget((0, 1, 2)),
                },
                settings={"evaluate.metrics": ("frechet", "precision_recall")},
                further={"raw_weights": {"evaluate.weights": "raw"}},
                shown=("plain", "random", "rater", "rater-pool", "neutral-pool", "neutral-weights"),
            ),
        },
    )

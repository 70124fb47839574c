"""What a study plans, and what it refuses before anything runs."""

import json
import re
from contextlib import nullcontext
from pathlib import Path

import command_line
import pytest
from study import small_study

from jaxnoise.commands.study import make
from jaxnoise.errors import ArgumentError, ConfigError
from jaxnoise.study import Budget, Claim, Comparison, Study, planned_runs
from jaxnoise.study.folder import StudyFolder
from jaxnoise.study.plan import by_arm, indices_of
from jaxnoise.training.records import differences

FOLDER = Path("runs/study")


def test_every_arm_runs_with_every_seed_and_seeds_come_outside():
    runs = planned_runs(small_study.get_study(), "smoke", FOLDER)
    assert [run.name for run in runs] == [
        "digits/plain/seed_0",
        "digits/uniform/seed_0",
        "digits/plain/seed_1",
        "digits/uniform/seed_1",
    ]
    assert [run.run.seed for run in runs] == [0, 0, 1, 1]
    assert [run.run.evaluate.seed for run in runs] == [1, 1, 2, 2]
    assert [run.run.config["law"]["name"] for run in runs[:2]] == ["polynomial", "uniform"]
    # A section takes the place of the whole one: no key of the base's law is left.
    assert set(runs[1].config["law"]) == {"name"}


def test_a_budget_names_its_arms_and_what_they_get_on_top():
    arms = {"plain": {}, "a": {"law.curve": 2.0}, "b": {"law.curve": 3.0, "train.steps": 4}}
    few = Budget((5,), {"train.steps": 6}, ("b",))
    study = small_study.get_study(arms=arms, few=few)
    runs = planned_runs(study, "few", FOLDER)
    # The control is always there.
    assert [run.name for run in runs] == ["digits/plain/seed_5", "digits/b/seed_5"]
    assert {run.run.train.steps for run in runs} == {6}
    assert study.budgets == ["few"]


def test_a_run_comes_after_those_whose_files_it_names():
    """And the second seed of a comparison after the first of all: a study may be cut short."""
    folder = StudyFolder(FOLDER)
    runs = planned_runs(small_study.of_two(), "smoke", FOLDER)
    assert [run.name for run in runs] == [
        "first/plain/seed_0",
        "digits/plain/seed_0",
        "digits/uniform/seed_0",
        "first/plain/seed_1",
        "digits/plain/seed_1",
        "digits/uniform/seed_1",
    ]
    named = {run.name: run.after for run in runs if run.after}
    assert named == {f"digits/uniform/seed_{n}": (f"first/plain/seed_{n}",) for n in (0, 1)}
    assert runs[2].run.config["train"]["init_from"] == f"{FOLDER}/first/plain/seed_0"
    assert by_arm(runs)[0] == [0, 3]

    finished: set[str] = set()
    folder.results = lambda run: {"": {}} if run.name in finished else {}
    assert [folder.is_ready(run, runs) for run in runs] == [True, True, False] * 2
    finished |= {runs[0].name}
    assert [folder.is_ready(run, runs) for run in runs] == [True, True, True, True, True, False]
    # A rater that no run needs any more is not made; a model has a score of its own.
    finished |= {runs[5].name}
    assert [folder.is_wanted(run, runs) for run in runs] == [False, True, True, True, True, False]
    rated = planned_runs(small_study.by_a_rater(), "smoke", FOLDER)
    assert [folder.is_wanted(run, rated) for run in rated] == [True, True]
    finished |= {"digits/plain/seed_0"}
    assert [folder.is_wanted(run, rated) for run in rated] == [False, False]


def test_a_further_score_may_name_a_file_of_an_earlier_run():
    study = small_study.of_two()
    settings = {"evaluate.reference": "{folder}/first/plain/seed_{seed}/reference.npz"}
    study.comparisons["digits"] = small_study.comparison(further={"theirs": settings})
    run = planned_runs(study, "smoke", FOLDER)[1]
    assert run.name == "digits/plain/seed_0"
    assert run.after == ("first/plain/seed_0",)
    named = f"{FOLDER}/first/plain/seed_0/reference.npz"
    assert run.further["theirs"].config["evaluate"]["reference"] == named
    # One that has its own score reads no other file to train.
    folder = StudyFolder(FOLDER)
    folder.results = lambda run: {"": {}} if run.comparison == "digits" else {}
    assert folder.is_ready(run, [run])


@pytest.mark.parametrize(
    "file",
    [
        "{folder}/first/plane/seed_{seed}",
        "{folder}/digits/plain/seed_0",
        "../{folder}/first/plain/seed_0",
        "{folder}",
    ],
)
def test_a_file_of_no_earlier_run_is_named(file):
    said = (
        f"study arm digits/uniform: {file.replace('{seed}', '0')}: must be a file of a run of an "
        "earlier comparison, at this budget and seed, such as "
        "{folder}/raters/conv/seed_{seed}/rater.npz"
    )
    with pytest.raises(ConfigError) as refused:
        planned_runs(small_study.of_two(file), "smoke", FOLDER)
    assert str(refused.value) == said


@pytest.mark.takes_a_second
def test_the_shipped_studies_are_planned_at_every_budget():
    from studies import adaptive, high_noise, log_snr, noise_rater, pacing

    counts = {
        study.__name__: {
            budget: len(planned_runs(study.get_study(), budget, FOLDER))
            for budget in study.get_study().budgets
        }
        for study in (adaptive, high_noise, log_snr, noise_rater, pacing)
    }
    assert counts == {
        "studies.adaptive": {"smoke": 2, "laptop": 22 * 3 + 14 * 3 + 6 * 5},
        "studies.high_noise": {
            "smoke": 2,
            "laptop": 23 * 3 + 4 * 3 + 5 * 5 + 2 * 2,
            "gpu": (23 + 5 + 4) * 8,
        },
        "studies.log_snr": {
            "smoke": 2,
            "laptop": (15 + 29) * 3 + 4 * 5,
            "gpu": (15 + 29 + 4) * 8,
        },
        "studies.noise_rater": {"smoke": 4, "laptop": (4 + 17) * 3},
        "studies.pacing": {"smoke": 2, "laptop": 6 * 3},
    }


@pytest.mark.takes_a_second
def test_what_a_run_is_warned_of_is_said_where_it_is_made(tmp_path, monkeypatch, capsys):
    from studies import log_snr

    runs = planned_runs(log_snr.get_study(), "laptop", tmp_path)
    warned = {f"{run.comparison}/{run.arm}": run for run in runs if run.run.warnings}
    names = {f"digits_min_snr/cosine-{target}-weight_of_v" for target in ("eps", "x0")}
    assert set(warned) == names
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("jaxnoise.commands.study.train.main", lambda run, folder, kept: None)
    make([warned["digits_min_snr/cosine-eps-weight_of_v"]], StudyFolder(tmp_path), lambda run: None)
    assert capsys.readouterr().err.startswith(
        "warning: config.objective: the weights on the error of eps, which the network predicts"
    )


def test_the_study_of_the_page_is_planned():
    page = (command_line.ROOT / "docs" / "studies.md").read_text()
    scope = {}
    exec(re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)[0], scope)
    runs = planned_runs(scope["get_study"](), "laptop", FOLDER)
    assert [run.name for run in runs[:2]] == ["digits/polynomial/seed_0", "digits/uniform/seed_0"]
    assert len(runs) == 6


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            lambda: small_study.get_study(base="configs/no_such.py"),
            "study arm digits/plain: base=configs/no_such.py: configs/no_such.py is no Python file",
        ),
        (lambda: Study("", {}), "study: no comparison has a budget"),
        (
            lambda: small_study.get_study(arms={"plain": {}, "odd": {"law.curv": 2.0}}),
            "study arm digits/odd: config.law.curv: unknown key; did you mean config.law.curve?",
        ),
        (
            lambda: small_study.get_study(arms={"plain": {}, "same": {"law.curve": 4.0}}),
            "study arm digits/same: is the same as digits/plain",
        ),
        (
            lambda: small_study.get_study(arms={"plain": {"evaluate.n": 0}}),
            "study arm digits/plain: config.evaluate.n=0: must be at least 2 in a study",
        ),
        (
            lambda: small_study.get_study(claims=[small_study.claim(score="frechet_heun18")]),
            "study claim 'uniform noise is better': score='frechet_heun18': must be one of "
            "frechet_1step, frechet_2step",
        ),
        (
            lambda: small_study.get_study(claims=[small_study.claim(score="recall_1step")]),
            "score='recall_1step': must be one of frechet_1step, frechet_2step",
        ),
        (
            lambda: small_study.get_study(
                claims=[small_study.claim(further="fast", score="frechet_2step")],
                further={"fast": {"sample.method.sigmas": ()}},
            ),
            "score='frechet_2step': must be one of frechet_1step",
        ),
        (
            lambda: small_study.get_study([small_study.claim(further="equal_cost")]),
            "study claim 'uniform noise is better': config.evaluate.every=0: must be at least 1 in "
            "digits, or no score is taken where arms have cost alike",
        ),
    ],
)
def test_arms_that_cannot_be_compared_are_named(make, said):
    with pytest.raises(ConfigError) as caught:
        planned_runs(make(), "smoke", FOLDER)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("argument", "make"),
    [
        ("seeds", lambda: Budget((0, 1, 0))),
        ("seeds", lambda: Budget(())),
        ("seeds", lambda: Budget((-1,))),
        ("seeds", lambda: Budget("01")),
        ("seeds", lambda: Budget(0)),
        ("arms", lambda: Budget((0,), {}, "plain")),
        ("claims", lambda: Study("", {}, (3,))),
        ("arms", lambda: small_study.comparison(arms={"plain": {}, "b/../c": {}})),
        ("control", lambda: small_study.comparison(control="plane")),
        ("further", lambda: small_study.comparison(further={"raw": {"ema.rate": 0.0}})),
        ("further", lambda: small_study.comparison(further={"a/b": {}})),
        ("further", lambda: small_study.comparison(further={"raw": {"evaluate": {"seed": 7}}})),
        ("shown", lambda: small_study.comparison(shown=("plane",))),
        ("arms", lambda: small_study.comparison(smoke=Budget((0,), {}, ("plane",)))),
        ("arms", lambda: small_study.comparison(arms=("plain", "uniform"))),
        ("arms", lambda: small_study.comparison(arms={"plain": {}, "odd": None})),
        ("arms", lambda: small_study.comparison(arms={"plain": {}, "odd": {1: 2}})),
        ("arms", lambda: small_study.comparison(arms={"plain": {}, 1: {}})),
        ("arms", lambda: small_study.comparison(arms={"plain": {}, "odd": {"seed": 5}})),
        ("settings", lambda: Budget((0,), None)),
        ("budgets", lambda: small_study.comparison(smoke=(0, 1))),
        ("base", lambda: small_study.comparison(base=None)),
        ("pairs", lambda: small_study.claim(pair=("plain", "plain"))),
        ("pairs", lambda: Claim("it is", "digits", ("uniform", "plain"))),
        ("pairs", lambda: Claim("it is", "digits", "uniform")),
        ("claims", lambda: Study("", {}, small_study.claim())),
        (
            "claims: 'uniform noise is better': comparison",
            lambda: small_study.get_study([small_study.claim(comparison="clothes")]),
        ),
        (
            "claims: 'uniform noise is better': pairs",
            lambda: small_study.get_study([small_study.claim(pair=("plain", "plane"))]),
        ),
        (
            "claims: 'uniform noise is better': further",
            lambda: small_study.get_study([small_study.claim(further="raw")]),
        ),
        (
            "comparisons",
            lambda: Study(
                "",
                {
                    "digits": small_study.comparison(further={"raw": {}}),
                    "digits_raw": small_study.comparison(),
                },
            ),
        ),
        (
            "comparisons",
            lambda: Study(
                "",
                {
                    "digits": small_study.comparison(further={"low_raw": {}}),
                    "digits_low": small_study.comparison(further={"raw": {}}),
                },
            ),
        ),
    ],
)
def test_budgets_and_controls_are_checked(argument, make):
    with pytest.raises(ArgumentError) as refused:
        make()
    assert refused.value.argument == argument


def test_budget_and_index_are_checked():
    study = small_study.get_study()
    with pytest.raises(ConfigError, match="--budget=gpu: must be one of smoke"):
        planned_runs(study, "gpu", FOLDER)
    runs = planned_runs(study, "smoke", FOLDER)
    assert indices_of("3", runs) == [3]
    # Seeds of one arm, as they train together.
    assert indices_of("0,2", runs) == [0, 2]
    assert by_arm(runs) == [[0, 2], [1, 3]]


@pytest.mark.parametrize(
    ("index", "said"),
    [
        ("-1", "must be from 0 to 3"),
        ("4", "must be from 0 to 3"),
        ("0,4", "must be from 0 to 3"),
        ("2,2", "must name a run once"),
        (
            "0,1",
            "must be of runs that differ in their seed alone, unlike digits/plain/seed_0, "
            "digits/uniform/seed_0",
        ),
        ("one", "must be a number, or several as in 0,3,6"),
        ("", "must be a number, or several as in 0,3,6"),
    ],
)
def test_an_index_that_names_no_runs_is_refused(index, said):
    with pytest.raises(ConfigError) as refused:
        indices_of(index, planned_runs(small_study.get_study(), "smoke", FOLDER))
    assert str(refused.value) == f"--index={index}: {said}"


def test_further_scores_are_of_the_same_training():
    study = small_study.get_study(further={"raw": {"evaluate.weights": "raw", "sample.seed": 7}})
    for planned in planned_runs(study, "smoke", FOLDER):
        again = planned.further["raw"]
        assert (planned.run.evaluate.weights, again.evaluate.weights) == ("ema", "raw")
        assert (again.evaluate.seed, again.seed) == (planned.run.evaluate.seed, planned.seed)
        assert again.sample.seed == 7
        assert differences(planned.run.config, again.config) == ""
    # A section of its own is scored on the images of the seed as well.
    own = small_study.get_study(further={"few": {"evaluate": {"n": 32, "few_samples": True}}})
    for planned in planned_runs(own, "smoke", FOLDER):
        again = planned.further["few"].evaluate
        assert (again.n, again.seed) == (32, planned.seed + 1)
    with pytest.raises(ConfigError, match=r"digits/plain: config.evaluate.weight: unknown key"):
        planned_runs(
            small_study.get_study(further={"raw": {"evaluate.weight": "raw"}}), "smoke", FOLDER
        )


def test_arms_whose_scores_would_not_mean_the_same_are_refused():
    arms = {"plain": {}, "few": {"evaluate.n": 80, "law": {"name": "uniform"}}}
    said = r"^study arm digits/few: config\.evaluate\.n=80: must be as in digits/plain, 64, or"
    with pytest.raises(ConfigError, match=said):
        planned_runs(small_study.get_study(arms=arms), "smoke", FOLDER)
    arms = {"plain": {}, "clothes": {"data.dataset": "fashion_mnist"}}
    said = r"^study arm digits/clothes: config\.data\.dataset='fashion_mnist': must be as in "
    with pytest.raises(ConfigError, match=said):
        planned_runs(small_study.get_study(arms=arms), "smoke", FOLDER)
    # Whether an average helps is a question.
    arms = {"plain": {}, "raw": {"evaluate.weights": "raw"}, "none": {"ema.rate": 0.0}}
    assert len(planned_runs(small_study.get_study(arms=arms), "smoke", FOLDER)) == 6


def test_a_folder_keeps_its_runs_and_takes_more_of_them(tmp_path):
    folder = StudyFolder(tmp_path / "study")
    folder.claim(planned_runs(small_study.get_study(), "smoke", FOLDER))
    more = small_study.get_study(smoke=Budget((0, 1, 2)))
    folder.claim(planned_runs(more, "smoke", FOLDER))
    assert len(json.loads(folder.plan.read_text())) == 6
    # How runs are scored belongs to what is compared; how often does not.
    for given, said in (({"evaluate.every": 4}, None), ({"evaluate.n": 80}, "evaluate.n")):
        scored = planned_runs(small_study.get_study(smoke=Budget((0,), given)), "smoke", FOLDER)
        with pytest.raises(ConfigError, match=said) if said else nullcontext():
            folder.claim(scored)
    other = {"plain": {}, "uniform": {"law": {"name": "beta"}}}
    with pytest.raises(ConfigError, match=r"digits/uniform/seed_0 is a run of another config: law"):
        folder.claim(planned_runs(small_study.get_study(arms=other), "smoke", FOLDER))
    assert Study("", {}).budgets == []
    assert isinstance(more.comparisons["digits"], Comparison)

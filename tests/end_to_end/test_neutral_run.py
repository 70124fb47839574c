"""Learning what cannot bend the model, and training by it, as a user does it."""

import contextlib
import io
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny
from small_network import MODEL

from benchmarks import value_of_noise
from configs import digits_law_learned, digits_noise_neutral, digits_noise_neutral_rater
from jaxnoise import experiment
from jaxnoise.commands import train
from jaxnoise.commands.train_rater import write_rater
from jaxnoise.config import overrides
from jaxnoise.errors import ConfigError
from jaxnoise.models.rater import LawRater, LevelRater, NoisyRater, inputs_of
from jaxnoise.models.rater_file import load_rater, save_rater
from jaxnoise.run.model import open_model
from jaxnoise.run.rater import open_rater
from jaxnoise.training.records import RunFolder

pytestmark = pytest.mark.slow

SMALL = {
    "train.steps": 4,
    "train.batch": 16,
    "train.log_every": 1,
    "train.checkpoint_every": 2,
    "train.sample_every": 4,
    "model": MODEL | {"class_conditional": True},
    "meta.outer_batch": 16,
    "meta.population": 1,
    "meta.lifetime": 8,
    "meta.unroll": False,
    "meta.inner_steps": 1,
    "meta.probe_every": 0,
    "meta.probe_draws": 2,
    "meta.probe_repeats": 2,
    "meta.optimizer": {"learning_rate": 0.2, "warmup_steps": 0, "weight_decay": 0.0},
}


def learned(config, folder, **settings):
    given = {key: repr(value) for key, value in (SMALL | settings).items()}
    run = experiment.read(overrides.apply(config.get_config().to_dict(), given))
    with contextlib.redirect_stdout(io.StringIO()) as out:
        train.main(run, folder)
    return json.loads(out.getvalue().splitlines()[-1])


def test_a_law_is_learned_recorded_and_told_as_a_section(tmp_path, monkeypatch):
    folder = RunFolder(tmp_path / "law")
    result = learned(digits_law_learned, folder)
    rows = [row for row in folder.rows() if "law_mu" in row]
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    # A row is of the law that the step was weighted by.
    assert (rows[0]["law_mu"], rows[0]["law_b"]) == pytest.approx((3.0, 0.5))
    moved = np.array([[row["law_mu"], row["law_b"]] for row in rows])
    assert (np.abs(np.diff(moved, axis=0)) > 1e-4).all()
    saved = load_rater(folder.rater)
    assert saved.sees == saved.card["sees"] == "density of the level"
    law = saved.network.law(saved.params)
    assert result["law"] == {
        "name": "laplace",
        "mu": pytest.approx(float(law.mu)),
        "b": pytest.approx(float(law.b)),
    }
    assert tiny.read_png(folder.curves).shape[1] > 500
    assert "Mean of the learned law" in folder.report.read_text()
    # What examples are worth to it, and what may tell of that.
    # No image twice, whose other draw a regression would know it by.
    all_but_a_few = value_of_noise.read_step(folder.root, examples=1400, repeats=1)
    assert len(set(all_but_a_few.image.tolist())) == 1400
    step = value_of_noise.read_step(folder.root, examples=128, repeats=1)
    monkeypatch.setattr(value_of_noise, "expected_of", among_others)
    found = value_of_noise.values_of(step)
    expected, ones, others, mean = found.expected.reshape(4, 128)
    # Where x is given, the mean of values is the value of the mean image.
    assert np.abs(ones - others).max() > 0.1 * found.value.std()
    np.testing.assert_allclose(mean, (ones + others) / 2, atol=1e-4 * np.abs(ones).max())
    assert np.corrcoef(expected, found.value)[0, 1] > 0.3
    found = found._replace(expected=expected)
    assert {len(part) for part in found} == {128}
    assert found.label.sum(1).tolist() == [1] * 128
    # Value is -B times the slope by a weight, which is 1 / B.
    moved = [outer_after(step, 1 + h * np.sign(found.value)) for h in (0.2, -0.2)]
    slope = 128 * (moved[0] - moved[1]) / 0.4
    assert slope == pytest.approx(-np.abs(found.value).mean(), rel=0.05)
    # The network sees x0 exp(lam / 2) + eps, up to a factor of the level.
    noisy = found.x0 * np.exp(found.lam / 2)[:, None] + found.eps
    lengths = np.linalg.norm(noisy, axis=1) * np.linalg.norm(found.noisy, axis=1)
    np.testing.assert_allclose((noisy * found.noisy).sum(1) / lengths, 1, atol=1e-5)
    lam, base = (
        jnp.float32(found.lam),
        experiment.read(json.loads(folder.config.read_text())).objective.law,
    )
    np.testing.assert_allclose(found.score, law.log_prob(lam) - base.log_prob(lam), atol=1e-4)
    # It goes into another run as numbers.
    other = digits_noise_neutral.get_config().to_dict() | {"law": result["law"]}
    del other["selection"]
    assert float(experiment.read(other).objective.law.mu) == result["law"]["mu"]


def outer_after(step, weights):
    """The outer loss after the inner step with so much of each example's weight, 1 / B."""
    task, inner = step.task, step.inner
    weights = jnp.asarray(weights, jnp.float32) / len(weights)
    gradient = jax.grad(lambda theta: (weights * task.losses(theta, step.drawn)).sum())
    with jax.numpy_dtype_promotion("standard"):
        updates, _ = step.optimizer.update(gradient(inner.params), inner.opt_state, inner.params)
    return float(task.outer_loss(optax.apply_updates(inner.params, updates), step.outer))


EXPECTED = value_of_noise.expected_of


def among_others(step):
    """The examples that are expected, and those where all images of a label are one."""
    images, labels = np.random.default_rng(0).uniform(-1, 1, (2, 10, 8, 8, 1)), np.arange(10)
    pools = [step.pool, *((x, labels) for x in (*images, images.mean(0)))]
    parts = [EXPECTED(step._replace(pool=pool)) for pool in pools]
    return jax.tree.map(lambda *x: jnp.concatenate(x), *parts)


def selecting(name, file, **section):
    settings = {
        "train.steps": 2,
        "train.batch": 32,
        "train.log_every": 1,
        "train.checkpoint_every": 2,
        "train.sample_every": 2,
        "sample.batch": 8,
        "sample.method": {"name": "heun", "steps": 2},
        "evaluate": {"n": 0},
        "selection": {"name": name, "file": str(file), **section},
    }
    return experiment.read(tiny.shrunk(digits_noise_neutral.get_config(), **settings))


def test_both_stages_by_the_noisy_image(tmp_path):
    stage1 = RunFolder(tmp_path)
    own = {"name": "noisy", "width": 4, "depth": 1, "class_conditional": True}
    given = SMALL | {"rater": own}
    config = digits_noise_neutral_rater.get_config().to_dict()
    run = experiment.read(overrides.apply(config, {k: repr(v) for k, v in given.items()}))
    rater = open_rater(run)
    blind = given | {"model": MODEL | {"class_conditional": False}}
    unlabelled = overrides.apply(config, {k: repr(v) for k, v in blind.items()})
    with pytest.raises(ConfigError, match=r"^config.rater.class_conditional=True: must be False"):
        open_rater(experiment.read(unlabelled))
    # It sees the labels that the inner models see.
    assert rater.rater.num_classes == 10
    state = rater.initial_state()
    generator = np.random.default_rng(0)
    moved = jax.tree.map(lambda x: x + 0.3 * generator.normal(size=x.shape), state.eta)
    scores, _ = rater.scores(jax.tree.map(jnp.float32, moved))
    assert scores.std() > 1e-3
    assert abs(scores.mean()) < 1e-4
    write_rater(rater, state.replace(eta=moved), stage1)
    saved = load_rater(stage1.rater)
    assert (saved.sees, saved.network.num_classes) == ("noisy image", 10)
    withheld = selecting("neutral_weights", stage1.rater)
    withheld = experiment.read(overrides.replaced(withheld.config, {"train.label_dropout": 0.1}))
    with pytest.raises(ConfigError, match=r"no labels where some are withheld.*label_dropout=0\.1"):
        open_model(withheld, selects=True)
    pool = RunFolder(tmp_path / "pool")
    train.main(selecting("neutral_pool", stage1.rater, share=0.5, bins=1), pool)
    # Beside a step of what is kept, half of the pool: a step of all would cost more than this one.
    assert 0 < json.loads(pool.cost.read_text())["selection_share"] < 1
    for row in pool.rows():
        assert row["image_share"] == 0.5
        assert row["score_margin"] > 0
        assert np.isfinite(row["loss"])


def written(path, network, **card):
    params = jax.jit(network.init)(jax.random.key(0), *inputs_of(network, (8, 8, 1)))
    save_rater(path, network, params, image_shape=(8, 8, 1), **card)
    return path


@pytest.mark.parametrize(
    "network, card, section, parts",
    [
        (
            NoisyRater(4, 1),
            {},
            {"name": "rater"},
            ["must be a rater of the draw of noise, (x0, eps, lam); it is one of the noisy image"],
        ),
        (NoisyRater(4, 1), {}, {"name": "rater_pool"}, ["would not be neutral"]),
        (LevelRater(4), {}, {"name": "neutral_pool"}, ["it is one of the draw of noise"]),
        (LawRater(), {}, {"name": "neutral_weights"}, ["go into config.law"]),
        (
            NoisyRater(4, 1, num_classes=3),
            {},
            {"name": "neutral_pool"},
            ["a rater of 10 labels, as the network; it is one of 3"],
        ),
        (
            NoisyRater(4, 1),
            {"config": {"objective": {"sigma_data": 1.0}}},
            {"name": "neutral_pool"},
            ["learned at objective.sigma_data=0.5", "this one at 1.0"],
        ),
    ],
)
def test_a_file_that_is_asked_what_it_cannot_tell(network, card, section, parts, tmp_path):
    file = written(tmp_path / "rater.npz", network, **card)
    with pytest.raises(ConfigError) as caught:
        open_model(selecting(file=file, **section), scored=False, selects=True)
    message = str(caught.value)
    assert message.startswith(f"config.selection.file={str(file)!r}: must be ")
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_a_share_that_no_device_can_keep(tmp_path):
    file = written(tmp_path / "rater.npz", NoisyRater(4, 1, dtype=jnp.float32))
    with pytest.raises(
        ConfigError, match=r"^config.selection.share=0.3: must be a whole number of"
    ):
        open_model(selecting("neutral_pool", file, share=0.3, bins=1), scored=False, selects=True)

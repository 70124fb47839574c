import gc

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnoise.errors import ConfigError, NonFiniteError
from jaxnoise.noise import Difficulty
from jaxnoise.training.checkpoints import Checkpoints, digests
from jaxnoise.training.parallel import Devices
from jaxnoise.training.state import create_state

# Orbax abandons its other reads when one fails; they surface when they are collected.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def _collect():
    yield
    gc.collect()


def init(key):
    return {"w": jax.random.normal(key, (64, 33)), "half": jnp.ones(5, jnp.bfloat16)}


def state_at(step):
    state = create_state(init, optax.adam(1e-3), jax.random.key(step), teacher=True)
    return Devices("pmap", 1).replicate(state.replace(step=jnp.int32(step)))


def abstract():
    sharding = Devices("pmap", 1).replicated
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), state_at(0)
    )


@pytest.fixture
def saved(tmp_path):
    """A folder with checkpoints at steps 1, 2 and 3."""
    folder = tmp_path / "checkpoints"
    checkpoints = Checkpoints(folder, keep=5)
    for step in (1, 2, 3):
        checkpoints.save(state_at(step), {"note": "x"})
    checkpoints.close()
    return folder


def restore(folder, set_aside=True):
    lines = []
    state = Checkpoints(folder, on_skip=lines.append).restore(abstract(), set_aside)
    return state, lines


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_restores_the_newest_bit_for_bit(saved):
    state, lines = restore(saved)
    same(state, state_at(3))
    assert lines == []


def test_nothing_saved_is_none(tmp_path):
    assert restore(tmp_path / "none") == (None, [])


def test_keeps_the_newest(tmp_path):
    checkpoints = Checkpoints(tmp_path / "c", keep=2)
    for step in (1, 2, 3, 4):
        checkpoints.save(state_at(step), {})
    checkpoints.close()
    assert checkpoints.steps() == [3, 4]


def largest_file(folder):
    return max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


def flip_byte(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x40
    path.write_bytes(bytes(data))


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("damage", [flip_byte, truncate, lambda path: path.unlink()])
def test_falls_back_past_a_damaged_file_and_says_so(saved, damage):
    damage(largest_file(saved / "3"))
    state, lines = restore(saved)
    same(state, state_at(2))
    assert len(lines) == 1
    assert f"checkpoint {saved / '3'} is damaged" in lines[0]
    assert (saved.with_name("checkpoints_damaged") / "3").is_dir()
    again = Checkpoints(saved)
    again.save(state_at(3), {})
    again.close()
    same(restore(saved)[0], state_at(3))


def test_an_empty_folder_is_not_the_newest(saved):
    (saved / "9").mkdir()
    state, lines = restore(saved, set_aside=False)
    same(state, state_at(2 + 1))
    assert len(lines) == 1
    assert (saved / "9").is_dir()


def test_a_second_damaged_copy_does_not_overwrite_the_first(saved):
    for _ in range(2):
        (saved / "9").mkdir()
        restore(saved)
    names = sorted(p.name for p in saved.with_name("checkpoints_damaged").iterdir())
    assert names == ["9", "9-2"]


def test_all_damaged_is_an_error_that_names_them(saved):
    for step in ("1", "2", "3"):
        flip_byte(largest_file(saved / step))
    with pytest.raises(ConfigError, match=r"no checkpoint verifies \(steps 1, 2, 3\)"):
        restore(saved)
    assert sorted(p.name for p in saved.iterdir()) == ["1", "2", "3"]


def test_digests_see_values_shapes_and_types():
    base = digests({"a": np.zeros(4, np.float32)})
    assert base != digests({"a": np.zeros(4, np.int32)})
    assert base != digests({"a": np.zeros((2, 2), np.float32)})
    assert base != digests({"a": np.array([0, 0, 0, 1e-45], np.float32)})
    assert base == digests({"a": jnp.zeros(4)})


def test_another_runs_checkpoint_is_refused_and_not_called_damaged(saved):
    def check(meta):
        if meta["note"] != "y":
            raise ConfigError("another run")

    with pytest.raises(ConfigError, match="another run"):
        Checkpoints(saved).restore(abstract(), set_aside=True, check_meta=check)
    assert sorted(p.name for p in saved.iterdir()) == ["1", "2", "3"]


def test_what_is_no_damage_is_not_called_so(saved, monkeypatch):
    def no_memory(*args):
        raise MemoryError

    monkeypatch.setattr(Checkpoints, "_read", no_memory)
    with pytest.raises(MemoryError):
        restore(saved)


def spoilt(step, part, name, number=np.nan):
    """A state with one number that is not finite."""
    state = state_at(step)
    tree = getattr(state, part)
    if part == "opt_state":
        moments = tree[0]._replace(mu={**tree[0].mu, name: tree[0].mu[name].at[0].set(number)})
        return state.replace(opt_state=(moments, *tree[1:]))
    return state.replace(**{part: {**tree, name: tree[name].at[0].set(number)}})


@pytest.mark.parametrize(
    "part, name, number, array",
    [
        ("params", "w", np.nan, ".params['w']"),
        ("opt_state", "w", np.inf, ".opt_state[0].mu['w']"),
        ("ema", "half", -np.inf, ".ema['half']"),
        # Finite, but the next norm is not.
        ("ema", "w", 1e38, ".ema['w']"),
        ("teacher", "w", np.nan, ".teacher['w']"),
    ],
)
def test_what_is_not_finite_is_not_saved(saved, part, name, number, array):
    checkpoints = Checkpoints(saved)
    state = spoilt(4, part, name, number)
    for refuse in (checkpoints.check, lambda state: checkpoints.save(state, {})):
        with pytest.raises(NonFiniteError) as error:
            refuse(state)
        message = str(error.value)
        assert message.startswith(f"step 4: {array} is not finite (1 of 12 arrays), so")
        assert message.endswith(f"; last good checkpoint: {saved / '3'}")
    checkpoints.close()
    assert checkpoints.steps() == [1, 2, 3]


def test_the_last_good_checkpoint_is_waited_for(tmp_path):
    checkpoints = Checkpoints(tmp_path / "c")
    assert checkpoints.last_good() == "none yet"
    checkpoints.save(state_at(1), {})
    assert checkpoints.last_good() == str(tmp_path / "c" / "1")
    checkpoints.close()


def test_a_pacing_may_hold_infinity(tmp_path):
    pace = Devices("pmap", 1).replicate(Difficulty(clusters=3).init())
    state = state_at(1).replace(pace=pace)
    assert np.isinf(state.pace.best)
    checkpoints = Checkpoints(tmp_path / "c")
    checkpoints.save(state, {})
    checkpoints.close()
    lines = []
    found = Checkpoints(tmp_path / "c", on_skip=lines.append).restore(
        abstract().replace(pace=jax.eval_shape(lambda: pace)), set_aside=True
    )
    same(found, state)
    assert lines == []


def test_falls_back_past_what_is_not_finite(saved, monkeypatch):
    checkpoints = Checkpoints(saved)
    with monkeypatch.context() as patch:
        # As a version that did not look would have saved it.
        patch.setattr(Checkpoints, "_refuse", lambda *arguments: None)
        checkpoints.save(spoilt(4, "ema", "w"), {})
        checkpoints.close()
    state, lines = restore(saved)
    same(state, state_at(3))
    (line,) = lines
    assert f"checkpoint {saved / '4'} is damaged: .ema['w'] is not finite" in line
    assert (saved.with_name("checkpoints_damaged") / "4").is_dir()

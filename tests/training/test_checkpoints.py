import contextlib
import gc
import json
import resource
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnoise.errors import ConfigError, NonFiniteError
from jaxnoise.noise import Difficulty
from jaxnoise.training.checkpoints import Checkpoints
from jaxnoise.training.digests import digests
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


@pytest.mark.takes_a_second
def test_restores_the_newest_bit_for_bit(saved):
    state, lines = restore(saved)
    same(state, state_at(3))
    assert lines == []


@pytest.mark.takes_a_second
def test_nothing_saved_is_none(tmp_path):
    assert restore(tmp_path / "none") == (None, [])


@pytest.mark.takes_a_second
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


@pytest.mark.takes_a_second
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


@pytest.mark.takes_a_second
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


@pytest.mark.takes_a_second
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


@pytest.mark.takes_a_second
def test_another_runs_checkpoint_is_refused_and_not_called_damaged(saved):
    def check(meta):
        if meta["note"] != "y":
            raise ConfigError("another run")

    with pytest.raises(ConfigError, match="another run"):
        Checkpoints(saved).restore(abstract(), set_aside=True, check_meta=check)
    assert sorted(p.name for p in saved.iterdir()) == ["1", "2", "3"]


@pytest.mark.takes_a_second
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


@pytest.mark.takes_a_second
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


@pytest.mark.takes_a_second
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


def test_a_read_that_fails_once_is_tried_again(saved, monkeypatch):
    read, tried = Checkpoints._read, []

    def stale_at_first(self, step, *given):
        tried.append(step)
        if len(tried) == 1:
            raise OSError(116, "Stale file handle")
        return read(self, step, *given)

    monkeypatch.setattr(Checkpoints, "_read", stale_at_first)
    state, lines = restore(saved)
    same(state, state_at(3))
    assert (tried, lines) == ([3, 3], [])
    assert not saved.with_name("checkpoints_damaged").exists()


def link_to_itself(path):
    path.unlink()
    path.symlink_to(path.name)


def part(folder):
    return Checkpoints(folder).part(["ema"])


@pytest.mark.takes_a_second
@pytest.mark.parametrize(
    "read, name",
    [
        (restore, "state/manifest.ocdbt"),
        (restore, "state/array_metadatas/process_0"),
        (restore, "state/d/*"),
        (part, "state/manifest.ocdbt"),
    ],
)
def test_what_the_system_cannot_read_is_not_called_damaged(saved, read, name):
    for path in (saved / "3").glob(name):
        link_to_itself(path)
    with pytest.raises(OSError, match=r"cannot be read: .*Too many levels of symbolic") as error:
        read(saved)
    assert str(error.value).startswith(f"checkpoint {saved / '3'} cannot be read: ")
    assert names(saved) == ["1", "2", "3"]
    assert not saved.with_name("checkpoints_damaged").exists()


@pytest.mark.takes_a_second
@pytest.mark.parametrize(
    "error",
    [
        OSError(5, "Input/output error"),
        RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8192 bytes"),
        ValueError("UNKNOWN: Error reading a file [os_error_code='5']"),
    ],
)
def test_a_disk_or_a_memory_that_gives_out_is_no_damage(saved, monkeypatch, error):
    tried = []

    def fails(self, step, *given):
        tried.append(step)
        raise error

    monkeypatch.setattr(Checkpoints, "_read", fails)
    with pytest.raises(OSError, match=r"checkpoints/3 cannot be read: .*it was left where it is"):
        restore(saved)
    assert tried == [3, 3]
    assert not saved.with_name("checkpoints_damaged").exists()


@pytest.mark.takes_a_second
def test_a_file_that_is_a_folder_is_damage(saved):
    for name in ("meta/metadata", "state/array_metadatas/process_0"):
        (saved / "3" / name).unlink()
        (saved / "3" / name).mkdir()
        state, (line,) = restore(saved, set_aside=False)
        same(state, state_at(2))
        assert f"checkpoint {saved / '3'} is damaged: " in line


def refuse_another_note(meta):
    if meta["note"] != "x":
        raise ConfigError("another run")


@pytest.mark.takes_a_second
def test_falls_back_past_facts_with_a_flipped_byte(saved):
    path = saved / "3" / "meta" / "metadata"
    path.write_text(path.read_text().replace('"note": "x"', '"note": "y"'))
    lines = []
    state = Checkpoints(saved, on_skip=lines.append).restore(
        abstract(), set_aside=True, check_meta=refuse_another_note
    )
    same(state, state_at(2))
    assert lines == [f"checkpoint {saved / '3'} is damaged: the digest of its meta differs"]
    assert (saved.with_name("checkpoints_damaged") / "3").is_dir()


@pytest.mark.takes_a_second
def test_a_part_is_not_read_beside_facts_with_a_flipped_byte(saved):
    path = saved / "3" / "meta" / "metadata"
    path.write_text(path.read_text().replace('"note": "x"', '"note": "y"'))
    lines = []
    name, part = Checkpoints(saved, on_skip=lines.append).part(["ema"])
    assert name == "ema"
    same(part, state_at(2).ema)
    assert lines == [f"checkpoint {saved / '3'} is damaged: the digest of its meta differs"]


def test_facts_are_read_as_json_gives_them_back_and_without_a_digest_too(tmp_path):
    facts = {"b": (1, 2.5), "a": {3: None, 20: "\u00e9"}, "bad": float("inf")}
    checkpoints = Checkpoints(tmp_path / "c")
    checkpoints.save(state_at(1), facts)
    checkpoints.close()
    path, seen = tmp_path / "c" / "1" / "meta" / "metadata", []
    for old in (False, True):
        held = json.loads(path.read_text())
        if old:
            # As earlier versions wrote it.
            del held["sha256"]
            path.write_text(json.dumps(held))
        lines = []
        found = Checkpoints(tmp_path / "c", on_skip=lines.append).restore(
            abstract(), set_aside=True, check_meta=seen.append
        )
        same(found, state_at(1))
        assert lines == []
    assert [meta["a"] for meta in seen] == [{"3": None, "20": "\u00e9"}] * 2


@contextlib.contextmanager
def full_disk():
    """No file grows beyond 2,000 bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def save_on_a_full_disk(checkpoints, state):
    """A save that returns, and whose write fails in the background."""
    with full_disk():
        checkpoints.save(state, {})
        while checkpoints._manager().is_saving_in_progress():
            time.sleep(0.01)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.takes_a_second
def test_a_write_that_failed_does_not_stop_the_next(saved):
    lines = []
    checkpoints = Checkpoints(saved, keep=5, on_skip=lines.append)
    save_on_a_full_disk(checkpoints, state_at(4))
    assert lines == []
    checkpoints.save(state_at(5), {})
    (line,) = lines
    assert line.startswith(f"checkpoint {saved / '4'} was not written: ")
    assert len(line.splitlines()) == 1
    # What is left of it is as large as a checkpoint.
    assert names(saved) == ["1", "2", "3", "5"]
    checkpoints.close()
    same(restore(saved)[0], state_at(5))


@pytest.mark.takes_a_second
def test_two_writes_that_fail_in_a_row_are_an_error(saved):
    lines = []
    checkpoints = Checkpoints(saved, on_skip=lines.append)
    save_on_a_full_disk(checkpoints, state_at(4))
    with full_disk(), pytest.raises(OSError, match="cannot be written: ") as error:
        checkpoints.save(state_at(5), {})
    assert str(error.value).startswith(f"checkpoint {saved / '5'} cannot be written: ")
    checkpoints.close()
    assert len(lines) == 1
    same(restore(saved)[0], state_at(3))


@pytest.mark.takes_a_second
@pytest.mark.parametrize("ask", ["last_good", "close"])
def test_a_write_that_failed_takes_no_error_s_place(saved, ask):
    lines = []
    checkpoints = Checkpoints(saved, on_skip=lines.append)
    save_on_a_full_disk(checkpoints, state_at(4))
    said = getattr(checkpoints, ask)()
    assert said == (str(saved / "3") if ask == "last_good" else None)
    (line,) = lines
    assert line.startswith(f"checkpoint {saved / '4'} was not written: ")
    checkpoints.close()
    assert len(lines) == 1


def test_what_a_folder_that_cannot_be_listed_says_takes_no_error_s_place(tmp_path, monkeypatch):
    def stale(self):
        raise OSError(116, "Stale file handle")

    monkeypatch.setattr(Checkpoints, "steps", stale)
    assert Checkpoints(tmp_path).last_good() == "unknown ([Errno 116] Stale file handle)"


@pytest.mark.takes_a_second
def test_what_killed_writes_left_is_removed_by_the_first_process_that_writes(saved, monkeypatch):
    left = [saved / "9.orbax-checkpoint-tmp", saved / "8.orbax-checkpoint-tmp-123"]
    for folder in left:
        (folder / "state").mkdir(parents=True)
        (folder / "state" / "junk").write_bytes(b"x" * 1000)
    restore(saved)
    assert all(folder.exists() for folder in left)
    with monkeypatch.context() as patch:
        patch.setattr("jax.process_index", lambda: 1)
        Checkpoints(saved)._remove_unfinished()
    assert all(folder.exists() for folder in left)
    checkpoints = Checkpoints(saved, keep=5)
    checkpoints.save(state_at(4), {})
    checkpoints.close()
    assert names(saved) == ["1", "2", "3", "4"]

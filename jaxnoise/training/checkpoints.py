"""Checkpoints that are known to be whole: saved with digests, verified when read.

A storage format can hand back a flipped byte without a word, and an empty folder can count as the
newest checkpoint. So every checkpoint carries a SHA-256 of each array and of the facts beside them,
and opening a run walks back to the newest checkpoint that reads and verifies. A disk or a memory
that gives out is no damage: then nothing is moved and no older state is gone on from.

A state with numbers that are not finite is neither saved nor gone on from: every later step would
be lost.
"""

import errno
import re
import shutil
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from jaxnoise.errors import ConfigError, NonFiniteError
from jaxnoise.training.digests import (
    SEAL,
    by_path,
    check_seal,
    digests,
    examined,
    is_finite,
    seal,
    what_is_not_finite,
)
from jaxnoise.training.parallel import to_host
from jaxnoise.training.state import State, Stepped

T = TypeVar("T")

_GONE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR)
"""What the system says of a file that is missing or replaced; of any other error it may recover."""


def _one_copy(array: Any) -> Any:
    """That of the first device: of several, each would write a slice, a program for each shape."""
    whole = isinstance(array, jax.Array) and array.is_fully_replicated
    return array.addressable_data(0) if whole and jax.process_count() == 1 else array


def _sealed_meta(reader: ocp.Checkpointer, folder: Path) -> dict[str, Any]:
    """The facts beside a state, as they were written."""
    meta: dict[str, Any] | None = reader.restore(
        folder, args=ocp.args.Composite(meta=ocp.args.JsonRestore())
    ).meta
    if meta is None:
        raise ValueError("a part is missing")
    check_seal(meta)
    return meta


def _is_damage(error: Exception) -> bool:
    """Whether a read failed for what the files hold, not for a disk or a memory that gave out."""
    text = str(error)
    if "RESOURCE_EXHAUSTED" in text:
        return False
    # Tensorstore's errors are ValueErrors that name the system's in their text.
    told = re.search(r"os_error_code='(\d+)'", text)
    code = error.errno if isinstance(error, OSError) else told and int(told[1])
    return code is None or code in _GONE


def _reason(error: Exception) -> str:
    """An error in one line: tensorstore's begins with its kind and ends with its cause."""
    text = " ".join(str(error).split()).partition(" [tensorstore_spec")[0]
    return (text if len(text) <= 240 else f"{text[:60]} ... {text[-175:]}") or type(error).__name__


class Checkpoints:
    """The checkpoints of one run, `folder/<step>/`, written in the background.

    Args:
      folder: where they lie.
      keep: how many of the newest are kept, at least 1.
      on_skip: called with one line for each checkpoint that does not verify or was not written.
    """

    def __init__(self, folder: Path, keep: int = 2, on_skip: Callable[[str], None] = warnings.warn):
        self._folder = folder.resolve()
        self._keep = keep
        self._on_skip = on_skip
        self._opened: ocp.CheckpointManager | None = None
        self._under_way: int | None = None

    def _manager(self) -> ocp.CheckpointManager:
        # Opened late: the manager lists the folder once, so damaged steps must be aside by then.
        if self._opened is None:
            self._remove_unfinished()
            self._opened = ocp.CheckpointManager(
                self._folder,
                options=ocp.CheckpointManagerOptions(max_to_keep=self._keep, create=True),
            )
        return self._opened

    def _remove_unfinished(self) -> None:
        """Removes what writes that failed or were killed left, as large as a checkpoint each."""
        if jax.process_index() == 0:
            for left in self._folder.glob("*.orbax-checkpoint-tmp*"):
                shutil.rmtree(left, ignore_errors=True)

    def steps(self) -> list[int]:
        """The steps that have a folder, ascending, whole or not."""
        if not self._folder.is_dir():
            return []
        return sorted(int(p.name) for p in self._folder.iterdir() if p.name.isdigit())

    def restore(
        self,
        abstract: State,
        set_aside: bool,
        check_meta: Callable[[dict[str, Any]], None] = lambda meta: None,
        step: int | None = None,
    ) -> State | None:
        """The newest state that reads and verifies, or that of one step.

        Args:
          abstract: the state's shapes, dtypes and shardings (`jax.ShapeDtypeStruct` leaves).
          set_aside: whether to move damaged checkpoints to the sibling folder `<folder>_damaged`,
            so that the run can save at those steps again.
          check_meta: raises ConfigError if the facts kept beside the state are of another run.
          step: the only one to read; None for the newest that verifies.

        Returns:
          The state, or None when there is no checkpoint at all.

        Raises:
          ConfigError: there are checkpoints, and none verifies; or none of the step asked for.
          OSError: one could not be read twice in a row, for an error of the system or for want of
            memory; nothing was moved.
        """
        steps = self.steps()
        if step is not None:
            if step not in steps:
                held = ", ".join(map(str, steps)) or "none"
                raise ConfigError(f"{self._folder}: holds no step {step}; it holds {held}")
            steps = [step]
        damaged: list[int] = []
        for held_step in reversed(steps):
            state = self._tried(held_step, self._read, abstract, check_meta)
            if state is not None:
                if set_aside:
                    self._move_aside(damaged)
                return state
            damaged.append(held_step)
        if steps:
            raise ConfigError(
                f"{self._folder}: no checkpoint verifies (steps {', '.join(map(str, steps))}); "
                "move this folder away to start anew"
            )
        return None

    def _tried(self, step: int, read: Callable[..., T], *given: Any) -> T | None:
        """What `read` gives of a step, at the second try if need be; None if it is damaged."""
        place = f"checkpoint {self._folder / str(step)}"
        for again in (False, True):
            try:
                return read(step, *given)
            except (ConfigError, MemoryError, PermissionError):
                raise
            # Damage surfaces as many types (ValueError, KeyError, OSError, tensorstore's own).
            except Exception as error:
                # What fails once on a network's disk is whole the next time.
                if not again:
                    continue
                if not _is_damage(error):
                    raise OSError(
                        f"{place} cannot be read: {_reason(error)}; it was left where it is, for "
                        "the same command to try again"
                    ) from error
                self._on_skip(f"{place} is damaged: {_reason(error)}")
        return None

    def _read(
        self, step: int, abstract: State, check_meta: Callable[[dict[str, Any]], None]
    ) -> State:
        folder = self._folder / str(step)
        # One-off readers, so that a damaged step cannot leave the manager in a broken state.
        with ocp.Checkpointer(ocp.CompositeCheckpointHandler("state", "meta")) as reader:
            meta = _sealed_meta(reader, folder)
            # The config decides the state's structure, so it is looked at first.
            check_meta(meta)
            only_state = ocp.args.Composite(state=ocp.args.StandardRestore(abstract))
            state = reader.restore(folder, args=only_state).state
        if state is None:
            raise ValueError("a part is missing")
        recorded = meta["digests"]
        found, finite = examined(state)
        wrong = sorted(k for k in recorded.keys() | found.keys() if recorded.get(k) != found.get(k))
        if wrong:
            raise ValueError(f"digest of {wrong[0]} differs ({len(wrong)} of {len(found)} arrays)")
        spoilt = what_is_not_finite(finite)
        if spoilt:
            raise ValueError(spoilt)
        return state

    def meta(self) -> dict[str, Any]:
        """The facts beside the newest state of which they can be read.

        Raises:
          ConfigError: there is no checkpoint, or of none.
        """
        for step in reversed(self.steps()):
            if meta := self._tried(step, self._read_meta):
                return meta
        raise ConfigError(f"{self._folder}: holds no checkpoint that verifies")

    def _read_meta(self, step: int) -> dict[str, Any]:
        with ocp.Checkpointer(ocp.CompositeCheckpointHandler("state", "meta")) as reader:
            return _sealed_meta(reader, self._folder / str(step))

    def part(self, names: Sequence[str]) -> tuple[str, Any]:
        """A part of the newest state whose part verifies, of whatever run, on this host.

        Args:
          names: parts of a state, such as "ema"; the first that the state has is read.

        Returns:
          The part's name, and its arrays of numpy in nested dicts and lists.

        Raises:
          ConfigError: there is no checkpoint, or none verifies.
          OSError: as `restore`.
        """
        for step in reversed(self.steps()):
            if part := self._tried(step, self._read_part, names):
                return part
        raise ConfigError(f"{self._folder}: holds no checkpoint that verifies")

    def _read_part(self, step: int, names: Sequence[str]) -> tuple[str, Any]:
        folder = self._folder / str(step)
        handler = ocp.CompositeCheckpointHandler(
            state=ocp.PyTreeCheckpointHandler(), meta=ocp.JsonCheckpointHandler()
        )
        with ocp.Checkpointer(handler) as reader:
            recorded = _sealed_meta(reader, folder)["digests"]
            held = [n for n in names if any(re.match(rf"\.{n}\W", path) for path in recorded)]
            if not held:
                raise ValueError(f"it holds no {' or '.join(names)}")
            name = held[0]
            tree = reader.metadata(folder).item_metadata.state.tree[name]
            shapes = {name: jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), tree)}
            how = jax.tree.map(lambda x: ocp.RestoreArgs(restore_type=np.ndarray), shapes)
            part = ocp.args.PyTreeRestore(shapes, restore_args=how, partial_restore=True)
            found = reader.restore(folder, args=ocp.args.Composite(state=part)).state[name]
        here = {f".{name}{path}": digest for path, digest in digests(found).items()}
        there = {path: recorded[path] for path in recorded if re.match(rf"\.{name}\W", path)}
        if here != there:
            raise ValueError(f"a digest of its {name} differs")
        return name, found

    def _move_aside(self, steps: list[int]) -> None:
        if jax.process_index() == 0:
            self._rename(steps)
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices("damaged checkpoints are aside")

    def _rename(self, steps: list[int]) -> None:
        aside = self._folder.with_name(self._folder.name + "_damaged")
        for step in steps:
            target = aside / str(step)
            number = 1
            while target.exists():
                number += 1
                target = aside / f"{step}-{number}"
            target.parent.mkdir(parents=True, exist_ok=True)
            (self._folder / str(step)).rename(target)

    def save(self, state: Stepped, meta: dict[str, Any]) -> None:
        """Copies the state from the devices and writes it in the background.

        Where the write before failed, a line says so, and this one is waited for.

        Args:
          state: the state; it may be donated as soon as this returns.
          meta: JSON-safe facts kept beside it.

        Raises:
          NonFiniteError: as `check` does; nothing is written.
          OSError: it cannot be written, or two in a row could not; the folder is named.
        """
        step = int(to_host(state.step))
        found, finite = examined(state)
        self._refuse(step, finite)
        facts = {**meta, "step": step, "digests": found}
        parts = ocp.args.Composite(
            state=ocp.args.StandardSave(jax.tree.map(_one_copy, state)),
            meta=ocp.args.JsonSave({**facts, SEAL: seal(facts)}),
        )
        wrote = self._written()
        try:
            self._manager().save(step, args=parts)
            self._under_way = step
            if not wrote:
                self._manager().wait_until_finished()
        except Exception as error:
            place = f"checkpoint {self._folder / str(step)}"
            raise OSError(f"{place} cannot be written: {_reason(error)}") from error

    def _written(self) -> bool:
        """Waits for what is under way; False, and a line, if it could not be written."""
        if self._opened is None:
            return True
        try:
            self._opened.wait_until_finished()
        except Exception as error:
            place = self._folder / str(self._under_way)
            self._on_skip(f"checkpoint {place} was not written: {_reason(error)}")
            self._remove_unfinished()
            return False
        return True

    def check(self, state: Stepped) -> None:
        """Raises NonFiniteError if a number that training goes on from is not finite.

        It names the array, the step and the last good checkpoint. The pacing may hold infinity.
        """
        self._refuse(int(to_host(state.step)), by_path(is_finite, state))

    def _refuse(self, step: int, finite: dict[str, bool]) -> None:
        spoilt = what_is_not_finite(finite)
        if spoilt:
            raise NonFiniteError(
                f"step {step}: {spoilt}, so this state is not saved; "
                f"last good checkpoint: {self.last_good()}"
            )

    def last_good(self) -> str:
        """The folder of the newest checkpoint, once it is written; "none yet" without one.

        It is asked for by other errors, so it raises none: a line says what was not written.
        """
        self._written()
        try:
            steps = self.steps()
        except OSError as error:
            return f"unknown ({_reason(error)})"
        return str(self._folder / str(steps[-1])) if steps else "none yet"

    def close(self) -> None:
        """Waits until all is written; a line says what was not, so that no other error is lost."""
        if self._opened is None:
            return
        self._written()
        opened, self._opened = self._opened, None
        try:
            opened.close()
        except Exception as error:
            self._on_skip(f"{self._folder}: could not be closed: {_reason(error)}")

"""How long a checkpoint keeps training waiting, over Orbax's own save of the same state.

    python -m benchmarks.checkpoint

Both write in the background; ours also takes a SHA-256 of every array and looks whether its numbers
are finite. `blocks` is the time until training may go on, over Orbax's; `hash` is the same digests
alone, over Orbax's.
"""

import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from benchmarks import frame, steps
from jaxnoise.training.checkpoints import Checkpoints
from jaxnoise.training.digests import digests
from jaxnoise.training.state import TrainState


def compare(state: TrainState, folder: Path, rounds: int) -> dict[str, frame.Times]:
    """Saves of a state in turns, each written before the next begins."""
    ours = Checkpoints(folder / "ours")
    keeps = ocp.CheckpointManagerOptions(max_to_keep=2, create=True)
    theirs = ocp.CheckpointManager(folder / "orbax", options=keeps)
    at = 0

    def moved() -> TrainState:
        nonlocal at
        at += 1
        return state.replace(step=jnp.int32(at))

    def save() -> tuple[float, float]:
        later = moved()
        taken = frame.once(lambda: ours.save(later, {}))
        ours.last_good()
        return taken

    def orbax() -> tuple[float, float]:
        args = ocp.args.Composite(state=ocp.args.StandardSave(moved()))
        taken = frame.once(lambda: theirs.save(at, args=args))
        theirs.wait_until_finished()
        return taken

    save(), orbax()
    hashed = frame.here(lambda: digests(state))
    times = frame.in_turns({"ours": save, "orbax": orbax, "digests": hashed}, rounds)
    ours.close()
    theirs.close()
    return times


def main(arguments: list[str] | None = None) -> None:
    flags = frame.parser(__doc__).parse_args(arguments)
    usual = {name: steps.SETTINGS[name] for name in ("tiny 8x8", "small 32x32")}
    report, rounds = frame.Report("checkpoint", flags), frame.rounds_of(flags, 7)
    for name, setting in (steps.QUICK if flags.quick else usual).items():
        state = steps.opened(setting.config("denoising"), setting).new_state()
        size = sum(x.nbytes for x in jax.tree.leaves(state))
        with tempfile.TemporaryDirectory() as folder:
            times = compare(state, Path(folder), rounds)
        report.row(
            f"{name}, {size / 2**20:.1f} MiB",
            milliseconds=1e3 * times["ours"].seconds,
            orbax_milliseconds=1e3 * times["orbax"].seconds,
            blocks=times["ours"].over(times["orbax"]),
            hash=times["digests"].over(times["orbax"]),
        )


if __name__ == "__main__":
    main()

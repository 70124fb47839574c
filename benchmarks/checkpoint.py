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
from jaxnoise.training.checkpoints import Checkpoints, digests


def main(arguments: list[str] | None = None) -> None:
    flags = frame.parser(__doc__).parse_args(arguments)
    known = steps.QUICK if flags.quick else {n: steps.SETTINGS[n] for n in ("tiny 8x8", "small 32x32")}
    report, rounds = frame.Report("checkpoint", flags), frame.rounds_of(flags, 7)
    for name, setting in known.items():
        model = steps.opened(setting.config("denoising"), setting)
        state = model.new_state()
        size = sum(x.nbytes for x in jax.tree.leaves(state))
        with tempfile.TemporaryDirectory() as folder:
            ours = Checkpoints(Path(folder) / "ours")
            theirs = ocp.CheckpointManager(
                Path(folder) / "orbax",
                options=ocp.CheckpointManagerOptions(max_to_keep=2, create=True),
            )
            at = 0

            def save(own: bool) -> tuple[float, float]:
                nonlocal at
                at += 1
                moved = state.replace(step=jnp.int32(at))
                if own:
                    taken = frame.once(lambda: ours.save(moved, {}))
                    ours.last_good()
                    return taken
                args = ocp.args.Composite(state=ocp.args.StandardSave(moved))
                taken = frame.once(lambda: theirs.save(at, args=args))
                theirs.wait_until_finished()
                return taken

            save(True), save(False)
            times = frame.in_turns(
                {
                    "ours": lambda: save(True),
                    "orbax": lambda: save(False),
                    "digests": lambda: frame.once(lambda: digests(state)),
                },
                rounds,
            )
            ours.close()
            theirs.close()
        report.row(
            f"{name}, {size / 2**20:.1f} MiB",
            milliseconds=1e3 * times["ours"].seconds,
            orbax_milliseconds=1e3 * times["orbax"].seconds,
            blocks=times["ours"].over(times["orbax"]),
            hash=times["digests"].over(times["orbax"]),
        )


if __name__ == "__main__":
    main()

"""run.py, killed with SIGKILL once a given checkpoint is on disk, before anything else is.

python killed_run.py <checkpoint folder> <step> <run.py's arguments>
"""

import os
import signal
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]


def main() -> None:
    folder, step = Path(sys.argv[1]), int(sys.argv[2])
    sys.path.insert(0, str(ROOT))
    import run
    from jaxnoise.commands import train, train_rater
    from jaxnoise.run.recorder import Recorder

    def die() -> None:
        while not folder.is_dir():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)

    def progress(self: Recorder, done: int, loss: float) -> None:
        if done > step:
            die()

    def sample(self: Recorder, state: object, done: int) -> None:
        if done >= step:
            die()

    Recorder.progress = progress
    train.ModelRecorder.sample = train_rater.RaterRecorder.sample = sample
    sys.exit(run.main(sys.argv[3:]))


if __name__ == "__main__":
    main()

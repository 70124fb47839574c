"""run.py, killed with SIGKILL once a given checkpoint is on disk.

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
    from jaxnoise.commands.recording import Record

    def progress(self: Record, done: int, loss: float) -> None:
        if done <= step:
            return
        while not folder.is_dir():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)

    Record.progress = progress
    sys.exit(run.main(sys.argv[3:]))


if __name__ == "__main__":
    main()

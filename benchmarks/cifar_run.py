"""The config cifar_poly on a folder of images for some minutes: images a second of a real run.

    python -m benchmarks.cifar_run --data FOLDER_OR_TAR [--seconds 100] [--out FOLDER]

FOLDER holds image files, by class; a tar of such a folder is unpacked first. The run is stopped
after the time, as a user would stop it; its samples and curves are copied to --out. What it shows
is the pace and that training goes on, not a score: it ends long before the curriculum does.
"""

import os
import shutil
import signal
import sys
import tarfile
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks import frame, plain_config
from jaxnoise import experiment
from jaxnoise.commands import sample, train
from jaxnoise.figures.curves import save_curves
from jaxnoise.training.loop import Interrupted
from jaxnoise.training.parallel import use_all_cores
from jaxnoise.training.records import RunFolder


def images_in(data: Path, scratch: Path) -> Path:
    """The folder whose sub-folders are classes, or whose `train` has them; of a tar, unpacked."""
    if data.is_file():
        try:
            with tarfile.open(data) as tar:
                tar.extractall(scratch, filter="data")
        except tarfile.TarError as error:
            raise frame.refused(f"--data={data}: is no tar") from error
        data = scratch
    for folder in (data / "train", *data.glob("*/train"), data):
        if folder.is_dir():
            return folder
    raise frame.refused(f"--data={data}: must be a folder of image files or a tar of one")


def few_images(folder: Path) -> Path:
    """A folder of random images of two classes, for --quick."""
    draws = np.random.RandomState(0)
    for i in range(32):
        place = folder / "train" / str(i % 2)
        place.mkdir(parents=True, exist_ok=True)
        pixels = draws.randint(0, 256, (8, 8, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(place / f"{i:02d}.png")
    return folder


def config_of(images: Path, dtype: str, quick: bool) -> dict[str, Any]:
    """cifar_poly on those images."""
    config = plain_config.shipped("cifar_poly")
    config["data"] = {"dataset": "folder", "data_dir": str(images)}
    config["model"]["dtype"] = dtype
    config["evaluate"] = {"n": 0}
    # The noise law's picture and the first rows come soon, checkpoints when it is stopped.
    config["train"] |= {"log_every": 50, "checkpoint_every": 50_000, "sample_every": 50_000}
    if quick:
        config["model"] |= {"name": "dit_tiny", "hidden_size": 8, "depth": 1, "num_heads": 2}
        config["train"] |= {"batch": 8, "steps_per_dispatch": 1, "log_every": 1}
        config["sample"] |= {"count": 4, "columns": 2, "batch": 8}
    return config


def main(arguments: list[str] | None = None) -> None:
    parser = frame.parser(__doc__)
    parser.add_argument("--data", type=Path, help="a folder of images, or a tar of one")
    parser.add_argument("--seconds", type=float, default=100, help="after which it is stopped")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="bfloat16")
    parser.add_argument("--out", type=Path, help="a folder for its pictures")
    flags = parser.parse_args(arguments)
    if flags.data is None and not flags.quick:
        raise frame.refused("--data: must name a folder of images, or a tar of one")
    if flags.out:
        # Here and not at the end: what cannot be made would cost the run.
        flags.out.mkdir(parents=True, exist_ok=True)
    seconds = 3 if flags.quick else flags.seconds
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        data = few_images(scratch / "few") if flags.data is None else flags.data
        config = config_of(images_in(data, scratch / "data"), flags.dtype, flags.quick)
        use_all_cores(config["train"]["batch"])
        run, folder = experiment.read(config), RunFolder(scratch / "run")
        stop = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGTERM))
        # While it compiles, a signal would end it before its first step: the clock starts later.
        began = threading.Thread(target=_when_there_is_a_row, args=(folder, stop), daemon=True)
        began.start()
        try:
            train.main(run, folder)
        except Interrupted as error:
            print(error, file=sys.stderr)
        stop.cancel()
        rows = folder.rows()
        sample.main(run, folder)
        paces = [row["images_per_second"] for row in rows[1:] or rows]
        losses = [row["loss"] for row in rows]
        frame.Report("cifar_run", flags).row(
            f"cifar_poly {flags.dtype}, {rows[-1]['step']} steps",
            images_per_second=frame.Spread.of(paces),
            first_loss=losses[0],
            last_loss=losses[-1],
        )
        if flags.out:
            save_curves(rows, folder.curves)
            for picture in (*folder.samples.glob("*.png"), folder.curves):
                # One name whenever it stopped, so that a later call leaves no more files.
                name = f"cifar_poly_{picture.stem.partition('_0')[0]}.png"
                shutil.copy(picture, flags.out / name)


def _when_there_is_a_row(folder: RunFolder, stop: threading.Timer) -> None:
    pause = threading.Event()
    while not folder.metrics.exists():
        pause.wait(0.2)
    stop.start()


if __name__ == "__main__":
    main()

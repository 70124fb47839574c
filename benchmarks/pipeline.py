"""Images a second from the data to float batches on the device, over a PyTorch DataLoader.

    python -m benchmarks.pipeline [--torch-python PATH]

Random 32x32 images in the three ways of the project: resident on the device, memory-mapped arrays,
a folder of PNG files that are decoded once. PyTorch's are a DataLoader over the same PNG files and
one over an array in memory, each with as many workers as there are CPUs. `speed` is over the
DataLoader of the same kind of data. No random flips, no training step.
"""

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

from benchmarks import frame
from jaxnoise.data import ArrayImages, batch_indices, open_images
from jaxnoise.training.drawing import Batch, to_float
from jaxnoise.training.feeding import ResidentFeeder, StreamingFeeder
from jaxnoise.training.parallel import Devices

BATCH = 128


def write(folder: Path, count: int) -> ArrayImages:
    """Random images as PNG files in folder/png and as arrays in folder/arrays."""
    draws = np.random.RandomState(0)
    # Flat patches, since noise would not compress as photographs do.
    small = draws.randint(0, 256, (count, 8, 8, 3)).astype(np.uint8)
    pixels, labels = small.repeat(4, axis=1).repeat(4, axis=2), np.arange(count) % 10
    for i, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        place = folder / "png" / str(label)
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{i:05d}.png")
    (folder / "arrays").mkdir()
    np.save(folder / "arrays" / "images.npy", pixels)
    np.save(folder / "arrays" / "labels.npy", labels.astype(np.int32))
    return ArrayImages("noise", pixels, labels.astype(np.int32), num_classes=10)


def fed(kind: Any, images: Any, batches: int) -> Any:
    """Brings some batches to the device and makes them float, with the project's own feeders."""
    devices = Devices("shard_map", 1)
    feeder = kind(images, devices, partial(batch_indices, 0, images.num_examples, BATCH), 1)

    @jax.jit
    def read(batch: Batch) -> jax.Array:
        if batch.index is not None:
            return to_float(batch.images[batch.index[0]])
        return to_float(batch.images[0])

    at = 0

    def run() -> None:
        nonlocal at
        for _ in range(batches):
            jax.block_until_ready(read(feeder(at)))
            at += 1

    return run, feeder.close


def main(arguments: list[str] | None = None) -> None:
    flags = frame.parser(__doc__).parse_args(arguments)
    count, batches = (256, 2) if flags.quick else (10_240, 80)
    report, python, other = frame.Report("pipeline", flags), frame.torch_python(flags), None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        held = write(folder, count)
        mapped = open_images("arrays", data_dir=folder / "arrays")
        files = open_images("folder", data_dir=folder / "png")
        ways = {
            "resident on the device": fed(ResidentFeeder, held, batches),
            "memory-mapped arrays": fed(StreamingFeeder, mapped, batches),
            "folder of PNG files": fed(StreamingFeeder, files, batches),
        }
        jobs = {way: frame.here(run) for way, (run, _) in ways.items()}
        beside = dict.fromkeys(jobs, "DataLoader of an array") | {
            "folder of PNG files": "DataLoader of PNG files"
        }
        if python:
            other = frame.Other(python, "benchmarks.torch_loader", str(folder), str(BATCH))
            for kind in ("an array", "PNG files"):
                other.ask(kind=kind, batches=1)
                jobs[f"DataLoader of {kind}"] = other.once(kind=kind, batches=batches)
        times = frame.in_turns(jobs, frame.rounds_of(flags, 5))
        for way, taken in times.items():
            theirs = times.get(beside.get(way, ""))
            report.row(
                way,
                images_per_second=batches * BATCH / taken.seconds,
                speed=theirs.over(taken) if theirs else None,
            )
        if other:
            other.close()
        for _, close in ways.values():
            close()


if __name__ == "__main__":
    main()

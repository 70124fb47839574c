"""Images a second through Inception-v3: ours beside the PyTorch reference, in turns.

    python -m benchmarks.features [--torch-python PATH] [--batch 16]

PATH is a Python with PyTorch and torch-fidelity; the project itself needs neither. Both networks
have random weights (the time does not depend on them) and include the resize to 299 pixels.
"""

import argparse
import importlib.util
import io
import sys
import types
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import frame


def pixels(batch: int) -> np.ndarray:
    return np.random.RandomState(0).randint(0, 256, (batch, 32, 32, 3)).astype(np.uint8)


def ours(images: np.ndarray) -> Callable[[], Any]:
    import jax
    import jax.numpy as jnp

    from jaxnoise.evaluation.resize import inception_input
    from jaxnoise.models.inception import IMAGE_SIZE, Inception

    network = Inception()
    shape = jnp.zeros((1, IMAGE_SIZE, IMAGE_SIZE, 3), jnp.float32)
    params = jax.jit(network.init)(jax.random.key(0), shape)

    @jax.jit
    def features(images: jax.Array) -> jax.Array:
        return network.apply(params, inception_input(images)).features

    return lambda: jax.block_until_ready(features(images))


def reference(images: np.ndarray) -> Callable[[], Any]:
    import torch

    # The package without its __init__, which needs torchvision for data sets that are not used.
    found = importlib.util.find_spec("torch_fidelity")
    assert found is not None
    package = types.ModuleType("torch_fidelity")
    package.__path__ = list(found.submodule_search_locations or ())
    sys.modules["torch_fidelity"] = package
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class Unloaded(FeatureExtractorInceptionV3):
        def load_state_dict(self, tensors: Any) -> None:
            del tensors

    empty = io.BytesIO()
    torch.save({}, empty)
    empty.seek(0)
    torch.set_num_threads(frame.threads())
    network = Unloaded("inception-v3-compat", ["2048"], empty).eval()
    given = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())

    def run() -> Any:
        with torch.no_grad():
            return network(given)

    return run


def has_reference(python: str | None) -> bool:
    """Whether a Python has the PyTorch network too."""
    if python is None:
        return False
    import subprocess

    code = "import importlib.util as u; exit(u.find_spec('torch_fidelity') is None)"
    return subprocess.run([python, "-c", code], env={"PYTHONPATH": ""}).returncode == 0


def main(arguments: list[str] | None = None) -> None:
    parser = frame.parser(__doc__)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    flags = parser.parse_args(arguments)
    batch = 1 if flags.quick else flags.batch
    if flags.serve:
        run = reference(pixels(batch))
        run()
        frame.answer(lambda: frame.once(run))
        return
    jobs, other, python = {"ours": frame.here(ours(pixels(batch)))}, None, frame.torch_python(flags)
    if has_reference(python):
        assert python is not None
        other = frame.Other(python, "benchmarks.features", "--serve", f"--batch={batch}")
        jobs["PyTorch"] = other.once()
    times = frame.in_turns(jobs, frame.rounds_of(flags, 8))
    report = frame.Report("features", flags)
    for name, taken in times.items():
        theirs = name != "ours"
        report.row(
            f"Inception-v3, {name}",
            images_per_second=batch / taken.seconds,
            speed=taken.over(times["ours"]) if theirs else None,
            cpu=taken.cpu_over(times["ours"]) if theirs else None,
        )
    if other:
        other.close()


if __name__ == "__main__":
    main()

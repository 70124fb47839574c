"""Images a second through Inception-v3: ours beside the PyTorch reference, in turns.

    python benchmarks/features.py --torch-python=PATH [--batch 16] [--rounds 8]

PATH is a Python with PyTorch and torch-fidelity; the project itself needs neither. Both networks
have random weights (the time does not depend on them) and include the resize to 299 pixels.
"""

import argparse
import importlib.util
import io
import os
import subprocess
import sys
import time
import types
from collections.abc import Callable
from typing import Any

import numpy as np

Run = Callable[[np.ndarray], Any]


def pixels(batch: int) -> np.ndarray:
    return np.random.RandomState(0).randint(0, 256, (batch, 32, 32, 3)).astype(np.uint8)


def ours() -> Run:
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

    return lambda images: jax.block_until_ready(features(images))


def reference() -> Run:
    import torch

    # The package without its __init__, which needs torchvision for data sets that are not used.
    found = importlib.util.find_spec("torch_fidelity")
    package = types.ModuleType("torch_fidelity")
    package.__path__ = list(found.submodule_search_locations)
    sys.modules["torch_fidelity"] = package
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class Unloaded(FeatureExtractorInceptionV3):
        def load_state_dict(self, tensors: Any) -> None:
            del tensors

    empty = io.BytesIO()
    torch.save({}, empty)
    empty.seek(0)
    network = Unloaded("inception-v3-compat", ["2048"], empty).eval()

    def run(images: np.ndarray) -> Any:
        with torch.no_grad():
            return network(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))

    return run


def seconds(run: Run, images: np.ndarray) -> float:
    start = time.perf_counter()
    run(images)
    return time.perf_counter() - start


def serve(batch: int) -> None:
    """The reference's side: one timing for each line read."""
    run, images = reference(), pixels(batch)
    run(images)
    for _ in sys.stdin:
        print(seconds(run, images), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torch-python", help="a Python with PyTorch and torch-fidelity")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.serve:
        serve(flags.batch)
        return
    run, images = ours(), pixels(flags.batch)
    run(images)
    if flags.torch_python is None:
        own = np.median([seconds(run, images) for _ in range(flags.rounds)])
        print(f"ours {flags.batch / own:.1f} images/s")
        return
    other = subprocess.Popen(
        [flags.torch_python, __file__, "--serve", f"--batch={flags.batch}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": ""},
    )
    assert other.stdin is not None
    assert other.stdout is not None
    both = []
    for _ in range(flags.rounds):
        mine = seconds(run, images)
        other.stdin.write("go\n")
        other.stdin.flush()
        both.append((mine, float(other.stdout.readline())))
    other.stdin.close()
    own, theirs = np.median(both, axis=0)
    ratio = np.median([theirs / mine for mine, theirs in both])
    print(f"ours {flags.batch / own:.1f} images/s, PyTorch {flags.batch / theirs:.1f} images/s")
    print(f"ratio {ratio:.2f} (above 1: ours is faster; median of {flags.rounds} pairs)")


if __name__ == "__main__":
    main()

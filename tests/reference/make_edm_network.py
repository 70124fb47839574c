"""Writes edm_network.pkl and edm_outputs.npz beside this script: a small network as EDM saves one.

Needs PyTorch, which the project and its tests do not:
  python tests/reference/make_edm_network.py
The network is EDM's DDPM++ (arXiv 2206.00364, appendix F) written anew in PyTorch, with random
weights, pickled in the form that NVIDIA's torch_utils.persistence gives to a module: a call that
would run the source code beside the state. With a folder and a size, as in
  python tests/reference/make_edm_network.py /tmp 128
it writes the CIFAR-10 network of so many channels there.
"""

import math
import pickle
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parent
SMALL = {"side": 8, "channels": 4, "mult": (1, 2), "blocks": 1, "attention": (4,), "classes": 3}
CIFAR = {"side": 32, "mult": (2, 2, 2), "blocks": 4, "attention": (16,), "classes": 10}


def _reconstruct_persistent_obj(meta: dict[str, Any]) -> None:
    raise AssertionError("only its name is written")


def _persistence() -> None:
    """Lets pickle find the function under the name that NVIDIA's files have for it."""
    module = types.ModuleType("torch_utils.persistence")
    _reconstruct_persistent_obj.__module__ = "torch_utils.persistence"
    module._reconstruct_persistent_obj = _reconstruct_persistent_obj  # type: ignore[attr-defined]
    sys.modules["torch_utils"] = types.ModuleType("torch_utils")
    sys.modules["torch_utils.persistence"] = module


def network(
    torch: Any, side: int, channels: int, mult: Any, blocks: int, attention: Any, classes: int
) -> Any:
    """EDM's preconditioned DDPM++ of square RGB images, weights random."""
    functional, nn = torch.nn.functional, torch.nn

    class Persistent(nn.Module):
        def __reduce__(self) -> Any:
            source = "raise SystemExit('source code of a pickle was run')\n"
            meta = {"type": "class", "version": 6, "module_src": source}
            meta |= {"class_name": type(self).__name__, "state": self.__dict__}
            return _reconstruct_persistent_obj, (meta,), None

        def weights(self, *shape: int, bias: bool = True) -> None:
            scale = 0.7 / math.sqrt(math.prod(shape[1:])) if len(shape) > 1 else 0.3
            centre = 0.0 if len(shape) > 1 else 1.0
            self.weight = nn.Parameter(centre + scale * torch.randn(*shape))
            self.bias = nn.Parameter(0.3 * torch.randn(shape[0])) if bias else None

    class Linear(Persistent):
        def __init__(self, inputs: int, outputs: int, bias: bool = True):
            super().__init__()
            self._init_args, self._init_kwargs = (inputs, outputs), {"init_weight": np.sqrt(1 / 3)}
            self.weights(outputs, inputs, bias=bias)

        def forward(self, x: Any) -> Any:
            return functional.linear(x, self.weight, self.bias)

    class GroupNorm(Persistent):
        def __init__(self, size: int):
            super().__init__()
            self.groups = min(32, size // 4)
            self.weights(size)

        def forward(self, x: Any) -> Any:
            return functional.group_norm(x, self.groups, self.weight, self.bias, 1e-6)

    class Conv2d(Persistent):
        def __init__(self, inputs: int, outputs: int, kernel: int, way: str = ""):
            super().__init__()
            self.way = way
            self.weights(outputs, inputs, kernel, kernel)
            self.register_buffer("resample_filter", torch.full((1, 1, 2, 2), 0.25) if way else None)

        def forward(self, x: Any) -> Any:
            if self.way == "up":
                x = functional.interpolate(x, scale_factor=2, mode="nearest")
            if self.way == "down":
                x = functional.avg_pool2d(x, 2)
            return functional.conv2d(x, self.weight, self.bias, padding=self.weight.shape[-1] // 2)

    class UNetBlock(Persistent):
        def __init__(self, inputs: int, outputs: int, way: str = "", attends: bool = False):
            super().__init__()
            self.skip_scale, self.num_heads = np.sqrt(0.5), int(attends)
            self.norm0, self.conv0 = GroupNorm(inputs), Conv2d(inputs, outputs, 3, way)
            self.affine = Linear(4 * channels, outputs)
            self.norm1, self.conv1 = GroupNorm(outputs), Conv2d(outputs, outputs, 3)
            self.skip = Conv2d(inputs, outputs, 1, way) if way or inputs != outputs else None
            if attends:
                self.norm2, self.qkv = GroupNorm(outputs), Conv2d(outputs, 3 * outputs, 1)
                self.proj = Conv2d(outputs, outputs, 1)

        def forward(self, x: Any, emb: Any) -> Any:
            h = self.conv0(functional.silu(self.norm0(x))) + self.affine(emb)[:, :, None, None]
            h = self.conv1(functional.silu(self.norm1(h)))
            x = (h + (x if self.skip is None else self.skip(x))) * self.skip_scale
            if self.num_heads:
                n, c = x.shape[:2]
                # Channel by channel: its query, its key, its value.
                q, k, v = self.qkv(self.norm2(x)).reshape(n, c, 3, -1).unbind(2)
                share = torch.softmax(torch.einsum("ncq,nck->nqk", q, k) / math.sqrt(c), dim=2)
                found = torch.einsum("nqk,nck->ncq", share, v).reshape(x.shape)
                x = (self.proj(found) + x) * self.skip_scale
            return x

    class PositionalEmbedding(Persistent):
        def forward(self, c_noise: Any) -> Any:
            half = channels // 2
            angle = torch.outer(c_noise, 1e4 ** (-torch.arange(half) / (half - 1)))
            return torch.cat([angle.sin(), angle.cos()], dim=1)

    class SongUNet(Persistent):
        def __init__(self) -> None:
            super().__init__()
            self.map_noise = PositionalEmbedding()
            self.map_label = Linear(classes, channels)
            self.map_augment = Linear(9, channels, bias=False)
            self.map_layer0 = Linear(channels, 4 * channels)
            self.map_layer1 = Linear(4 * channels, 4 * channels)
            self.enc, self.dec = nn.ModuleDict(), nn.ModuleDict()
            width, widths = channels, [channels]
            for level, times in enumerate(mult):
                size = side >> level
                if level:
                    self.enc[f"{size}x{size}_down"] = UNetBlock(width, width, "down")
                    widths.append(width)
                else:
                    self.enc[f"{size}x{size}_conv"] = Conv2d(3, width, 3)
                for i in range(blocks):
                    block = UNetBlock(width, channels * times, attends=size in attention)
                    self.enc[f"{size}x{size}_block{i}"] = block
                    width = channels * times
                    widths.append(width)
            for level, times in reversed(list(enumerate(mult))):
                size = side >> level
                if level == len(mult) - 1:
                    self.dec[f"{size}x{size}_in0"] = UNetBlock(width, width, attends=True)
                    self.dec[f"{size}x{size}_in1"] = UNetBlock(width, width)
                else:
                    self.dec[f"{size}x{size}_up"] = UNetBlock(width, width, "up")
                for i in range(blocks + 1):
                    attends = i == blocks and size in attention
                    block = UNetBlock(width + widths.pop(), channels * times, attends=attends)
                    self.dec[f"{size}x{size}_block{i}"] = block
                    width = channels * times
            self.dec[f"{side}x{side}_aux_norm"] = GroupNorm(width)
            self.dec[f"{side}x{side}_aux_conv"] = Conv2d(width, 3, 3)

        def forward(self, x: Any, c_noise: Any, labels: Any, augmentation: Any) -> Any:
            emb = self.map_noise(c_noise) + self.map_label(labels * math.sqrt(classes))
            emb = emb + self.map_augment(augmentation)
            emb = functional.silu(self.map_layer1(functional.silu(self.map_layer0(emb))))
            skips = []
            for block in self.enc.values():
                x = block(x, emb) if isinstance(block, UNetBlock) else block(x)
                skips.append(x)
            for name, block in self.dec.items():
                if name.endswith("aux_norm"):
                    x = functional.silu(block(x))
                elif name.endswith("aux_conv"):
                    x = block(x)
                else:
                    takes = "block" in name
                    x = block(torch.cat([x, skips.pop()], dim=1) if takes else x, emb)
            return x

    class EDMPrecond(Persistent):
        def __init__(self) -> None:
            super().__init__()
            self.img_resolution, self.img_channels, self.label_dim = side, 3, classes
            self.use_fp16, self.sigma_data = False, 0.5
            self.model = SongUNet()

    class EDMLoss:
        def __reduce__(self) -> Any:
            meta = {"type": "class", "version": 6, "module_src": "", "class_name": "EDMLoss"}
            return _reconstruct_persistent_obj, (meta | {"state": {"P_mean": -1.2}},), None

    return EDMPrecond().eval().requires_grad_(False), EDMLoss()


def write(folder: Path, name: str, images: int, **fields: Any) -> None:
    """Writes `<name>_network.pkl` and `<name>_outputs.npz`."""
    import torch

    torch.manual_seed(0)
    ema, loss = network(torch, **fields)
    data = {"ema": ema, "loss_fn": loss, "augment_pipe": None, "dataset_kwargs": {"path": "x.zip"}}
    with (folder / f"{name}_network.pkl").open("wb") as file:
        pickle.dump(data, file)
    x = torch.randn(images, 3, fields["side"], fields["side"])
    c_noise = torch.linspace(-1.5, 1.1, images)
    labels = torch.arange(images) % fields["classes"]
    rows = torch.nn.functional.one_hot(labels, fields["classes"]).to(torch.float32)
    augmentation = torch.randn(images, 9)
    with torch.no_grad():
        found = [ema.model(x, c_noise, rows, of) for of in (0 * augmentation, augmentation)]
    arrays = {"x": x, "output": found[0], "augmented": found[1]}
    np.savez(
        folder / f"{name}_outputs.npz",
        c_noise=c_noise.numpy(),
        labels=labels.numpy(),
        augmentation=augmentation.numpy(),
        **{key: value.permute(0, 2, 3, 1).numpy() for key, value in arrays.items()},
    )


if __name__ == "__main__":
    _persistence()
    if len(sys.argv) > 1:
        write(Path(sys.argv[1]), "cifar", 2, **CIFAR, channels=int(sys.argv[2]))
    else:
        write(FOLDER, "edm", 3, **SMALL)

"""PyTorch's side of benchmarks/meta_gradient.py: the same U-Net, Adam and weights, eagerly.

The meta-gradient is reverse mode through everything (`create_graph=True`). Takes the folder with
`given.npz`, leaves `found.npz` there and then times one run for each line read: "0" is the plain
gradient, "T" the meta-gradient of T steps.
"""

import json
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

Tensors = dict[str, torch.Tensor]


def load(path: Path) -> tuple[Tensors, Tensors]:
    """Parameters and batches, channels first; a dense layer takes vectors or pixels."""
    theta, batches = {}, {}
    for name, value in np.load(path).items():
        if name.startswith("theta/"):
            axes = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[value.ndim]
            tensor = torch.from_numpy(np.ascontiguousarray(value.transpose(axes)))
            theta[name.removeprefix("theta/")] = tensor.requires_grad_()
        else:
            image = value.ndim > 2
            batches[name] = torch.from_numpy(np.moveaxis(value, -1, -3).copy() if image else value)
    batches["eta"].requires_grad_()
    return theta, batches


def network(p: Tensors, x: torch.Tensor, c_noise: torch.Tensor, levels: int) -> torch.Tensor:
    """The preset "tiny": one block a level, no attention but in the middle."""

    def conv(name: str, x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(x, p[f"{name}/kernel"], p[f"{name}/bias"], padding=1)

    def dense(name: str, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, p[f"{name}/kernel"], p[f"{name}/bias"])

    def norm(name: str, x: torch.Tensor) -> torch.Tensor:
        groups = min(32, x.shape[1] // 4)
        return F.group_norm(x, groups, p[f"{name}/scale"], p[f"{name}/bias"], eps=1e-6)

    def resampled(x: torch.Tensor, way: str) -> torch.Tensor:
        if way == "up":
            return F.interpolate(x, scale_factor=2, mode="nearest")
        return F.avg_pool2d(x, 2) if way == "down" else x

    def attention(name: str, x: torch.Tensor) -> torch.Tensor:
        h = norm(f"{name}/norm", x).flatten(2).transpose(1, 2)
        q, k, v = dense(f"{name}/qkv", h).chunk(3, dim=2)
        logits = q @ k.transpose(1, 2) / math.sqrt(x.shape[1])
        h = dense(f"{name}/output", logits.softmax(dim=2) @ v)
        return h.transpose(1, 2).reshape(x.shape)

    def block(name: str, x: torch.Tensor, way: str = "") -> torch.Tensor:
        h = conv(f"{name}/conv_0", resampled(F.silu(norm(f"{name}/norm_0", x)), way))
        h = h + dense(f"{name}/affine", emb)[:, :, None, None]
        h = conv(f"{name}/conv_1", F.silu(norm(f"{name}/norm_1", h)))
        x = resampled(x, way)
        if f"{name}/skip/kernel" in p:
            kernel = p[f"{name}/skip/kernel"][:, :, None, None]
            x = F.conv2d(x, kernel, p[f"{name}/skip/bias"])
        x = (x + h) * math.sqrt(0.5)
        if f"{name}/attention/qkv/kernel" in p:
            x = (x + attention(f"{name}/attention", x)) * math.sqrt(0.5)
        return x

    half = p["embedding_0/kernel"].shape[1] // 2
    frequencies = torch.from_numpy(10000.0 ** (-np.arange(half) / (half - 1))).to(x.dtype)
    angle = c_noise[:, None] * frequencies
    emb = torch.cat([angle.sin(), angle.cos()], dim=1)
    for i in range(2):
        emb = F.silu(dense(f"embedding_{i}", emb))

    x = conv("input", x)
    skips = [x]
    for level in range(levels):
        if level:
            x = block(f"encoder{level}_down", x, "down")
            skips.append(x)
        x = block(f"encoder{level}_block0", x)
        skips.append(x)
    x = block("middle_1", block("middle_0", x))
    for level in reversed(range(levels)):
        if level < levels - 1:
            x = block(f"decoder{level}_up", x, "up")
        for i in range(2):
            x = block(f"decoder{level}_block{i}", torch.cat([x, skips.pop()], dim=1))
    return conv("output", F.silu(norm("output_norm", x)))


class Problem:
    """Plain and meta-gradient of what `given.npz` holds."""

    def __init__(self, folder: Path, levels: int, rate: float, eps: float):
        self.theta, self.batches = load(folder / "given.npz")
        self.levels = levels
        self.rate = rate
        self.eps = eps

    def batch(self, name: str) -> Tensors:
        return {part: self.batches[f"{name}/{part}"] for part in ("x0", "noise", "sigma")}

    def output(self, theta: Tensors, batch: Tensors) -> torch.Tensor:
        sigma = batch["sigma"][:, None, None, None]
        x = (batch["x0"] + sigma * batch["noise"]) / torch.sqrt(sigma**2 + 0.25)
        return network(theta, x, batch["sigma"].log() / 4, self.levels)

    def losses(self, theta: Tensors, batch: Tensors) -> torch.Tensor:
        return (self.output(theta, batch) - batch["noise"]).square().mean(dim=(1, 2, 3))

    def plain(self) -> Any:
        value = self.losses(self.theta, self.batch("outer")).mean()
        return torch.autograd.grad(value, list(self.theta.values()))

    def meta(self, steps: int) -> torch.Tensor:
        eta, batches = self.batches["eta"], self.batch(f"inner{steps}")
        theta = list(self.theta.values())
        first = [torch.zeros_like(p) for p in theta]
        second = [torch.zeros_like(p) for p in theta]
        for k in range(steps):
            batch = {name: value[k] for name, value in batches.items()}
            w = torch.einsum("bchw,chw->b", batch["noise"], eta).softmax(dim=0)
            loss = w @ self.losses(dict(zip(self.theta, theta, strict=True)), batch)
            g = torch.autograd.grad(loss, theta, create_graph=True)
            first = [0.9 * m + 0.1 * x for m, x in zip(first, g, strict=True)]
            second = [0.999 * v + 0.001 * x * x for v, x in zip(second, g, strict=True)]
            corrections = 1 - 0.9 ** (k + 1), 1 - 0.999 ** (k + 1)
            theta = [
                p - self.rate * (m / corrections[0]) / ((v / corrections[1]).sqrt() + self.eps)
                for p, m, v in zip(theta, first, second, strict=True)
            ]
        value = self.losses(dict(zip(self.theta, theta, strict=True)), self.batch("outer")).mean()
        return torch.autograd.grad(value, eta)[0]

    def run(self, steps: int) -> Any:
        return self.meta(steps) if steps else self.plain()


def main() -> None:
    folder, levels, rate, eps, *counts = sys.argv[1:]
    # XLA takes as many threads.
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    problem = Problem(Path(folder), int(levels), float(rate), float(eps))
    found = {f"gradient{n}": problem.meta(int(n)).movedim(0, 2).numpy() for n in counts}
    with torch.no_grad():
        output = problem.output(problem.theta, problem.batch("outer")).movedim(1, 3).numpy()
    np.savez(Path(folder) / "found.npz", output=output, **found)
    problem.plain()
    print(
        json.dumps({"version": torch.__version__, "threads": torch.get_num_threads()}), flush=True
    )
    for line in sys.stdin:
        start = time.process_time(), time.perf_counter()
        problem.run(int(line))
        print(time.process_time() - start[0], time.perf_counter() - start[1], flush=True)


if __name__ == "__main__":
    main()

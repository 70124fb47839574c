"""PyTorch's side of benchmarks/meta_gradient.py: the same U-Net, Adam and weights, eagerly.

The meta-gradient is reverse mode through everything (`create_graph=True`). Takes the folder with
`given.npz`, leaves `found.npz` there and then times one run for each question: 0 steps is the plain
gradient, T the meta-gradient of T steps.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import frame, torch_networks
from benchmarks.torch_networks import Tensors


class Problem:
    """Plain and meta-gradient of what `given.npz` holds."""

    def __init__(self, folder: Path, rate: float, eps: float, device: str):
        self.theta, arrays = torch_networks.load(folder / "given.npz", device)
        self.batches = {
            name: torch_networks.images(value, device)
            if value.ndim > 2
            else torch.from_numpy(value).to(device)
            for name, value in arrays.items()
        }
        self.batches["eta"].requires_grad_()
        self.rate, self.eps = rate, eps

    def batch(self, name: str) -> Tensors:
        return {part: self.batches[f"{name}/{part}"] for part in ("x0", "noise", "sigma")}

    def output(self, theta: Tensors, batch: Tensors) -> torch.Tensor:
        sigma = batch["sigma"][:, None, None, None]
        x = (batch["x0"] + sigma * batch["noise"]) / torch.sqrt(sigma**2 + 0.25)
        return torch_networks.unet(theta, x, batch["sigma"].log() / 4)

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

    def run(self, steps: int) -> None:
        """One gradient, waited for."""
        if steps:
            self.meta(steps)
        else:
            self.plain()
        torch_networks.wait()


def main() -> None:
    folder, rate, eps, *counts = sys.argv[1:]
    # XLA takes as many threads.
    torch.set_num_threads(frame.threads())
    problem = Problem(Path(folder), float(rate), float(eps), torch_networks.device())
    found = {f"gradient{n}": problem.meta(int(n)).movedim(0, 2).cpu().numpy() for n in counts}
    with torch.no_grad():
        output = problem.output(problem.theta, problem.batch("outer")).movedim(1, 3).cpu().numpy()
    np.savez(Path(folder) / "found.npz", output=output, **found)
    problem.plain()
    about = {"version": torch.__version__, "threads": torch.get_num_threads()}

    def ask(steps: int | None = None) -> Any:
        return about if steps is None else frame.once(lambda: problem.run(steps))

    frame.answer(ask)


if __name__ == "__main__":
    main()

"""PyTorch's side of benchmarks/train_step.py: the same networks, losses and step.

A step draws its batch, levels and noise, takes the gradient, updates by RAdam and moves the
average; images and convolution weights lie with channels last. Answers questions, one a line: load
a file of parameters, run one step, tell the memory of a step.
"""

import math
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks import frame, torch_networks

# Consistency: sigma_data, sigma_min and the width of the pseudo-Huber distance of iCT.
DATA, LEAST, HUBER = 0.5, 0.002, 0.00054
RATE, EMA = 1e-4, 0.999


class Step:
    """A training step and its state.

    Args:
      path: of what `Given.save` wrote.
      heads: of a DiT; 0 for a U-Net.
      batch: images a step.
      dtype: "float32", or "bfloat16" for autocast.
      compiled: whether torch.compile makes the loss.
    """

    def __init__(self, path: str, heads: int, batch: int, dtype: str, compiled: bool, device: str):
        self.theta, arrays = torch_networks.load(Path(path), device)
        self.device, self.batch, self.dtype = device, batch, getattr(torch, dtype)
        self.network = torch_networks.unet
        if heads:
            positions = torch.from_numpy(arrays.pop("positions")).to(device, torch.float32)
            self.network = partial(torch_networks.dit, positions=positions, heads=heads)
        self.images = torch_networks.images(arrays.pop("images"), device)
        self.given = {
            name: torch_networks.images(value, device)
            if value.ndim == 4
            else torch.from_numpy(value).to(device)
            for name, value in arrays.items()
        }
        self.losses = self.denoising if "lam" in self.given else self.consistency
        if "sigma_lo" in self.given:
            self.losses = self.consistency
        self.mean = torch.compile(self.mean_loss) if compiled else self.mean_loss
        self.average = [p.detach().clone() for p in self.theta.values()]
        self.optimizer = torch.optim.RAdam(list(self.theta.values()), lr=RATE, foreach=True)

    def apply(self, x: torch.Tensor, c_noise: torch.Tensor) -> torch.Tensor:
        """The raw network, in the dtype asked for; what it gives is float32."""
        with torch.autocast(self.device, self.dtype, enabled=self.dtype != torch.float32):
            found = self.network(self.theta, x, c_noise)
        return found.float()

    def consistency(
        self, x0: torch.Tensor, eps: torch.Tensor, lo: torch.Tensor, hi: torch.Tensor
    ) -> torch.Tensor:
        """Pseudo-Huber distance of student and teacher over the gap of their levels."""

        def denoise(sigma: torch.Tensor) -> torch.Tensor:
            s = sigma[:, None, None, None]
            x = x0 + s * eps
            total = s**2 + DATA**2
            skip = DATA**2 / ((s - LEAST) ** 2 + DATA**2)
            out = DATA * (s - LEAST) / total.sqrt()
            return skip * x + out * self.apply(x / total.sqrt(), sigma.log() / 4)

        with torch.no_grad():
            teacher = denoise(lo)
        square = (denoise(hi) - teacher).square().sum(dim=(1, 2, 3))
        c = HUBER * math.sqrt(x0[0].numel())
        return ((square + c**2).sqrt() - c) / (hi - lo)

    def denoising(self, x0: torch.Tensor, eps: torch.Tensor, lam: torch.Tensor) -> torch.Tensor:
        """Squared error of v = alpha eps - s x0."""
        alpha, s = (x.sigmoid().sqrt()[:, None, None, None] for x in (lam, -lam))
        # The network sees images of unit variance.
        total = ((DATA * alpha) ** 2 + s**2).sqrt()
        found = self.apply((alpha * x0 + s * eps) / total, -lam / 4)
        return (found - (alpha * eps - s * x0)).square().mean(dim=(1, 2, 3))

    def mean_loss(self, x0: torch.Tensor, eps: torch.Tensor, *levels: torch.Tensor) -> torch.Tensor:
        """The loss of a batch."""
        return self.losses(x0, eps, *levels).mean()

    def levels(self) -> tuple[torch.Tensor, ...]:
        """Stratified draws of a batch's levels, in a random order."""
        count, device = self.batch, self.device
        place = torch.randperm(count, device=device)
        if self.losses == self.denoising:
            t = (place + torch.rand(count, device=device)) / count
            return (-2 * torch.tan(t.clamp(1e-6, 1 - 1e-6) * (math.pi / 2)).log(),)
        pairs = len(self.given["grid"]) - 1
        where = (place / (count - 1)) ** 4.0 * pairs + torch.randn(count, device=device)
        index = where.round().clamp(0, pairs - 1).long()
        return self.given["grid"][index], self.given["grid"][index + 1]

    def given_loss(self) -> tuple[float, float]:
        """The loss of what was given and the norm of its gradient, in full float32."""
        names = ("sigma_lo", "sigma_hi") if self.losses == self.consistency else ("lam",)
        given = [self.given[name] for name in ("x0", "eps", *names)]
        held, self.dtype = self.dtype, torch.float32
        exactly(True)
        loss = self.mean_loss(*given)
        slopes = torch.autograd.grad(loss, list(self.theta.values()))
        exactly(False)
        self.dtype = held
        return loss.item(), math.sqrt(sum(g.square().sum().item() for g in slopes))

    def run(self) -> None:
        """One whole training step, waited for."""
        picked = torch.randint(len(self.images), (self.batch,), device=self.device)
        x0 = self.images[picked].float() / 127.5 - 1
        self.mean(x0, torch.randn_like(x0), *self.levels()).backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            torch._foreach_lerp_(self.average, list(self.theta.values()), 1 - EMA)
        torch_networks.wait()

    def memory(self) -> int | None:
        """Bytes of a step beyond what lies in memory between steps."""
        if self.device != "cuda":
            return frame.step_memory(self.run)
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        self.run()
        return torch.cuda.max_memory_allocated() - before


def exactly(whole: bool) -> None:
    """Whether float32 products are float32 throughout; XLA too has TensorFloat-32 by default."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = not whole


def main() -> None:
    # XLA takes as many threads.
    torch.set_num_threads(frame.threads())
    torch.backends.cudnn.benchmark = True
    device = torch_networks.device()
    steps: dict[str, Step] = {}

    def load(name: str, compiled: bool, **about: Any) -> dict[str, Any]:
        steps.clear()
        if device == "cuda":
            torch.cuda.empty_cache()
        step = Step(compiled=False, device=device, **about)
        loss, norm = step.given_loss()
        found = {"loss": loss, "norm": norm, "version": torch.__version__, "device": device}
        steps[f"{name} eager"] = step
        step.run()
        if compiled:
            start = time.perf_counter()
            try:
                other = Step(compiled=True, device=device, **about)
                other.run()
                other.run()
                steps[f"{name} compiled"] = other
                found["compiling"] = time.perf_counter() - start
            # Without a C++ compiler, or for what it does not know, it raises many kinds.
            except Exception as error:
                found["refused"] = str(error).strip().splitlines()[0][:120]
        return found

    def ask(do: str, name: str, **about: Any) -> Any:
        if do == "load":
            return load(name, **about)
        return steps[name].memory() if do == "memory" else frame.once(steps[name].run)

    frame.answer(ask)


if __name__ == "__main__":
    main()

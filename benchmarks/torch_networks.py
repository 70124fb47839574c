"""The U-Net and the DiT in PyTorch, as functions of the same parameters as jaxnoise's networks."""

import math
import os
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

Tensors = dict[str, torch.Tensor]


def device() -> str:
    """Where PyTorch computes: on the GPU if there is one and JAX is not kept off it."""
    wanted = os.environ.get("JAX_PLATFORMS", "") != "cpu"
    return "cuda" if wanted and torch.cuda.is_available() else "cpu"


def wait() -> None:
    """Waits for what was begun on the GPU."""
    if device() == "cuda":
        torch.cuda.synchronize()


def parameters(found: dict[str, np.ndarray], device: str = "cpu") -> Tensors:
    """Parameters by name: channels first, and laid out with channels last."""
    theta = {}
    for name, value in found.items():
        axes = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[value.ndim]
        tensor = torch.from_numpy(np.ascontiguousarray(value.transpose(axes))).to(device)
        if value.ndim == 4:
            tensor = tensor.contiguous(memory_format=torch.channels_last)
        theta[name] = tensor.requires_grad_()
    return theta


def load(path: Path, device: str = "cpu") -> tuple[Tensors, dict[str, np.ndarray]]:
    """The parameters in a file of arrays, and all else in it."""
    arrays = dict(np.load(path))
    theta = {
        n.removeprefix("theta/"): arrays.pop(n) for n in list(arrays) if n.startswith("theta/")
    }
    return parameters(theta, device), arrays


def images(value: np.ndarray, device: str = "cpu") -> torch.Tensor:
    """Images or batches of them, channels first, laid out with channels last."""
    return torch.from_numpy(np.ascontiguousarray(value)).to(device).movedim(-1, -3)


def unet(p: Tensors, x: torch.Tensor, c_noise: torch.Tensor) -> torch.Tensor:
    """DDPM++ and its small relatives: which blocks there are is read from the parameters' names."""

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
        # Written out, since PyTorch's own cannot be differentiated twice.
        h = norm(f"{name}/norm", x).flatten(2).transpose(1, 2)
        q, k, v = dense(f"{name}/qkv", h).chunk(3, dim=2)
        logits = q @ k.transpose(1, 2) / math.sqrt(x.shape[1])
        h = dense(f"{name}/output", logits.softmax(dim=2).to(v.dtype) @ v)
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
    steps = torch.arange(half, dtype=x.dtype, device=x.device) / (half - 1)
    angle = c_noise[:, None] * 10000.0**-steps
    emb = torch.cat([angle.sin(), angle.cos()], dim=1)
    for i in range(2):
        emb = F.silu(dense(f"embedding_{i}", emb))

    levels = 1 + sum(f"encoder{i}_down/conv_0/kernel" in p for i in range(1, 8))
    blocks = sum(f"encoder0_block{i}/conv_0/kernel" in p for i in range(32))
    x = conv("input", x)
    skips = [x]
    for level in range(levels):
        if level:
            x = block(f"encoder{level}_down", x, "down")
            skips.append(x)
        for i in range(blocks):
            x = block(f"encoder{level}_block{i}", x)
            skips.append(x)
    x = block("middle_1", block("middle_0", x))
    for level in reversed(range(levels)):
        if level < levels - 1:
            x = block(f"decoder{level}_up", x, "up")
        for i in range(blocks + 1):
            x = block(f"decoder{level}_block{i}", torch.cat([x, skips.pop()], dim=1))
    return conv("output", F.silu(norm("output_norm", x)))


def dit(
    p: Tensors, x: torch.Tensor, c_noise: torch.Tensor, positions: torch.Tensor, heads: int
) -> torch.Tensor:
    """The diffusion transformer; `positions` is float[1, T, D]."""

    def dense(name: str, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, p[f"{name}/kernel"], p[f"{name}/bias"])

    def norm(x: torch.Tensor, shift: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        y = F.layer_norm(x, x.shape[-1:], eps=1e-6)
        return y * (1 + scale[:, None]) + shift[:, None]

    def attention(name: str, x: torch.Tensor) -> torch.Tensor:
        batch, tokens, width = x.shape
        qkv = dense(f"{name}/qkv", x).reshape(batch, tokens, 3, heads, width // heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        h = F.scaled_dot_product_attention(q, k, v)
        return dense(f"{name}/output", h.transpose(1, 2).reshape(x.shape))

    steps = torch.arange(128, dtype=x.dtype, device=x.device) / 128
    angle = c_noise[:, None] * (250 * 10000.0**-steps)
    emb = torch.cat([angle.cos(), angle.sin()], dim=1)
    condition = F.silu(dense("embedding_1", F.silu(dense("embedding_0", emb))))

    batch, channels, height, width = x.shape
    size = round(math.sqrt(p["input/kernel"].shape[1] / channels))
    rows, columns = height // size, width // size
    x = x.reshape(batch, channels, rows, size, columns, size).permute(0, 2, 4, 3, 5, 1)
    x = dense("input", x.reshape(batch, rows * columns, -1)) + positions
    depth = sum(f"block{i}/modulation/kernel" in p for i in range(64))
    for i in range(depth):
        maps = dense(f"block{i}/modulation", condition).chunk(6, dim=1)
        h = attention(f"block{i}/attention", norm(x, *maps[:2]))
        x = x + maps[2][:, None] * h
        h = F.gelu(dense(f"block{i}/mlp_0", norm(x, *maps[3:5])), approximate="tanh")
        x = x + maps[5][:, None] * dense(f"block{i}/mlp_1", h)
    x = dense("output", norm(x, *dense("modulation", condition).chunk(2, dim=1)))
    x = x.reshape(batch, rows, columns, size, size, channels).permute(0, 5, 1, 3, 2, 4)
    return x.reshape(batch, channels, height, width)

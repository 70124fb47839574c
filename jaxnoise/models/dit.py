"""The diffusion transformer DiT with adaLN-Zero conditioning."""

import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxnoise.errors import ArgumentError, check_shape, one_of
from jaxnoise.models import layers
from jaxnoise.models.fused import at_least_float32

# DiT's noise label runs over 0..1000, ours over about -4..4.
_LABEL_SCALE = 250.0
_FREQUENCIES = 128


def noise_embedding(c_noise: jax.Array) -> jax.Array:
    """128 cosines and 128 sines of the noise label at geometric frequencies.

    `[cos(250 c f_j), sin(250 c f_j)]`, `f_j = 10000^(-j / 128)`, j = 0..127. The factor 250 is our
    choice: labels of about -4..4 then span as much as the time steps 0..1000 of DiT.

    Args:
      c_noise: float[B], the noise label.

    Returns:
      float[B, 256], in the dtype of `c_noise`.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnoise.models.dit import noise_embedding
      >>> noise_embedding(jnp.zeros(1)).sum()
      Array(128., dtype=float32)

    Reference: frequencies of DiT's timestep embedding, https://arxiv.org/abs/2212.09748, its code.
    """
    frequencies = 10000.0 ** (-np.arange(_FREQUENCIES) / _FREQUENCIES)
    angle = c_noise[:, None] * jnp.asarray(_LABEL_SCALE * frequencies, c_noise.dtype)[None, :]
    return jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], axis=1)


def position_embedding(rows: int, columns: int, channels: int) -> np.ndarray:
    """Sines and cosines of a patch's column, then of its row.

    `[sin(c f_j), cos(c f_j), sin(r f_j), cos(r f_j)]`, `f_j = 10000^(-j / n)`, j = 0..n-1,
    n = channels / 4, for the patch in row r and column c.

    Args:
      rows: patches from top to bottom.
      columns: patches from left to right.
      channels: width of the result, a multiple of 4.

    Returns:
      float64[rows, columns, channels], a constant.

    Raises:
      ArgumentError: `channels` is not a multiple of 4.

    Example:
      >>> from jaxnoise.models.dit import position_embedding
      >>> position_embedding(1, 2, 4).round(2)[0].tolist()
      [[0.0, 1.0, 0.0, 1.0], [0.84, 0.54, 0.0, 1.0]]

    Reference: https://arxiv.org/abs/2212.09748, section 3.2 (frequency-based positions of ViT).
    """
    if channels < 4 or channels % 4:
        raise ArgumentError("channels", channels, "a multiple of 4")
    n = channels // 4
    angle = np.outer(np.arange(max(rows, columns)), 10000.0 ** (-np.arange(n) / n))
    waves = np.concatenate([np.sin(angle), np.cos(angle)], axis=1)
    shape = (rows, columns, 2 * n)
    across = np.broadcast_to(waves[None, :columns], shape)
    down = np.broadcast_to(waves[:rows, None], shape)
    return np.concatenate([across, down], axis=2)


def patchify(x: jax.Array, size: int) -> jax.Array:
    """Cuts images into patches, row by row: float[B, H, W, C] to float[B, T, size^2 C].

    Args:
      x: float[B, H, W, C], sides divisible by `size`.
      size: side of a patch in pixels.

    Returns:
      float[B, H W / size^2, size^2 C]: the pixels of a patch row by row, channels innermost.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnoise.models.dit import patchify
      >>> patchify(jnp.arange(8).reshape(1, 2, 4, 1), 2).tolist()
      [[[0, 1, 4, 5], [2, 3, 6, 7]]]

    Reference: https://arxiv.org/abs/2212.09748, figure 4.
    """
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // size, size, width // size, size, channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, -1, size * size * channels)


def unpatchify(patches: jax.Array, height: int, width: int, size: int) -> jax.Array:
    """Puts patches together to images, the inverse of `patchify`.

    Args:
      patches: float[B, T, size^2 C], `T = height width / size^2`.
      height: of the images, in pixels.
      width: of the images, in pixels.
      size: side of a patch in pixels.

    Returns:
      float[B, height, width, C].

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnoise.models.dit import patchify, unpatchify
      >>> x = jnp.arange(8).reshape(1, 2, 4, 1)
      >>> (unpatchify(patchify(x, 2), 2, 4, 2) == x).all()
      Array(True, dtype=bool)
    """
    x = patches.reshape(patches.shape[0], height // size, width // size, size, size, -1)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(patches.shape[0], height, width, -1)


def _modulated_norm(x: jax.Array, shift: jax.Array, scale: jax.Array) -> jax.Array:
    wide = x.astype(at_least_float32(x.dtype))
    centred = wide - wide.mean(axis=2, keepdims=True)
    variance = jnp.square(centred).mean(axis=2, keepdims=True)
    y = centred * lax.rsqrt(variance + 1e-6)
    return (y * (1 + scale[:, None, :]) + shift[:, None, :]).astype(x.dtype)


def _modulation(condition: jax.Array, parts: int, width: int) -> list[jax.Array]:
    zeros = nn.initializers.zeros
    maps = layers.Dense(parts * width, kernel_init=zeros, name="modulation")(condition)
    return jnp.split(maps, parts, axis=1)


class MultiHeadAttention(nn.Module):
    """Attention between tokens, `softmax(q k^T / sqrt(D / heads)) v` per head, and an output map.

    Products of queries with keys and the softmax are float32.

    Args:
      num_heads: how many heads; divides the tokens' width.

    Reference: https://arxiv.org/abs/1706.03762, section 3.2.2.
    """

    num_heads: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        batch, tokens, width = x.shape
        size = width // self.num_heads
        init = layers.xavier_uniform()
        qkv = layers.Dense(3 * width, kernel_init=init, name="qkv")(x)
        qkv = qkv.reshape(batch, tokens, 3, self.num_heads, size)
        q, k, v = qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]
        wide = at_least_float32(x.dtype)
        logits = jnp.einsum("bqhd,bkhd->bhqk", q, k, preferred_element_type=wide)
        weights = jax.nn.softmax(logits / math.sqrt(size), axis=3).astype(x.dtype)
        h = jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(x.shape)
        return layers.Dense(width, kernel_init=init, name="output")(h)


class DiTBlock(nn.Module):
    """Attention, then a two-layer perceptron, each with a norm and a gate set by the condition.

    `x <- x + g_1 attention((1 + s_1) norm(x) + t_1)`; `x <- x + g_2 mlp((1 + s_2) norm(x) + t_2)`;
    `(t_1, s_1, g_1, t_2, s_2, g_2)` is an affine map of the condition, zero at the start.

    Args:
      num_heads: attention heads.
      mlp_width: width inside the perceptron.
      layer: number of the block, by which its dropout masks differ from others'.
      dropout: rate inside the perceptron, 0 or in [1/256, 255/256].

    Reference: https://arxiv.org/abs/2212.09748, section 3.2 (adaLN-Zero), figure 3.
    """

    num_heads: int
    mlp_width: int
    layer: int
    dropout: float = 0.0

    @nn.compact
    def __call__(
        self, x: jax.Array, condition: jax.Array, dropout_keys: jax.Array | None
    ) -> jax.Array:
        width = x.shape[-1]
        init = layers.xavier_uniform()
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = _modulation(condition, 6, width)
        h = _modulated_norm(x, shift, scale)
        h = MultiHeadAttention(self.num_heads, name="attention")(h)
        x = layers.gated(x, gate[:, None, :], h)
        h = _modulated_norm(x, mlp_shift, mlp_scale)
        h = layers.Dense(self.mlp_width, kernel_init=init, name="mlp_0")(h)
        h = nn.gelu(h, approximate=True)
        if dropout_keys is not None:
            h = layers.dropout(h, dropout_keys, self.layer, self.dropout)
        h = layers.Dense(width, kernel_init=init, name="mlp_1")(h)
        return layers.gated(x, mlp_gate[:, None, :], h)


class DiT(nn.Module):
    """Diffusion transformer `F(x, c_noise)`: a vision transformer over patches of the image.

    Noise label and class are embedded and summed to one condition, which sets scale, shift and
    gate of every block (adaLN-Zero). A fresh network returns zero. Positions are fixed sines and
    cosines, so one set of parameters takes images of any size.

    For latents and large images, where a transformer is wanted; `DIT_PRESETS` names its sizes.

    Args:
      out_channels: channels of the output.
      patch_size: side of a patch in pixels; divides both sides of the image.
      hidden_size: width of a token, a multiple of 4 and of `num_heads`.
      depth: number of blocks.
      num_heads: attention heads per block.
      mlp_ratio: width of the perceptron over `hidden_size`, rounded down to a whole width.
      dropout: rate inside the perceptrons, 0 or in [1/256, 255/256]; quantised to 1/256.
      num_classes: number of classes; 0 for an unconditional network.
      augment_labels: how many numbers tell of an image's augmentation (9 in EDM); 0 for a network
        that is not told.
      dtype: float32, bfloat16 or float64, in which blocks compute; parameters are float32, and
        embeddings, modulation, norm statistics and softmax float32 at least.

    Raises:
      ArgumentError: a field out of range, or an image that the fields do not fit.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from jaxnoise.models import DIT_PRESETS, DiT
      >>> network = DiT(**DIT_PRESETS["dit_tiny"], out_channels=1)
      >>> x, c_noise = jnp.zeros((2, 8, 8, 1)), jnp.zeros(2)
      >>> shapes = jax.eval_shape(network.init, jax.random.key(0), x, c_noise)
      >>> jax.eval_shape(network.apply, shapes, x, c_noise).shape
      (2, 8, 8, 1)

    Reference: https://arxiv.org/abs/2212.09748; initial values as in its code. Dropout is our
    addition.
    """

    out_channels: int = 3
    patch_size: int = 2
    hidden_size: int = 384
    depth: int = 12
    num_heads: int = 6
    mlp_ratio: float = 4.0
    dropout: float = 0.0
    num_classes: int = 0
    augment_labels: int = 0
    dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        self._check_fields()
        super().__post_init__()

    def _check_fields(self) -> None:
        for name in ("out_channels", "patch_size", "hidden_size", "depth", "num_heads"):
            if getattr(self, name) < 1:
                raise ArgumentError(name, getattr(self, name), "at least 1")
        if self.hidden_size % 4:
            raise ArgumentError("hidden_size", self.hidden_size, "a multiple of 4")
        if self.hidden_size % self.num_heads:
            allowed = f"a divisor of hidden_size={self.hidden_size}"
            raise ArgumentError("num_heads", self.num_heads, allowed)
        if not 1 <= self.hidden_size * self.mlp_ratio < math.inf:
            raise ArgumentError("mlp_ratio", self.mlp_ratio, "at least 1 / hidden_size and finite")
        if self.dropout and not 1 / 256 <= self.dropout <= 255 / 256:
            raise ArgumentError("dropout", self.dropout, "0 or in [1/256, 255/256]")
        for name in ("num_classes", "augment_labels"):
            if getattr(self, name) < 0:
                raise ArgumentError(name, getattr(self, name), "at least 0")
        one_of("dtype", jnp.dtype(self.dtype).name, ("float32", "bfloat16", "float64"))

    def _check_input(self, x: jax.Array, labels: jax.Array | None) -> None:
        height, width = x.shape[1:3]
        if height % self.patch_size or width % self.patch_size:
            allowed = f"a divisor of the sides of {height}x{width}"
            raise ArgumentError("patch_size", self.patch_size, allowed)
        if (labels is None) != (self.num_classes == 0):
            allowed = f"given exactly if num_classes > 0 (it is {self.num_classes})"
            raise ArgumentError("labels", labels, allowed)

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        c_noise: jax.Array,
        labels: jax.Array | None = None,
        dropout_keys: jax.Array | None = None,
        augmentation: jax.Array | None = None,
    ) -> jax.Array:
        """Applies the network.

        Args:
          x: float[B, H, W, C], the scaled noisy image.
          c_noise: float32[B], the noise label, about -4..4, or float32[B, n] for n of them; n is
            fixed where the network is initialised.
          labels: int32[B] in 0..num_classes; `num_classes` itself means "no class". None exactly
            if the network is unconditional.
          dropout_keys: key[B], one per example, whose dropout masks depend on it alone; None for
            no dropout.
          augmentation: float32[B, augment_labels]; None for zeros, an image as it is.

        Returns:
          float32[B, H, W, out_channels] (float64 if `dtype` is).

        Raises:
          ArgumentError: the image or `labels` do not fit the fields.
        """
        check_shape("x", x, (None, None, None, None), "[B, H, W, C]")
        layers.check_noise_labels(c_noise, x.shape[0])
        self._check_input(x, labels)
        _, height, width, _ = x.shape
        size = self.patch_size
        condition = nn.silu(self._embedding(c_noise, labels, augmentation))

        x = patchify(x.astype(self.dtype), size)
        init = layers.xavier_uniform()
        x = layers.Dense(self.hidden_size, kernel_init=init, name="input")(x)
        places = position_embedding(height // size, width // size, self.hidden_size)
        x = x + jnp.asarray(places.reshape(1, -1, self.hidden_size), x.dtype)
        for layer in range(self.depth):
            x = DiTBlock(
                self.num_heads,
                mlp_width=int(self.hidden_size * self.mlp_ratio),
                layer=layer,
                dropout=self.dropout,
                name=f"block{layer}",
            )(x, condition, dropout_keys)

        x = _modulated_norm(x, *_modulation(condition, 2, self.hidden_size))
        zeros = nn.initializers.zeros
        pixels = size * size * self.out_channels
        x = layers.Dense(pixels, kernel_init=zeros, name="output")(x)
        return unpatchify(x, height, width, size).astype(at_least_float32(x.dtype))

    def _embedding(
        self, c_noise: jax.Array, labels: jax.Array | None, augmentation: jax.Array | None
    ) -> jax.Array:
        emb = layers.embedded(c_noise.astype(at_least_float32(self.dtype)), noise_embedding)
        init = nn.initializers.normal(0.02)
        width = self.hidden_size
        emb = layers.Dense(width, kernel_init=init, name="embedding_0")(emb)
        emb = layers.Dense(width, kernel_init=init, name="embedding_1")(nn.silu(emb))
        if labels is not None:
            # One-hot rows times a matrix: a gather's gradient adds up in any order on a GPU.
            rows = jax.nn.one_hot(labels, self.num_classes + 1, dtype=emb.dtype)
            emb = emb + nn.Dense(
                width,
                use_bias=False,
                dtype=emb.dtype,
                precision=lax.Precision.HIGHEST,
                kernel_init=init,
                name="label",
            )(rows)
        if self.augment_labels:
            emb = emb + layers.augmentation_embedding(
                augmentation, emb, self.augment_labels, kernel_init=init
            )
        return emb


DIT_PRESETS: Mapping[str, Mapping[str, Any]] = {
    # .7M parameters, for 8x8 digits on a CPU.
    "dit_tiny": {"patch_size": 2, "hidden_size": 96, "depth": 4, "num_heads": 4},
    **{
        f"dit_{name}_{patch_size}": {
            "patch_size": patch_size,
            "hidden_size": hidden_size,
            "depth": depth,
            "num_heads": num_heads,
        }
        # 33M, 130M, 458M and 675M parameters: the sizes of the paper's table 1.
        for name, hidden_size, depth, num_heads in (
            ("s", 384, 12, 6),
            ("b", 768, 12, 12),
            ("l", 1024, 24, 16),
            ("xl", 1152, 28, 16),
        )
        for patch_size in (2, 4, 8)
    },
}

"""The U-Net family of EDM: DDPM++ and NCSN++."""

import itertools
import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from jaxnoise.errors import ArgumentError, check_shape, one_of
from jaxnoise.models import layers
from jaxnoise.models.fused import at_least_float32

# The last convolution of a residual branch starts near zero, as in EDM.
_NEAR_ZERO = 1e-5


class SelfAttention(nn.Module):
    """One-head attention over pixels: `softmax(q k^T / sqrt(C)) v`, with norm and output map.

    The sum with x is the caller's. Products of queries with keys and the softmax are float32.

    Args:
      fused: as in `UNet`.

    Reference: https://arxiv.org/abs/1706.03762, equation 1; initialisation as in EDM.
    """

    fused: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        batch, height, width, channels = x.shape
        h = layers.GroupNorm(fused=self.fused, name="norm")(x)
        init = layers.xavier_uniform(math.sqrt(0.2))
        h = layers.Dense(3 * channels, kernel_init=init, name="qkv")(h)
        q, k, v = jnp.split(h.reshape(batch, height * width, 3 * channels), 3, axis=2)
        wide = at_least_float32(x.dtype)
        logits = jnp.einsum("bqc,bkc->bqk", q, k, preferred_element_type=wide)
        weights = jax.nn.softmax(logits / math.sqrt(channels), axis=2).astype(x.dtype)
        h = jnp.einsum("bqk,bkc->bqc", weights, v).reshape(x.shape)
        init = layers.xavier_uniform(_NEAR_ZERO)
        return layers.Dense(channels, kernel_init=init, name="output")(h)


class ResidualBlock(nn.Module):
    """Norm, SiLU, convolution, twice; the embedding enters in between; then attention if asked.

    `h = conv(resample(silu(norm(x)))) + affine(e)`; `h = conv(dropout(silu(norm(h))))`;
    `y = skip_scale (skip(x) + h)`; with attention, `y <- skip_scale (y + attention(y))`.

    Args:
      features: channels of the output.
      layer: number of the block, by which its dropout masks differ from others'.
      resample: "up", "down" or "".
      attention: whether attention follows.
      taps: weights of the filter that resamples.
      dropout, skip_scale, fused: as in `UNet`.

    Reference: EDM, https://arxiv.org/abs/2206.00364, appendix F (blocks of DDPM++ and NCSN++).
    """

    features: int
    layer: int
    resample: str = ""
    attention: bool = False
    taps: tuple[float, ...] = (1, 1)
    dropout: float = 0.0
    skip_scale: float = math.sqrt(0.5)
    fused: bool = True

    @nn.compact
    def __call__(
        self, x: jax.Array, embedding: jax.Array, dropout_keys: jax.Array | None
    ) -> jax.Array:
        # Keeps XLA's CPU backend from recomputing the residual stream of earlier blocks.
        x = lax.optimization_barrier(x)
        init = layers.xavier_uniform()
        h = layers.GroupNorm(silu=True, fused=self.fused, name="norm_0")(x)
        h = layers.Conv(self.features, fused=self.fused, name="conv_0")(self._resampled(h))
        shift = layers.Dense(self.features, kernel_init=init, name="affine")(embedding)
        h = layers.added(h, shift[:, None, None, :])
        h = layers.GroupNorm(silu=True, fused=self.fused, name="norm_1")(h)
        if dropout_keys is not None:
            h = layers.dropout(h, dropout_keys, self.layer, self.dropout)
        h = layers.Conv(self.features, gain=_NEAR_ZERO, fused=self.fused, name="conv_1")(h)
        if self.resample or x.shape[-1] != self.features:
            x = layers.Dense(self.features, kernel_init=init, name="skip")(self._resampled(x))
        x = (x + h) * self.skip_scale
        if self.attention:
            h = SelfAttention(fused=self.fused, name="attention")(x)
            x = (x + h) * self.skip_scale
        return x

    def _resampled(self, x: jax.Array) -> jax.Array:
        if self.resample == "up":
            return layers.upsample(x, self.taps)
        return layers.downsample(x, self.taps) if self.resample == "down" else x


class UNet(nn.Module):
    """U-Net `F(x, c_noise)` of the EDM family.

    Encoder levels halve the image, the decoder mirrors them with one more block per level and
    takes every encoder output through a skip connection; two blocks, the first with attention,
    sit between them at the lowest resolution.

    For images of up to about 64x64; `preset` names members of the family.

    Args:
      out_channels: channels of the output.
      model_channels: base width; level l has `model_channels * channel_mult[l]` channels.
      channel_mult: one multiplier per level; L levels need sides divisible by 2^(L-1).
      num_blocks: residual blocks per encoder level.
      attn_resolutions: image heights at which blocks have attention (the middle always has it).
      dropout: rate inside residual blocks, 0 or in [1/256, 255/256]; quantised to 1/256.
      num_classes: number of classes; 0 for an unconditional network.
      augment_labels: how many numbers tell of an image's augmentation (9 in EDM); 0 for a network
        that is not told.
      embedding: "positional" (DDPM++) or "fourier" (NCSN++).
      fourier_scale: standard deviation of the Fourier frequencies (16 in EDM, the default, and .02
        in iCT); only for embedding "fourier".
      encoder: "standard" (DDPM++) or "residual" (NCSN++: the input, downsampled, joins each level).
      resample_filter: (1, 1) or (1, 3, 3, 1) or any even number of weights.
      channel_mult_noise: width of the noise embedding over `model_channels`.
      channel_mult_emb: width of the embedding network over `model_channels`.
      skip_scale: factor of every residual sum.
      fused: hand-written backward passes: less time and memory. False for `jax.jvp` of the
        network; `jax.jvp` of a gradient works with both.
      dtype: float32, bfloat16 or float64, in which blocks compute; parameters are float32, and
        embeddings and group-norm statistics float32 at least.

    Raises:
      ArgumentError: a field out of range, or an image that the fields do not fit.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from jaxnoise.models import UNet, preset
      >>> network = UNet(**preset("tiny", out_channels=1))
      >>> x, c_noise = jnp.zeros((2, 8, 8, 1)), jnp.zeros(2)
      >>> shapes = jax.eval_shape(network.init, jax.random.key(0), x, c_noise)
      >>> jax.eval_shape(network.apply, shapes, x, c_noise).shape
      (2, 8, 8, 1)

    Reference: EDM, https://arxiv.org/abs/2206.00364, appendix F and table 7; after Song et al.,
    https://arxiv.org/abs/2011.13456.
    """

    out_channels: int = 3
    model_channels: int = 128
    channel_mult: tuple[int, ...] = (2, 2, 2)
    num_blocks: int = 4
    attn_resolutions: tuple[int, ...] = (16,)
    dropout: float = 0.0
    num_classes: int = 0
    augment_labels: int = 0
    embedding: str = "positional"
    fourier_scale: float | None = None
    encoder: str = "standard"
    resample_filter: tuple[float, ...] = (1, 1)
    channel_mult_noise: int = 1
    channel_mult_emb: int = 4
    skip_scale: float = math.sqrt(0.5)
    fused: bool = True
    dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        self._check_fields()
        super().__post_init__()

    def _check_fields(self) -> None:
        for name in (
            "out_channels",
            "model_channels",
            "num_blocks",
            "channel_mult_noise",
            "channel_mult_emb",
        ):
            if getattr(self, name) < 1:
                raise ArgumentError(name, getattr(self, name), "at least 1")
        if not self.channel_mult or min(self.channel_mult) < 1:
            raise ArgumentError("channel_mult", self.channel_mult, "integers >= 1, one per level")
        if self.model_channels % 4:
            raise ArgumentError("model_channels", self.model_channels, "a multiple of 4")
        if self.dropout and not 1 / 256 <= self.dropout <= 255 / 256:
            raise ArgumentError("dropout", self.dropout, "0 or in [1/256, 255/256]")
        for name in ("num_classes", "augment_labels"):
            if getattr(self, name) < 0:
                raise ArgumentError(name, getattr(self, name), "at least 0")
        one_of("embedding", self.embedding, ("positional", "fourier"))
        one_of("encoder", self.encoder, ("standard", "residual"))
        if not 0 < self.skip_scale < math.inf:
            raise ArgumentError("skip_scale", self.skip_scale, "a finite number > 0")
        if self.fourier_scale is not None:
            if self.embedding != "fourier":
                allowed = f"left out where embedding is {self.embedding!r}"
                raise ArgumentError("fourier_scale", self.fourier_scale, allowed)
            if not 0 < self.fourier_scale < math.inf:
                raise ArgumentError("fourier_scale", self.fourier_scale, "a finite number > 0")
        taps = self.resample_filter
        if not taps or len(taps) % 2 or not 0 < sum(taps) < math.inf:
            allowed = "an even number of finite weights, sum > 0"
            raise ArgumentError("resample_filter", taps, allowed)
        one_of("dtype", jnp.dtype(self.dtype).name, ("float32", "bfloat16", "float64"))

    def _check_input(self, x: jax.Array, labels: jax.Array | None) -> None:
        height, width = x.shape[1:3]
        steps = 2 ** (len(self.channel_mult) - 1)
        if height % steps or width % steps:
            allowed = f"short enough for 2^(levels - 1) to divide the sides of {height}x{width}"
            raise ArgumentError("channel_mult", self.channel_mult, allowed)
        heights = [height >> level for level in range(len(self.channel_mult))]
        if not set(self.attn_resolutions) <= set(heights):
            raise ArgumentError("attn_resolutions", self.attn_resolutions, f"among {heights}")
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
          c_noise: float32[B], the noise label, or float32[B, n] for n of them; n is fixed where
            the network is initialised.
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
        emb = self._embedding(c_noise, labels, augmentation)
        order = itertools.count()

        def block(x: jax.Array, features: int, name: str, **options: Any) -> jax.Array:
            return ResidualBlock(
                features,
                layer=next(order),
                taps=self.resample_filter,
                dropout=self.dropout,
                skip_scale=self.skip_scale,
                fused=self.fused,
                name=name,
                **options,
            )(x, emb, dropout_keys)

        side = x.shape[1]
        widths = [self.model_channels * mult for mult in self.channel_mult]
        x = aux = x.astype(self.dtype)
        x = layers.Conv(self.model_channels, fused=self.fused, name="input")(x)
        skips = [x]
        for level, width in enumerate(widths):
            if level:
                x = block(x, x.shape[-1], f"encoder{level}_down", resample="down")
                if self.encoder == "residual":
                    x = aux = self._join(x, aux, f"encoder{level}_residual")
                skips.append(x)
            attention = side >> level in self.attn_resolutions
            for i in range(self.num_blocks):
                x = block(x, width, f"encoder{level}_block{i}", attention=attention)
                skips.append(x)

        x = block(x, x.shape[-1], "middle_0", attention=True)
        x = block(x, x.shape[-1], "middle_1")

        for level, width in reversed(list(enumerate(widths))):
            if level < len(widths) - 1:
                x = block(x, x.shape[-1], f"decoder{level}_up", resample="up")
            for i in range(self.num_blocks + 1):
                x = jnp.concatenate([x, skips.pop()], axis=3)
                last = i == self.num_blocks and side >> level in self.attn_resolutions
                x = block(x, width, f"decoder{level}_block{i}", attention=last)

        x = layers.GroupNorm(silu=True, fused=self.fused, name="output_norm")(x)
        x = layers.Conv(self.out_channels, gain=_NEAR_ZERO, fused=self.fused, name="output")(x)
        return x.astype(at_least_float32(x.dtype))

    def _embedding(
        self, c_noise: jax.Array, labels: jax.Array | None, augmentation: jax.Array | None
    ) -> jax.Array:
        c_noise = c_noise.astype(at_least_float32(self.dtype))
        channels = self.model_channels * self.channel_mult_noise
        if self.embedding == "positional":
            embed = partial(layers.positional_embedding, channels=channels)
        else:
            scale = self.fourier_scale or 16.0
            embed = partial(layers.fourier_embedding, channels=channels, scale=scale)
        emb = layers.embedded(c_noise, embed)
        init = layers.xavier_uniform()
        if labels is not None:
            # One-hot rows of norm sqrt(num_classes); the label num_classes is the row of zeros.
            rows = jax.nn.one_hot(labels, self.num_classes, dtype=emb.dtype)
            rows = rows * math.sqrt(self.num_classes)
            emb = emb + nn.Dense(
                emb.shape[1], use_bias=False, dtype=emb.dtype, kernel_init=init, name="label"
            )(rows)
        if self.augment_labels:
            emb = emb + layers.augmentation_embedding(
                augmentation, emb, self.augment_labels, kernel_init=init
            )
        for i in range(2):
            width = self.model_channels * self.channel_mult_emb
            emb = nn.silu(layers.Dense(width, kernel_init=init, name=f"embedding_{i}")(emb))
        return emb

    def _join(self, x: jax.Array, aux: jax.Array, name: str) -> jax.Array:
        # The zeros that the filter needs are the convolution's, so the filter itself adds none.
        margin = len(self.resample_filter) // 2 - 1
        aux = layers.Conv(x.shape[-1], padding=1 + margin, fused=self.fused, name=name)(aux)
        aux = layers.downsample(aux, self.resample_filter, pad=False)
        return (x + aux) * math.sqrt(0.5)


PRESETS: Mapping[str, Mapping[str, Any]] = {
    "tiny": {
        "model_channels": 32,
        "channel_mult": (1, 2),
        "num_blocks": 1,
        "attn_resolutions": (),
    },
    "small": {
        "model_channels": 32,
        "channel_mult": (1, 2, 4),
        "num_blocks": 1,
        "attn_resolutions": (),
    },
    "ddpmpp": {},
    "ncsnpp": {
        "embedding": "fourier",
        "encoder": "residual",
        "resample_filter": (1, 3, 3, 1),
        "channel_mult_noise": 2,
    },
    "ncsnpp_deep": {
        "num_blocks": 8,
        "embedding": "fourier",
        "encoder": "residual",
        "resample_filter": (1, 3, 3, 1),
        "channel_mult_noise": 2,
    },
}


def preset(name: str, **overrides: Any) -> dict[str, Any]:
    """The arguments of a named U-Net, with `overrides` on top.

    * `tiny`: .7M parameters, for 8x8 digits on a CPU.
    * `small`: 3M, for 32x32 images on a laptop.
    * `ddpmpp`, `ncsnpp`: 56M, the CIFAR-10 networks of EDM.
    * `ncsnpp_deep`: `ncsnpp` with 8 blocks per level, as in iCT's deep variant.

    Args:
      name: one of the above.
      overrides: fields of `UNet` that replace the preset's.

    Returns:
      Keyword arguments of `UNet`.

    Raises:
      ArgumentError: no preset of this name, or no field of an override's name.

    Example:
      >>> from jaxnoise.models import UNet, preset
      >>> UNet(**preset("tiny", out_channels=1, dropout=0.1)).dropout
      0.1
    """
    one_of("name", name, PRESETS)
    fields = [field for field in UNet.__dataclass_fields__ if field not in ("parent", "name")]
    for override in overrides:
        one_of("overrides", override, fields)
    return {**PRESETS[name], **overrides}

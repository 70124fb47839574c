"""Inception-v3 as the Fréchet inception distance uses it: the TensorFlow graph of 2015-12-05.

Inference only. Batch normalisation is folded into the convolutions, so that each layer is
`relu(conv(x) + b)`. Layers carry the names of the widely used PyTorch conversion of the graph;
`jaxnoise.evaluation.inception_weights` turns its file into this network's parameters.

The graph differs from later Inception-v3 networks in three places: average pools leave the padding
out of the mean, the last block's pool is a max pool, and there are 1008 classes.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from jaxnoise.errors import ArgumentError

IMAGE_SIZE = 299
_CLASSES = 1008
# Accelerators round float32 factors to 8 or 11 bits by default; features need all 24.
_PRECISION = lax.Precision.HIGHEST


class InceptionOutput(NamedTuple):
    """What the network says of a batch.

    Attributes:
      features: float32[B, 2048], the last average pool ("pool3"): the Fréchet distance's space.
      logits_unbiased: float32[B, 1008], the classifier without its bias: the Inception score's.
    """

    features: jax.Array
    logits_unbiased: jax.Array


def average_pool(x: jax.Array) -> jax.Array:
    """Mean over 3x3 windows, stride 1; at the border only over the pixels inside the image.

    Args:
      x: float[B, H, W, C].

    Returns:
      float[B, H, W, C].

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnoise.models.inception import average_pool
      >>> average_pool(jnp.ones((1, 2, 2, 1)))[0, :, :, 0].tolist()
      [[1.0, 1.0], [1.0, 1.0]]
    """
    return nn.avg_pool(x, (3, 3), padding="SAME", count_include_pad=False)


def max_pool(x: jax.Array) -> jax.Array:
    """Maximum over 3x3 windows, stride 1, of the pixels inside the image; float[B, H, W, C]."""
    return nn.max_pool(x, (3, 3), padding="SAME")


def _halve(x: jax.Array) -> jax.Array:
    return nn.max_pool(x, (3, 3), strides=(2, 2))


def _conv(
    x: jax.Array,
    name: str,
    features: int,
    kernel: tuple[int, int],
    stride: int = 1,
    padding: str = "SAME",
) -> jax.Array:
    """`relu(conv(x) + b)`, a layer of the compact module that calls it."""
    layer = nn.Conv(features, kernel, stride, padding, precision=_PRECISION, name=name)
    return nn.relu(layer(x))


def _concatenate(*branches: jax.Array) -> jax.Array:
    return jnp.concatenate(branches, axis=-1)


class BlockA(nn.Module):
    """35x35 block: 1x1, 5x5, two 3x3, pool; to 224 + `pool_features` channels.

    Args:
      pool_features: channels of the branch that pools.
    """

    pool_features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps float[B, H, W, C] to float[B, H, W, 224 + pool_features]."""
        one = _conv(x, "branch1x1", 64, (1, 1))
        five = _conv(x, "branch5x5_1", 48, (1, 1))
        five = _conv(five, "branch5x5_2", 64, (5, 5))
        three = _conv(x, "branch3x3dbl_1", 64, (1, 1))
        three = _conv(three, "branch3x3dbl_2", 96, (3, 3))
        three = _conv(three, "branch3x3dbl_3", 96, (3, 3))
        pool = _conv(average_pool(x), "branch_pool", self.pool_features, (1, 1))
        return _concatenate(one, five, three, pool)


class BlockB(nn.Module):
    """Reduction to half the resolution: 3x3, two 3x3, pool; adds 480 channels."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps float[B, H, W, C] to float[B, (H-1)//2, (W-1)//2, C + 480]."""
        three = _conv(x, "branch3x3", 384, (3, 3), 2, "VALID")
        twice = _conv(x, "branch3x3dbl_1", 64, (1, 1))
        twice = _conv(twice, "branch3x3dbl_2", 96, (3, 3))
        twice = _conv(twice, "branch3x3dbl_3", 96, (3, 3), 2, "VALID")
        return _concatenate(three, twice, _halve(x))


class BlockC(nn.Module):
    """17x17 block of factorised 7x7 convolutions; to 768 channels.

    Args:
      width: channels inside.
    """

    width: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps float[B, H, W, C] to float[B, H, W, 768]."""
        one = _conv(x, "branch1x1", 192, (1, 1))
        seven = _conv(x, "branch7x7_1", self.width, (1, 1))
        seven = _conv(seven, "branch7x7_2", self.width, (1, 7))
        seven = _conv(seven, "branch7x7_3", 192, (7, 1))
        twice = _conv(x, "branch7x7dbl_1", self.width, (1, 1))
        twice = _conv(twice, "branch7x7dbl_2", self.width, (7, 1))
        twice = _conv(twice, "branch7x7dbl_3", self.width, (1, 7))
        twice = _conv(twice, "branch7x7dbl_4", self.width, (7, 1))
        twice = _conv(twice, "branch7x7dbl_5", 192, (1, 7))
        pool = _conv(average_pool(x), "branch_pool", 192, (1, 1))
        return _concatenate(one, seven, twice, pool)


class BlockD(nn.Module):
    """Reduction to half the resolution: 3x3, factorised 7x7 and 3x3, pool; adds 512 channels."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps float[B, H, W, C] to float[B, (H-1)//2, (W-1)//2, C + 512]."""
        three = _conv(x, "branch3x3_1", 192, (1, 1))
        three = _conv(three, "branch3x3_2", 320, (3, 3), 2, "VALID")
        seven = _conv(x, "branch7x7x3_1", 192, (1, 1))
        seven = _conv(seven, "branch7x7x3_2", 192, (1, 7))
        seven = _conv(seven, "branch7x7x3_3", 192, (7, 1))
        seven = _conv(seven, "branch7x7x3_4", 192, (3, 3), 2, "VALID")
        return _concatenate(three, seven, _halve(x))


class BlockE(nn.Module):
    """8x8 block of 3x3 convolutions split into 1x3 beside 3x1; to 2048 channels.

    Args:
      last: whether it is the graph's last block, which pools by the maximum.
    """

    last: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps float[B, H, W, C] to float[B, H, W, 2048]."""
        one = _conv(x, "branch1x1", 320, (1, 1))
        three = _conv(x, "branch3x3_1", 384, (1, 1))
        three_wide = _conv(three, "branch3x3_2a", 384, (1, 3))
        three_tall = _conv(three, "branch3x3_2b", 384, (3, 1))
        twice = _conv(x, "branch3x3dbl_1", 448, (1, 1))
        twice = _conv(twice, "branch3x3dbl_2", 384, (3, 3))
        twice_wide = _conv(twice, "branch3x3dbl_3a", 384, (1, 3))
        twice_tall = _conv(twice, "branch3x3dbl_3b", 384, (3, 1))
        pool = _conv(max_pool(x) if self.last else average_pool(x), "branch_pool", 192, (1, 1))
        return _concatenate(one, three_wide, three_tall, twice_wide, twice_tall, pool)


class Inception(nn.Module):
    """Inception-v3 of the Fréchet inception distance, inference only.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from jaxnoise.models.inception import Inception
      >>> images = jax.ShapeDtypeStruct((2, 299, 299, 3), jnp.float32)
      >>> network = Inception()
      >>> variables = jax.eval_shape(network.init, jax.random.key(0), images)
      >>> output = jax.eval_shape(network.apply, variables, images)
      >>> output.features.shape, output.logits_unbiased.shape
      ((2, 2048), (2, 1008))

    Reference: Szegedy et al., https://arxiv.org/abs/1512.00567; as a feature space Heusel et al.,
    https://arxiv.org/abs/1706.08500.
    """

    @nn.compact
    def __call__(self, images: jax.Array) -> InceptionOutput:
        """Features and logits of a batch.

        Args:
          images: float[B, 299, 299, 3] in [-1, 1), as `jaxnoise.evaluation.resize.inception_input`
            makes them.

        Returns:
          The pooled features and the logits without bias.

        Raises:
          ArgumentError: images of another shape, or integers.
        """
        if images.ndim != 4 or images.shape[1:] != (IMAGE_SIZE, IMAGE_SIZE, 3):
            raise ArgumentError("images", images.shape, f"[B, {IMAGE_SIZE}, {IMAGE_SIZE}, 3]")
        if not jnp.issubdtype(images.dtype, jnp.floating):
            raise ArgumentError("images", str(images.dtype), "floating, resized and in [-1, 1)")
        x = _conv(images, "Conv2d_1a_3x3", 32, (3, 3), 2, "VALID")
        x = _conv(x, "Conv2d_2a_3x3", 32, (3, 3), padding="VALID")
        x = _halve(_conv(x, "Conv2d_2b_3x3", 64, (3, 3)))
        x = _conv(x, "Conv2d_3b_1x1", 80, (1, 1))
        x = _halve(_conv(x, "Conv2d_4a_3x3", 192, (3, 3), padding="VALID"))
        x = BlockA(32, name="Mixed_5b")(x)
        x = BlockA(64, name="Mixed_5c")(x)
        x = BlockA(64, name="Mixed_5d")(x)
        x = BlockB(name="Mixed_6a")(x)
        x = BlockC(128, name="Mixed_6b")(x)
        x = BlockC(160, name="Mixed_6c")(x)
        x = BlockC(160, name="Mixed_6d")(x)
        x = BlockC(192, name="Mixed_6e")(x)
        x = BlockD(name="Mixed_7a")(x)
        x = BlockE(name="Mixed_7b")(x)
        x = BlockE(last=True, name="Mixed_7c")(x)
        features = x.mean(axis=(1, 2))
        classifier = nn.Dense(_CLASSES, use_bias=False, precision=_PRECISION, name="fc")
        return InceptionOutput(features, classifier(features))

"""EfficientNet-Lite0: a small ImageNet classifier, as a feature network for image distances.

Inference only. Batch normalisation is folded into the convolutions, so that each layer is
`conv(x) + b`. Against EfficientNet-B0, the Lite network leaves out squeeze-and-excitation and
clips at 6 in place of swish. `jaxnoise.evaluation.efficientnet_weights` has its parameters.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from jaxnoise.errors import ArgumentError

IMAGE_SIZE = 224
FEATURES = 1280
_CLASSES = 1000
# Output channels, kernel, stride of the first block, expansion, number of blocks.
_STAGES = (
    (16, 3, 1, 1, 1),
    (24, 3, 2, 6, 2),
    (40, 5, 2, 6, 2),
    (80, 3, 2, 6, 3),
    (112, 5, 1, 6, 3),
    (192, 5, 2, 6, 4),
    (320, 3, 1, 6, 1),
)
# Accelerators round float32 factors to 8 or 11 bits by default; features need all 24.
_PRECISION = lax.Precision.HIGHEST


class EfficientNetOutput(NamedTuple):
    """What the network says of a batch.

    Attributes:
      features: float32[B, 1280], the mean over the last convolution's pixels, in [0, 6].
      logits: float32[B, 1000], of the ImageNet classes in their usual order.
    """

    features: jax.Array
    logits: jax.Array


def _conv(
    x: jax.Array, name: str, features: int, kernel: int = 1, stride: int = 1, groups: int = 1
) -> jax.Array:
    """`conv(x) + b`, a layer of the compact module that calls it."""
    layer = nn.Conv(
        features,
        (kernel, kernel),
        stride,
        "SAME",  # an odd pixel of padding goes to the right and below
        feature_group_count=groups,
        precision=_PRECISION,
        name=name,
    )
    return layer(x)


class InvertedResidual(nn.Module):
    """Block of a wide depthwise convolution between two narrow ends.

    `y = project(relu6(depthwise(relu6(expand(x)))))`, and `x + y` where shapes allow it.

    Attributes:
      features: output channels.
      kernel: width of the depthwise convolution in pixels.
      stride: of the depthwise convolution.
      expansion: channels inside per input channel; 1 leaves `expand` out.

    Reference: Sandler et al., https://arxiv.org/abs/1801.04381, figure 4.
    """

    features: int
    kernel: int
    stride: int
    expansion: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps float[B, H, W, C] to float[B, ceil(H/stride), ceil(W/stride), features]."""
        inside = x.shape[-1] * self.expansion
        y = nn.relu6(_conv(x, "expand", inside)) if self.expansion > 1 else x
        y = nn.relu6(_conv(y, "depthwise", inside, self.kernel, self.stride, inside))
        y = _conv(y, "project", self.features)
        return x + y if x.shape == y.shape else y


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0, inference only; 4.6 million parameters.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from jaxnoise.models.efficientnet import EfficientNetLite0
      >>> images = jax.ShapeDtypeStruct((2, 224, 224, 3), jnp.float32)
      >>> network = EfficientNetLite0()
      >>> variables = jax.eval_shape(network.init, jax.random.key(0), images)
      >>> output = jax.eval_shape(network.apply, variables, images)
      >>> output.features.shape, output.logits.shape
      ((2, 1280), (2, 1000))

    Reference: Tan and Le, https://arxiv.org/abs/1905.11946, table 1 for the blocks; the Lite form
    is that of https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite.
    """

    @nn.compact
    def __call__(self, images: jax.Array) -> EfficientNetOutput:
        """Features and logits of a batch.

        Args:
          images: float[B, 224, 224, 3] in [-1, 1], as
            `jaxnoise.evaluation.efficientnet_weights.efficientnet_input` makes them.

        Returns:
          The pooled features and the logits.

        Raises:
          ArgumentError: images of another shape, or integers.
        """
        if images.ndim != 4 or images.shape[1:] != (IMAGE_SIZE, IMAGE_SIZE, 3):
            raise ArgumentError("images", images.shape, f"[B, {IMAGE_SIZE}, {IMAGE_SIZE}, 3]")
        if not jnp.issubdtype(images.dtype, jnp.floating):
            raise ArgumentError("images", str(images.dtype), "floating, resized and in [-1, 1]")
        x = nn.relu6(_conv(images, "stem", 32, 3, 2))
        count = 0
        for features, kernel, stride, expansion, blocks in _STAGES:
            for i in range(blocks):
                first = stride if i == 0 else 1
                block = InvertedResidual(features, kernel, first, expansion, name=f"blocks_{count}")
                x = block(x)
                count += 1
        pooled = nn.relu6(_conv(x, "head", FEATURES)).mean(axis=(1, 2))
        classifier = nn.Dense(_CLASSES, precision=_PRECISION, name="fc")
        return EfficientNetOutput(pooled, classifier(pooled))

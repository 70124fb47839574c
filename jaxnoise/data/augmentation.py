"""EDM's augmentation of images, drawn on the device for each example by its own key."""

import math

import jax
import jax.numpy as jnp

from jaxnoise.errors import ArgumentError, check_keys, check_shape

LABELS = 9
"""Numbers that tell a network how an image was augmented; all 0 for one that was not."""

_SCALE, _STRETCH, _SHIFT = 0.2, 0.2, 0.125
"""Standard deviations: of scale and stretch in log2, of the shift in sides of the image."""


def check_probability(argument: str, probability: float) -> None:
    """Raises ArgumentError unless `0 < probability <= 1`."""
    if not 0 < probability <= 1:
        raise ArgumentError(argument, probability, "a number in (0, 1]")


def augment(images: jax.Array, keys: jax.Array, probability: float) -> tuple[jax.Array, jax.Array]:
    """Mirrors, scales, turns, stretches and shifts each image at random, and says how.

    A pixel at q from the middle of the result is taken from `M S R(a) [R(-b) diag(1/t, t) R(b)] (q - d)`
    in the image: M mirrors, S = 1/s shrinks distances, R turns.

      M  left to right with probability 1/2 always; top to bottom with p/2
      s  2^(.2 w), w ~ N(0, 1), with probability p
      a  uniform on (-pi, pi), with probability p
      t  2^(.2 v), v ~ N(0, 1), with probability p, along an axis at b, which is uniform on
         (-pi, pi) or, half of the time, 0
      d  (u_x W, u_y H) / 8, u ~ N(0, I), with probability p

    The labels are mirrored or not (0 or 1, twice), w, cos a - 1, sin a, v cos b, v sin b, u_x, u_y,
    in EDM's order, so that its networks understand them; like EDM's, they do not tell v at b from
    -v at b + pi.

    For small data sets: the network learns of more images, and as it sees the labels, images drawn
    with labels of 0 are not augmented. EDM has p = .12 for CIFAR-10 and .15 for FFHQ and AFHQ.

    Where it differs from EDM: pixels between pixels are found by a cubic through the 4 x 4 nearest
    (Catmull-Rom), where EDM doubles the image with a wavelet's filter, takes the bilinear value
    and halves it again, which blurs what is not augmented, too. Here such an image is left as it
    is, to the bit, and one that is only mirrored is mirrored exactly. Beyond its edges an image
    is mirrored as often as needed; EDM mirrors it once. Both may leave [-1, 1] a little near sharp
    edges, and neither filters much when an image shrinks.

    Args:
      images: float[B, H, W, C], sides of at least 2.
      keys: key[B], one for each image.
      probability: p in (0, 1].

    Returns:
      float[B, H, W, C] and labels float32[B, 9].

    Raises:
      ArgumentError: an argument of another shape or out of its range.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from jaxnoise.data import augment
      >>> images, keys = jnp.ones((3, 8, 8, 1)), jax.random.split(jax.random.key(0), 3)
      >>> augmented, labels = augment(images, keys, probability=0.12)
      >>> augmented.shape, labels.shape
      ((3, 8, 8, 1), (3, 9))

    Reference: https://arxiv.org/abs/2206.00364, appendix F.2 and table 6; that an axis is 0 half of
    the time is from its code.
    """  # noqa: E501
    check_shape("images", images, (None, None, None, None), "[B, H, W, C]")
    check_keys("keys", keys, images.shape[0])
    check_probability("probability", probability)
    height, width = images.shape[1:3]
    if min(height, width) < 2:
        raise ArgumentError("images", images.shape, "of sides of at least 2")

    def one(image: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        matrix, shift, labels = _drawn(key, probability, height, width)
        return resampled(image, matrix, shift), labels

    return jax.vmap(one)(images, keys)


def _drawn(
    key: jax.Array, probability: float, height: int, width: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The matrix and the shift of one image, in (x, y), and its labels."""
    uniform_key, normal_key = jax.random.split(key)
    uniforms = jax.random.uniform(uniform_key, (10,), jnp.float32)
    w, v, u_x, u_y = jax.random.normal(normal_key, (4,), jnp.float32)
    happens = uniforms[:5] < probability
    mirror_x = (uniforms[5] < 0.5).astype(jnp.float32)
    mirror_y = (happens[0] & (uniforms[6] < 0.5)).astype(jnp.float32)
    w = jnp.where(happens[1], w, 0.0)
    angle = jnp.where(happens[2], math.pi * (2 * uniforms[7] - 1), 0.0)
    v = jnp.where(happens[3], v, 0.0)
    axis = jnp.where(uniforms[9] < 0.5, math.pi * (2 * uniforms[8] - 1), 0.0)
    u_x, u_y = jnp.where(happens[4], u_x, 0.0), jnp.where(happens[4], u_y, 0.0)

    stretch = jnp.exp2(_STRETCH * v)
    across, along = jnp.cos(axis), jnp.sin(axis)
    # R(-b) diag(1/t, t) R(b) = diag + (t - 1/t) [[sin^2, sin cos], [sin cos, -sin^2]].
    gap = (stretch - 1 / stretch) * along
    stretched = _matrix(
        1 / stretch + gap * along, gap * across, gap * across, stretch - gap * along
    )
    turned = _product(
        _matrix(jnp.cos(angle), -jnp.sin(angle), jnp.sin(angle), jnp.cos(angle)), stretched
    )
    rows = jnp.stack([1 - 2 * mirror_x, 1 - 2 * mirror_y]) * jnp.exp2(-_SCALE * w)
    labels = [mirror_x, mirror_y, w, jnp.cos(angle) - 1, jnp.sin(angle)]
    labels += [v * across, v * along, u_x, u_y]
    shift = _SHIFT * jnp.stack([width * u_x, height * u_y])
    return rows[:, None] * turned, shift, jnp.stack(labels)


def _matrix(a: jax.Array, b: jax.Array, c: jax.Array, d: jax.Array) -> jax.Array:
    return jnp.stack([a, b, c, d]).reshape(2, 2)


def _product(a: jax.Array, b: jax.Array) -> jax.Array:
    """`a @ b` of two 2 x 2 matrices, in sums that no accelerator rounds to fewer bits."""
    return (a[:, :, None] * b[None, :, :]).sum(axis=1)


def resampled(image: jax.Array, matrix: jax.Array, shift: jax.Array) -> jax.Array:
    """An image whose pixel at q from the middle is that of another at `matrix (q - shift)`.

    Values between pixels are cubic (Catmull-Rom): exact at pixels, and for polynomials of degree 2.
    Beyond its edges the image is mirrored about the middle of its outermost pixels.

    Args:
      image: float[H, W, C].
      matrix: float32[2, 2], of (x, y), x to the right and y down.
      shift: float32[2], in pixels.

    Returns:
      float[H, W, C].
    """
    height, width, _ = image.shape
    middle = (width - 1) / 2, (height - 1) / 2
    x = jnp.arange(width, dtype=jnp.float32)[None, :] - middle[0] - shift[0]
    y = jnp.arange(height, dtype=jnp.float32)[:, None] - middle[1] - shift[1]
    from_x = matrix[0, 0] * x + matrix[0, 1] * y + middle[0]
    from_y = matrix[1, 0] * x + matrix[1, 1] * y + middle[1]
    first_x, first_y = jnp.floor(from_x), jnp.floor(from_y)
    weights_x, weights_y = _cubic(from_x - first_x), _cubic(from_y - first_y)
    found = jnp.zeros_like(image)
    for i in range(4):
        row = _mirrored(first_y.astype(jnp.int32) + (i - 1), height)
        for j in range(4):
            column = _mirrored(first_x.astype(jnp.int32) + (j - 1), width)
            weight = (weights_y[i] * weights_x[j]).astype(image.dtype)
            found = found + weight[:, :, None] * image[row, column]
    return found


def _cubic(t: jax.Array) -> tuple[jax.Array, ...]:
    """Catmull-Rom's weights of the values at -1, 0, 1, 2 for a place t in [0, 1)."""
    return (
        ((2 - t) * t - 1) * t / 2,
        ((3 * t - 5) * t * t + 2) / 2,
        ((4 - 3 * t) * t + 1) * t / 2,
        (t - 1) * t * t / 2,
    )


def _mirrored(index: jax.Array, size: int) -> jax.Array:
    """An index of any size as one in 0..size-1, mirrored about both ends."""
    period = 2 * (size - 1)
    folded = jnp.mod(index, period)
    return jnp.minimum(folded, period - folded)

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxnoise.data import augment
from jaxnoise.data.augmentation import resampled
from jaxnoise.errors import ArgumentError

COUNT, P = 4000, 0.4
PIXELS = np.random.RandomState(0).standard_normal((7, 9, 2)).astype(np.float32)
RESAMPLE = jax.jit(resampled)


def moved(image, matrix, shift=(0.0, 0.0)):
    return np.asarray(RESAMPLE(image, np.float32(matrix), np.float32(shift)))


def turn(angle):
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


@pytest.mark.takes_a_second
def test_what_maps_pixels_to_pixels_is_exact():
    np.testing.assert_array_equal(moved(PIXELS, np.eye(2)), PIXELS)
    np.testing.assert_array_equal(moved(PIXELS, np.diag([-1, 1])), PIXELS[:, ::-1])
    np.testing.assert_array_equal(moved(PIXELS, np.diag([1, -1])), PIXELS[::-1])
    # The pixel right of the middle comes from below it: the picture is turned to the left.
    square = PIXELS[:, :7]
    np.testing.assert_array_equal(moved(square, [[0, -1], [1, 0]]), np.rot90(square))
    # To the right and up, with what enters mirrored.
    shifted = np.pad(PIXELS, ((0, 5), (3, 0), (0, 0)), mode="reflect")[5:, :9]
    np.testing.assert_array_equal(moved(PIXELS, np.eye(2), (3, -5)), shifted)
    far = moved(PIXELS, np.eye(2), (2 * 8 * 3, 2 * 6 * 5))
    np.testing.assert_array_equal(far, PIXELS)


def grid(height, width):
    y, x = np.mgrid[:height, :width].astype(np.float64)
    return np.stack([x - (width - 1) / 2, y - (height - 1) / 2], axis=-1)


def test_quadratics_are_exact_between_pixels():
    def values(q):
        x, y = q[..., 0], q[..., 1]
        return 0.3 + 0.1 * x - 0.2 * y + 0.05 * x * x - 0.03 * x * y + 0.02 * y * y

    matrix, shift = 0.6 * turn(0.4) @ np.diag([1.2, 0.8]), np.array([0.7, -0.4])
    q = grid(12, 12)
    found = moved(values(q)[..., None].astype(np.float32), matrix, shift)[..., 0]
    source = (q - shift) @ matrix.T
    inside = (np.abs(source) < 4.5).all(axis=-1)
    assert inside.sum() > 100
    np.testing.assert_allclose(found[inside], values(source)[inside], atol=2e-6)


@pytest.fixture(scope="module")
def drawn():
    """Planes x + 10 y, augmented, and their labels."""
    x, y = np.moveaxis(grid(6, 6), -1, 0)
    image = (x + 10 * y).astype(np.float32)[..., None]
    images = jnp.asarray(np.broadcast_to(image, (COUNT, 6, 6, 1)))
    keys = jax.random.split(jax.random.key(0), COUNT)
    function = jax.jit(lambda images, keys: augment(images, keys, P))
    augmented, labels = function(images, keys)

    def again(rows):
        return function(images, keys[rows])

    return image, np.asarray(augmented), np.asarray(labels), again


@pytest.mark.takes_a_second
def test_labels_tell_how_pixels_were_moved(drawn):
    image, augmented, labels, _ = drawn
    checked = 0
    for found, label in zip(augmented[:400], labels[:400].astype(np.float64), strict=True):
        flip_x, flip_y, w, cosine, sine, along, across, u_x, u_y = label
        axis, a = np.arctan2(across, along), np.arctan2(sine, cosine + 1)
        gaps = []
        # Labels do not tell v at b from -v at b + pi.
        for v in np.array([1, -1]) * np.hypot(along, across):
            t = 2 ** (0.2 * v)
            matrix = np.diag([1 - 2 * flip_x, 1 - 2 * flip_y]) / 2 ** (0.2 * w) @ turn(a)
            matrix = matrix @ turn(-axis) @ np.diag([1 / t, t]) @ turn(axis)
            source = (grid(6, 6) - np.array([u_x, u_y]) * 6 / 8) @ matrix.T
            inside = (np.abs(source) <= 1.5).all(axis=-1)
            gaps.append(np.abs(found[inside, 0] - source[inside] @ [1, 10]).max(initial=0))
        assert min(gaps) < 2e-5
        checked += inside.sum()
        if not label[1:].any():
            np.testing.assert_array_equal(found, image[:, ::-1] if flip_x else image)
    assert checked > 2000
    assert 10 < sum(not label[1:].any() for label in labels[:400]) < 100


@pytest.mark.takes_a_second
def test_labels_have_their_laws(drawn):
    labels = drawn[2].astype(np.float64)
    w, angle, v = labels[:, 2], np.arctan2(labels[:, 4], labels[:, 3] + 1), labels[:, 5:7]
    u = labels[:, 7:]
    happened = [w != 0, labels[:, 3:5].any(axis=1), v.any(axis=1), u.any(axis=1)]
    shares = [(labels[:, 0] == 1, 0.5), (labels[:, 1] == 1, P / 2)]
    shares += [(each, P) for each in happened]
    shares += [(a & b, P * P) for a, b in itertools.combinations(happened, 2)]
    along_x = labels[happened[2], 6] == 0
    assert stats.binomtest(int(along_x.sum()), len(along_x), 0.5).pvalue > 1e-3
    for each, share in shares:
        assert stats.binomtest(int(each.sum()), COUNT, share).pvalue > 1e-3
    size = np.hypot(*v[happened[2]].T)
    axis = np.arctan2(v[:, 1], v[:, 0])[happened[2]][~along_x]
    for values, law in (
        (w[happened[0]], stats.norm),
        (angle[happened[1]], stats.uniform(-np.pi, 2 * np.pi)),
        (size, stats.halfnorm),
        (axis, stats.uniform(-np.pi, 2 * np.pi)),
        (u[happened[3]].ravel(), stats.norm),
    ):
        assert stats.kstest(values, law.cdf).pvalue > 1e-3


@pytest.mark.takes_a_second
def test_an_image_depends_on_its_own_key_alone(drawn):
    _, augmented, labels, function = drawn
    order = np.random.RandomState(0).permutation(COUNT)
    again = function(order)
    np.testing.assert_array_equal(again[0], augmented[order])
    np.testing.assert_array_equal(again[1], labels[order])


@pytest.mark.parametrize(
    "shape, count, probability, message",
    [
        ((2, 4, 4), 2, 0.1, r"images=float32\[2,4,4\]"),
        ((2, 1, 4, 1), 2, 0.1, "sides of at least 2"),
        ((2, 4, 4, 1), 3, 0.1, "keys="),
        ((2, 4, 4, 1), 2, 0.0, r"probability=0.0: must be a number in \(0, 1\]"),
        ((2, 4, 4, 1), 2, 1.5, "probability=1.5"),
    ],
)
def test_arguments_are_checked(shape, count, probability, message):
    keys = jax.random.split(jax.random.key(0), count)
    with pytest.raises(ArgumentError, match=message):
        augment(jnp.zeros(shape), keys, probability)

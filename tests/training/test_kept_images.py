"""Images of one run that several scores are taken of."""

import numpy as np

from jaxnoise.training.kept_images import KeptImages


def portions(value, asked):
    """Three images in two portions, 192 bytes in all."""
    for count in (2, 1):
        asked.append(value)
        yield np.full((count, 8, 8, 1), value, np.uint8)


def found(kept, key, value, asked):
    return np.concatenate(list(kept.batches(key, portions(value, asked))))[:, 0, 0, 0].tolist()


def test_what_was_drawn_under_a_key_is_drawn_once():
    kept, asked = KeptImages(), []
    for _ in range(2):
        assert found(kept, ("ema", 1), 1, asked) == [1, 1, 1]
        assert found(kept, ("raw", 1), 2, asked) == [2, 2, 2]
    assert asked == [1, 1, 2, 2]


def test_older_images_make_room_and_larger_sets_are_not_kept():
    kept, asked = KeptImages(most_bytes=400), []
    for value in (1, 2, 3):
        found(kept, value, value, asked)
    asked.clear()
    assert [found(kept, value, value, asked) for value in (2, 3)] == [[2, 2, 2], [3, 3, 3]]
    assert asked == []
    assert found(kept, 1, 1, asked) == [1, 1, 1]
    assert asked == [1, 1]
    small = KeptImages(most_bytes=191)
    asked.clear()
    for _ in range(2):
        assert found(small, 1, 1, asked) == [1, 1, 1]
    assert asked == 4 * [1]


def test_what_was_drawn_in_part_is_not_kept():
    kept, asked = KeptImages(), []
    next(kept.batches(1, portions(1, asked)))
    assert found(kept, 1, 1, asked) == [1, 1, 1]

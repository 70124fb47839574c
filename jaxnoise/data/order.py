"""Which example comes when: a pure function of (seed, position), so resuming changes nothing."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from jaxnoise.errors import ArgumentError


@lru_cache(maxsize=32)  # a batch spans two epochs at most; several seeds may train together
def _permutation(seed: int, num_examples: int, epoch: int) -> NDArray[np.int64]:
    # Sorting raw 64-bit words, since numpy keeps a bit generator's stream stable over its versions
    # but not Generator.permutation's. Two equal words (n^2 / 2^65) keep their order.
    words = np.random.Philox(np.random.SeedSequence(seed, spawn_key=(epoch,)))
    order = np.argsort(words.random_raw(num_examples), kind="stable").astype(np.int64)
    order.flags.writeable = False
    return order


def batch_indices(seed: int, num_examples: int, batch: int, step: int) -> NDArray[np.int64]:
    """Example indices of one global batch; every epoch visits every example exactly once.

        p_i = step * batch + i,    index_i = permutation(seed, p_i // n)[p_i mod n]

    A batch runs on into the next epoch where an epoch ends inside it. Nothing is remembered from
    batch to batch and no device appears, so neither resuming nor the number of devices changes the
    order.

    For a training loop of one's own that should resume exactly.

    Args:
      seed: seed of the data order, at least 0.
      num_examples: n, at least 1.
      batch: GLOBAL batch size, at least 1.
      step: training step, at least 0.

    Returns:
      int64[batch], each in [0, num_examples).

    Raises:
      ArgumentError: an argument below its smallest value.

    Example:
      >>> import numpy as np
      >>> from jaxnoise.data import batch_indices
      >>> epoch = np.concatenate([batch_indices(0, 6, 2, step) for step in range(3)])
      >>> sorted(epoch.tolist())
      [0, 1, 2, 3, 4, 5]
    """
    for argument, value, smallest in (
        ("seed", seed, 0),
        ("num_examples", num_examples, 1),
        ("batch", batch, 1),
        ("step", step, 0),
    ):
        if value < smallest:
            raise ArgumentError(argument, value, f"at least {smallest}")
    seed, num_examples, batch = int(seed), int(num_examples), int(batch)
    position, end = int(step) * batch, (int(step) + 1) * batch
    pieces = []
    while position < end:
        epoch, offset = divmod(position, num_examples)
        pieces.append(_permutation(seed, num_examples, epoch)[offset : offset + end - position])
        position += len(pieces[-1])
    return np.concatenate(pieces)

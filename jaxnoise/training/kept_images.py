"""Generated images that several scores of one run are taken of."""

from collections.abc import Hashable, Iterable, Iterator

import numpy as np

MOST_BYTES = 2**28


class KeptImages:
    """Images by what they were drawn with, while memory allows.

    Drawing takes longer than any score of what is drawn: a second one, such as a distance to other
    images, need not draw again.

    Args:
      most_bytes: of all images that are kept; older ones make room, larger sets are not kept.

    Example:
      >>> import numpy as np
      >>> from jaxnoise.training.kept_images import KeptImages
      >>> kept, image = KeptImages(), np.zeros((1, 8, 8, 1), np.uint8)
      >>> len(list(kept.batches("ema", [image, image]))), len(list(kept.batches("ema", [])))
      (2, 2)
    """

    def __init__(self, most_bytes: int = MOST_BYTES):
        self._most = most_bytes
        self._held: dict[Hashable, list[np.ndarray]] = {}

    def batches(self, key: Hashable, drawn: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """The portions that were drawn under the same key before; else those of `drawn`.

        Args:
          key: everything that the images depend on.
          drawn: draws them in portions, when asked for.
        """
        if key in self._held:
            yield from self._held[key]
            return
        kept: list[np.ndarray] = []
        size = 0
        for portion in drawn:
            size += portion.nbytes
            # Not one portion of what is too large as a whole.
            kept = [*kept, portion] if size <= self._most else []
            yield portion
        if size <= self._most:
            while self._held and size + self._size() > self._most:
                del self._held[next(iter(self._held))]
            self._held[key] = kept

    def _size(self) -> int:
        return sum(portion.nbytes for kept in self._held.values() for portion in kept)

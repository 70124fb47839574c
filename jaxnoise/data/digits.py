"""The 1,797 handwritten digits that scikit-learn carries: real images without any download."""

import numpy as np

from jaxnoise.data.images import ArrayImages
from jaxnoise.errors import ArgumentError


def open_digits(split: str = "train") -> ArrayImages:
    """The digits as images: `round(255 v / 16)` of the stored grey values v in 0..16.

    Args:
      split: "train" only. The set comes in one piece, and a test split of our own making would
        compare with nobody's.

    Returns:
      1,797 images of 8x8x1, 10 classes.

    Raises:
      ArgumentError: another split.

    Example:
      >>> from jaxnoise.data.digits import open_digits
      >>> digits = open_digits()
      >>> digits.num_examples, digits.image_shape, digits.num_classes
      (1797, (8, 8, 1), 10)

    Reference:
      E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning
      Repository, 1998 (its test half), as shipped by scikit-learn.
    """
    if split != "train":
        raise ArgumentError("split", split, "'train' (digits has no other split)")
    from sklearn.datasets import load_digits  # a second to import, and only needed here

    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    return ArrayImages("digits", images, digits.target, 10)

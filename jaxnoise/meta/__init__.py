"""Learning what to train on: exact gradients of the outcome of training."""

from jaxnoise.meta.square_root import with_flat_square_root
from jaxnoise.meta.unroll import InnerState, MetaResult, meta_gradient

__all__ = ["InnerState", "MetaResult", "meta_gradient", "with_flat_square_root"]

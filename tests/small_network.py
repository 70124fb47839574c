"""The smallest network that sees labels and has dropout, named in configs as a user names one."""

import flax.linen as nn
import jax.numpy as jnp

from jaxnoise.models.layers import dropout

MODEL = {"name": "tests.small_network:SmallNetwork"}
"""The section of a config."""


class SmallNetwork(nn.Module):
    """Two convolutions; compiles in a fraction of the time of the smallest U-Net."""

    out_channels: int = 1
    num_classes: int = 0
    width: int = 8
    dropout: float = 0.2
    augment_labels: int = 0

    @nn.compact
    def __call__(self, x, c_noise, labels=None, dropout_keys=None, augmentation=None):
        features = jnp.stack([c_noise, jnp.sin(4 * c_noise), jnp.cos(4 * c_noise)], axis=1)
        embedding = nn.Dense(self.width)(features)
        if self.num_classes:
            embedding += nn.Embed(self.num_classes + 1, self.width)(labels)
        if self.augment_labels:
            embedding += nn.Dense(self.width, use_bias=False, name="augment")(augmentation)
        h = nn.silu(nn.Conv(self.width, (3, 3))(x) + embedding[:, None, None])
        if dropout_keys is not None:
            h = dropout(h, dropout_keys, 0, self.dropout)
        return nn.Conv(self.out_channels, (3, 3))(h)

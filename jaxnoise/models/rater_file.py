"""A rater of noise as one file: numbered arrays and a card that says what they are."""

import dataclasses
import hashlib
import io
import json
import os
import zipfile
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxnoise.errors import ArgumentError
from jaxnoise.files import how_to_make, user_path, write_whole
from jaxnoise.models.rater import RATERS, inputs_of, sees_of
from jaxnoise.models.rater_layers import DRAW, NOISY

CARD = "card"


class SavedRater(NamedTuple):
    """What a rater's file holds.

    Args:
      network: the flax module; what it sees its attribute `sees` says, one of
        `jaxnoise.models.rater_layers.SEES`.
      params: its parameters, a nested dict of float32 numpy arrays.
      card: facts kept beside them; "network", "image_shape" and "sees" among them.
      sha256: of the file, 64 hex digits.
    """

    network: nn.Module
    params: Any
    card: dict[str, Any]
    sha256: str

    @property
    def sees(self) -> str:
        """What it sees, one of `jaxnoise.models.rater_layers.SEES`."""
        return sees_of(self.network)

    def rate(self, *seen: Any) -> jax.Array:
        """The scores of examples, float32[B].

        Args:
          *seen: what `SEES` names for this rater: of a pair of image and noise x0, eps and lam; of
            a noisy image x, lam and labels.

        Raises:
          ArgumentError: images of another shape than it learned on.
        """
        shape, wanted = np.shape(seen[0])[1:], tuple(self.card["image_shape"])
        if self.sees in (DRAW, NOISY) and shape != wanted:
            raise ArgumentError("seen", shape, f"images of shape {wanted}, as it learned on")
        return jnp.asarray(self.network.apply(self.params, *seen))


def save_rater(path: str | os.PathLike[str], network: nn.Module, params: Any, **card: Any) -> None:
    """Writes a rater as an .npz file without pickles, whole or not at all.

    Args:
      path: of the file; its folder must exist.
      network: a module of `RATERS`.
      params: its parameters, float32.
      **card: JSON-safe facts; `image_shape`, (H, W, C), is needed to read it again.

    Raises:
      ArgumentError: the module is none of `RATERS`.
    """
    names = [name for name, kind in RATERS.items() if type(network) is kind]
    if not names:
        raise ArgumentError("network", type(network).__name__, f"one of {', '.join(RATERS)}")
    fields = {
        field.name: getattr(network, field.name)
        for field in dataclasses.fields(network)
        if field.name not in ("parent", "name", "dtype")
    }
    dtype = jnp.dtype(network.dtype).name
    own = {"network": {"name": names[0], **fields, "dtype": dtype}, "sees": sees_of(network)}
    facts = {**card, **own}
    flat = flatten_dict(params, sep="/")
    held: dict[str, Any] = {CARD: np.array(json.dumps(facts, sort_keys=True))}
    held |= {name: np.asarray(flat[name], np.float32) for name in sorted(flat)}
    write_whole(user_path(path), lambda file: np.savez(file, **held))


def load_rater(path: str | os.PathLike[str]) -> SavedRater:
    """Reads a rater that `save_rater` wrote.

    Args:
      path: of the file.

    Returns:
      The rater.

    Raises:
      ArgumentError: there is no such file, it is damaged, or it holds no rater; the argument is
        "file".

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import tempfile
      >>> from jaxnoise.models import RATERS
      >>> from jaxnoise.models.rater_file import load_rater, save_rater
      >>> rater, x0 = RATERS["level"](width=4), jnp.ones((1, 8, 8, 1))
      >>> params = jax.jit(rater.init)(jax.random.key(0), x0, x0, jnp.zeros(1))
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     save_rater(f"{folder}/rater.npz", rater, params, image_shape=(8, 8, 1))
      ...     saved = load_rater(f"{folder}/rater.npz")
      >>> saved.network.width, saved.card["image_shape"], saved.rate(x0, x0, jnp.zeros(1)).tolist()
      (4, [8, 8, 1], [0.0])
    """
    name = os.fspath(path)
    try:
        data = user_path(path).read_bytes()
    except OSError as error:
        reason = f"{error.strerror or type(error).__name__}{how_to_make(user_path(path))}"
        raise ArgumentError("file", name, f"a rater's file, rater.npz ({reason})") from error
    if not zipfile.is_zipfile(io.BytesIO(data)):
        raise ArgumentError("file", name, "a rater's file, whole (it is no .npz archive)")
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as held:
            arrays = {key: held[key] for key in held.files}
        if CARD not in arrays:
            raise ValueError("it holds no rater's card")
        card = json.loads(str(arrays.pop(CARD)))
        fields = dict(card["network"])
        dtype = jnp.dtype(fields.pop("dtype"))
        network = RATERS[fields.pop("name")](**fields, dtype=dtype)
        params = unflatten_dict(arrays, sep="/")
        # Files of before rated draws of noise, and did not say so.
        if card.setdefault("sees", DRAW) != sees_of(network):
            raise ValueError(f"its network does not see {card['sees']!r}")
        seen = inputs_of(network, tuple(card["image_shape"]))
        wanted = jax.eval_shape(network.init, jax.random.key(0), *seen)
        shapes = jax.tree.map(np.shape, params), jax.tree.map(np.shape, wanted)
        single = all(array.dtype == np.float32 for array in arrays.values())
        if shapes[0] != shapes[1] or not single:
            raise ValueError("its arrays are not those of its network")
        if not all(np.isfinite(array).all() for array in arrays.values()):
            raise ValueError("its arrays are not finite")
    except (
        ValueError,
        KeyError,
        TypeError,
        EOFError,
        OSError,
        RuntimeError,
        zipfile.BadZipFile,
    ) as error:
        why = " ".join(str(error).split())[:120]
        raise ArgumentError("file", name, f"a rater's file, whole ({why})") from error
    return SavedRater(network, params, card, hashlib.sha256(data).hexdigest())

"""The weights that a run starts from, read and checked before anything is compiled."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import numpy.typing as npt
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.experimental import multihost_utils

from jaxnoise.data.images import Images
from jaxnoise.errors import ConfigError
from jaxnoise.experiment import ModelRun, completed
from jaxnoise.export.edm import load_edm
from jaxnoise.export.weights import load_weights
from jaxnoise.files import how_to_make, user_path
from jaxnoise.objectives import FewStepObjective, MeanFlowObjective
from jaxnoise.run.open import warn
from jaxnoise.training.checkpoints import Checkpoints
from jaxnoise.training.digests import digests
from jaxnoise.training.records import RunFolder
from jaxnoise.training.state import Params

_FREE = ("name", "class_conditional", "dropout", "dtype")
"""Fields of a network that may differ: arrays tell of them, or they change no weight's meaning."""

_AUGMENT = "params/augment/kernel"
"""Its inputs are 0 for images that were not augmented: a network without it, or with zeros, is the
same."""


class Start(NamedTuple):
    """A network's first weights.

    Attributes:
      network: its variables, nested dict of float32 numpy arrays.
      sha256: digest of the arrays, by which a checkpoint knows them.
    """

    network: Params
    sha256: str


class _Held(NamedTuple):
    """What a folder or a file holds."""

    arrays: dict[str, npt.NDArray[Any]]
    fields: Mapping[str, Any]
    image_shape: tuple[int, ...] | None
    objective: Mapping[str, Any]
    """The section of the config that they were trained by; empty where it is not told."""


def open_start(run: ModelRun, images: Images, wanted: Params) -> Start | None:
    """The weights that `train.init_from` names, or None where it names none.

    Args:
      run: a checked config.
      images: to train on.
      wanted: shapes of the network's variables.

    Raises:
      ConfigError: they cannot be read, are those of another network or of other images, or not
        the same in all processes.
    """
    given = run.train.init_from
    if given is None:
        return None
    check_start(run)
    try:
        network = _network(user_path(given), run, images, wanted)
        text = json.dumps(digests(network), sort_keys=True)
        found, failure = Start(network, hashlib.sha256(text.encode()).hexdigest()), None
    # Whatever it is, the other processes wait to hear of it.
    except Exception as error:
        found, failure = None, _named(given, error)
    _check_same_everywhere(given, found and found.sha256, failure)
    if failure is not None:
        raise failure
    return found


def _named(given: str, error: Exception) -> Exception:
    """An error that the user can mend with the key's name; any other as it is."""
    if not isinstance(error, ConfigError | OSError):
        return error
    return ConfigError(f"config.train.init_from={given!r}: {error}")


def check_start(run: ModelRun) -> None:
    """Looks for the weights that `train.init_from` names, and reads none of them.

    Raises:
      ConfigError: there are none, or some processes have none.
    """
    given = run.train.init_from
    if given is None:
        return
    failure = None
    try:
        _check_place(user_path(given), run)
    except Exception as error:
        failure = _named(given, error)
    _check_same_everywhere(given, None if failure else hashlib.sha256().hexdigest(), failure)
    if failure is not None:
        raise failure


def check_began(held: str | None, named: str | None) -> None:
    """Raises ConfigError unless training began with the weights of one place, by its name alone.

    Args:
      held: `train.init_from` of the checkpoint's config; None where the weights were drawn.
      named: that of the config now.
    """
    if held is None or named is None or _place(held) != _place(named):
        began = "were drawn" if held is None else f"are those of {held!r}"
        raise ConfigError(
            f"config.train.init_from={named!r}: its weights are not those that the checkpoint's "
            f"training began with, which {began}"
        )


def _place(given: str) -> Path:
    return user_path(given).resolve()


def _check_same_everywhere(given: str, sha256: str | None, failure: Exception | None) -> None:
    """Raises ConfigError in every process where they have unlike weights, or only some have any.

    Each decides by itself whether it can go on without, and then all must do the same.

    Args:
      given: `train.init_from`.
      sha256: of this process's weights; None where it has none.
      failure: why it has none.
    """
    if jax.process_count() == 1:
        return
    own = np.frombuffer(bytes.fromhex(sha256 or 64 * "0"), np.uint8)
    every = multihost_utils.process_allgather(own)
    if (every == every[0]).all():
        return
    there = every.any(axis=1)
    unlike = int(np.argmax((every != every[0]).any(axis=1)))
    lacking, other = (unlike, 0) if there.all() else (int(np.argmin(there)), int(np.argmax(there)))
    why = f" ({failure})" if failure else ""
    raise ConfigError(
        f"config.train.init_from={given!r}: process {lacking} does not have the weights that "
        f"process {other} has; all need the same, or none{why}"
    ) from failure


def _check_place(path: Path, run: ModelRun) -> None:
    """Raises ConfigError unless there is a run's folder, or a file of weights."""
    if path.is_dir():
        config = _json(RunFolder(path).config)
        if not config:
            raise ConfigError("is no run's folder: it has no config.json")
        if "rater" in config:
            raise ConfigError("holds a rater's run")
        return
    if path.suffix not in (".safetensors", ".pkl"):
        what = "a run's folder, a .safetensors or a .pkl file"
        none = "" if path.exists() else f"; there is nothing there{how_to_make(path)}"
        raise ConfigError(f"must be {what}{none}")
    if not path.exists():
        raise ConfigError(f"there is no such file{how_to_make(path)}")
    if run.train.init_weights == "raw":
        raise ConfigError("train.init_weights='raw' has a use for a run's folder alone")


def _network(path: Path, run: ModelRun, images: Images, wanted: Params) -> Params:
    """The network's variables in float32."""
    held = _read(path, run)
    shapes = {"/".join(path): leaf.shape for path, leaf in flatten_dict(wanted).items()}
    arrays = {name: x for name, x in held.arrays.items() if name in shapes or name != _AUGMENT}
    if _AUGMENT in shapes:
        arrays.setdefault(_AUGMENT, np.zeros(shapes[_AUGMENT], np.float32))
    _check(held, arrays, shapes, run, images)
    flat = {tuple(name.split("/")): np.asarray(x, np.float32) for name, x in arrays.items()}
    network: Params = unflatten_dict(flat)
    return network


def _read(path: Path, run: ModelRun) -> _Held:
    if path.is_dir():
        return _of_run(path, run)
    if path.suffix == ".pkl":
        found = load_edm(path)
        trained = {"name": "denoising", "target": "edm", "sigma_data": 0.5}
        return _Held(_flat(found.variables), found.fields, found.image_shape, trained)
    return _of_export(path)


def _of_run(path: Path, run: ModelRun) -> _Held:
    folder = RunFolder(path)
    names = ("ema", "params") if run.train.init_weights == "ema" else ("params",)
    found = Checkpoints(folder.checkpoints, on_skip=warn).part(names)[1]
    # Of several averages the first is the main one.
    found = found[0] if isinstance(found, list | tuple) else found
    shape, config = _json(folder.data).get("image_shape"), completed(_json(folder.config))
    fields, objective = (_section(config, name) for name in ("model", "objective"))
    return _Held(_flat(found["network"]), fields, shape and tuple(shape), objective)


def _of_export(path: Path) -> _Held:
    try:
        from safetensors import SafetensorError
    except ImportError as error:
        raise ConfigError("needs safetensors: pip install -e '.[export]'") from error
    try:
        network = load_weights(path.read_bytes())["network"]
    except (SafetensorError, KeyError, OSError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"is no file of --mode=export ({reason})") from error
    # The card lies beside the weights, unless they were taken elsewhere alone.
    card = _json(path.with_name("card.json"))
    shape = card.get("image_shape")
    fields, objective = (_section(card, name) for name in ("model", "objective"))
    return _Held(_flat(network), fields, shape and tuple(shape), objective)


def _section(described: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The settings of a section; none where they are not told."""
    found = described.get(name)
    return found if isinstance(found, Mapping) else {}


def _flat(tree: Mapping[str, Any]) -> dict[str, npt.NDArray[Any]]:
    return {"/".join(path): leaf for path, leaf in flatten_dict(tree).items()}


def _json(path: Path) -> dict[str, Any]:
    """A JSON object of a file; empty where there is none."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _check(
    held: _Held,
    arrays: Mapping[str, npt.NDArray[Any]],
    shapes: Mapping[str, tuple[int, ...]],
    run: ModelRun,
    images: Images,
) -> None:
    """Raises ConfigError unless the arrays are the network's, of the same fields and images."""

    def gap(name: str) -> str:
        if name not in arrays:
            return f"{name} is missing there"
        if name not in shapes:
            return f"{name} is not in config.model"
        return f"{name} is {tuple(arrays[name].shape)} there and {shapes[name]} here"

    wrong = [name for name in shapes if name not in arrays or arrays[name].shape != shapes[name]]
    wrong += [name for name in arrays if name not in shapes]
    if wrong:
        first = ", ".join(map(gap, wrong[:3]))
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ConfigError(f"must hold the weights of config.model; {first}{more}")
    here = json.loads(json.dumps(run.config["model"]))
    there = json.loads(json.dumps(dict(held.fields)))
    other = [k for k in here.keys() & there.keys() if k not in _FREE and here[k] != there[k]]
    if other:
        first = ", ".join(
            f"model.{k} is {there[k]} there and {here[k]} here" for k in sorted(other)
        )
        raise ConfigError(f"must be of the same network; {first}")
    _check_tuned(held.objective, run)
    if held.image_shape not in (None, images.image_shape):
        raise ConfigError(
            f"must be of images {images.image_shape}, as config.data; it is of {held.image_shape}"
        )
    spoilt = [name for name, x in arrays.items() if not np.isfinite(x).all()]
    if spoilt:
        raise ConfigError(f"{spoilt[0]} holds numbers that are not finite")


def _check_tuned(trained: Mapping[str, Any], run: ModelRun) -> None:
    """Raises ConfigError where consistency tuning would begin with another function than it says.

    What a network of another target gives is no denoiser in EDM's form, nor is it told of noise in
    the same number.

    Args:
      trained: the objective's section of what trained the weights.
      run: that begins with them.
    """
    if not isinstance(run.objective, FewStepObjective) or not trained:
        return
    name, kind = run.config["objective"]["name"], trained.get("name")
    jumps = isinstance(run.objective, MeanFlowObjective)
    if kind is not None and jumps != (kind == "meanflow"):
        needed = "'meanflow' too" if jumps else "another kind, a denoiser at best"
        raise ConfigError(
            f"must be of objective.name={needed}, for objective.name={name!r}; it is of {kind!r}"
        )
    target = trained.get("target", "edm")
    if not jumps and target != "edm":
        raise ConfigError(
            f"must be of objective.target='edm', which objective.name={name!r} tunes; it is of "
            f"{target!r}"
        )
    there, here = trained.get("sigma_data"), run.objective.sigma_data
    if there is not None and there != here:
        raise ConfigError(
            f"must be of objective.sigma_data={here:g}, as this run; it is of {there:g}"
        )

"""Exports the newest checkpoint of a run: one program per sampler, the weights and a card."""

import dataclasses
import hashlib
import json
from importlib import import_module
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

import jaxnoise
from jaxnoise.config.choices import is_plain
from jaxnoise.errors import ConfigError
from jaxnoise.evaluation.protocol import recorded_levels
from jaxnoise.experiment import ModelRun, Run
from jaxnoise.export import PLATFORMS, argument_names, evaluations, export_sampler, save_weights
from jaxnoise.files import write_whole
from jaxnoise.objectives import ConsistencyObjective, FewStepObjective
from jaxnoise.objectives.objective import Denoiser
from jaxnoise.run.model import OpenModel, open_model
from jaxnoise.run.open import of_model
from jaxnoise.run.trained import check_trained, trained_state
from jaxnoise.sampling.samplers import Sampler, sigmas_of
from jaxnoise.training.records import RunFolder
from jaxnoise.training.state import Params, TrainState

WEIGHTS = "weights.safetensors"


def main(run: Run, folder: RunFolder) -> None:
    """Writes export/ in the run folder (programs, weights, card) and prints the paths."""
    _check_packages()
    run = of_model(run)
    folder.check_same(run.config)
    check_trained(folder, "sample.step", run.sample.step)
    model = open_model(run, scored=False)
    state = trained_state(model, folder, run.sample.step)
    if jax.process_index() != 0:
        return
    # What can fail at once comes before what takes minutes.
    kind = "raw" if state.ema is None else "ema"
    score = _score(model, folder, model.images_seen(int(state.step)), kind)
    target = folder.root / "export"
    if target.exists() and not target.is_dir():
        raise ConfigError(f"--workdir={folder.root}: export is a file, where a folder is written")
    target.mkdir(exist_ok=True)
    files = _programs_and_weights(model, jax.tree.map(np.asarray, state.sampling_params))
    card = _card(model, state, files) | {
        "score": score,
        "weights": {"file": WEIGHTS, "kind": kind},
    }
    text = json.dumps(card, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False)
    # The card comes last: where its digests fit, the folder is whole.
    for name, data in {**files, "card.json": f"{text}\n".encode()}.items():
        write_whole(target / name, data)
        print(target / name)


def _check_packages() -> None:
    for package in ("flatbuffers", "safetensors"):
        try:
            import_module(package)
        except ImportError as error:
            raise ConfigError(
                f"--mode=export: needs {package}: pip install -e '.[export]'"
            ) from error


def _program_name(sampler: Sampler) -> str:
    return f"{sampler.name}.stablehlo"


def _programs_and_weights(model: OpenModel, params: Params) -> dict[str, bytes]:
    run = model.run

    def denoiser(labels: jax.Array | None) -> Denoiser:
        return run.objective.denoiser(lambda x, c: model.apply(params["network"], x, c, labels))

    files = {
        _program_name(sampler): export_sampler(
            sampler,
            denoiser,
            model.images.image_shape,
            model.network.num_classes,
            run.sample.guidance,
        )
        for sampler in run.samplers
    }
    return {**files, WEIGHTS: save_weights(params)}


def _card(model: OpenModel, state: TrainState, files: dict[str, bytes]) -> dict[str, Any]:
    """What the files are, JSON-safe."""
    run = model.run
    images = model.images
    return {
        "data": {
            "class_names": images.class_names,
            "dtype": str(np.dtype(images.dtype)),
            "name": images.name,
        },
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
        "guidance": run.sample.guidance,
        "image_shape": model.images.image_shape,
        "images_seen": model.images_seen(int(state.step)),
        "model": run.config["model"],
        "network": _network(model.network),
        "num_classes": model.network.num_classes,
        "objective": {**run.config["objective"], **_sigma_range(run)},
        "platforms": PLATFORMS,
        "samplers": [_sampler(model, sampler, files) for sampler in run.samplers],
        "step": int(state.step),
        "versions": {"jax": jax.__version__, "jaxnoise": jaxnoise.__version__},
    }


def _network(network: Any) -> dict[str, Any]:
    """The class, in jaxnoise.models or the user's own, and the fields that make it again."""
    kind = type(network)
    fields = {
        field.name: getattr(network, field.name)
        for field in dataclasses.fields(network)
        if field.name not in ("parent", "name")
    }
    if fields.get("dtype") is not None:
        fields["dtype"] = str(jnp.dtype(fields["dtype"]).name)
    # What is no plain value has no place in a config, and so is the class's own default.
    fields = {name: value for name, value in fields.items() if is_plain(value)}
    ours = kind.__module__.startswith("jaxnoise.models.")
    return {
        "class": kind.__name__ if ours else f"{kind.__module__}:{kind.__name__}",
        "fields": fields,
    }


def _sigma_range(run: ModelRun) -> dict[str, float]:
    """The noise levels that training has seen, in data units; of few-step models where f is the
    identity, and where sampling starts."""
    objective = run.objective
    if isinstance(objective, ConsistencyObjective):
        return {"sigma_min": objective.sigma_min, "sigma_max": objective.sigma_max}
    if isinstance(objective, FewStepObjective):
        return {"sigma_min": 0.0, "sigma_max": run.samplers[0].levels[0]}
    lowest, highest = sigmas_of(*objective.trained_range)
    return {"sigma_min": lowest, "sigma_max": highest}


def _sampler(model: OpenModel, sampler: Sampler, files: dict[str, bytes]) -> dict[str, Any]:
    program = jax.export.deserialize(bytearray(files[_program_name(sampler)]))
    kinds: dict[str, dict[str, Any]] = {
        "noise": {"dtype": "float32", "shape": ["b", *model.images.image_shape]},
        "keys": {"dtype": "uint32", "shape": ["b", 2]},
        "labels": {"dtype": "int32", "shape": ["b"]},
    }
    names = argument_names(sampler, model.network.num_classes)
    return {
        "arguments": [{"name": name, **kinds[name]} for name in names],
        "calling_convention_version": program.calling_convention_version,
        "evaluations": evaluations(sampler, model.run.objective.denoiser),
        "file": _program_name(sampler),
        "name": sampler.name,
        "nfe": sampler.nfe * (1 if model.run.sample.guidance == 1 else 2),
    }


def _score(
    model: OpenModel, folder: RunFolder, images_seen: int, kind: str
) -> dict[str, Any] | None:
    """What result.json says of the exported weights and samplers, or None where it says nothing."""
    if not folder.result.exists():
        return None
    try:
        result = dict(json.loads(folder.result.read_text(encoding="utf-8")))
        of_these = result["images_seen"] == images_seen and result["weights"] == kind
        if not of_these or result["guidance"] != model.run.sample.guidance:
            return None
        levels = {s.name: recorded_levels(s.levels) for s in model.run.samplers}
        kept = [name for name, held in result["levels"].items() if levels.get(name) == held]
        left_out = tuple(f"_{name}" for name in result["levels"] if name not in kept)
        for key in ("nfe", "levels"):
            result[key] = {name: result[key][name] for name in kept}
        score = {key: value for key, value in result.items() if not key.endswith(left_out)}
        return score if kept else None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"--workdir={folder.root}: result.json is damaged: {error}") from error

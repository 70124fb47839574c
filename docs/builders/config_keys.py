"""The page of all config keys, from the signatures that the config is checked against.

What each key means is told where it is told already: in the docstring of what the key goes to.
"""

import functools
import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import CodeType, ModuleType
from typing import Any

from jaxnoise import experiment
from jaxnoise.config import noise, objectives, settings
from jaxnoise.config.extractors import EXTRACTORS
from jaxnoise.config.models import MODELS, RATERS
from jaxnoise.config.optimizers import OPTIMIZERS, meta_adamw
from jaxnoise.config.samplers import CONSISTENCY_SAMPLERS, DENOISING_SAMPLERS, FEW_STEP_SAMPLERS
from jaxnoise.config.sections import keys_of, kind_in_words
from jaxnoise.config.selection import SELECTIONS

Make = Callable[..., Any]
CONSISTENCY, DENOISING = "consistency training", "denoising"
TUNING, CONTINUOUS = "easy consistency tuning", "continuous-time consistency"
MEAN_FLOW = "MeanFlow"
_NOISE = ("grid", "law", "curriculum", "gap", "pacing", "s0")
_OBJECTIVE = (*_NOISE, "distance", "weight", "uncertainty")


@dataclass(frozen=True)
class Section:
    """A section of a config.

    Attributes:
      path: where it stands, such as "objective.distance".
      choices: what its key `name` may be, and what reads its other keys; "" alone where there is
        no choice.
      told: what it is, a sentence.
      where: the kind of training that has it; "" for all.
      default: the name that is taken where the config gives none.
      given: parameters that no key sets.
      like: whether its keys are those of the section `law` of denoising and few more.
    """

    path: str
    choices: Mapping[str, Make]
    told: str
    where: str = ""
    default: str | None = None
    given: tuple[str, ...] = ()
    like: bool = False


@dataclass(frozen=True)
class Key:
    """A key as the page shows it."""

    name: str
    kind: str
    default: str
    line: str


def _one(make: Make) -> dict[str, Make]:
    return {"": make}


def _named(name: str, make: Make) -> dict[str, Make]:
    return {name: make}


_STEPS = ("total_steps",)
_LAWS, _MIXED = noise.LOG_SNR_LAWS, noise.MIXED_LAWS
_LAW = Section("law", _LAWS, "Which log SNR.", f"{DENOISING}, {TUNING}, {CONTINUOUS}, {MEAN_FLOW}")
_LAW_ANCHOR = "law-denoising-easy-consistency-tuning-continuous-time-consistency-meanflow"
SECTIONS = (
    Section("data", _one(settings.DataSettings), "The images."),
    Section("model", MODELS, "The network."),
    Section("train", _one(settings.TrainSettings), "How long, and in what portions."),
    Section("law", noise.PAIR_LAWS, "Which pair of levels.", CONSISTENCY),
    Section("grid", noise.GRIDS, "The noise levels.", CONSISTENCY, given=("curriculum",)),
    Section("curriculum", noise.CURRICULA, "How many levels, when.", CONSISTENCY, given=_STEPS),
    _LAW,
    Section("law.mixed", _MIXED, "A second law, mixed into the first.", _LAW.where, like=True),
    Section("gap", noise.GAPS, "To the level below.", TUNING, default="shrinking", given=_STEPS),
    Section(
        "pacing",
        noise.PACINGS,
        "Which part of the law, when.",
        default="none",
        given=(*_STEPS, "cells"),
    ),
    Section(
        "objective",
        _named("consistency", objectives.consistency),
        "What is trained.",
        CONSISTENCY,
        given=tuple(name for name in _OBJECTIVE if name != "weight"),
    ),
    Section(
        "objective.distance",
        objectives.DISTANCES,
        "How far two images are; `l2` by default in easy consistency tuning.",
        f"{CONSISTENCY}, {TUNING}",
    ),
    Section(
        "objective",
        _named("ect", objectives.ect),
        "What is trained.",
        TUNING,
        given=(*(name for name in _OBJECTIVE if name != "weight"), *_STEPS),
    ),
    Section(
        "objective",
        _named("scm", objectives.scm),
        "What is trained.",
        CONTINUOUS,
        given=(*_OBJECTIVE, *_STEPS),
    ),
    Section(
        "objective",
        _named("meanflow", objectives.mean_flow),
        "What is trained.",
        MEAN_FLOW,
        given=(*_OBJECTIVE, "lower", *_STEPS),
    ),
    Section("objective.lower", _LAWS, "The level that a jump ends at.", MEAN_FLOW, like=True),
    Section(
        "objective",
        _named("denoising", objectives.denoising),
        "What is trained.",
        DENOISING,
        given=(*_OBJECTIVE, *_STEPS),
    ),
    Section(
        "objective.weight",
        objectives.SNR_WEIGHTS,
        "How much an error counts at a log SNR.",
        DENOISING,
        given=("of",),
    ),
    Section(
        "objective.weight.law",
        _LAWS,
        "The law whose density the weight `density` is.",
        DENOISING,
        like=True,
    ),
    Section(
        "objective.uncertainty",
        objectives.UNCERTAINTIES,
        "A weight that is learned beside the network.",
        f"{DENOISING}, {CONTINUOUS}",
        default="none",
    ),
    Section("optimizer", OPTIMIZERS, "The optimizer.", given=_STEPS),
    Section("ema", _one(settings.ema_rates), "The moving average of the weights."),
    Section("selection", SELECTIONS, "Which of several draws of noise.", "", "none", _STEPS),
    Section("sample", _one(settings.SampleSettings), "Grids of samples."),
    Section(
        "sample.method",
        CONSISTENCY_SAMPLERS,
        "How samples are drawn.",
        CONSISTENCY,
        given=("objective",),
    ),
    Section(
        "sample.method",
        DENOISING_SAMPLERS,
        "How samples are drawn.",
        DENOISING,
        "heun",
        ("objective",),
    ),
    Section(
        "sample.method",
        FEW_STEP_SAMPLERS,
        "How samples are drawn.",
        f"{TUNING}, {CONTINUOUS}, {MEAN_FLOW}",
        "multistep",
        ("objective",),
    ),
    Section("evaluate", _one(settings.EvaluateSettings), "Scores."),
    Section(
        "evaluate.extractor", EXTRACTORS, "The space of features of a score.", "", "raw_pixels"
    ),
    Section("rater", RATERS, "The rater of noise; with it a config trains a rater."),
    Section("meta", _one(settings.MetaSettings), "How a rater is trained."),
    Section("meta.outer_law", _LAWS, "The law of the outer loss.", DENOISING, like=True),
    Section("meta.optimizer", _one(meta_adamw), "The rater's optimizer."),
)
"""In the order of the page. `seed` is no section; every other key is in one."""


def page() -> str:
    """The page of all keys.

    Raises:
      LookupError: a section that this page does not know, or a key without a line that explains it.
    """
    known = {section.path.partition(".")[0] for section in SECTIONS}
    names = (*experiment.COMMON, *experiment.OF_MODEL, *experiment.OF_RATER)
    unknown = [name for name in names if name not in known | {"seed"}]
    if unknown:
        raise LookupError(f"config_keys.SECTIONS has no section {', '.join(unknown)}")
    return "\n".join([_HEAD, *(section_text(section) for section in SECTIONS)])


_HEAD = """# All config keys

Made from the signatures that a config is checked against, so it holds every key that there is. A
key is set in a config file or on the command line, `--config.law.curve=2.5`; a section as a whole
by `--config.law="{'name': 'beta'}"`. A key that is not here is an error that names the nearest one.

Where a section has a choice, its key `name` takes one of the names, or your own code as
`module:attribute` where the section says so ([how](own_code.md)). Besides the sections there is
`seed`, an integer from 0 to 2^32 - 1, 0 by default.
"""


def section_text(section: Section) -> str:
    """A section's heading, names and tables.

    Raises:
      LookupError: a key without a line that explains it.
    """
    where = f" ({section.where})" if section.where else ""
    lines = [f"## `{section.path}`{where}", "", section.told]
    if "" in section.choices:
        return "\n".join([*lines, "", *_table(keys(section, "")), ""])
    names = list(section.choices)
    own = ", or `module:attribute` of your own" if "own:code" in section.choices else ""
    default = f"; `{section.default}` by default" if section.default else ""
    lines += ["", f"`name`: {', '.join(f'`{name}`' for name in names)}{own}{default}.", ""]
    of = {name: keys(section, name) for name in names}
    shared = [key for key in of[names[0]] if all(key in of[name] for name in names)]
    if section.like:
        of_law = {key.name for key in keys(_LAW, "cosine")}
        more = [key for key in shared if key.name not in of_law]
        lines += [
            f"All keys of [`law` over log SNR](#{_LAW_ANCHOR}){' and:' if more else '.'}",
            "",
        ]
        return "\n".join([*lines, *([*_table(more), ""] if more else [])])
    if shared:
        for_all = f"With every `{section.path}.name`:" if len(names) > 1 else "Its keys:"
        lines += [for_all, "", *_table(shared), ""]
    families: dict[tuple[tuple[str, str, str], ...], list[str]] = {}
    for name in names:
        rest = [key for key in of[name] if key not in shared]
        families.setdefault(tuple((k.name, k.kind, k.line) for k in rest), []).append(name)
    for family, members in families.items():
        if family:
            lines += _family(section, members, [name for name, _, _ in family], of)
    return "\n".join(lines)


def _family(
    section: Section, members: Sequence[str], own: Sequence[str], of: Mapping[str, Sequence[Key]]
) -> list[str]:
    """Tables of choices that have the same keys, with other defaults."""
    by_name = {name: {key.name: key for key in of[name]} for name in members}
    first = by_name[members[0]]
    differ = [key for key in own if len({by_name[name][key].default for name in members}) > 1]
    shown = [
        Key(key, first[key].kind, "see below", first[key].line) if key in differ else first[key]
        for key in own
    ]
    lines = [f"### {', '.join(f'`{name}`' for name in members)}", "", *_table(shown), ""]
    if differ:
        head = " | ".join(f"`{key}`" for key in differ)
        lines += [f"| `{section.path}.name` | {head} |", f"|---|{'---|' * len(differ)}"]
        for name in members:
            cells = " | ".join(by_name[name][key].default for key in differ)
            lines.append(f"| `{name}` | {cells} |")
        lines.append("")
    return lines


def keys(section: Section, name: str) -> list[Key]:
    """The keys of a choice but `name`.

    Args:
      section: of the config.
      name: of the choice.

    Raises:
      LookupError: a key without a line that explains it.
    """
    make = section.choices[name]
    found = {key: p for key, p in keys_of(make).items() if key not in section.given}
    lines = told(make)
    silent = [key for key in found if key not in lines]
    if silent:
        place = f"{section.path} with name={name!r}" if name else section.path
        raise LookupError(f"no docstring tells of {', '.join(silent)} of {place}")
    return [
        Key(
            key,
            _kind(parameter.annotation),
            "**required**" if parameter.default is parameter.empty else f"`{parameter.default!r}`",
            lines[key],
        )
        for key, parameter in found.items()
    ]


def told(make: Make) -> dict[str, str]:
    """What docstrings tell of parameters: that of `make`, then those of what it calls.

    Args:
      make: a choice of a section.

    Returns:
      A line for each name; of two docstrings the nearer one counts.
    """
    lines: dict[str, str] = {}
    near: list[Any] = [make]
    for _ in range(4):
        for found in near:
            for name, line in _items(inspect.getdoc(found) or ""):
                lines.setdefault(name, line)
        near = [called for found in near for called in _called(found)]
    return lines


def _items(docstring: str) -> Iterator[tuple[str, str]]:
    """Names and texts of the sections Args and Attributes."""
    for block in re.findall(r"^(?:Args|Attributes):\n((?:(?: .*)?(?:\n|\Z))+)", docstring, re.M):
        for item in re.findall(r"^ +((?:\w+, )*\w+): (.*(?:\n {4,}.*)*)", block, re.M):
            for name in item[0].split(", "):
                yield name, " ".join(item[1].split())


def _called(found: Any) -> list[Any]:
    """What a function refers to that can be called: by its closure, its module or a partial."""
    if isinstance(found, functools.partial):
        return [found.func]
    if not inspect.isfunction(found):
        return []
    cells = [cell.cell_contents for cell in found.__closure__ or ()]
    names = list(_names(found.__code__))
    held = [found.__globals__[name] for name in names if name in found.__globals__]
    for module in [value for value in held if isinstance(value, ModuleType)]:
        if _is_near(module.__name__):
            held += [getattr(module, name) for name in names if hasattr(module, name)]
    called = [value for value in [*cells, *held] if callable(value)]
    return [value for value in called if _is_near(getattr(value, "__module__", "jaxnoise"))]


def _is_near(module: str) -> bool:
    """Whether a module's docstrings may explain keys."""
    return module.partition(".")[0] == "jaxnoise"


def _names(code: CodeType) -> Iterator[str]:
    """The names that code reads, that of functions within it included."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _kind(annotation: Any) -> str:
    if annotation in (inspect.Parameter.empty, Any):
        return "any"
    return kind_in_words(annotation)


def _table(rows: Sequence[Key]) -> list[str]:
    cells = [f"| `{k.name}` | {k.kind} | {k.default} | {_cell(k.line)} |" for k in rows]
    return ["| key | type | default | meaning |", "|---|---|---|---|", *cells]


def _cell(line: str) -> str:
    return line.replace("|", "\\|")

"""Pictures of every noise law, curriculum, grid and pacing that a config may name.

Each is drawn as `--mode=plot` draws it: a shipped config with one section in place of its own,
beside the baseline. What is drawn is taken from the tables of choices, so that a new law has its
picture, or fails here until `EXAMPLES` gives values to the keys that it needs.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jaxnoise import experiment, noise
from jaxnoise.compilation import run_once
from jaxnoise.config import noise as choices
from jaxnoise.config.overrides import replaced
from jaxnoise.figures.law_map import KEY, save_law_map
from jaxnoise.noise.levels import RULES
from jaxnoise.run.open import draw_noise

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Shelf:
    """One page of the gallery.

    Attributes:
      title: of the page.
      told: what is seen, in a sentence or two.
      section: of the config, whose choices are shown.
      config: the shipped config that they are shown in.
      choices: by name.
      also: other settings that the config gets, so that all choices fit.
    """

    title: str
    told: str
    section: str
    config: str
    choices: Mapping[str, Any]
    also: Settings = field(default_factory=dict)


@dataclass(frozen=True)
class Picture:
    """One picture: a shelf's config with this section."""

    shelf: str
    settings: Settings

    @property
    def words(self) -> list[str]:
        """What is chosen by name: the choice, and whatever makes it another picture."""
        return [value for value in self.settings.values() if isinstance(value, str)]

    @property
    def uri(self) -> str:
        """Where it stands in the site."""
        return f"gallery/{self.shelf}_{'_'.join(self.words)}.png"


_MOMENTS = "at five moments of training"
SHELVES = {
    "log_snr_laws": Shelf(
        "Laws over log SNR",
        "The density of what is drawn, what it comes to with the weight of the loss, the schedule "
        "that draws it, and the share of four bands of noise; the cosine law stands beside each.",
        "law",
        "digits_cosine",
        choices.LOG_SNR_LAWS,
    ),
    "pair_laws": Shelf(
        "Laws over pairs of levels",
        f"The number of levels, the levels and the share of samples at each {_MOMENTS}; beside "
        "each the lognormal law on a doubling number of Karras levels.",
        "law",
        "digits_poly",
        choices.PAIR_LAWS,
    ),
    "curricula": Shelf(
        "Curricula",
        f"How many levels there are over training, and what this makes of the polynomial law "
        f"{_MOMENTS}.",
        "curriculum",
        "digits_poly",
        choices.CURRICULA,
        {"grid.table_size": None},
    ),
    "grids": Shelf(
        "Grids of levels",
        f"Where the levels lie {_MOMENTS} of the sinusoidal curriculum. With a predefined table a "
        "level stays the same number at every stage.",
        "grid",
        "digits_poly",
        choices.GRIDS,
    ),
    "pacings": Shelf(
        "Pacings",
        f"What is drawn of the cosine law {_MOMENTS}, or at five stages.",
        "pacing",
        "digits_cosine",
        choices.PACINGS,
    ),
}
EXAMPLES: Mapping[tuple[str, str], tuple[Settings, ...]] = {
    ("log_snr_laws", "tabulated"): (
        {"lam": (-8.0, -2.0, 0.0, 1.0, 8.0), "density": (0.0, 0.5, 1.0, 0.2, 0.0)},
    ),
    ("grids", "predefined"): tuple({"rule": rule} for rule in RULES),
    ("pacings", "adaptive"): ({"range": (-10.0, 10.0)},),
    ("pacings", "asymmetric"): ({"boundary": 0.3},),
}
"""Keys that choices need, or that are worth a picture for each of several values."""

LEARNING_STEPS = 300
_ADAPTIVE = """The law learns from losses, which a picture of a config cannot know. Here it is told
them: `exp(-(log SNR - 2)^2 / 4)`, a bump at log SNR 2, through {steps} steps of 256 examples.
"""


def pictures(shelf: str) -> list[Picture]:
    """The pictures of a shelf, one or more for each choice."""
    return [
        Picture(shelf, {"name": name, **more})
        for name in SHELVES[shelf].choices
        for more in EXAMPLES.get((shelf, name), ({},))
    ]


def gallery_pages() -> dict[str, str]:
    """Pages by their place in the site."""
    rows = [f"* [{shelf.title}]({name}.md): {shelf.told}" for name, shelf in SHELVES.items()]
    head = "# Gallery\n\nEvery choice of noise that a config has, drawn when this site was made.\n"
    pages = {"gallery/index.md": "\n".join([head, *rows, ""])}
    return pages | {f"gallery/{name}.md": shelf_page(name) for name in SHELVES}


def shelf_page(name: str) -> str:
    """A page with a heading, a command and a picture for each choice."""
    shelf = SHELVES[name]
    lines = [f"# {shelf.title}", "", shelf.told, ""]
    for picture in pictures(name):
        lines += [f"## {', '.join(picture.words)}", "", "```sh"]
        lines += [f"python run.py --config={shelf.config} --mode=plot \\"]
        lines += [f"  --config.{key}={value} \\" for key, value in shelf.also.items()]
        lines += [f'  --config.{shelf.section}="{dict(picture.settings)}"', "```"]
        if learns(read(picture)):
            lines += ["", _ADAPTIVE.format(steps=LEARNING_STEPS)]
        lines += ["", f"![{picture.settings['name']}]({Path(picture.uri).name})", ""]
    return "\n".join(lines)


def read(picture: Picture) -> experiment.Run:
    """The run that a picture is of.

    Raises:
      ConfigError: a choice needs keys that `EXAMPLES` does not give.
    """
    shelf = SHELVES[picture.shelf]
    config = importlib.import_module(f"configs.{shelf.config}").get_config().to_dict()
    settings = {**shelf.also, shelf.section: picture.settings}
    return experiment.read(replaced(config, settings))


def learns(run: experiment.Run) -> bool:
    """Whether the run's law learns itself."""
    return isinstance(run.objective.pacing, noise.Adaptive)


def draw(picture: Picture, path: Path) -> None:
    """Writes a picture as PNG; the folder of `path` must exist."""
    run = read(picture)
    if learns(run):
        save_law_map(learning_rows(run.objective), path)
    else:
        draw_noise(run, path)


def learning_rows(objective: Any, steps: int = LEARNING_STEPS) -> list[dict[str, Any]]:
    """Rows of a record of a law that learns from losses with a bump at log SNR 2."""
    pacing, key = objective.pacing, jax.random.key(0)

    def learn(state: Any, step: jax.Array) -> tuple[Any, Any]:
        levels = objective.draw(jax.random.fold_in(key, step), key, step, 256, state)
        losses = jnp.exp(-((levels.lam - 2) ** 2) / 4)
        state = pacing.update(state, pacing.observe(levels.lam, losses))
        metrics = objective.metrics(step, state)
        return state, {name: value for name, value in metrics.items() if name.startswith(KEY)}

    rows = run_once(lambda start: jax.lax.scan(learn, start, jnp.arange(steps))[1], pacing.init())
    every = steps // 20
    return [
        {"step": step + 1, **{name: float(values[step]) for name, values in rows.items()}}
        for step in range(every - 1, steps, every)
    ]

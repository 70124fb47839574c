"""Runs a config: python run.py --config=configs/digits_poly.py [--mode=...] [--workdir=...].

Any key of the config can be set: --config.train.steps=500. The same command resumes. A study, many
runs that are compared: python run.py --study=studies/high_noise.py --budget=smoke [--jobs=2].
Installed, the command is also called `jaxnoise`.
"""

import argparse
import contextlib
import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from jaxnoise import __version__, experiment
from jaxnoise.compilation import keep_programs
from jaxnoise.config import files, overrides
from jaxnoise.errors import ArgumentError, ConfigError, NonFiniteError
from jaxnoise.files import cache_folder, check_folder, user_path
from jaxnoise.training.loop import Interrupted
from jaxnoise.training.parallel import check_devices, connect, use_all_cores
from jaxnoise.training.records import RunFolder

MODES = ("train", "sample", "evaluate", "plot", "dry_run", "export", "compare")
WITHIN_A_DEVICE = ("rater_pool", "rater_shuffled", "neutral_pool", "assignment")
"""Selections whose rivals are the examples of one device."""
EXIT_CODES = {NonFiniteError: 1, KeyboardInterrupt: 130, Interrupted: 143}
"""Of any other error: 2."""
ERRORS = (ConfigError, ArgumentError, NonFiniteError, Interrupted, OSError, KeyboardInterrupt)


def command(name: str) -> Any:
    """The module of a command, whatever a notebook draws with."""
    if "matplotlib" not in sys.modules:
        # A back end that is not installed here would stop the import; files need none.
        chosen = os.environ.pop("MPLBACKEND", None)
        matplotlib: Any = import_module("matplotlib")
        if chosen is not None:
            os.environ["MPLBACKEND"] = chosen
            with contextlib.suppress(ValueError):
                matplotlib.rcParams["backend"] = chosen
    return import_module(f"jaxnoise.commands.{name}")


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message} (settings are --config.key=value)")


def parse(argv: list[str]) -> argparse.Namespace:
    engines = command("study").ENGINES
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", action="version", version=f"jaxnoise {__version__}")
    parser.add_argument("--config", help="config file, or a shipped one's name; digits_poly")
    parser.add_argument("--workdir", help="run folder; runs/<config's name> by default")
    parser.add_argument("--mode", choices=MODES, default="train", help="what to do")
    parser.add_argument("--runs", nargs="*", default=[], help="run folders to compare")
    parser.add_argument("--study", help="study file, whose arms and seeds are all run")
    parser.add_argument("--budget", help="how much of a study is run; smoke by default")
    parser.add_argument("--index", help="make this run of a study alone, from 0; or seeds: 0,3,6")
    parser.add_argument("--jobs", type=int, help="runs of a study at a time; 1 by default")
    parser.add_argument("--engine", choices=engines, help="where a study's runs are made")
    parser.add_argument("--minutes", type=float, help="stop a study's runs after so long")
    parser.add_argument("--archive", help="a study as one .tar or .jsonl: taken up, and written")
    parser.add_argument("--distributed", action="store_true", help="one of several processes")
    flags = parser.parse_args(argv)
    for name in ("config", "workdir", "study", "budget", "index", "archive"):
        if getattr(flags, name) == "":
            raise ConfigError(f"--{name}=: must not be empty")
    compared = flags.mode == "compare"
    for name in ("runs",) if not compared else ("config", "distributed"):
        if value := getattr(flags, name):
            shown = " ".join(value) if name == "runs" else value
            where = "beside --mode=compare" if compared else "but with --mode=compare"
            raise ConfigError(f"--{name}={shown}: has no place {where}")
    for name in ("budget", "index", "jobs", "engine", "minutes", "archive"):
        if not flags.study and getattr(flags, name) is not None:
            raise ConfigError(f"--{name}={getattr(flags, name)}: belongs to --study")
    if flags.study:
        for name, unset in (
            ("config", None),
            ("mode", "train"),
            ("runs", []),
            ("distributed", False),
        ):
            if getattr(flags, name) != unset:
                raise ConfigError(f"--{name}={getattr(flags, name)}: has no place beside --study")
    if flags.index is not None:
        for name in ("jobs", "engine", "minutes", "archive"):
            if getattr(flags, name) is not None:
                raise ConfigError(
                    f"--{name}={getattr(flags, name)}: has no place beside --index, which makes "
                    "runs in this process and leaves them in the study's folder"
                )
    flags.budget = flags.budget or "smoke"
    flags.jobs = 1 if flags.jobs is None else flags.jobs
    flags.engine = flags.engine or "local"
    flags.config = flags.config or "digits_poly"
    return flags


def shared_batch(config: Mapping[str, Any]) -> int | None:
    """The batch that several host devices may share, or None for one device; not checked yet."""
    train, selection = config.get("train"), config.get("selection")
    batch = train.get("batch") if isinstance(train, Mapping) else None
    name = selection.get("name") if isinstance(selection, Mapping) else None
    shared = isinstance(batch, int) and batch > 0 and name not in WITHIN_A_DEVICE
    return batch if shared else None


def use_shared_cores(config: Mapping[str, Any]) -> None:
    """Lets several host devices share the batch of a config, where they may."""
    if batch := shared_batch(config):
        use_all_cores(batch)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; what it says of an error is one line.

    Args:
      argv: the arguments; those of this process by default.

    Returns:
      The exit code.
    """
    try:
        # A config may name modules that lie where the command is given.
        if os.getcwd() not in sys.path:
            sys.path.append(os.getcwd())
        given, settings = overrides.split(list(sys.argv[1:] if argv is None else argv))
        flags = parse(given)
        if flags.mode == "compare":
            if settings:
                raise ConfigError(
                    f"--config.{next(iter(settings))}: has no place beside --mode=compare"
                )
            runs, out = [user_path(run) for run in flags.runs], user_path(flags.workdir or "runs")
            command("compare").main(runs, out)
            return 0
        keep_programs(cache_folder() / "programs")
        if flags.study:
            if settings:
                raise ConfigError(f"--config.{next(iter(settings))}: a study has its own settings")
            return int(command("study").main(flags, lambda run: use_shared_cores(run.config)))
        config = overrides.apply(files.load(flags.config, settings), settings)
        if flags.distributed:
            connect()
        else:
            use_shared_cores(config)
        check_devices()
        run = experiment.read(config)
        for line in run.warnings:
            print(f"warning: {line}", file=sys.stderr, flush=True)
        name = Path(flags.config.partition(":")[0]).stem
        folder = RunFolder(user_path(flags.workdir or f"runs/{name}"), experiment.completed)
        if flags.mode != "dry_run":
            check_folder("--workdir", folder.root)
        command(flags.mode).main(run, folder)
    except ERRORS as error:
        parts = (str(error) or "interrupted", *getattr(error, "__notes__", ()))
        print("error: " + " ".join("; ".join(parts).split()), file=sys.stderr)
        return EXIT_CODES.get(type(error), 2)
    return 0

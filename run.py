"""Runs a config: python run.py --config=configs/digits_poly.py [--mode=...] [--workdir=...].

Any key of the config can be overridden: --config.train.steps=500. The same command resumes.
"""

import sys
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from absl import app, flags, logging
from ml_collections import config_flags

MODES = ["train", "sample", "evaluate", "plot", "dry_run"]
CONFIG = config_flags.DEFINE_config_file("config", "configs/digits_poly.py", "Config file.")
WORKDIR = flags.DEFINE_string("workdir", None, "Run folder; runs/<config's name> by default.")
MODE = flags.DEFINE_enum("mode", "train", MODES, "What to do.")
DISTRIBUTED = flags.DEFINE_bool("distributed", False, "One of several processes (TPU pod, Slurm).")


def fail(error: Exception, code: int) -> NoReturn:
    print("error: " + " ".join(str(error).split()), file=sys.stderr)
    sys.exit(code)


def parse(argv: list[str]) -> list[str]:
    try:
        rest = flags.FLAGS(argv)
        if rest[1:]:
            raise flags.Error(f"unknown argument {rest[1]!r}; settings are --config.key=value")
        return rest
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        fail(error, code=2)


def main(argv: list[str]) -> None:
    from jaxnoise import experiment
    from jaxnoise.errors import ConfigError
    from jaxnoise.training.loop import Interrupted, NonFiniteError
    from jaxnoise.training.parallel import connect
    from jaxnoise.training.records import RunFolder

    logging.set_verbosity(logging.WARNING)  # jax's notes would break the progress bar
    name = Path(config_flags.get_config_filename(flags.FLAGS["config"])).stem
    try:
        checked = experiment.read(CONFIG.value)
        if DISTRIBUTED.value:
            connect()
        folder = RunFolder(Path(WORKDIR.value or f"runs/{name}"))
        import_module(f"jaxnoise.commands.{MODE.value}").main(checked, folder)
    except (ConfigError, NonFiniteError, Interrupted) as error:
        fail(error, code={ConfigError: 2, NonFiniteError: 1, Interrupted: 143}[type(error)])


if __name__ == "__main__":
    app.run(main, flags_parser=parse)

"""Runs a config: python run.py --config=configs/digits_poly.py [--mode=...] [--workdir=...].

Any key of the config can be overridden: --config.train.steps=500. The same command resumes.
"""

import sys
from importlib import import_module
from pathlib import Path

from absl import app, flags
from ml_collections import config_flags

MODES = ["train", "sample", "evaluate", "plot", "dry_run"]

CONFIG = config_flags.DEFINE_config_file("config", "configs/digits_poly.py", "Config file.")
WORKDIR = flags.DEFINE_string("workdir", None, "Run folder; runs/<config's name> by default.")
MODE = flags.DEFINE_enum("mode", "train", MODES, "What to do.")
DISTRIBUTED = flags.DEFINE_bool(
    "distributed", False, "One of several processes (TPU pod, Slurm, or JAX_COORDINATOR_ADDRESS)."
)


def parse(argv: list[str]) -> list[str]:
    """Parses flags; a wrong one is one line and exit code 2."""
    try:
        rest = flags.FLAGS(argv)
        if rest[1:]:
            raise flags.Error(f"unknown argument {rest[1]!r}; settings are --config.key=value")
        return rest
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        return fail(error)


def fail(error: Exception, code: int = 2) -> list[str]:
    print("error: " + " ".join(str(error).split()), file=sys.stderr)
    sys.exit(code)


def main(argv: list[str]) -> None:
    del argv
    from jaxnoise import experiment
    from jaxnoise.errors import ConfigError
    from jaxnoise.training.loop import Interrupted, NonFiniteError
    from jaxnoise.training.parallel import connect
    from jaxnoise.training.records import RunFolder

    name = Path(config_flags.get_config_filename(flags.FLAGS["config"])).stem
    try:
        checked = experiment.read(CONFIG.value)
        if DISTRIBUTED.value:
            connect()
        folder = RunFolder(Path(WORKDIR.value or f"runs/{name}"))
        import_module(f"jaxnoise.commands.{MODE.value}").main(checked, folder)
    except ConfigError as error:
        fail(error)
    except NonFiniteError as error:
        fail(error, code=1)
    except Interrupted as error:
        fail(error, code=143)


if __name__ == "__main__":
    app.run(main, flags_parser=parse)

"""Looks for the files that a config names, before images are read or downloaded."""

from jaxnoise.errors import ArgumentError, ConfigError
from jaxnoise.evaluation.inception_weights import weights_path
from jaxnoise.evaluation.statistics_files import check_file
from jaxnoise.experiment import ModelRun
from jaxnoise.run.start import check_start


def check_named_files(run: ModelRun, *, scored: bool, selects: bool, starts: bool) -> None:
    """Raises what would be raised after a download of hours, where a file is not there.

    Args:
      run: a checked config.
      scored: whether a score will be taken.
      selects: whether training begins or goes on, with noise that is selected.
      starts: whether training begins.

    Raises:
      ConfigError: the file of a rater or of weights, or what a score compares with, is missing.
    """
    if selects:
        try:
            run.selection()
        except ArgumentError as error:
            raise ConfigError(f"config.selection.{error}") from error
    if starts:
        check_start(run)
    if scored and run.evaluate.n != 0:
        _check_score(run)


def _check_score(run: ModelRun) -> None:
    extractor, reference = run.config["evaluate"]["extractor"], run.evaluate.reference
    try:
        if extractor["name"] == "function":
            run.extractor()
        # Without a path the weights may be downloaded, or do without.
        named = extractor.get("path") is not None or not extractor.get("fetch")
        if extractor["name"] == "inception" and named and not run.evaluate.fallback:
            weights_path(extractor["path"])
    except ArgumentError as error:
        raise ConfigError(f"config.evaluate.extractor.{error}") from error
    except ConfigError as error:
        raise ConfigError(f"config.evaluate.extractor: {error}") from error
    if reference is not None:
        try:
            check_file(reference)
        except ArgumentError as error:
            where = f"config.evaluate.reference={reference!r}"
            raise ConfigError(f"{where}: must be {error.allowed}") from error

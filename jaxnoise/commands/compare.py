"""Shows several runs side by side."""

from pathlib import Path

from jaxnoise.report import write_comparison


def main(runs: list[Path], out: Path) -> None:
    """Writes compare.html into the folder `out` and prints its path.

    Args:
      runs: run folders, two or more.
      out: where the page goes; made if missing.

    Raises:
      ConfigError: fewer than two runs, one given twice, or a folder that holds no run.
    """
    print(write_comparison(runs, out))

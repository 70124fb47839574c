"""Draws which noise a config trains on, and when, beside the baseline."""

from jaxnoise.experiment import Run
from jaxnoise.run.open import draw_noise
from jaxnoise.training.records import RunFolder


def main(run: Run, folder: RunFolder) -> None:
    """Writes noise.png and prints its path."""
    folder.check_same(run.config)
    folder.root.mkdir(parents=True, exist_ok=True)
    draw_noise(run, folder.noise)
    print(folder.noise)

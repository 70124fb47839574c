"""A run's curves: which charts there are, and what each shows."""

from jaxnoise.report.charts import Level, Line, line_chart
from jaxnoise.report.run_data import Run
from jaxnoise.training.figure_style import ARM_COLORS, BAND_COLORS, FAINT, MAIN, band_label

BANDS = "loss_band/"
FLOOR = "frechet_floor"
PACING = {
    "stage": ("Pacing", "difficulty stage"),
    "window_low": ("Share of noise left out", "from the clean end"),
    "gaussian_weight": ("Pacing", "weight of the Gaussian part"),
}


def curves(run: Run) -> list[str]:
    """The charts that a run's rows can fill, most telling first; a key with no chart gets its own.

    Args:
      run: what its folder holds.

    Returns:
      HTML figures.
    """
    batch = run.images_per_step
    keys = run.keys
    charts = []

    def single(key: str, title: str, unit: str = "", *, step: bool = False) -> None:
        line = Line(key, MAIN, run.series(key), mean=not step, step=step)
        charts.append(
            line_chart(
                title, [line], unit=unit, log=False if step else None, zero=step, batch=batch
            )
        )

    if "loss" in keys:
        single("loss", "Loss")
    bands = [key for key in keys if key.startswith(BANDS)]
    if bands:
        lines = [
            Line(band_label(key.removeprefix(BANDS)), color, run.series(key), mean=True)
            for key, color in zip(bands, _colors(BAND_COLORS, len(bands)), strict=True)
        ]
        charts.append(line_chart("Loss by noise level σ", lines, batch=batch))
    distances = [key for key in keys if key.startswith("frechet_") and key != FLOOR]
    if distances:
        charts.append(_distances(run, distances, batch))
    if "grad_norm" in keys:
        single("grad_norm", "Gradient norm", "global norm of the gradient")
    if "num_levels" in keys:
        single("num_levels", "Number of noise levels", "N(k)", step=True)
    for key in PACING:
        if key in keys:
            charts.append(_pacing(run, key, batch))
    if "images_per_second" in keys:
        charts.append(_throughput(run, batch))
    drawn = {"step", "images_seen", "loss", "grad_norm", "num_levels", "images_per_second", FLOOR}
    for key in keys:
        if key not in {*drawn, *bands, *distances, *PACING}:
            single(key, key)
    return charts


def _pacing(run: Run, key: str, batch: int | None) -> str:
    title, unit = PACING[key]
    line = Line(unit, MAIN, run.series(key), step=key == "stage")
    percent = key == "window_low" and all(0 <= y <= 1 for _, y in line.points)
    return line_chart(title, [line], unit=unit, log=False, zero=True, percent=percent, batch=batch)


def _throughput(run: Run, batch: int | None) -> str:
    # The first record holds the compilation, which would flatten the others.
    points = run.series("images_per_second")
    unit = "images per second" + (", without the first record" if len(points) > 2 else "")
    line = Line("images/s", MAIN, points[1:] if len(points) > 2 else points, mean=True)
    return line_chart("Throughput", [line], unit=unit, log=False, zero=True, batch=batch)


def _distances(run: Run, keys: list[str], batch: int | None) -> str:
    lines = [
        Line(key.removeprefix("frechet_").replace("_", " "), color, run.series(key), dots=True)
        for key, color in zip(keys, _colors(ARM_COLORS, len(keys)), strict=True)
    ]
    floors = run.series(FLOOR)
    levels = [Level("real images (floor)", FAINT, floors[-1][1])] if floors else []
    legend = [(line.name, line.color) for line in lines]
    return line_chart(
        "Fréchet distance", lines, legend=legend, levels=levels, unit="while training", batch=batch
    )


def _colors(palette: tuple[str, ...], count: int) -> list[str]:
    return [palette[i % len(palette)] for i in range(count)]

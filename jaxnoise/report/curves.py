"""A run's curves as charts of the page."""

from jaxnoise.evaluation.score_keys import FLOOR
from jaxnoise.figures import law_map
from jaxnoise.figures.curve_panels import Curve, Panel, panels
from jaxnoise.figures.style import FAINT, MAIN
from jaxnoise.report.charts import Level, Line, line_chart
from jaxnoise.report.run_data import Run


def curves(run: Run) -> list[str]:
    """The charts that a run's rows can fill, most telling first; a key with no chart gets its own.

    Args:
      run: what its folder holds.

    Returns:
      HTML figures.
    """
    shown = panels(run.keys)
    drawn = {curve.key for panel in shown for curve in panel.curves}
    charts = [_chart(run, panel) for panel in shown]
    if "images_per_second" in run.keys:
        charts.append(_throughput(run))
    for key in run.keys:
        # How a law moves is a picture of its own.
        law = key.startswith(law_map.KEY)
        if not law and key not in {*drawn, "step", "images_seen", "images_per_second", FLOOR}:
            charts.append(_chart(run, Panel(key, "", (Curve(key, key, MAIN),), "mean")))
    return charts


def _chart(run: Run, panel: Panel) -> str:
    lines = [
        Line(
            curve.name,
            curve.color,
            run.series(curve.key),
            mean=panel.form == "mean",
            step=panel.form == "step",
            dots=panel.form == "dots",
        )
        for curve in panel.curves
    ]
    dots = panel.form == "dots"
    floors = run.series(panel.floor) if panel.floor else []
    return line_chart(
        panel.title,
        lines,
        # The chart of a loss names it in its title.
        unit="" if panel.unit == "loss" else panel.unit,
        legend=[(line.name, line.color) for line in lines] if dots else None,
        levels=[Level("real images (floor)", FAINT, floors[-1][1])] if floors else [],
        log=False if panel.from_zero or panel.linear else None,
        zero=panel.from_zero,
        percent=panel.percent and all(0 <= y <= 1 for line in lines for _, y in line.points),
        batch=run.images_per_step,
    )


def _throughput(run: Run) -> str:
    # The first record holds the compilation, which would flatten the others.
    points = run.series("images_per_second")
    unit = "images per second" + (", without the first record" if len(points) > 2 else "")
    line = Line("images/s", MAIN, points[1:] if len(points) > 2 else points, mean=True)
    batch = run.images_per_step
    return line_chart("Throughput", [line], unit=unit, log=False, zero=True, batch=batch)

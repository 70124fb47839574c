"""Charts as inline SVG: lines with axes and a read-out, and strips of marks."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import ceil

from jaxnoise.report.axes import Axis, fitted
from jaxnoise.report.formats import number, quantity

Points = Sequence[tuple[float, float]]

WIDTH, HEIGHT = 560, 262
LEFT, RIGHT, TOP, BOTTOM = 54, 548, 12, 218
"""The rectangle of the data, in the units of the picture."""
MOST_POINTS = 600
"""A line of more points is thinned: in each bucket the smallest and the largest value stay."""


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Attributes:
      name: in the read-out.
      color: "#rrggbb".
      points: (x, y), x ascending; at least one.
      mean: whether the points are drawn faint under their running mean.
      step: whether a value stays until the next one.
      dots: whether each point is marked.
      thin: whether the line is thin, as one of several of the same kind.
    """

    name: str
    color: str
    points: Points
    mean: bool = False
    step: bool = False
    dots: bool = False
    thin: bool = False


@dataclass(frozen=True)
class Level:
    """A horizontal line with a name in the legend."""

    name: str
    color: str
    value: float


@dataclass(frozen=True)
class Mark:
    """A dot on a strip; `hollow` for what stands for the state before training."""

    value: float
    color: str
    label: str
    hollow: bool = False


def running_mean(values: Sequence[float]) -> list[float]:
    """Centred mean over about a 20th of the values, narrower towards both ends.

    Example:
      >>> running_mean([1.0, 3.0]), running_mean([0.0] * 40 + [3.0] + [0.0] * 40)[37:39]
      ([1.0, 3.0], [0.0, 0.6])
    """
    means = []
    sums = [0.0]
    for value in values:
        sums.append(sums[-1] + value)
    last = len(values) - 1
    for i in range(len(values)):
        reach = min(len(values) // 40, i, last - i)
        mean = (sums[i + reach + 1] - sums[i - reach]) / (2 * reach + 1)
        means.append(mean if reach else values[i])
    return means


def thinned(values: Sequence[float], most: int = MOST_POINTS) -> list[int]:
    """Positions of at most `most` values that keep the shape of a line: both ends, all spikes.

    Args:
      values: of the line.
      most: at least 4.

    Example:
      >>> thinned([0.0, 0.0, 9.0, 0.0, 0.0, -9.0, 0.0, 0.0], most=6)
      [0, 2, 4, 5, 7]
    """
    if len(values) <= most:
        return list(range(len(values)))
    size = ceil(len(values) / ((most - 2) // 2))
    kept = {0, len(values) - 1}
    for start in range(0, len(values), size):
        bucket = range(start, min(start + size, len(values)))
        kept |= {min(bucket, key=values.__getitem__), max(bucket, key=values.__getitem__)}
    return sorted(kept)


def line_chart(
    title: str,
    lines: Sequence[Line],
    *,
    unit: str = "",
    legend: Sequence[tuple[str, str]] | None = None,
    levels: Sequence[Level] = (),
    log: bool | None = None,
    zero: bool = False,
    percent: bool = False,
    batch: int | None = None,
    note: str = "",
) -> str:
    """A chart over images seen, as an HTML figure.

    Args:
      title: above the chart.
      lines: at least one.
      unit: what the values are, after the title.
      legend: (name, colour) of the entries; each line's own by default, none for a single line.
      levels: horizontal lines.
      log: whether values are on a log axis; by default, where they are positive and far apart.
      zero: whether a linear axis starts at 0.
      percent: whether the values are shares, shown over all of 0..100 %.
      batch: images in a step: the read-out then shows the step.
      note: a sentence under the title, or "".
    """
    values = [y for line in lines for _, y in line.points] + [level.value for level in levels]
    last = max(x for line in lines for x, _ in line.points)
    x_axis = Axis(0.0, (last or 1.0) * 1.01)
    y_axis = Axis(-0.02, 1.02) if percent else fitted(values, log=log, zero=zero)
    body = [_grid(x_axis, y_axis, percent)]
    drawn = [_draw(line, x_axis, y_axis) for line in lines]
    body += [svg for svg, _ in drawn]
    for level in levels:
        y = _y(y_axis, level.value)
        body.append(
            f'<line class="level" x1="{LEFT}" x2="{RIGHT}" y1="{y}" y2="{y}" '
            f'stroke="{level.color}"/>'
        )
    data = {
        "size": [WIDTH, HEIGHT],
        "box": [LEFT, RIGHT, TOP, BOTTOM],
        "x": [x_axis.low, x_axis.high],
        "y": [y_axis.low, y_axis.high],
        "log": y_axis.log,
        "percent": percent,
        "batch": batch,
        "lines": [points for _, points in drawn],
    }
    if legend is None:
        legend = [(line.name, line.color) for line in lines] if len(lines) > 1 else []
    keys = [_key(name, color) for name, color in legend]
    keys += [_key(level.name, level.color, "dashed") for level in levels]
    unit = ", ".join(part for part in (unit, "log scale" if y_axis.log else "") if part)
    label = f"{title}{f' ({unit})' if unit else ''} over images seen. {_summary(lines)}"
    return (
        '<figure class="chart">'
        f"<figcaption><h3>{escape(title)}</h3> <span>{escape(unit)}</span></figcaption>"
        + (f'<p class="note">{escape(note)}</p>' if note else "")
        + f'<ul class="legend">{"".join(keys)}</ul>'
        + '<div class="plot">'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" tabindex="0" '
        f'aria-label="{escape(label)}">{"".join(body)}'
        '<g class="pointer" visibility="hidden"></g></svg>'
        '<div class="readout" role="status" hidden></div></div>'
        f'<script type="application/json">{for_script(data)}</script></figure>'
    )


def strip(
    axis: Axis, marks: Sequence[Mark], level: float | None = None, mean: float | None = None
) -> str:
    """Dots along one horizontal axis; the picture takes the width that it gets.

    Args:
      axis: of the values.
      marks: the dots, drawn in order; at least one.
      level: where a dashed vertical line stands, if any.
      mean: where a short vertical bar of the first dot's colour stands, if any.
    """
    body = ['<line class="rail" x1="0" x2="100%" y1="50%" y2="50%"/>']
    if level is not None:
        at = f"{100 * axis.place(level):.2f}%"
        body.append(f'<line class="level" x1="{at}" x2="{at}" y1="0" y2="100%"/>')
    if mean is not None:
        at = f"{100 * axis.place(mean):.2f}%"
        body.append(
            f'<line class="mean" x1="{at}" x2="{at}" y1="4%" y2="96%" stroke="{marks[0].color}"/>'
        )
    for mark in marks:
        at = f"{100 * axis.place(mark.value):.2f}%"
        fill = "#fff" if mark.hollow else mark.color
        body.append(
            f'<circle cx="{at}" cy="50%" r="5.5" fill="{fill}" stroke="{mark.color}">'
            f"<title>{escape(mark.label)} {number(mark.value)}</title></circle>"
        )
    label = ", ".join(f"{mark.label} {number(mark.value)}" for mark in marks)
    return f'<svg class="strip" role="img" aria-label="{escape(label)}">{"".join(body)}</svg>'


def strip_ticks(axis: Axis) -> str:
    """The numbers under a strip."""
    body = []
    ticks = axis.ticks(4)
    for tick, label in zip(ticks, tick_labels(ticks), strict=True):
        share = 100 * axis.place(tick)
        anchor = "start" if share < 4 else "end" if share > 96 else "middle"
        body.append(f'<text x="{share:.2f}%" y="12" text-anchor="{anchor}">{label}</text>')
    return f'<svg class="strip-ticks" aria-hidden="true">{"".join(body)}</svg>'


def for_script(data: object) -> str:
    """JSON that can stand inside a script element: no character of it can end the element."""
    text = json.dumps(data, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _x(axis: Axis, value: float) -> str:
    return f"{LEFT + (RIGHT - LEFT) * axis.place(value):.1f}"


def _y(axis: Axis, value: float) -> str:
    return f"{BOTTOM - (BOTTOM - TOP) * axis.place(value):.1f}"


def tick_labels(ticks: Sequence[float]) -> list[str]:
    """Numbers beside an axis, with as many digits as tell them apart.

    Example:
      >>> tick_labels([0.0, 20000.0]), tick_labels([20000.0, 20002.0]), tick_labels([1.0, 1 + 2e-7])
      (['0', '20k'], ['20,000', '20,002'], ['1', '1.0000002'])
    """
    found = [quantity(tick) if abs(tick) >= 1e4 else f"{tick:.6g}" for tick in ticks]
    digits = 6
    while len(set(found)) < len(set(ticks)):
        digits += 1
        found = [f"{tick:,.{digits}g}" for tick in ticks]
    return found


def _grid(x_axis: Axis, y_axis: Axis, percent: bool) -> str:
    body = []
    ticks = y_axis.ticks()
    for tick, label in zip(ticks, tick_labels(ticks), strict=True):
        y = _y(y_axis, tick)
        text = f"{tick:.0%}" if percent else label
        body.append(
            f'<line x1="{LEFT}" x2="{RIGHT}" y1="{y}" y2="{y}"/>'
            f'<text x="{LEFT - 8}" y="{y}" dy="4" text-anchor="end">{text}</text>'
        )
    for tick in x_axis.ticks():
        x = _x(x_axis, tick)
        body.append(
            f'<line class="tick" x1="{x}" x2="{x}" y1="{BOTTOM}" y2="{BOTTOM + 4}"/>'
            f'<text x="{x}" y="{BOTTOM + 18}" text-anchor="middle">{quantity(tick)}</text>'
        )
    middle = (LEFT + RIGHT) / 2
    return (
        f'<g class="grid">{"".join(body)}'
        f'<line class="base" x1="{LEFT}" x2="{RIGHT}" y1="{BOTTOM}" y2="{BOTTOM}"/>'
        f'<text x="{middle:g}" y="{HEIGHT - 6}" text-anchor="middle">images seen</text></g>'
    )


def _draw(line: Line, x_axis: Axis, y_axis: Axis) -> tuple[str, dict[str, object]]:
    """A line's SVG, and its points for the read-out."""
    all_y = [y for _, y in line.points]
    kept = thinned(all_y)
    places = [(_x(x_axis, line.points[i][0]), _y(y_axis, all_y[i])) for i in kept]
    points: dict[str, object] = {
        "name": line.name,
        "color": line.color,
        "x": [line.points[i][0] for i in kept],
        "y": [_short(all_y[i]) for i in kept],
    }
    stroke = f'stroke="{line.color}"'
    if len(kept) == 1 or line.dots:
        dots = "".join(
            f'<circle class="dot" cx="{x}" cy="{y}" r="3.2" fill="{line.color}"/>'
            for x, y in places
        )
    else:
        dots = ""
    means = running_mean(all_y) if line.mean else all_y
    if means != all_y:  # a short line's mean is the line itself
        points["mean"] = [_short(means[i]) for i in kept]
        smooth = [(x, _y(y_axis, means[i])) for (x, _), i in zip(places, kept, strict=True)]
        return (
            f'<path class="raw" d="{_path(places, False)}" {stroke}/>'
            f'<path class="line" d="{_path(smooth, False)}" {stroke}/>{dots}',
            points,
        )
    kind = "thin" if line.thin else "line"
    return f'<path class="{kind}" d="{_path(places, line.step)}" {stroke}/>{dots}', points


def _path(places: Sequence[tuple[str, str]], step: bool) -> str:
    first, *rest = places
    drawn = f"M{first[0]} {first[1]}"
    return drawn + "".join(f"H{x}V{y}" if step else f"L{x} {y}" for x, y in rest)


def _short(value: float) -> float:
    return float(f"{value:.5g}")


def _key(name: str, color: str, kind: str = "") -> str:
    return f'<li><span class="key {kind}" style="color:{color}"></span>{escape(name)}</li>'


def _summary(lines: Sequence[Line]) -> str:
    parts = []
    for line in lines:
        values = [y for _, y in line.points]
        parts.append(
            f"{line.name}: {len(values)} values, first {number(values[0])}, "
            f"last {number(values[-1])}, lowest {number(min(values))}, "
            f"highest {number(max(values))}"
        )
    return "; ".join(parts) + "."

"""Axes of charts: which range, which ticks, where a value lies."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count, takewhile

LOG_RATIO = 3.0
"""Positive values whose largest is this many times their smallest are drawn on a log axis."""


_LEADING: tuple[tuple[float, tuple[int, ...]], ...] = (
    (0.6, tuple(range(1, 10))),
    (1.2, (1, 2, 3, 5, 7)),
    (2.5, (1, 2, 5)),
    (math.inf, (1,)),
)
"""Leading digits of the ticks of a log axis that spans less than so many decades."""


@dataclass(frozen=True)
class Axis:
    """A range of values.

    Attributes:
      low: smallest value drawn.
      high: largest value drawn, above `low`.
      log: whether equal ratios are equally far apart; needs `low` > 0.
    """

    low: float
    high: float
    log: bool = False

    def place(self, value: float) -> float:
        """Where a value lies: 0 at `low`, 1 at `high`.

        Example:
          >>> Axis(0.0, 4.0).place(1.0), round(Axis(0.01, 100.0, log=True).place(1.0), 12)
          (0.25, 0.5)
        """
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self, about: int = 5) -> list[float]:
        """Round values inside the range, ascending: at least two.

        Args:
          about: how many are wanted, at least 2.

        Example:
          >>> Axis(0.0, 76800.0).ticks(), Axis(0.3, 60.0, log=True).ticks()
          ([0.0, 20000.0, 40000.0, 60000.0], [0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0])
        """
        if self.log:
            decades = math.log10(self.high / self.low)
            leading = next(leading for width, leading in _LEADING if decades < width)
            first = math.floor(math.log10(self.low))
            last = math.ceil(math.log10(self.high))
            every = 1 + (last - first) // 10 if decades >= 2.5 else 1
            powers = range(first, last + 1, every)
            found = [float(f"{i}e{power}") for power in powers for i in leading]
            found = [tick for tick in found if self.low <= tick <= self.high]
            if len(found) >= 2:
                return found
        span = self.high - self.low
        base = 10.0 ** math.floor(math.log10(span / about))
        step = next(m * base for m in (1, 2, 5, 10) if span / (m * base) <= about)
        start = math.ceil(self.low / step - 1e-9)
        # Rounding takes away what repeated multiplication adds to the last digit.
        digits = 2 - math.floor(math.log10(step))
        values = (round(i * step, digits) for i in count(start))
        found = list(takewhile(lambda tick: tick <= self.high + 1e-9 * span, values))
        return found if len(found) >= 2 else self.ticks(2 * about)


def fitted(values: Iterable[float], *, log: bool | None = None, zero: bool = False) -> Axis:
    """The axis that holds some values with a margin.

    Args:
      values: at least one finite number.
      log: whether to draw on a log axis; by default, where all are positive and far apart.
      zero: whether a linear axis starts at 0.

    Example:
      >>> axis = fitted([1.0, 10.0])
      >>> axis.log, axis.low < 1.0, axis.high > 10.0
      (True, True, True)
      >>> fitted([0.0, 10.0], zero=True)
      Axis(low=0.0, high=10.8, log=False)
    """
    values = list(values)
    low, high = min(values), max(values)
    if log is None:
        log = low > 0 and high / low >= LOG_RATIO
    if log and low > 0:
        margin = max((high / low) ** 0.06, 1.05)
        return Axis(low / margin, high * margin, log=True)
    if zero:
        low = min(low, 0.0)
    span = high - low or abs(high) or 1.0
    bottom = low if zero and low == 0 else low - 0.08 * span
    return Axis(bottom, high + 0.08 * span)

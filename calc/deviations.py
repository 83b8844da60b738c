"""How far predictions are off: statistics of predicted over measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean, median

from calc.records import Record, named_record


@named_record
class Errors(Record):
    """Statistics over ``n`` measurements: errors are |predicted / measured − 1|, the bias keeps the sign.

    ``low`` and ``high``: the 10th and 90th percentile of measured / predicted.
    """

    n: int
    median: float
    mean: float
    p90: float
    bias: float
    low: float
    high: float


def deviations(ratios: Sequence[float]) -> Errors:
    """Return the statistics of at least one ratio of predicted over measured.

    >>> found = deviations([0.9, 1.0, 1.2])
    >>> found.n, round(found.median, 3), round(found.bias, 3)
    (3, 0.1, 0.033)
    """
    off, inverse = [abs(ratio - 1) for ratio in ratios], [1 / ratio for ratio in ratios]
    return Errors(
        n=len(off),
        median=median(off),
        mean=fmean(off),
        p90=quantile(off, 0.9),
        bias=fmean(ratios) - 1,
        low=quantile(inverse, 0.1),
        high=quantile(inverse, 0.9),
    )


def quantile(values: Iterable[float], share: float) -> float:
    """Return a quantile, interpolated between neighbours.

    >>> quantile([1, 2, 3, 4], 0.5)
    2.5
    """
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return float(ordered[below] + (place - below) * (ordered[above] - ordered[below]))

"""How far off modelled figures are: the errors that ``calc accuracy`` measured on published measurements.

Exact counts need none of this. A modelled figure (time, peak memory, money) carries the error of its kind: the band in
which measured values lay around predicted ones, the median error, and on how many measurements it was found.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import cache
from typing import Any

from calc.catalog import presets_folder
from calc.deviations import Errors
from calc.errors import UnknownName
from calc.hardware import Accelerator
from calc.records import named_record
from calc.results import Figure

ERRORS = "errors.json"
"""In ``presets/measurements``; ``calc accuracy -o`` writes it."""


@named_record
class KnownError(Errors):
    """The error of one kind of figure on published measurements."""

    quantity: str

    def text(self) -> str:
        """Say it in a few words.

        >>> KnownError(quantity="x", n=9, median=0.05, mean=0.06, p90=0.1, bias=0, low=0.9, high=1.1).text()
        '±5 % median, 10 % at the 90th percentile, 9 measurements'
        """
        return (
            f"±{100 * self.median:.2g} % median, {100 * self.p90:.2g} % at the 90th percentile, {self.n} measurements"
        )

    def figure(self, value: float, unit: str, *, inverse: bool = False) -> Figure:
        """Return a modelled figure with the band in which eight of ten measurements lay.

        ``inverse``: it falls as what was measured rises (a price with throughput, a rate with time).
        """
        low, high = (1 / self.high, 1 / self.low) if inverse else (self.low, self.high)
        return Figure(value, unit, "modelled", low=value * low, high=value * high)


def wider(quantity: str) -> Iterator[str]:
    """Yield a quantity and the wider ones it belongs to.

    >>> list(wider("operator.gemm"))
    ['operator.gemm', 'operator']
    """
    while quantity:
        yield quantity
        quantity = quantity.rpartition(".")[0]


@cache
def known_errors() -> Mapping[str, KnownError]:
    """Return the recorded errors by quantity."""
    data: dict[str, Any] = json.loads((presets_folder() / "measurements" / ERRORS).read_text("utf-8"))
    return {name: KnownError(quantity=name, **entry) for name, entry in data["errors"].items()}


def error_of(quantity: str) -> KnownError:
    """Return the measured error of a kind of figure; of the wider kind where the kind itself was never measured.

    Raises:
        UnknownName: neither it nor a wider kind has been measured.
    """
    known = known_errors()
    for name in wider(quantity):
        if name in known:
            return known[name]
    raise UnknownName("measured error", quantity, known)


def operator_error(accelerator: Accelerator) -> KnownError:
    """Return the error of a kernel's time: what the device's own calibration found, or that of published timings."""
    own = accelerator.calibration
    return error_of("operator") if own is None else KnownError(quantity="operator", **asdict(own.errors["all"]))


def collective_error(accelerator: Accelerator) -> KnownError:
    """Return the error of a collective's time: what was measured between such devices, or that of published runs."""
    own = accelerator.calibration.links if accelerator.calibration else None
    quantity = "operator.collective"
    return error_of(quantity) if own is None else KnownError(quantity=quantity, **asdict(own.errors["all"]))


def known(quantity: str) -> KnownError | None:
    """Return the measured error of a kind of figure, or None where nothing like it was ever measured."""
    try:
        return error_of(quantity)
    except UnknownName:
        return None

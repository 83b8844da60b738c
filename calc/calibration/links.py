"""Fitting the constants of collectives to measured times, as those of kernels are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from calc.calibration.exchanges import Exchange
from calc.calibration.fitting import Progress, by_kind, descend, loss, taking_part
from calc.constants import LinkCalibration, LinkKind, NetworkConstants
from calc.errors import CalcError
from calc.hardware import Accelerator, Link
from calc.network import CONSTANTS, FAST_NVLINK, collective_time, path
from calc.records import Record, named_record, replace

SHARE: Final = "efficiency."
"""Before the kind of a link whose share of the nominal rate is fitted."""
FITTED: Final[Mapping[str, tuple[float, float]]] = {
    "launch_s": (1e-7, 1e-1),
    "send_s": (1e-7, 1e-1),
    "both_ways": (1e-1, 1.0),
    "copy_s": (1e-9, 1e-2),
    "fill_bytes": (1e2, 1e9),
    "fill_slope": (1e-2, 1e2),
    "peer_fill": (1e-2, 1e2),
}
"""Constants that every exchange tells of, and between what. Those of reductions in a switch are fitted where a switch
does them, shares of the nominal rate for the links that are crossed; those of engines' own kernels are not measured."""


@named_record
class ExchangeTiming(Record):
    """An exchange, and the seconds that one call was measured to take."""

    exchange: Exchange
    seconds: float
    fitted: bool


def parts(measured: Iterable[tuple[Exchange, float]]) -> list[ExchangeTiming]:
    """Return the timings, with every fourth of a kind held out."""
    found = list(measured)
    fitted = taking_part(exchange.kind for exchange, _ in found)
    return [
        ExchangeTiming(exchange=exchange, seconds=seconds, fitted=part)
        for (exchange, seconds), part in zip(found, fitted, strict=True)
    ]


def joined(accelerator: Accelerator, ranks: int, timings: Sequence[ExchangeTiming]) -> Accelerator:
    """Return the device with a link that joins so many: one that it states, or one made of what was measured.

    Where nobody states a link, the best rate and the shortest time that were measured stand for it.
    """
    try:
        accelerator.link(ranks)
    except CalcError:
        made = Link(
            kind="measured",
            bytes_per_s=max(float(one.exchange.call().sent) / one.seconds for one in timings),
            latency_s=min(one.seconds for one in timings),
            size=ranks,
            source="calc calibrate: the best rate and the shortest time of any exchange",
        )
        return replace(accelerator, links=(*accelerator.links, made))
    return accelerator


def fit_links(
    timings: Sequence[ExchangeTiming],
    accelerator: Accelerator,
    backend: str,
    ranks: int,
    progress: Progress | None = None,
) -> LinkCalibration:
    """Return the constants of collectives with the least mean |log(predicted / measured)| over their kinds.

    The errors are those of exchanges that took no part.
    """
    ranges = dict(_ranges(timings, accelerator))
    start = {name: _value(CONSTANTS, name) for name in ranges}
    used = _Packed(one for one in timings if one.fitted)
    values = descend(start, ranges, lambda at: loss(used.ratios(accelerator, _constants(at)).values()), progress)
    constants = _constants(values)
    held = _Packed(one for one in timings if not one.fitted).ratios(accelerator, constants)
    return LinkCalibration(
        backend=backend,
        ranks=ranks,
        constants=constants,
        errors=by_kind({kind: [float(ratio) for ratio in found] for kind, found in held.items()}),
    )


def fitted_links(
    timings: Sequence[ExchangeTiming], accelerator: Accelerator, constants: NetworkConstants
) -> dict[str, float]:
    """Return the constants that were fitted; shares of a link's rate are named ``efficiency.`` and its kind."""
    return {name: _value(constants, name) for name, _ in _ranges(timings, accelerator)}


def _ranges(timings: Iterable[ExchangeTiming], accelerator: Accelerator) -> Iterator[tuple[str, tuple[float, float]]]:
    """Yield what is fitted: which links are crossed, and whether one reduces, is the device's."""
    yield from FITTED.items()
    crossed: dict[LinkKind, Link] = {}
    for one in timings:
        at = path(one.exchange.call(), accelerator)
        crossed |= {link.kind: link for link in (at.inner, at.outer) if link is not None}
    for kind, link in crossed.items():
        yield SHARE + kind, (1e-3, 1.2)
        if link.reduces:
            yield "nvls_s", (1e-7, 1e-3)
            yield ("nvls_fifth" if link.bytes_per_s > FAST_NVLINK else "nvls_fourth"), (1e-2, 1.2)


def _value(constants: NetworkConstants, name: str) -> float:
    kind = name.removeprefix(SHARE)
    return float(constants.efficiency[kind] if kind != name else getattr(constants, name))  # type: ignore[index]


def _constants(values: Mapping[str, float]) -> NetworkConstants:
    others: dict[str, Any] = {name: value for name, value in values.items() if not name.startswith(SHARE)}
    shares = {kind: values.get(SHARE + kind, share) for kind, share in CONSTANTS.efficiency.items()}
    return replace(CONSTANTS, efficiency=shares, **others)


class _Packed:
    """Timings as sweeps: exchanges that differ in bytes alone, side by side."""

    def __init__(self, timings: Iterable[ExchangeTiming]) -> None:
        import numpy as np

        alike: dict[tuple[str, int], list[ExchangeTiming]] = {}
        for one in timings:
            alike.setdefault((one.exchange.kind, one.exchange.ranks), []).append(one)
        self.sweeps = [
            (
                replace(group[0].exchange.call(), bytes=np.array([float(one.exchange.bytes) for one in group])),
                np.array([one.seconds for one in group]),
            )
            for group in alike.values()
        ]

    def ratios(self, accelerator: Accelerator, constants: NetworkConstants) -> dict[str, Any]:
        """Return predicted over measured times by kind."""
        import numpy as np

        found: dict[str, list[Any]] = {}
        for call, seconds in self.sweeps:
            found.setdefault(call.kind, []).append(collective_time(call, accelerator, constants=constants) / seconds)
        return {kind: np.concatenate(each) for kind, each in found.items()}

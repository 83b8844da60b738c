"""Fitting the constants of the time model to measured times, and judging the fit on points it has not seen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import inf
from statistics import fmean
from typing import Any, Final, TypeAlias

from calc.deviations import Errors, deviations
from calc.hardware import Accelerator
from calc.kernels import Kernel
from calc.records import Record, named_record, replace
from calc.roofline import Efficiency, Launch, kernel_time

Progress: TypeAlias = Callable[[int, int], None]

HELD_OUT: Final = 4
"""Every fourth point takes no part in the fit."""

ROUNDS: Final = 24
WORST: Final = 0.7
"""|log error| beyond which a point counts no more: a disturbed measurement must not bend the constants."""

FITTED: Final[Mapping[str, tuple[float, float]]] = {
    "issue": (0.05, 1.0),
    "fill_s": (1e-9, 1e-4),
    "store": (0.05, 100.0),
    "step_s": (1e-10, 1e-5),
    "core_bytes_per_clock": (1.0, 1000.0),
    "memory": (0.05, 1.0),
    "core_share": (1.0, 100.0),
    "cache": (1.0, 30.0),
    "overlap": (1.0, 8.0),
    "kernel_s": (1e-8, 1e-3),
    "light_s": (1e-8, 1e-3),
    "attention": (0.01, 1.0),
    "attention_backward": (0.1, 2.0),
    "attention_decode": (0.005, 1.0),
    "softmax_clocks": (1e-4, 50.0),
    "softmax_backward_clocks": (1e-4, 100.0),
    "softmax_overlap": (1.0, 8.0),
    "block_steps": (0.01, 20.0),
    "decode_s": (1e-8, 1e-3),
}
"""Constants that are fitted, and between what. The others are measured (``host_s``), or cannot be told from these."""


@named_record
class Timing(Record):
    """A kernel, and the seconds that one launch was measured to take."""

    kind: str
    kernel: Kernel
    seconds: float
    fitted: bool


@named_record
class Fit(Record):
    """The constants, and the errors of the points that were held out, by kind and over all."""

    constants: Efficiency
    errors: Mapping[str, Errors]
    fitted: int


def taking_part(kinds: Iterable[str]) -> Iterator[bool]:
    """Yield whether a point takes part in a fit: every ``HELD_OUT``-th of its kind does not."""
    seen: dict[str, int] = {}
    for kind in kinds:
        seen[kind] = seen.get(kind, 0) + 1
        yield seen[kind] % HELD_OUT != 0


def split(timings: Iterable[tuple[str, Kernel, float]]) -> list[Timing]:
    """Return the timings with every ``HELD_OUT``-th of a kind held out."""
    found = list(timings)
    parts = taking_part(kind for kind, _, _ in found)
    return [
        Timing(kind=kind, kernel=kernel, seconds=seconds, fitted=fitted)
        for (kind, kernel, seconds), fitted in zip(found, parts, strict=True)
    ]


def fit(
    timings: Sequence[Timing],
    accelerator: Accelerator,
    start: Efficiency,
    *,
    launch: Launch,
    progress: Progress | None = None,
) -> Fit:
    """Return the constants with the least mean |log(predicted / measured)| over kinds, found by coordinate descent.

    The errors are those of points that took no part.
    """
    used = {kind: _Packed(group) for kind, group in _by_kind(one for one in timings if one.fitted).items()}

    def at(values: Mapping[str, Any]) -> Efficiency:
        return replace(start, **values)

    def off(values: Mapping[str, float]) -> float:
        return loss((packed.ratios(accelerator, at(values), launch) for packed in used.values()), WORST)

    constants = at(descend({name: getattr(start, name) for name in FITTED}, FITTED, off, progress))
    held = [timing for timing in timings if not timing.fitted]
    return Fit(
        constants=constants,
        errors=errors(held, accelerator, constants, launch),
        fitted=sum(timing.fitted for timing in timings),
    )


def descend(
    start: Mapping[str, float],
    ranges: Mapping[str, tuple[float, float]],
    off: Callable[[Mapping[str, float]], float],
    progress: Progress | None = None,
) -> dict[str, float]:
    """Return the values within their ranges that leave ``off`` least, found by coordinate descent.

    Each value is moved up and down by a factor that halves when neither way helps.

    >>> found = descend({"x": 1.0, "y": 8.0}, {"x": (0.1, 100), "y": (0.1, 100)},
    ...                 lambda at: abs(at["x"] - 30) + abs(at["y"] - 2))
    >>> round(found["x"], 2), round(found["y"], 2)
    (30.0, 2.0)
    """
    values, best = dict(start), off(start)
    steps = dict.fromkeys(ranges, 1.0)
    for number in range(ROUNDS):
        if progress:
            progress(number, ROUNDS)
        for name, (least, most) in ranges.items():
            tries = (values[name] * (1 + steps[name]), values[name] / (1 + steps[name]))
            for other in dict.fromkeys(min(max(one, least), most) for one in tries):
                changed = {**values, name: other}
                now = off(changed)
                if now < best - 1e-7:
                    values, best = changed, now
                    break
            else:
                steps[name] /= 2
    return values


def loss(ratios: Iterable[Any], worst: float = inf) -> float:
    """Return the mean over kinds of mean |log(predicted / measured)|, each at most ``worst``."""
    import numpy as np

    return float(fmean(np.minimum(np.abs(np.log(one)), worst).mean() for one in ratios))


def _by_kind(timings: Iterable[Timing]) -> dict[str, list[Timing]]:
    kinds: dict[str, list[Timing]] = {}
    for timing in timings:
        kinds.setdefault(timing.kind, []).append(timing)
    return kinds


SIZES: Final = (
    "flops", "vector_flops", "bytes", "weight_bytes", "m", "n", "k", "groups", "batch", "heads", "kv_heads", "queries",
    "keys", "pairs", "head_dim", "value_dim",
)  # fmt: skip
"""Fields of a kernel that are sizes: those of alike kernels are put side by side, so that one sweep times them all."""


class _Packed:
    """Timings of one kind as sweeps: kernels that differ in sizes alone, side by side."""

    def __init__(self, timings: Iterable[Timing]) -> None:
        import numpy as np

        alike: dict[tuple[object, ...], list[Timing]] = {}
        for timing in timings:
            kernel = timing.kernel
            key = (kernel.kind, kernel.form, kernel.operand_bits, kernel.direction, kernel.uneven)
            alike.setdefault(key, []).append(timing)
        self.sweeps: list[tuple[Kernel, Any]] = []
        for group in alike.values():
            sizes: dict[str, Any] = {
                name: np.array([float(getattr(one.kernel, name)) for one in group]) for name in SIZES
            }
            self.sweeps.append((replace(group[0].kernel, **sizes), np.array([one.seconds for one in group])))

    def ratios(self, accelerator: Accelerator, constants: Efficiency, launch: Launch) -> Any:
        """Return predicted over measured times."""
        import numpy as np

        with np.errstate(divide="ignore", invalid="ignore"):  # both sides of a condition are computed
            found = [
                np.broadcast_to(kernel_time(kernel, accelerator, constants, launch=launch).seconds, seconds.shape)
                / seconds
                for kernel, seconds in self.sweeps
            ]
        return np.concatenate(found)


def errors(
    timings: Sequence[Timing], accelerator: Accelerator, constants: Efficiency, launch: Launch
) -> dict[str, Errors]:
    """Return the errors by kind, and over ``all``."""
    return by_kind(
        {
            kind: [float(ratio) for ratio in _Packed(group).ratios(accelerator, constants, launch)]
            for kind, group in _by_kind(timings).items()
        }
    )


def by_kind(ratios: Mapping[str, Sequence[float]]) -> dict[str, Errors]:
    """Return the errors of ratios of predicted over measured by kind, and over ``all``."""
    every = [ratio for found in ratios.values() for ratio in found]
    return {kind: deviations(found) for kind, found in {**ratios, "all": every}.items() if found}

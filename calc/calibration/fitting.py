"""Fitting the constants of the time model to measured times, and judging the fit on points it has not seen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import mean, median
from typing import Any, Final

from calc.confidence import quantile
from calc.hardware import Accelerator
from calc.kernels import Kernel
from calc.records import Record, named_record
from calc.roofline import Efficiency, Launch, kernel_time

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
    errors: Mapping[str, Mapping[str, float]]
    fitted: int


def split(timings: Iterable[tuple[str, Kernel, float]]) -> list[Timing]:
    """Return the timings with every ``HELD_OUT``-th of a kind held out."""
    seen: dict[str, int] = {}
    found = []
    for kind, kernel, seconds in timings:
        number = seen[kind] = seen.get(kind, 0) + 1
        found.append(Timing(kind=kind, kernel=kernel, seconds=seconds, fitted=number % HELD_OUT != 0))
    return found


def fit(
    timings: Sequence[Timing],
    accelerator: Accelerator,
    start: Efficiency,
    *,
    launch: Launch,
    progress: Callable[[int, int], None] | None = None,
) -> Fit:
    """Return the constants with the least mean |log(predicted / measured)| over kinds, found by coordinate descent.

    Each constant is moved up and down by a factor that halves when neither way helps. The errors are those of points
    that took no part.
    """
    used = {kind: _Packed(group) for kind, group in _by_kind(one for one in timings if one.fitted).items()}
    constants = start
    best = _loss(used, accelerator, constants, launch)
    steps = dict.fromkeys(FITTED, 1.0)
    for number in range(ROUNDS):
        if progress:
            progress(number, ROUNDS)
        for name, (least, most) in FITTED.items():
            value = getattr(constants, name)
            tries = (value * (1 + steps[name]), value / (1 + steps[name]))
            for other in dict.fromkeys(min(max(one, least), most) for one in tries):
                changed = replace(constants, **{name: other})
                loss = _loss(used, accelerator, changed, launch)
                if loss < best - 1e-7:
                    constants, best = changed, loss
                    break
            else:
                steps[name] /= 2
    held = [timing for timing in timings if not timing.fitted]
    return Fit(
        constants=constants,
        errors=errors(held, accelerator, constants, launch),
        fitted=sum(timing.fitted for timing in timings),
    )


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


def _loss(kinds: Mapping[str, _Packed], accelerator: Accelerator, constants: Efficiency, launch: Launch) -> float:
    import numpy as np

    each = [np.abs(np.log(packed.ratios(accelerator, constants, launch))) for packed in kinds.values()]
    return float(mean(np.minimum(one, WORST).mean() for one in each))


def errors(
    timings: Sequence[Timing], accelerator: Accelerator, constants: Efficiency, launch: Launch
) -> dict[str, dict[str, float]]:
    """Return the errors by kind, and over ``all``."""
    ratios = {
        kind: [float(ratio) for ratio in _Packed(group).ratios(accelerator, constants, launch)]
        for kind, group in _by_kind(timings).items()
    }
    ratios["all"] = [ratio for found in list(ratios.values()) for ratio in found]
    return {kind: summary(found) for kind, found in ratios.items() if found}


def summary(ratios: Sequence[float]) -> dict[str, float]:
    """Return n, median, mean and 90th percentile of |ratio − 1|, the median of ratio − 1, and the band of 1 / ratio."""
    off, inverse = [abs(ratio - 1) for ratio in ratios], [1 / ratio for ratio in ratios]
    return {
        "n": len(off),
        "median": median(off),
        "mean": mean(off),
        "p90": quantile(off, 0.9),
        "bias": median(ratio - 1 for ratio in ratios),
        "low": quantile(inverse, 0.1),
        "high": quantile(inverse, 0.9),
    }

"""One change at a time: what would help a deployment most."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from calc.errors import CalcError
from calc.records import replace
from calc.serving.answer import Alternative, Asked, Serving, answered
from calc.units import dtype


def alternatives(serving: Serving) -> tuple[Alternative, ...]:
    """Return the answers to the question with one thing changed, the most helpful first.

    What is compared is output tokens per second and device; for a rate, at saturation.
    """
    now = _speed(serving)
    found = []
    for text, changes in _changes(serving.asked):
        try:
            other = answered(replace(serving.asked, **changes()))
        except CalcError:
            continue  # a layout or a format that cannot be is no way out
        speed = _speed(other)
        gain = float("inf") if speed and not now else (speed or 0.0) / now if now else 0.0
        found.append(
            Alternative(change=text, fits=other.fits, output_tokens_per_s_per_gpu=speed, tpot_s=other.tpot_s, gain=gain)
        )
    return tuple(sorted(found, key=lambda each: (-each.gain, each.change)))


def _speed(serving: Serving) -> float | None:
    """Return output tokens per second and device; where a rate is asked for, those of saturation."""
    if serving.steady is None:
        return None
    if serving.asked.rate is None:
        return serving.output_tokens_per_s_per_gpu
    return float(serving.steady.saturation) * serving.asked.copies * serving.asked.output_tokens / serving.asked.gpus


def _changes(asked: Asked) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """Yield what could be changed, in words, and the new values; a layout that cannot be says so when it is made."""
    device, layout = asked.accelerator, asked.layout
    if asked.weights in ("bf16", "fp16", "fp32"):
        form = "fp8-linear" if device.multiplies("fp8") else "int8-linear"
        yield f"weights in {form}", lambda: {"weights_dtype": form}
        yield "weights in int4-linear", lambda: {"weights_dtype": "int4-linear"}
    if dtype(asked.cache_dtype).bits == 16:
        yield "cache in fp8", lambda: {"cache_dtype": "fp8"}
    if asked.gpus * 2 <= 64 and not asked.prefill_gpus:
        wider = 2 * layout.tp
        # experts stay on as many ranks, each of which then has less of theirs
        shared = None if layout.ep == 1 else max(wider // layout.ep, 1)
        yield (
            f"twice the devices (tp {wider})",
            lambda: {"gpus": 2 * asked.gpus, "layout": replace(layout, tp=wider, expert_tp=shared)},
        )
    if asked.concurrency is not None:
        users = 2 * asked.concurrency
        yield "twice the users", lambda: {"concurrency": users}
    if asked.engine.memory_fraction and (asked.settings.memory_fraction or asked.engine.memory_fraction) < 0.95:
        yield "a memory fraction of 0.95", lambda: {"settings": replace(asked.settings, memory_fraction=0.95)}
    if not asked.cached:
        yield "half of each prompt from a prefix cache", lambda: {"cached": 0.5}

"""One change at a time: what would help a deployment most."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from calc.errors import CalcError
from calc.serving.answer import Alternative, Asked, Serving, answered
from calc.units import dtype


def alternatives(serving: Serving) -> tuple[Alternative, ...]:
    """Return the answers to the question with one thing changed, the most helpful first.

    What is compared is output tokens per second and device; for a rate, at saturation.
    """
    now = _speed(serving)
    found = []
    for text, asked in _changed(serving.asked):
        try:
            other = answered(asked)
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


def _changed(asked: Asked) -> Iterator[tuple[str, Asked]]:
    """Yield what could be changed, in words, and the question that asks for it."""
    model, device = asked.model, asked.accelerator
    weights = asked.weights_dtype or model.weights_dtype
    if weights in ("bf16", "fp16", "fp32"):
        form = "fp8-linear" if device.multiplies("fp8") else "int8-linear"
        yield f"weights in {form}", replace(asked, weights_dtype=form)
        yield "weights in int4-linear", replace(asked, weights_dtype="int4-linear")
    if dtype(asked.cache_dtype).bits == 16:
        yield "cache in fp8", replace(asked, cache_dtype="fp8")
    if asked.gpus * 2 <= 64 and not asked.prefill_gpus:
        layout = asked.layout
        yield (
            f"twice the devices (tp {2 * layout.tp})",
            replace(asked, gpus=2 * asked.gpus, layout=replace(layout, tp=2 * layout.tp, expert_tp=None)),
        )
    if asked.concurrency is not None:
        yield "twice the users", replace(asked, concurrency=2 * asked.concurrency)
    if asked.engine.memory_fraction and (asked.settings.memory_fraction or asked.engine.memory_fraction) < 0.95:
        yield "a memory fraction of 0.95", replace(asked, settings=replace(asked.settings, memory_fraction=0.95))
    if not asked.cached:
        yield "half of each prompt from a prefix cache", replace(asked, cached=0.5)

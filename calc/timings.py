"""The operation table with time: what every kernel of a pass takes on a device, and what it is bound by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from calc import catalog
from calc.checks import one_of
from calc.confidence import KnownError, operator_error
from calc.costs import Setting
from calc.hardware import Accelerator
from calc.kernels import Direction, Fusion, Kernel
from calc.model import Block, Model
from calc.parallel import Layout, check, shard
from calc.records import Record, named_record
from calc.results import Cell, Figure, Grid, Result, Row
from calc.roofline import KernelTime, Launch, time_pass
from calc.roofline.efficiency import measured
from calc.units import figure

TimedPhase: TypeAlias = Literal["prefill", "decode", "train"]
PHASES: tuple[TimedPhase, ...] = ("prefill", "decode", "train")


@named_record
class Timed(Record):
    """A timed pass: its kernels, on what, and how far off the times can be."""

    times: tuple[KernelTime, ...]
    accelerator: Accelerator
    error: KnownError

    @property
    def seconds(self) -> float:
        """All launches together."""
        return float(sum(each.total for each in self.times))


def kernel_table(
    model: str | Path | Model,
    accelerator: str | Path | Accelerator,
    *,
    phase: TimedPhase = "prefill",
    context: int | None = None,
    tp: int = 1,
    fusion: Fusion = "fused",
    launch: Launch = "graph",
    **setting: Any,
) -> Result:
    """Return the kernels of a pass with their time on one of ``tp`` devices: bound by what, share, roofline position.

    Takes what ``operation_table`` takes. ``train`` is a forward and a backward pass over ``context`` tokens of each
    sequence. ``fusion`` and ``launch``: fused kernels from a recorded graph, as engines run them, or eager ones, one by
    one. Collectives between devices are not in the table. Units: seconds, FLOP, bytes.

    Raises:
        CalcError: an unknown model, device, phase or size; a degree that does not divide the model.

    >>> found = kernel_table("llama-3-8b", "h100-sxm", phase="decode", context=4096)
    >>> round(found.data["total"]["seconds"] * 1e3)
    7
    """
    one_of("phase", phase, PHASES)
    one_of("fusion", fusion, get_args(Fusion))
    one_of("launch", launch, get_args(Launch))
    loaded = catalog.load(model)
    asked = Setting.of([loaded], context, **setting)
    layout = Layout(tp=tp)
    check(loaded, layout)
    blocks = loaded.blocks()
    forms = asked.forms(loaded, blocks)
    pass_ = asked.phase("decode" if phase == "decode" else "prefill")
    device = catalog.load_accelerator(accelerator)
    error = operator_error(device)
    ways: tuple[Direction, ...] = ("forward", "backward") if phase == "train" else ("forward",)
    ranked = shard(blocks, layout)
    times = [
        each
        for way in ways
        for each in time_pass(ranked, pass_, device, forms, direction=way, fusion=fusion, launch=launch)
    ]
    timed = Timed(times=tuple(times), accelerator=device, error=error)
    total = _total(timed)
    data = {
        "model": {"name": loaded.name, "source": loaded.source},
        "pass": {"phase": phase, **asked.to_dict(loaded)},
        "accelerator": device.name,
        "tp": tp,
        "fusion": fusion,
        "launch": launch,
        "kernels": [_record(each, timed) for each in timed.times],
        "total": total,
        "provenance": "modelled",
        "error": {name: value for name, value in asdict(error).items() if name != "bias"},
    }
    return Result(
        kind="kernels",
        data=data,
        grids=(_grid(loaded, asked, phase, tp, ranked, timed, total),),
        notes=(*_notes(timed), *loaded.beyond(asked.context)),
    )


def _roof(timed: KernelTime, accelerator: Accelerator) -> float:
    """Return the least time that the peak and the memory bandwidth leave."""
    kernel = timed.kernel
    peak = accelerator.flops[accelerator.multiplies(kernel.form) or accelerator.half()]
    return max(float(kernel.flops) / peak, float(kernel.bytes) / accelerator.memory_bytes_per_s)


def _record(timed: KernelTime, of: Timed) -> dict[str, Any]:
    kernel = timed.kernel
    return {
        "path": kernel.path,
        "kernel": kernel.name,
        "kind": kernel.kind,
        "operations": list(kernel.operations),
        "direction": kernel.direction,
        "repeat": int(kernel.repeat),
        "form": kernel.form,
        "shape": _sizes(kernel),
        "flops": float(kernel.repeat * kernel.flops),
        "bytes": float(kernel.repeat * kernel.bytes),
        "seconds": float(timed.total),
        "seconds_each": float(timed.seconds),
        "compute_seconds": float(timed.compute_s),
        "memory_seconds": float(timed.memory_s),
        "launch_seconds": float(timed.launch_s),
        "bound": timed.bound,
        "share": float(timed.total) / of.seconds,
        "intensity": float(kernel.intensity),
        "ridge": _ridge(kernel, of.accelerator),
        "of_roofline": _roof(timed, of.accelerator) / float(timed.seconds),
    }


def _ridge(kernel: Kernel, accelerator: Accelerator) -> float:
    return accelerator.ridge(accelerator.multiplies(kernel.form) or accelerator.half())


def _sizes(kernel: Kernel) -> dict[str, float]:
    names: tuple[str, ...]
    if kernel.kind in ("gemm", "grouped_gemm"):
        names = ("m", "n", "k", "groups")
    elif kernel.kind == "attention":
        names = ("batch", "heads", "kv_heads", "queries", "keys", "head_dim", "value_dim")
    else:
        return {}
    return {name: float(getattr(kernel, name)) for name in names}


def _total(timed: Timed) -> dict[str, float]:
    by_bound = dict.fromkeys(("compute", "memory", "launch"), 0.0)
    for each in timed.times:
        by_bound[each.bound] += float(each.total)
    flops = float(sum(each.kernel.repeat * each.kernel.flops for each in timed.times))
    roof = sum(float(each.kernel.repeat) * _roof(each, timed.accelerator) for each in timed.times)
    return {
        "seconds": timed.seconds,
        "low": timed.seconds * timed.error.low,
        "high": timed.seconds * timed.error.high,
        "flops": flops,
        "bytes": float(sum(each.kernel.repeat * each.kernel.bytes for each in timed.times)),
        "flops_per_second": flops / timed.seconds,
        "of_roofline": roof / timed.seconds,
        **{f"{bound}_bound_seconds": seconds for bound, seconds in by_bound.items()},
    }


def _shape(kernel: Kernel) -> str:
    """Write a kernel's shape: (groups ×) m × n × k, or heads/kv heads, queries × keys."""
    if kernel.kind in ("gemm", "grouped_gemm"):
        several = f"{_number(kernel.groups)} × " if kernel.groups != 1 else ""
        return f"{several}{_number(kernel.m)} × {_number(kernel.n)} × {_number(kernel.k)}"
    if kernel.kind == "attention":
        pairs = f"{_number(kernel.queries)} × {_number(kernel.keys)}"
        return f"{_number(kernel.heads)}/{_number(kernel.kv_heads)} heads, {pairs}"
    return ""


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"


COLUMNS = ("kernel", "time", "share", "bound by", "of roofline", "shape", "FLOPs", "bytes", "FLOP/B")


def _grid(
    model: Model, setting: Setting, phase: str, tp: int, blocks: list[Block], timed: Timed, total: Mapping[str, float]
) -> Grid:
    labels = {block.path: " ".join(filter(None, (block.path, _times(block)))) for block in blocks}
    rows = list(_rows(timed, labels))
    rows.append(
        Row(
            "total",
            (
                "total",
                Figure(timed.seconds, "s", "modelled"),
                Figure(1.0, "percent", "modelled"),
                max(("compute", "memory", "launch"), key=lambda bound: total[f"{bound}_bound_seconds"]),
                Figure(total["of_roofline"], "percent", "modelled"),
                "",
                Figure(total["flops"], "FLOP"),
                Figure(total["bytes"], "B"),
                Figure(total["flops"] / total["bytes"], "FLOP/B"),
            ),
            emphasis=True,
        )
    )
    several = f", one of {tp} tensor-parallel devices" if tp > 1 else ""
    size = f"{setting.batch} × {setting.context:,} tokens"
    title = f"{model.heading} on {timed.accelerator.title}, {phase}: {size}{several}"
    return Grid(title, COLUMNS, tuple(rows), _footer(timed, total, phase, setting))


def _times(block: Block) -> str:
    return f"×{block.repeat}" if block.repeat > 1 else ""


def _rows(timed: Timed, labels: Mapping[str, str]) -> Iterator[Row]:
    seen = ""
    for each in timed.times:
        kernel = each.kernel
        place = f"{kernel.path}{' backward' if kernel.direction == 'backward' else ''}"
        label = f"{labels[kernel.path]}{', backward' if kernel.direction == 'backward' else ''}"
        cells: tuple[Cell, ...] = (
            kernel.name,
            Figure(float(each.total), "s", "modelled"),
            Figure(float(each.total) / timed.seconds, "percent", "modelled"),
            each.bound,
            Figure(_roof(each, timed.accelerator) / float(each.seconds), "percent", "modelled"),
            _shape(kernel),
            Figure(float(kernel.repeat * kernel.flops), "FLOP"),
            Figure(float(kernel.repeat * kernel.bytes), "B"),
            Figure(float(kernel.intensity), "FLOP/B"),
        )
        section, share = label if place != seen else "", float(each.total) / timed.seconds
        yield Row(f"{place}.{kernel.name}", cells, section=section, share=share)
        seen = place


def _footer(timed: Timed, total: Mapping[str, float], phase: str, setting: Setting) -> tuple[str, ...]:
    forms = dict.fromkeys(each.kernel.form for each in timed.times)
    device = timed.accelerator
    ridges = ", ".join(
        f"{device.ridge(device.multiplies(form) or device.half()):,.0f} FLOP/B in {form}" for form in forms
    )
    tokens = setting.batch * (1 if phase == "decode" else setting.context)
    low, high = (figure(total[end], "s") for end in ("low", "high"))
    return (
        f"{figure(total['flops_per_second'], 'FLOP/s')}, {tokens / timed.seconds:,.0f} tokens/s; eight of ten measured "
        f"operators lay within {low} to {high} of such a time",
        f"ridge: {ridges}; of roofline: the least time that peak and bandwidth leave, over the modelled time",
    )


def _notes(timed: Timed) -> tuple[str, ...]:
    said = f"times are modelled: {timed.error.text()}; collectives between devices are not in the table"
    if measured(timed.accelerator):
        return (said,)
    other = f"no operator was measured on {timed.accelerator.title} or its like: its times may be further off than that"
    return said, other

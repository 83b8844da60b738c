"""What the devices of a layout send to each other: every collective, where it comes from, its bytes, its time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from calc import catalog
from calc.checks import idle, one_of, whole
from calc.confidence import KnownError, collective_error
from calc.costs import Setting
from calc.hardware import Accelerator
from calc.model import Model
from calc.network import collective_time
from calc.parallel import Collective, Layout, Ways, Wire, check, collectives, has_experts
from calc.results import Cell, Figure, Grid, Result, Row

PHASES = ("prefill", "decode", "train")
WHEN = {"forward": "forward pass", "backward": "backward pass", "step": "once a step"}


def exchange(
    model: str | Path | Model,
    layout: Layout,
    *,
    phase: str = "prefill",
    context: int | None = None,
    batch: int = 1,
    stage: int = 0,
    accelerator: str | Path | Accelerator | None = None,
    wire: Wire | None = None,
    ways: Ways | None = None,
    mtp: bool = False,
) -> Result:
    """Return what one rank exchanges with others in a pass, and after it: kind, group, calls, bytes, and their time.

    ``batch`` sequences of ``context`` tokens are those of one model copy (a micro-batch in training). ``stage``: of
    which pipeline stage the rank is. Bytes follow from the tables and are proven (``calc validate --collectives``);
    times need an ``accelerator``, are modelled, one after the other, with nothing hidden. Units: bytes, seconds.

    Raises:
        CalcError: an unknown model, phase or accelerator; a layout that the model cannot have; a group that no link
            joins.

    >>> found = exchange("llama-3-8b", Layout(tp=8), phase="decode", context=4096)
    >>> [(call["kind"], call["count"], call["bytes"]) for call in found.data["calls"]][:2]
    [('all_reduce', 1, 8192), ('all_reduce', 32, 8192)]
    """
    one_of("phase", phase, PHASES)
    stage = whole("stage", stage, 0, layout.pp - 1)
    loaded = catalog.load(model)
    asked = Setting.of([loaded], context, batch=batch)
    check(loaded, layout)
    _check(loaded, layout, phase, Ways() if ways is None else ways, mtp=mtp)
    device = None if accelerator is None else catalog.load_accelerator(accelerator)
    calls = collectives(
        loaded,
        layout,
        asked.phase("decode" if phase == "decode" else "prefill"),
        stage=stage,
        training=phase == "train",
        mtp=mtp,
        wire=wire,
        ways=ways,
    )
    times = [None if device is None else float(collective_time(call, device)) for call in calls]
    error = None if device is None else collective_error(device)
    found = list(zip(calls, times, strict=True))
    data = {
        "model": {"name": loaded.name, "source": loaded.source},
        "pass": {"phase": phase, "batch": asked.batch, "context": asked.context},
        "layout": {**asdict(layout), "expert_tp": layout.etp, "gpus": layout.gpus},
        "stage": stage,
        "wire": asdict(Wire() if wire is None else wire),
        "ways": asdict(Ways() if ways is None else ways),
        "accelerator": None if device is None else device.name,
        "calls": [_record(call, seconds) for call, seconds in found],
        "total": {when: _total(found, when, timed=device is not None) for when in WHEN},
        "error": None if error is None else {name: value for name, value in asdict(error).items() if name != "bias"},
    }
    grid = _grid(loaded, asked, phase, layout, stage, device, found)
    alone = "one device sends nothing: tp, pp, cp, ep and dp divide a model or its data"
    nothing = () if calls else (alone if layout.gpus == 1 else f"nothing is sent in a {phase}",)
    notes = (*_notes(error), *nothing, *loaded.beyond(asked.context))
    return Result(kind="exchange", data=data, grids=(grid,), notes=notes)


def _check(model: Model, layout: Layout, phase: str, ways: Ways, *, mtp: bool) -> None:
    """Refuse what would change nothing: of experts, shares and passes that there are none of."""
    plain = Ways()
    if not has_experts(model):
        idle(f"{model.name} has no routed experts", expert_tp=(layout.expert_tp, None))
    if layout.ep == 1:
        idle("it is how tokens reach experts on other ranks, and ep = 1", dispatch=(ways.dispatch, plain.dispatch))
    if layout.cp == 1:
        idle("it is how keys reach queries on other ranks, and cp = 1", ring=(ways.ring, plain.ring))
    if layout.tp == 1:
        idle("tensor-parallel ranks share tokens, and tp = 1", sequence_parallel=(layout.sequence_parallel, False))
    if model.mtp is None:
        idle(f"{model.name} has no prediction modules", mtp=(mtp, False))
    if phase != "train":
        idle(f"it is of training, not of a {phase}", zero=(layout.zero, 0), recompute=(ways.recompute, plain.recompute))
    if layout.replicas == 1:
        idle("copies share it, and dp·cp = 1", zero=(layout.zero, 0))


Found = list[tuple[Collective, float | None]]


def _record(call: Collective, seconds: float | None) -> dict[str, Any]:
    return {
        "after": call.after,
        "kind": call.kind,
        "axis": call.axis,
        "direction": call.direction,
        "ranks": call.size,
        "span": call.span,
        "count": int(call.count),
        "bytes": call.bytes,
        "sent_bytes": float(call.sent),
        "seconds": seconds,
    }


def _total(found: Found, when: str, *, timed: bool) -> dict[str, Any]:
    own = [(call, seconds) for call, seconds in found if call.direction == when]
    times = [seconds for _, seconds in own if seconds is not None]
    return {
        "count": int(sum(call.count for call, _ in own)),
        "sent_bytes": float(sum(call.sent for call, _ in own)),
        "seconds": float(sum(times)) if timed else None,
    }


def _grid(
    model: Model,
    setting: Setting,
    phase: str,
    layout: Layout,
    stage: int,
    device: Accelerator | None,
    found: Found,
) -> Grid:
    place = f", stage {stage}" if layout.pp > 1 else ""
    where = f" on {device.title}" if device else ""
    size = f"{setting.batch} × {setting.context:,} tokens{' a copy' if layout.dp > 1 else ''}"
    among = f"{layout.gpus:,} devices ({layout.text()})" if layout.gpus > 1 else "1 device"
    title = f"{model.heading}{where}, {phase}: {size}, {among}{place}"
    columns = ("what", "collective", "among", "calls", "tensor", "sent by a rank", *(("time",) if device else ()))
    rows = [row for when in WHEN for row in _rows(found, when, timed=device is not None)]
    logits = phase == "prefill" and any(call.after.endswith("lm_head") for call, _ in found)
    notes = ("logits: of each sequence's last position, from which the next token is picked",) if logits else ()
    return Grid(title, columns, tuple(rows), notes)


def _rows(found: Found, when: str, *, timed: bool) -> Iterator[Row]:
    own = [(call, seconds) for call, seconds in found if call.direction == when]
    for index, (call, seconds) in enumerate(own):
        cells: tuple[Cell, ...] = (
            call.after,
            call.kind.replace("_", "-"),
            f"{call.size} {call.axis}",
            Figure(int(call.count)),
            Figure(call.bytes, "B"),
            Figure(float(call.sent), "B"),
            *((Figure(seconds, "s", "modelled"),) if timed else ()),
        )
        yield Row(f"{when}.{index}", cells, section="" if index else WHEN[when])
    if own:
        total = _total(found, when, timed=timed)
        time = (Figure(total["seconds"], "s", "modelled"),) if timed else ()
        counts = ("total", "", "", Figure(total["count"]), None, Figure(total["sent_bytes"], "B"))
        yield Row(f"{when}.total", (*counts, *time), emphasis=True)


def _notes(error: KnownError | None) -> tuple[str, ...]:
    if error is None:
        return ()
    return (f"times are modelled, one after the other with nothing hidden: {error.text()}",)

"""What people ask of a model, as results: the card, the comparison, the operation table, the list of presets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calc import catalog
from calc.checks import listed, one_of, text
from calc.costs import PHASES, Costs, Setting
from calc.errors import SpecError
from calc.growth import PARTS as PARTS_OF_A_LAYER
from calc.growth import PartFormula, Rows, formulas, used_symbols
from calc.model import (
    Block,
    Model,
    moved_bytes,
    running,
)
from calc.operations import PARTS, Phase
from calc.records import replace
from calc.results import Cell, Figure, Grid, Result, Row
from calc.units import big_o

if TYPE_CHECKING:
    from calc.hardware import Accelerator

ModelLike = str | Path | Model


def show(model: ModelLike | Accelerator, *, context: int | None = None, **setting: Any) -> Result:
    """Return the card of a model: parameters by part, weights, cache, FLOPs, traffic, attention complexity.

    An accelerator's name, file or record is shown, too: memory, dense peaks, links, power, price. For a model it takes
    ``batch, context, source, weights_dtype, cache_dtype, causal, counts``; and for a prompt with more than text
    ``images, audio, video`` as the command line takes them, ``text`` tokens (256) in place of a context, and ``crops``.
    Units: parameters, bytes, FLOP.

    Raises:
        CalcError: an unknown model, dtype, or a size that cannot be; inputs that the model does not read.

    >>> show("llama-3-8b", context=8192).data["cache"]["bytes_per_token"]
    131072
    """
    loaded = catalog.find(model)
    if not isinstance(loaded, Model):
        return _device(loaded, {"context": context} | setting if context is not None else setting)
    prompt = {name: setting.pop(name) for name in PROMPT if name in setting}
    if prompt:
        return _with_media(loaded, context, prompt, setting)
    costs = Costs.of(loaded, Setting.of([loaded], context, **setting))
    return Result(kind="show", data=costs.to_dict(), grids=(_card(costs),), notes=_notes([costs]))


PROMPT = ("images", "audio", "video", "text", "crops")
"""What a prompt holds beside a context, as ``show`` takes it."""


def _with_media(model: Model, context: int | None, prompt: dict[str, Any], setting: dict[str, Any]) -> Result:
    """Return the card for a prompt with images, sound or clips, and what each of them costs."""
    from calc.media import media, read
    from calc.media.cards import grids

    crops = prompt.pop("crops", False)
    asked = read(**prompt)
    if not asked.anything:
        raise SpecError("text and crops belong to a prompt with images, audio or video")
    found, filled = media(model, asked, context, crops=crops, **setting)
    costs = Costs.of(model, filled)
    data = {**costs.to_dict(), "media": found.to_dict()}
    return Result(kind="show", data=data, grids=(_card(costs), *grids(found)), notes=(*_notes([costs]), *found.notes))


def _device(accelerator: Accelerator, setting: dict[str, Any]) -> Result:
    from calc.devices import card

    for name in setting:
        raise SpecError(f"{name} says nothing about an accelerator: {accelerator.name} is one")
    return card(accelerator)


def _card(costs: Costs) -> Grid:
    model, setting = costs.model, costs.setting
    rows = [*_parameter_rows(costs), *_memory_rows(costs), *_compute_rows(costs), *_traffic_rows(costs)]
    for index, (kind, power) in enumerate(costs.complexity.items()):
        rows.append(Row(f"complexity.{kind}", (kind, big_o(power), ""), section="" if index else "Attention"))
    reads = f"patches of {model.patches.patch_size}×{model.patches.patch_size}" if model.patches else ""
    head = f"{model.heading} – {model.n_layers:,} layers, d_model {model.d_model:,}, "
    counted = "causal: the pairs that masks let through" if setting.causal else "full: all T·S pairs"
    mode = f"{setting.counts} FLOPs, {counted}; memory traffic with nothing fused"
    mixers = [layer.attention for layer in model.kinds_of_layer() if layer.attention]
    remarks = dict.fromkeys(remark for mixer in mixers for remark in mixer.remarks())
    notes = (mode, *remarks, f"source: {model.source}")
    return Grid(head + (reads or f"vocabulary {model.vocab_size:,}"), ("", "value", ""), tuple(rows), notes)


def _row(
    costs: Costs, key: str, label: str, of: Callable[[Costs], float], unit: str, note: str = "", section: str = ""
) -> Row:
    """Return a line of the card; a section's first line stands out."""
    return Row(key, (label, costs.figure(of, unit), note), bool(section), section)


def _parameter_rows(costs: Costs) -> Iterator[Row]:
    params, unit = costs.params, "parameters"
    total = params.total
    yield _row(costs, "params.total", "total", lambda c: c.params.total, unit, f"{total:,}", "Parameters")
    for part in PARTS:
        if value := getattr(params, part):
            row = _row(costs, f"params.{part}", f"  {part}", partial(_part, part), unit, _share(value / total))
            yield replace(row, share=value / total)
    if params.active != total:
        share = f"{params.active / total:.1%}"
        yield _row(costs, "params.active", "active per token", lambda c: c.params.active, unit, share)
    note = "without looked-up tables"
    yield _row(costs, "params.active_matmul", "active, multiplied", lambda c: c.params.active_matmul, unit, note)
    if costs.mtp_params:
        note = "not in the total"
        yield _row(costs, "params.mtp", "prediction modules", lambda c: c.mtp_params, unit, note)
    for tower in costs.towers:
        note = f"not in the total: {tower.n_layers} layers, d_model {tower.d_model:,}"
        yield Row(f"towers.{tower.modality}", (f"{tower.modality} tower", Figure(tower.params, unit), note))
    if costs.towers:
        whole = total + sum(tower.params for tower in costs.towers)
        yield Row("towers.with", ("  with the model", Figure(whole, unit), f"{whole:,}"))


def _memory_rows(costs: Costs) -> Iterator[Row]:
    model, setting, cache = costs.model, costs.setting, costs.cache
    form = setting.weights_dtype or model.weights_dtype
    yield _row(costs, "weights.bytes", "weights", lambda c: c.weight_bytes, "B", form, "Memory")
    size = f"{_tokens(setting)}, {setting.cache_dtype}"
    yield _row(costs, "cache.bytes", "KV cache", lambda c: c.cache.bytes, "B", size)
    if len(cache.by_kind) > 1:
        for kind in cache.by_kind:
            yield _row(costs, f"cache.by_kind.{kind}", f"  {kind}", partial(_held, kind), "B")
    if cache.bytes and costs.multi_head_cache > cache.bytes:
        note = f"{1 - cache.bytes / costs.multi_head_cache:.1%} saved, {setting.cache_dtype} against bf16"
        yield _row(costs, "cache.multi_head_bytes", "  multi-head would keep", lambda c: c.multi_head_cache, "B", note)
    note = "per sequence"
    yield _row(costs, "cache.bytes_per_token", "  next token adds", lambda c: c.cache.bytes_per_token, "B", note)
    if cache.state_bytes:
        note = "does not grow"
        yield _row(costs, "cache.state_bytes", "recurrent state", lambda c: c.cache.state_bytes, "B", note)


def _compute_rows(costs: Costs) -> Iterator[Row]:
    setting = costs.setting
    notes = {"prefill": _tokens(setting), "decode": f"{setting.batch} new token{'s' * (setting.batch > 1)}"}
    for phase in PHASES:
        section = "Compute" if phase == "prefill" else ""
        yield _row(costs, f"flops.{phase}", LABELS[phase], partial(_flops, phase), "FLOP", notes[phase], section)
        for form in costs.flops_by_form:
            yield _row(costs, f"flops_by_form.{form}.{phase}", f"  {form}", partial(_form, form, phase), "FLOP")
    note = "forward + backward"
    yield _row(costs, "flops.train", LABELS["train"], partial(_flops, "train"), "FLOP", note)


def _traffic_rows(costs: Costs) -> Iterator[Row]:
    for phase in PHASES:
        note = f"{costs.flops[phase] / costs.moved(phase):,.1f} FLOP/B"
        section = "Traffic, unfused" if phase == "prefill" else ""
        yield _row(costs, f"traffic.{phase}", LABELS[phase], partial(_moved, phase), "B", note, section)
        key = f"traffic_by_role.{phase}.weight"
        yield _row(costs, key, "  of it weights", partial(_weights_read, phase), "B")


def _share(part: float) -> str:
    return "<0.1%" if 0 < part < 0.0005 else f"{part:.1%}"


LABELS = {"prefill": "prefill", "decode": "decode step", "train": "training step"}


def _tokens(setting: Setting) -> str:
    source = f", {setting.source:,} of a source" if setting.source else ""
    return f"{setting.batch} × {setting.context:,} tokens{source}"


def _part(part: str, costs: Costs) -> float:
    value: float = getattr(costs.params, part)
    return value


def _held(kind: str, costs: Costs) -> float:
    held: float = costs.cache.by_kind.get(kind, 0)
    return held


def _flops(phase: str, costs: Costs) -> float:
    return costs.flops[phase]


def _form(form: str, phase: str, costs: Costs) -> float:
    return costs.flops_by_form[form][phase]


def _moved(phase: str, costs: Costs) -> float:
    return costs.moved(phase)


def _weights_read(phase: str, costs: Costs) -> float:
    return costs.traffic[phase]["weight"]


def _notes(all_costs: Iterable[Costs]) -> tuple[str, ...]:
    notes: list[str] = []
    for costs in all_costs:
        model, context = costs.model, costs.setting.context
        notes += [f"{model.name}: {note}" for note in model.notes]
        notes += model.beyond(context)
    return tuple(notes)


def compare(models: ModelLike | Iterable[ModelLike], *, context: int | None = None, **setting: Any) -> Result:
    """Return models side by side in one setting; takes what ``show`` takes.

    Without a context, the longest that all of them state, at most 8192. Ratios are to the first model.

    Raises:
        CalcError: an unknown model, or none at all.
    """
    loaded = [catalog.load(model) for model in listed(models)]
    if not loaded:
        raise SpecError("nothing to compare: name at least one model")
    common = Setting.of(loaded, context, **setting)
    costs = [Costs.of(model, common) for model in loaded]
    lines: list[tuple[str, str, list[Cell]]] = [
        (key, label, [each.figure(of, unit) for each in costs]) for key, label, unit, of in _LINES
    ]
    lines.append(("complexity", "attention", [_kinds(each) for each in costs]))
    dense = all(each.params.active == each.params.total for each in costs)
    lines = [line for line in lines if any(map(_tells, line[2])) and not (dense and "active" in line[0])]
    parts = [formulas(model) for model in loaded]
    grids = (_wide(costs, lines), _formulas(loaded, parts)) if len(costs) <= MAX_COLUMNS else (_long(costs, lines),)
    data = {
        "models": [each.to_dict() for each in costs],
        "formulas": [_formula_facts(model, rows) for model, rows in zip(loaded, parts, strict=True)],
        "training": [
            {
                "model": each.model.name,
                "tokens": _published(each, "training_tokens"),
                "usd": _published(each, "training_usd"),
                "flops": _training_run(each),
            }
            for each in costs
        ],
    }
    return Result(kind="compare", data=data, grids=grids, notes=_notes(costs))


def _formulas(models: list[Model], parts: list[Rows]) -> Grid:
    """Lay out what a layer costs by part; where layers differ, how many of them cost what."""
    found = [(key, label, [_by_layers(rows[key]) for rows in parts]) for key, (label, _) in PARTS_OF_A_LAYER.items()]
    rows = tuple(Row(f"formula.{key}", (label, *texts)) for key, label, texts in found if any(texts))
    symbols = used_symbols(each.text for rows_ in parts for found_ in rows_.values() for each in found_)
    notes = ("leading terms for long sequences of n tokens", *_legend(symbols))
    title = "FLOPs of a layer's prefill, values that it caches"
    return Grid(title, ("a layer's", *(model.name for model in models)), rows, notes)


def _legend(symbols: list[tuple[str, str]], width: int = 78) -> list[str]:
    """Write what symbols stand for, in lines of at most so many characters."""
    lines: list[str] = []
    for entry in (f"{short} = {name}" for short, name in symbols if short != name):
        if lines and len(lines[-1]) + len(entry) + 2 <= width:
            lines[-1] += f", {entry}"
        else:
            lines.append(entry)
    return lines


def _by_layers(found: list[PartFormula]) -> str:
    if len(found) == 1:
        return found[0].text
    return ", ".join(f"{each.layers} × {each.text}" for each in found) or "–"


def _formula_facts(model: Model, rows: Rows) -> dict[str, Any]:
    units = {part: unit for part, (_, unit) in PARTS_OF_A_LAYER.items()}
    return {
        "model": model.name,
        "parts": [
            {"part": part, "unit": units[part], "layers": each.layers, "formula": each.text}
            for part, found in rows.items()
            for each in found
        ],
    }


def _of_multi_head(costs: Costs) -> float | None:
    """Return the cache's share of what multi-head attention with the same heads would keep in bf16."""
    return costs.cache.bytes / costs.multi_head_cache if costs.multi_head_cache else None


def _published(costs: Costs, name: str) -> float | None:
    """Return a number that a model's maker states, where it does."""
    value = costs.model.published.get(name)
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _training_run(costs: Costs) -> float | None:
    """Return the FLOPs of training on the stated tokens, in sequences of the setting's length."""
    tokens, setting = _published(costs, "training_tokens"), costs.setting
    return None if tokens is None else costs.flops["train"] * tokens / (setting.batch * setting.context)


MAX_COLUMNS = 4
"""Models that stand side by side; more of them become rows."""


def _tells(cell: Cell) -> bool:
    return bool(cell.value if isinstance(cell, Figure) else cell)


def _kinds(costs: Costs) -> str:
    return ", ".join(dict.fromkeys(f"{kind} {big_o(power)}" for kind, power in costs.complexity.items()))


_LINES: tuple[tuple[str, str, str, Callable[[Costs], float | None]], ...] = (
    ("model.n_layers", "layers", "", lambda c: c.model.n_layers),
    ("model.d_model", "d_model", "", lambda c: c.model.d_model),
    ("params.total", "parameters", "parameters", lambda c: c.params.total),
    ("params.active", "active a token", "parameters", lambda c: c.params.active),
    ("params.active_share", "active share", "percent", lambda c: c.params.active / c.params.total),
    ("weights.bytes", "weights", "B", lambda c: c.weight_bytes),
    ("cache.bytes_per_token", "cache a token", "B", lambda c: c.cache.bytes_per_token),
    ("cache.multi_head_share", "of multi-head", "percent", lambda c: _of_multi_head(c)),
    ("cache.bytes", "KV cache", "B", lambda c: c.cache.bytes),
    ("cache.state_bytes", "recurrent state", "B", lambda c: c.cache.state_bytes),
    ("flops.prefill", "prefill", "FLOP", lambda c: c.flops["prefill"]),
    ("flops.decode", "decode step", "FLOP", lambda c: c.flops["decode"]),
    ("flops.train", "training step", "FLOP", lambda c: c.flops["train"]),
    ("flops.train_per_token", "  a token", "FLOP", lambda c: c.flops["train"] / (c.setting.batch * c.setting.context)),
    ("published.training_tokens", "trained on", "tokens", lambda c: _published(c, "training_tokens")),
    ("flops.training_run", "  in such sequences", "FLOP", lambda c: _training_run(c)),
    ("published.training_usd", "  for", "USD", lambda c: _published(c, "training_usd")),
    ("model.max_context", "max context", "", lambda c: c.model.max_context),
)


def _title(costs: list[Costs]) -> str:
    setting = costs[0].setting
    convention = "causal" if setting.causal else "full"
    return f"{_tokens(setting)}, cache {setting.cache_dtype}, {setting.counts} FLOPs, {convention}"


def _wide(costs: list[Costs], lines: list[tuple[str, str, list[Cell]]]) -> Grid:
    """Lay models out as columns, each figure with its ratio to the first model's."""
    rows = tuple(Row(key, (label, *_ratios(cells))) for key, label, cells in lines)
    return Grid(_title(costs), ("", *(each.model.name for each in costs)), rows)


def _ratios(cells: list[Cell]) -> list[Cell]:
    first = cells[0].value if isinstance(cells[0], Figure) else None
    related: list[Cell] = [cells[0]]
    for cell in cells[1:]:
        measured = isinstance(cell, Figure) and cell.value and first and cell.unit not in ("", "percent")
        related.append(
            replace(cell, ratio=cell.value / first)
            if measured and isinstance(cell, Figure) and cell.value and first
            else cell
        )
    return related


def _long(costs: list[Costs], lines: list[tuple[str, str, list[Cell]]]) -> Grid:
    """Lay models out as rows."""
    rows = tuple(
        Row(each.model.name, (each.model.name, *(cells[index] for _, _, cells in lines)))
        for index, each in enumerate(costs)
    )
    return Grid(_title(costs), ("model", *(label for _, label, _ in lines)), rows)


def operation_table(
    model: ModelLike, *, phase: Phase = "prefill", context: int | None = None, **setting: Any
) -> Result:
    """Return the operation table of a pass: einsum, parameters, FLOPs, unfused bytes, intensity; repeats included.

    Raises:
        CalcError: an unknown model, phase or size.
    """
    one_of("phase", phase, PHASES)
    loaded = catalog.load(model)
    asked = Setting.of([loaded], context, **setting)
    blocks = loaded.blocks()
    pass_, forms = asked.phase(phase), asked.forms(loaded, blocks)
    records = []
    for block, operation, env in running(blocks, pass_):
        flops = block.repeat * operation.flops(env, causal=pass_.causal, counts=asked.counts)
        moved = moved_bytes(block, operation, pass_, forms)
        records.append(
            {
                "path": block.path,
                "layer_kind": block.label,
                "operation": operation.name,
                "formula": operation.formula,
                "repeat": block.repeat,
                "params": block.repeat * operation.parameters(block.letters),
                "flops": flops,
                "bytes": sum(moved.values()),
                "bytes_by_role": dict(moved),
            }
        )
    total = {name: sum(record[name] for record in records) for name in ("params", "flops", "bytes")}
    data = {
        "model": {"name": loaded.name, "source": loaded.source},
        "pass": {"phase": phase, **asked.to_dict(loaded)},
        "operations": records,
        "total": total,
    }
    title = f"{loaded.heading}, {phase}: {asked.batch} × {asked.context:,} tokens, {asked.counts} FLOPs, "
    grid = _operation_grid(title + ("causal" if asked.causal else "full"), blocks, records, total)
    return Result(kind="ops", data=data, grids=(grid,), notes=loaded.beyond(asked.context))


def _operation_grid(title: str, blocks: list[Block], records: list[dict[str, Any]], total: dict[str, Any]) -> Grid:
    labels = {block.path: _label(block) for block in blocks}
    rows: list[Row] = []
    seen = ""
    for entry in records:
        path = entry["path"]
        cells = (
            entry["operation"],
            entry["formula"],
            Figure(entry["params"], "parameters"),
            Figure(entry["flops"], "FLOP"),
            Figure(entry["bytes"], "B"),
            Figure(entry["flops"] / entry["bytes"] if entry["bytes"] else None, "FLOP/B"),
        )
        section = labels[path] if path != seen else ""
        share = entry["flops"] / total["flops"] if total["flops"] else None
        rows.append(Row(f"{path}.{entry['operation']}", cells, section=section, share=share))
        seen = path
    intensity = total["flops"] / total["bytes"] if total["bytes"] else None
    rows.append(
        Row(
            "total",
            (
                "total",
                "",
                Figure(total["params"], "parameters"),
                Figure(total["flops"], "FLOP"),
                Figure(total["bytes"], "B"),
                Figure(intensity, "FLOP/B"),
            ),
            emphasis=True,
        )
    )
    return Grid(title, ("operation", "einsum", "parameters", "FLOPs", "bytes", "FLOP/B"), tuple(rows))


def _label(block: Block) -> str:
    label = block.label if block.label != block.path else ""
    times = f"×{block.repeat}" if block.repeat > 1 else ""
    return "  ".join(filter(None, (block.path, " ".join(filter(None, (label, times))))))


def listing(search: str = "") -> Result:
    """Return the presets, one line each; ``search`` keeps those whose name, title or kind of attention contains it."""
    wanted = text("search", search).lower()
    rows, records = [], []
    for model in catalog.all_models():
        params = model.params()
        shown = ("patches", "attention", "ffn_beside", "ffn")
        labels = [block.label for block in model.blocks() if block.name in shown]
        kinds = ", ".join(dict.fromkeys([*labels, *(f"{tower.modality} tower" for tower in model.tower)]))
        if wanted not in f"{model.name} {model.title} {kinds}".lower():
            continue
        entry = {
            "name": model.name,
            "title": model.title,
            "params": params.total,
            "active": params.active,
            "layers": model.n_layers,
            "mechanisms": kinds,
            "max_context": model.max_context,
            "source": model.source,
        }
        records.append(entry)
        total, active = Figure(params.total, "parameters"), Figure(params.active, "parameters")
        rows.append(Row(model.name, (model.name, total, active, Figure(model.n_layers), kinds)))
    grid = Grid("", ("preset", "parameters", "active", "layers", "mechanisms"), tuple(rows))
    notes = () if rows else (f"no model matches {search!r}; `calc list accelerators` lists devices",)
    return Result(kind="list", data={"models": records}, grids=(grid,), notes=notes)

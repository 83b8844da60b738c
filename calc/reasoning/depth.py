"""Layers left out: early exit from an exit distribution, and mixture of depths with a capacity."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from pathlib import Path
from typing import Any, Literal, get_args

from calc import catalog
from calc.checks import idle, one_of, share, whole
from calc.costs import Setting
from calc.errors import SpecError, shortened
from calc.generation import check_writes
from calc.layers import Block
from calc.model import Model, Pass, cache_bytes, running
from calc.operations import Einsum, Lookup, Operation
from calc.records import replace
from calc.results import Figure, Grid, Result, Row
from calc.units import dtype, flop

Confidence = Literal["head", "none"]


def adapt(
    model: str | Path | Model,
    *,
    exits: Mapping[int, float] | None = None,
    confidence: Confidence = "head",
    capacity: float | None = None,
    every: int = 2,
    context: int | None = None,
) -> Result:
    """Return the expected FLOPs of a decode step where tokens leave layers out.

    ``exits``: after how many layers tokens leave, with what chance (the rest passes all layers). After each exit layer
    that a token reaches, ``confidence = "head"`` asks the vocabulary head whether it may leave (CALM's softmax
    response); ``"none"`` is an oracle. The layers above still get the token's keys and values, made from the state it
    left with, so that later tokens can attend to it: the operations that fill their caches are counted.

    ``capacity``: mixture of depths instead: in every ``every``-th layer a router lets this share of the tokens through;
    the others pass by, and are not among its keys either. A router weighs d channels for each token.

    Units: FLOP of one step of one sequence, matmul. Sources: Schuster et al. 2022 (CALM), arXiv:2207.07061 §3.1-3.3;
    Raposo et al. 2024, arXiv:2404.02258 §3.

    Raises:
        SpecError: both or neither of the two; layers that the model does not have; chances above 1.

    >>> data = adapt("llama-3-8b", exits={16: 0.5}, confidence="none", context=1024).data
    >>> 0.7 < data["share"] < 0.8
    True
    """
    loaded = catalog.load(model)
    if (exits is None) == (capacity is None):
        raise SpecError("give either exits (early exit) or a capacity (mixture of depths)")
    check_writes(loaded)
    length = Setting.of([loaded], context).context
    one_of("confidence", confidence, get_args(Confidence))
    if exits is not None:
        idle("a capacity routes tokens past layers, exits do not", every=(every, 2))
        if not isinstance(exits, Mapping):
            raise SpecError(f"exits = {shortened(repr(exits))}: write them as {{16: 0.3, 24: 0.5}}")
        return _early(loaded, dict(exits), confidence, length)
    idle("it asks whether a token may leave early, which needs exits", confidence=(confidence, "head"))
    if whole("every", every) > loaded.n_layers:
        raise SpecError(f"every = {every} is not from 1 to the {loaded.n_layers} layers of {loaded.name}")
    return _mixed(loaded, share("capacity", capacity, zero=False), every, length)


def _early(model: Model, exits: dict[int, float], confidence: Confidence, context: int) -> Result:
    _check_exits(model, exits, confidence)
    last = model.n_layers
    left = {layer: chance for layer, chance in sorted(exits.items()) if layer < last}
    left[last] = 1 - sum(left.values())
    by_layer, around, head, filled = _by_layer(model, Pass.decode(context))
    entries = []
    for layer, chance in left.items():
        filling_above, heads = sum(filled[layer:]), head * _heads(layer, left, last, confidence)
        flops = around + sum(by_layer[:layer]) + filling_above + heads
        entries.append({"layer": layer, "chance": chance, "flops": flops, "filling": filling_above, "heads": heads})
    expected = sum(entry["chance"] * entry["flops"] for entry in entries)
    full = around + sum(by_layer) + head
    data = {
        "model": model.name,
        "method": "early exit",
        "context": context,
        "expected": expected,
        "full": full,
        "share": expected / full,
        "mean_layers": sum(layer * chance for layer, chance in left.items()),
        "exits": entries,
    }
    return Result(kind="adapt", data=data, grids=(_exit_grid(model, data),), notes=model.beyond(context))


def _check_exits(model: Model, exits: Mapping[int, float], confidence: Confidence) -> None:
    if not exits:
        raise SpecError("no exit is given: write them as {16: 0.3, 24: 0.5}")
    for layer, chance in exits.items():
        if whole("layer of an exit", layer) > model.n_layers:
            raise SpecError(f"exit after layer {layer}: {model.name} has {model.n_layers}")
        share(f"chance of the exit after layer {layer}", chance, what="chance")
    if sum(exits.values()) > 1 + 1e-9:
        raise SpecError(f"the chances of the exits add up to {sum(exits.values()):g}, more than 1")
    if confidence == "head" and model.head is None:
        raise SpecError(f"{model.name} has no head that could tell whether a token may leave")


def _heads(layer: int, left: Mapping[int, float], last: int, confidence: Confidence) -> int:
    """Return how often the head is asked by a token that leaves after a layer: at every exit on its way.

    The last one asked answers, too; a token that passes all layers needs one more for that.
    """
    if confidence == "none":
        return 1
    asked = sum(1 for exit_ in left if exit_ <= layer and exit_ < last)
    return asked + 1 if layer == last else asked


def _exit_grid(model: Model, data: Mapping[str, Any]) -> Grid:
    last, expected, full = model.n_layers, data["expected"], data["full"]
    rows = []
    for entry in data["exits"]:
        layer = entry["layer"]
        name = f"after {layer} of {last}" if layer < last else f"all {last}"
        costs = (Figure(entry[key], "FLOP") for key in ("flops", "filling", "heads"))
        rows.append(Row(f"exit.{layer}", (name, Figure(entry["chance"], "percent"), *costs)))
    rows.append(Row("total", ("expected", "", Figure(expected, "FLOP", ratio=expected / full), "", ""), emphasis=True))
    notes = (
        "E[FLOP] = Σ p_l·(layers below l + caches filled above l + heads asked); "
        f"{data['mean_layers']:.4g} layers on average",
        f"a plain step: {flop(full)}; the ratio is to it",
        "source: Schuster et al. 2022, arXiv:2207.07061 §3",
    )
    columns = ("leaves", "chance", "FLOPs", "of it caches above", "of it heads")
    title = f"{model.heading}, early exit: a decode step at {data['context']:,} tokens"
    return Grid(title, columns, tuple(rows), notes)


def _by_layer(model: Model, pass_: Pass) -> tuple[list[float], float, float, list[float]]:
    """Return the FLOPs of each layer, of what stands around them, of the head, and of filling each layer's cache."""
    layers = [0.0] * model.n_layers
    filled = [0.0] * model.n_layers
    around = head = 0.0
    for block in model.blocks():
        if block.encoder:
            continue
        fillers = filling(block)
        every = of_caches = 0.0
        for _, operation, env in running([block], pass_):
            cost = float(operation.flops(env, causal=pass_.causal))
            every += cost
            of_caches += cost if operation.name in fillers else 0.0
        if block.positions:
            for run in block.positions:
                for position in run:
                    layers[position] += every
                    filled[position] += of_caches
        elif block.name == "head":
            head += block.repeat * every
        else:
            around += block.repeat * every
    return layers, around, head, filled


def filling(block: Block) -> set[str]:
    """Return the operations of a table whose results its caches hold, with all that those results are made of.

    >>> import calc
    >>> attention = next(block for block in calc.load("llama-3-8b").blocks() if block.name == "attention")
    >>> sorted(filling(attention))
    ['k_proj', 'k_rotary', 'v_proj']
    """
    made: dict[str, Operation] = {operation.name: operation for operation in block.operations}
    wanted = [state.of for state in block.states if state.of in made]
    found: set[str] = set()
    while wanted:
        name = wanted.pop()
        if name in found:
            continue
        found.add(name)
        wanted += [each for each in _inputs(made[name]) if each in made]
    return found


def _inputs(operation: Operation) -> tuple[str, ...]:
    return () if isinstance(operation, Lookup) else operation.inputs


def _mixed(model: Model, capacity: float, every: int, context: int) -> Result:
    """Cost a step: routed layers see only the chosen tokens, at the chance that this one is chosen."""
    kept = ceil(round(context * capacity, 9))
    plain, thin = _steps(context, kept)
    layers, around, head, _ = _by_layer(model, plain)
    routed, _, _, _ = _by_layer(model, thin)
    router = float(Einsum("router", "btd,dν->btν", weight="dν").flops({"b": 1, "t": 1, "d": model.d_model, "ν": 1}))
    chosen = frozenset(range(every - 1, model.n_layers, every))
    full = around + head + sum(layers)
    inside = sum(capacity * routed[index] for index in chosen)
    expected = around + head + sum(layers) - sum(layers[index] for index in chosen) + inside + router * len(chosen)
    cache, thinned = _cache(model, context, kept, chosen)
    data = {
        "model": model.name,
        "method": "mixture of depths",
        "context": context,
        "expected": expected,
        "full": full,
        "share": expected / full,
        "mean_layers": model.n_layers - len(chosen) * (1 - capacity),
        "capacity": capacity,
        "every": every,
        "routed_layers": len(chosen),
        "keys": kept,
        "cache_bytes": thinned,
        "full_cache_bytes": cache,
    }
    rows = (
        Row(
            "expected",
            ("expected step", Figure(expected, "FLOP", ratio=expected / full), f"{len(chosen)} routed layers"),
            True,
        ),
        Row("full", ("plain step", Figure(full, "FLOP"), "")),
        Row("router", ("routers", Figure(router * len(chosen), "FLOP"), "2·d each")),
        Row(
            "cache",
            ("cache", Figure(thinned, "B", ratio=thinned / cache if cache else None), "bf16, chosen tokens only"),
        ),
    )
    shape = f"{capacity:.4g} of the tokens in every {every}. layer, {context:,} tokens"
    title = f"{model.heading}, mixture of depths: {shape}"
    notes = (
        "E[FLOP] = plain layers + c·routed layers at c·context keys + 2·d for each router",
        "source: Raposo et al. 2024, arXiv:2404.02258 §3",
    )
    grid = Grid(title, ("", "expected", ""), rows, notes)
    return Result(kind="adapt", data=data, grids=(grid,), notes=model.beyond(context))


def _cache(model: Model, context: int, kept: int, routed: frozenset[int]) -> tuple[int, int]:
    """Return the cache of all layers in full, and with only the chosen tokens in the routed ones."""
    full = thinned = 0
    for block in model.blocks():
        one = [replace(block, repeat=1)]
        whole_, thin = (int(cache_bytes(one, pass_, dtype("bf16")).bytes) for pass_ in _steps(context, kept))
        chosen = 0 if block.encoder else sum(position in routed for run in block.positions for position in run)
        full += block.repeat * whole_
        thinned += (block.repeat - chosen) * whole_ + chosen * thin
    return full, thinned


def _steps(context: int, kept: int) -> tuple[Pass, Pass]:
    """Return a decode step that sees every token, and one that sees those kept; a source is read whole by both."""
    return Pass.decode(context), Pass.decode(kept, source=context)


def parse_exits(text: str) -> dict[int, float]:
    """Read exits as ``16:0.3,24:0.5``: after which layer, with what chance.

    Raises:
        SpecError: not pairs of a layer and a chance.

    >>> parse_exits("16:0.3, 24:0.5")
    {16: 0.3, 24: 0.5}
    """
    found: dict[int, float] = {}
    for pair in text.split(","):
        layer, colon, chance = pair.partition(":")
        try:
            if not colon or int(layer) in found:
                raise ValueError(pair)
            found[int(layer)] = float(chance)
        except ValueError:
            raise SpecError(f"exits = {text!r}: write them as 16:0.3,24:0.5") from None
    return found

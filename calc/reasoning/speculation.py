"""Speculative decoding: a cheap model guesses some tokens, the model checks them in one pass."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from calc import catalog
from calc.checks import share, whole
from calc.costs import Setting, traffic
from calc.errors import SpecError
from calc.generation import check_writes, other_tokens
from calc.layers import Block
from calc.model import Model, Pass, cache_bytes, flops_by_operation
from calc.mtp import expected_tokens, speedup
from calc.records import Record, named_record
from calc.results import Figure, Grid, Result, Row
from calc.units import dtype

MOST = 16
"""Guessed tokens up to which the best number is looked for."""


@named_record
class Round(Record):
    """One round with ``drafted`` guesses: what it yields and what it costs, relative to decoding plainly.

    ``flops_ratio``: FLOPs of a token over those of a plain step. ``memory_speedup``: plain bytes over bytes, both for a
    token, of weights and cache alone: the speed where memory is the limit. ``leviathan``: their formula with the
    drafter's cost as the ratio of bytes.
    """

    drafted: int
    tokens: float
    flops: float
    flops_ratio: float
    bytes: float
    memory_speedup: float
    leviathan: float


def speculate(
    target: str | Path | Model,
    drafter: str | Path | Model,
    *,
    acceptance: float,
    drafted: int | None = None,
    context: int | None = None,
    batch: int = 1,
    weights_dtype: str | None = None,
    cache_dtype: str = "bf16",
) -> Result:
    """Return what guessing with a smaller model gives: tokens of a round, FLOPs and bytes of a token, speed.

    ``drafter`` is a model, or ``"mtp"``: the target's own prediction modules. ``acceptance`` a: the chance that a guess
    stands if those before it did. A round guesses k tokens one by one and checks them in one pass of k + 1 tokens; it
    yields (1 − a^(k+1))/(1 − a) tokens. Without ``drafted``, the best k up to 16 where memory is the limit.

    Units: FLOP and bytes for each sequence and token. Traffic is that of weights and cache, read once in a pass.
    Source: Leviathan et al. 2023, arXiv:2211.17192 eq. 1, Theorems 3.8 and 3.11.

    Raises:
        SpecError: a chance that is none, no guesses, a target without prediction modules.

    >>> data = speculate("llama-3-70b", "llama-3-8b", acceptance=0.8, drafted=4, context=4096).data
    >>> round(data["chosen"]["tokens"], 4)
    3.3616
    """
    model = catalog.load(target)
    acceptance = share("acceptance", acceptance, what="chance")
    drafted = None if drafted is None else whole("drafted", drafted, most=1024)
    models = [model] if drafter == "mtp" else [model, catalog.load(drafter)]
    setting = Setting.of(models, context, batch=batch, weights_dtype=weights_dtype, cache_dtype=cache_dtype)
    for each in models:
        check_writes(each)
    guesser = model.mtp_blocks() if drafter == "mtp" else models[1].blocks()
    if not guesser:
        raise SpecError(f"{model.name} has no modules for multi-token prediction: name a model that guesses")
    forms = {"own": setting.forms(model, model.blocks())}
    forms["drafter"] = forms["own"] if drafter == "mtp" else setting.forms(models[1], guesser)
    counts = sorted({*range(1, MOST + 1), *([drafted] if drafted else [])})
    rounds = [_round(model.blocks(), guesser, forms, setting, acceptance, count) for count in counts]
    fastest = max(rounds[:MOST], key=lambda one: one.memory_speedup)
    chosen = next(one for one in rounds if one.drafted == drafted) if drafted else fastest
    held = cache_bytes(guesser, Pass.decode(setting.context, batch), dtype(cache_dtype))
    name = "its own prediction modules" if drafter == "mtp" else models[1].name
    data: dict[str, Any] = {
        "target": model.name,
        "drafter": "mtp" if drafter == "mtp" else models[1].name,
        "acceptance": acceptance,
        "context": setting.context,
        "batch": batch,
        "chosen": vars(chosen),
        "fastest": fastest.drafted,
        "rounds": [vars(one) for one in rounds],
        "drafter_cache_bytes": int(held.bytes + held.state_bytes),
    }
    notes = tuple(note for each in models for note in each.beyond(setting.context)) + other_tokens(model, models[-1])
    return Result(kind="speculate", data=data, grids=(_grid(model, name, data, rounds, chosen),), notes=notes)


def _round(
    own: list[Block],
    guesser: list[Block],
    forms: Mapping[str, Mapping[Any, Any]],
    setting: Setting,
    acceptance: float,
    count: int,
) -> Round:
    """Cost one round: the guesses at their growing contexts, one pass over them and the token before them."""
    context, batch = setting.context, setting.batch
    plain = Pass.decode(context, batch)
    check = Pass(batch=batch, tokens=count + 1, context=context + count, source=context, phase="decode")
    guesses = [Pass.decode(context + number, batch) for number in range(count)]
    tokens = float(expected_tokens(acceptance, count))
    flops = _flops(own, check) + sum(_flops(guesser, one) for one in guesses)
    drafting = sum(_moved(guesser, one, forms["drafter"]) for one in guesses)
    moved = _moved(own, check, forms["own"]) + drafting
    alone = _moved(own, plain, forms["own"])
    return Round(
        drafted=count,
        tokens=tokens,
        flops=flops / tokens / batch,
        flops_ratio=flops / tokens / _flops(own, plain),
        bytes=moved / tokens / batch,
        memory_speedup=alone * tokens / moved,
        leviathan=float(speedup(acceptance, count, drafting / count / alone)),
    )


def _flops(blocks: list[Block], pass_: Pass) -> float:
    return float(sum(flops_by_operation(blocks, pass_).values()))


def _moved(blocks: list[Block], pass_: Pass, forms: Mapping[Any, Any]) -> float:
    by_role = traffic(blocks, pass_, forms)
    return float(by_role["weight"] + by_role["cache"])


def _grid(model: Model, name: str, data: dict[str, Any], rounds: list[Round], chosen: Round) -> Grid:
    rows = []
    for one in rounds:
        mark = "fastest" if one.drafted == data["fastest"] else ""
        cells = (
            str(one.drafted),
            Figure(one.tokens),
            Figure(one.flops, "FLOP"),
            Figure(one.flops_ratio),
            Figure(one.bytes, "B"),
            Figure(one.memory_speedup),
            Figure(one.leviathan),
            mark,
        )
        rows.append(Row(f"drafted.{one.drafted}", cells, emphasis=one is chosen))
    a = data["acceptance"]
    k = chosen.drafted
    notes = (
        f"tokens of a round: (1 − a^(k+1))/(1 − a) = (1 − {a:g}^{k + 1})/(1 − {a:g}) = {chosen.tokens:.4g}"
        if a < 1
        else f"tokens of a round: k + 1 = {k + 1}",
        "speed where memory is the limit: weights and cache read once a pass; Leviathan: (1 + a + … + a^k)/(1 + k·c)",
        "source: Leviathan et al. 2023, arXiv:2211.17192",
    )
    shape = f"{a:g} stand, {data['context']:,} tokens, batch {data['batch']:,}"
    title = f"{model.heading} checks what is guessed by {name}: {shape}"
    columns = ("guesses", "tokens a round", "FLOP / token", "× plain", "bytes / token", "speed", "Leviathan", "")
    return Grid(title, columns, tuple(rows), notes)

"""A prompt with images, sound or clips as tables: what each becomes, what it costs, who attends to whom."""

from __future__ import annotations

from calc.media.shares import Input, Media, Part
from calc.results import Cell, Figure, Grid, Row

NAMES = {"image": "images", "audio": "audio", "video": "video", "text": "text"}


def grids(media: Media) -> tuple[Grid, ...]:
    """Return the inputs, the parts of the prompt, and the blocks of the attention between them."""
    known = any(pairs is not None for one in media.between for pairs in one.pairs.values())
    return (_inputs(media), _parts(media), *([_between(media)] if known and len(media.between) > 1 else []))


def _inputs(media: Media) -> Grid:
    columns = ("input", "passes", "positions", "tokens", "special", "encoder", "projector")
    return Grid("What becomes of them", columns, tuple(_input(one) for one in media.inputs))


def _input(one: Input) -> Row:
    cells = (
        f"{NAMES[one.kind]} {one.text}",
        Figure(one.count * one.each.tiles),
        Figure(one.each.positions),
        Figure(one.tokens),
        Figure(one.count * one.each.markers if one.joins else 0),
        Figure(one.encoder_flops, "FLOP"),
        Figure(one.projector_flops, "FLOP"),
    )
    return Row(f"media.inputs.{one.kind}.{one.text}", cells)


def _parts(media: Media) -> Grid:
    names = ("tokens", "prefill_flops", "cache_bytes")
    total = {name: sum(getattr(part, name) for part in media.parts) for name in names}
    known = [part.encoder_flops for part in media.parts if part.encoder_flops is not None]
    towers = sum(known) if len(known) == len(media.parts) else None
    whole = total["prefill_flops"] + (towers or 0)
    rows = [_part(part, whole, total["cache_bytes"]) for part in media.parts if part.tokens or part.encoder_flops]
    cells: tuple[Cell, ...] = (
        "total",
        Figure(total["tokens"]),
        Figure(towers, "FLOP"),
        Figure(total["prefill_flops"], "FLOP"),
        "",
        Figure(total["cache_bytes"], "B"),
        "",
    )
    rows.append(Row("media.total", cells, emphasis=True))
    share = "of all FLOPs" if towers is not None else "of the prefill"
    columns = ("part", "tokens", "towers", "prefill", share, "cache", "of the cache")
    return Grid("What they cost, prompt laid out as images, audio, video, text", columns, tuple(rows))


def _part(part: Part, flops: int, cache: int) -> Row:
    cells = (
        NAMES[part.kind],
        Figure(part.tokens),
        Figure(part.encoder_flops, "FLOP"),
        Figure(part.prefill_flops, "FLOP"),
        Figure(((part.encoder_flops or 0) + part.prefill_flops) / flops if flops else None, "percent"),
        Figure(part.cache_bytes, "B"),
        Figure(part.cache_bytes / cache if cache else None, "percent"),
    )
    return Row(f"media.parts.{part.kind}", cells)


def _between(media: Media) -> Grid:
    """Return a line for each block: pairs of one layer of each kind, FLOPs of all layers, the share of them."""
    labels = list(dict.fromkeys(label for one in media.between for label in one.pairs))
    total = sum(one.flops for one in media.between)
    rows = []
    for one in media.between:
        pairs: list[Cell] = [Figure(one.pairs.get(label)) for label in labels]
        share = Figure(one.flops / total if total else None, "percent")
        cells = (f"{NAMES[one.query]} → {NAMES[one.key]}", *pairs, Figure(one.flops, "FLOP"), share)
        rows.append(Row(f"media.attention.{one.query}.{one.key}", cells))
    columns = ("queries → keys", *labels, "FLOPs", "share")
    notes = ["pairs of one layer of each kind, in one sequence; FLOPs of scores and values in all layers"]
    unknown = [label for label in labels if any(one.pairs.get(label) is None for one in media.between)]
    if unknown:
        notes.append(f"which keys {', '.join(unknown)} sees depends on the data")
    return Grid("Attention between them", columns, tuple(rows), tuple(notes))

"""What a device's cache can hold: logical, as an engine allocates it, and as its log reports it. Never one number.

*Logical* bytes are what the mathematics needs. *Allocated* ones are whole blocks, shared by groups of layers, or pools
of fixed proportions. *Reported* is what the engine prints, which for models with several kinds of layers is neither.
All functions take the tables of one rank and numbers or numpy arrays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import ceil

from calc.algebra import Number, ceil_div, floor_div, maximum, minimum
from calc.layers import Block
from calc.model import cache_bytes
from calc.passes import Pass
from calc.records import Record, named_record
from calc.serving.engines import Engine
from calc.units import Format

_FAR = 2**40
"""A context beyond every window."""


@named_record
class Kept(Record):
    """What the layers of one kind keep on one rank.

    ``bytes_per_token``: of one layer, for each position it keeps. ``reach``: how many positions that is at most, None
    for all. ``state_bytes``: of one layer and sequence, whatever the context.
    """

    layers: int
    bytes_per_token: Number = 0
    reach: int | None = None
    state_bytes: Number = 0


def kept(blocks: Iterable[Block], form: Format, source: int = 0) -> list[Kept]:
    """Return what the layers of a rank keep, kind by kind; layers that read another's cache keep nothing.

    Recurrent and convolution states, and keys of a source of ``source`` tokens, count as states.
    """
    found: dict[tuple[Number, int | None, Number], int] = {}
    for block in blocks:
        full, windows, state = _of_block(block, form, source)
        for key in [(full, None, 0)] * bool(full) + [(size, reach, 0) for reach, size in windows.items()]:
            found[key] = found.get(key, 0) + block.repeat
        if state:
            found[0, None, state] = found.get((0, None, state), 0) + block.repeat
    return [
        Kept(layers=layers, bytes_per_token=size, reach=reach, state_bytes=state)
        for (size, reach, state), layers in found.items()
    ]


def _of_block(block: Block, form: Format, source: int) -> tuple[Number, Mapping[int, Number], Number]:
    """Return bytes per token of what keeps all positions, by reach of what keeps the last ones, and bytes of states."""
    full: Number = 0
    state: Number = 0
    windows: dict[int, Number] = {}
    for each in block.states if not block.encoder else ():
        held = each.stored_in(form)
        env = {**block.letters, "s": _FAR, "m": source, "b": 1, "t": 1}
        rows, width = each.shape(env)
        if not rows:
            continue
        if "s" not in each.dims:
            state = state + held.stored(rows, width)
            continue
        further = each.shape({**env, "s": 2 * _FAR})[0]
        positions = _FAR if each.over is None else each.over.kept(_FAR, env)
        heads = rows // max(positions, 1)
        if further == rows:  # bounded: a window, a budget, a half-filled block
            windows[positions] = windows.get(positions, 0) + held.stored(heads, width)
        else:
            full = full + held.stored(heads, width) * (further - rows) / (heads * _FAR)
    return (int(full) if full == int(full) else full), windows, state


@named_record
class Capacity(Record):
    """What fits into the bytes that a device has for the cache, for sequences of one context."""

    context: Number
    logical_bytes: Number
    """What one sequence needs on this rank."""
    logical_sequences: Number
    allocated_sequences: Number
    reported_tokens: Number
    """What the engine's log prints, for one engine; None where it prints bytes."""

    @property
    def logical_tokens(self) -> Number:
        """Tokens of sequences of this context, with no loss to blocks and pools."""
        return self.logical_sequences * self.context

    @property
    def allocated_tokens(self) -> Number:
        """Tokens of sequences of this context, as the engine allocates."""
        return self.allocated_sequences * self.context


def capacity(
    blocks: Iterable[Block],
    form: Format,
    engine: Engine,
    available: Number,
    context: Number,
    *,
    batched_tokens: int,
    source: int = 0,
    longest: Number | None = None,
) -> Capacity:
    """Return what ``available`` bytes of a rank hold of sequences of ``context`` tokens.

    ``longest`` is the engine's limit of a sequence, which some logs scale their figure with; by default ``context``.
    """
    blocks = list(blocks)
    held = cache_bytes(blocks, Pass.decode(context, source=source), form)
    logical = held.bytes + held.state_bytes
    layers = kept(blocks, form, source)
    available = maximum(available, 0)
    if not layers:
        unlimited = available * 0 + float("inf")
        return Capacity(
            context=context, logical_bytes=0, logical_sequences=unlimited, allocated_sequences=unlimited,
            reported_tokens=None,
        )  # fmt: skip
    if engine.layers == "groups":
        sequences, reported = _groups(layers, engine, available, context, batched_tokens, longest or context)
    else:
        sequences, reported = _pools(layers, engine, available, context)
    return Capacity(
        context=context,
        logical_bytes=logical,
        logical_sequences=available / logical,
        allocated_sequences=sequences,
        reported_tokens=reported,
    )


@named_record
class Grouping(Record):
    """How layers of several kinds share blocks of one size: what each group of layers keeps, and the blocks.

    vLLM's hybrid manager (kv_cache_utils.py, ``_get_kv_cache_groups_uniform_page_size``): layers of a kind are split
    into groups of equal size, padded; a block of the pool holds the page of one group, and a page is as large for
    every kind, by more tokens in it where a token takes fewer bytes.
    """

    size: int
    """Layers of a group."""
    page: Number
    """Bytes of a block for one layer."""
    groups: tuple[tuple[int, int | None], ...]
    """Tokens that a block holds (0: one state) and reach, for each group."""


def grouping(layers: list[Kept], block_tokens: int) -> Grouping:
    """Group the layers of a rank."""
    caches = [layer for layer in layers if layer.bytes_per_token]
    states = [layer for layer in layers if not layer.bytes_per_token]
    reaches = {layer.reach for layer in caches}
    if not states and len(reaches) == 1:  # one kind of positions, perhaps of several widths: one group
        count = sum(layer.layers for layer in caches)
        mean = sum(layer.layers * layer.bytes_per_token for layer in caches) / count
        return Grouping(size=count, page=block_tokens * mean, groups=((block_tokens, caches[0].reach),))
    widest = max((layer.bytes_per_token for layer in caches), default=0)
    state_page = max((layer.state_bytes for layer in states), default=0)
    if widest:
        # the attention block grows until its page holds a state (models/config.py, HybridAttentionMambaModelConfig)
        block_tokens = max(block_tokens, block_tokens * ceil(state_page / (block_tokens * widest)))
    page = block_tokens * widest or state_page
    counts = [layer.layers for layer in layers]
    size = max(counts) if max(counts) < 1.5 * min(counts) else min(counts)
    groups: list[tuple[int, int | None]] = []
    for layer in layers:
        tokens = int(page // layer.bytes_per_token) if layer.bytes_per_token else 0
        groups += [(tokens, layer.reach)] * -(-layer.layers // size)
    return Grouping(size=size, page=page, groups=tuple(groups))


def _groups(
    layers: list[Kept], engine: Engine, available: Number, context: Number, batched: int, longest: Number
) -> tuple[Number, Number]:
    """Return (sequences, reported tokens) where groups of layers share one pool."""
    group = grouping(layers, engine.block_tokens)
    pool = floor_div(available, group.page * group.size)
    blocks = _blocks(group, context, batched)
    smallest = min((tokens for tokens, _ in group.groups if tokens), default=0)
    if engine.reported == "concurrency":
        reported = floor_div(pool * longest, _blocks(group, longest, batched))
    else:
        reported = floor_div(pool, len(group.groups)) * smallest if smallest else None
    return pool / blocks, reported


def _blocks(group: Grouping, context: Number, batched: int) -> Number:
    """Return the blocks that one sequence takes at most: a window also holds the tokens of the step being computed."""
    total: Number = 0
    for tokens, reach in group.groups:
        if not tokens:
            total = total + 1
        elif reach is None:
            total = total + ceil_div(context, tokens)
        else:
            total = total + ceil_div(minimum(context, reach - 1 + batched), tokens) + 1
    return total


def _pools(layers: list[Kept], engine: Engine, available: Number, context: Number) -> tuple[Number, Number]:
    """Return (sequences, reported tokens) where each kind of layer has a pool of its own."""
    full = sum(layer.layers * layer.bytes_per_token for layer in layers if layer.reach is None)
    windows = [layer for layer in layers if layer.reach is not None]
    state = sum(layer.layers * layer.state_bytes for layer in layers)
    per_state = available * engine.state_share / (1 + engine.state_share) if state else 0
    rest = available - per_state
    block = engine.block_tokens
    share = engine.window_share if full else 1.0
    window = sum(layer.layers * layer.bytes_per_token for layer in windows)
    padded = ceil_div(context, block) * block
    sequence: Number = padded * full + state
    limits: list[Number] = []
    reported: Number = None
    if full or windows:
        tokens = floor_div(rest, full + share * window)
        tokens = floor_div(tokens, block) * block
        reported = tokens
        limits += [tokens / padded] if full else []
        for layer in windows:
            reach = minimum(padded, ceil_div(layer.reach, block) * block)
            sequence = sequence + layer.layers * layer.bytes_per_token * reach
            limits.append(floor_div(tokens * share, block) * block / reach)
    if state:
        limits.append(per_state / state if engine.state_share else available / sequence)
    least = limits[0]
    for limit in limits[1:]:
        least = minimum(least, limit)
    return least, reported

"""What a formula can be asked for: one registry, whose entries call the functions of ``calc.model``.

Nothing here knows numbers from symbols: a quantity takes blocks and a point, whose letters are integers, numpy arrays
or sympy expressions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from calc.algebra import Number
from calc.costs import traffic
from calc.errors import UnknownName
from calc.model import (
    Block,
    Pass,
    cache_bytes,
    environment,
    flops_by_operation,
    parameters,
    running,
    training_flops,
)
from calc.operations import PARTS, Counts, Operation, Role, extent
from calc.records import Record, named_record, record, replace
from calc.schemes import stored_bytes
from calc.units import Format


@named_record
class Point(Record):
    """Where a quantity is read: sequences, tokens, source tokens, formats, and what is counted."""

    context: Number
    batch: Number = 1
    source: Number = None
    forms: Mapping[Role, Format]
    causal: bool = True
    counts: Counts = "matmul"

    def prefill(self) -> Pass:
        """Return the pass over the whole prompt."""
        return Pass.prefill(self.context, self.batch, source=self.source, causal=self.causal)

    def decode(self) -> Pass:
        """Return the step of one new token per sequence."""
        return Pass.decode(self.context, self.batch, source=self.source, causal=self.causal)


Blocks = Sequence[Block]


@record
class Quantity(Record):
    """A figure that is a sum over tables. ``roles`` are the number formats that it depends on."""

    name: str
    unit: str
    meaning: str
    of: Callable[[Blocks, Point], Number]
    roles: tuple[Role, ...] = ()
    grows: bool = True
    """It never falls when the context or the batch grows."""


def attention_flops(blocks: Blocks, point: Point) -> Number:
    """Return the FLOPs of a prefill in the token mixers."""
    return _forward([block for block in blocks if block.part == "attention"], point, point.prefill())


def _forward(blocks: Blocks, point: Point, pass_: Pass) -> Number:
    return sum(flops_by_operation(blocks, pass_, point.counts).values())


def _train(blocks: Blocks, point: Point) -> Number:
    return training_flops(blocks, point.prefill(), point.counts, recompute=False)


MULTI_HEAD = "cache.multi_head"
"""What a compressed cache is compared with."""


def _letters(operation: Operation) -> str:
    return operation.output + getattr(operation, "equation", "") + getattr(operation, "scanned", "")


def visible_pairs(blocks: Blocks, point: Point) -> Number:
    """Return the query-key pairs of one sequence and head in a prefill, each pattern of a table once."""
    pass_ = point.prefill()
    total: Number = 0
    for block in blocks:
        env, seen = environment(block, pass_), set()
        for _, operation, _ in running([block], pass_):
            letters = _letters(operation)
            keys = next((letter for letter in "sm" if letter in letters and "t" in letters), None)
            if block.part == "attention" and keys and (keys, operation.over) not in seen:
                seen.add((keys, operation.over))
                total = total + block.repeat * extent(f"t{keys}", env, operation.over, pass_.causal)
    return total


def _state(blocks: Blocks, point: Point, which: str) -> Number:
    held = cache_bytes(blocks, point.decode(), point.forms["cache"])
    return held.bytes + held.state_bytes if which == "both" else getattr(held, which)


def _registry() -> dict[str, Quantity]:
    cache: tuple[Role, ...] = ("cache",)
    every: tuple[Role, ...] = ("weight", "activation", "cache")
    found = [
        Quantity("params", "parameters", "all parameters", lambda b, p: parameters(b).total),
        Quantity("params.active", "parameters", "parameters that one token uses", lambda b, p: parameters(b).active),
        Quantity(
            "params.active_matmul",
            "parameters",
            "parameters that one token is multiplied by",
            lambda b, p: parameters(b).active_matmul,
        ),
    ]
    found += [
        Quantity(f"params.{part}", "parameters", f"parameters of the part {part!r}", _parameters_of(part))
        for part in PARTS
    ]
    found += [
        Quantity("weights", "B", "bytes of all weights", lambda b, p: stored_bytes(b, p.forms["weight"]), ("weight",)),
        Quantity("cache", "B", "bytes of the KV cache", lambda b, p: _state(b, p, "bytes"), cache),
        Quantity(
            MULTI_HEAD,
            "B",
            "bytes that multi-head attention with the same heads would keep",
            lambda b, p: _state([replace(block, states=block.uncompressed) for block in b], p, "bytes"),
            cache,
        ),
        Quantity(
            "cache_per_token",
            "B",
            "bytes that one sequence's cache grows by with a further token",
            lambda b, p: _state(b, p, "bytes_per_token"),
            cache,
            grows=False,
        ),
        Quantity(
            "state", "B", "bytes of recurrent and convolution states", lambda b, p: _state(b, p, "state_bytes"), cache
        ),
        Quantity("state+cache", "B", "bytes of the KV cache and all states", lambda b, p: _state(b, p, "both"), cache),
        Quantity("flops.prefill", "FLOP", "FLOPs of a pass over the prompt", lambda b, p: _forward(b, p, p.prefill())),
        Quantity(
            "flops.decode",
            "FLOP",
            "FLOPs of one step, one new token per sequence",
            lambda b, p: _forward(b, p, p.decode()),
            grows=False,
        ),
        Quantity("flops.train", "FLOP", "FLOPs of one training step, forward and backward", _train),
        Quantity(
            "traffic.prefill",
            "B",
            "bytes moved by a pass over the prompt, nothing fused",
            lambda b, p: sum(traffic(b, p.prefill(), p.forms).values()),
            every,
        ),
        Quantity(
            "traffic.decode",
            "B",
            "bytes moved by one step, nothing fused",
            lambda b, p: sum(traffic(b, p.decode(), p.forms).values()),
            every,
            grows=False,
        ),
        Quantity("complexity", "FLOP", "leading term of the attention FLOPs in the context", attention_flops),
        Quantity("pairs", "pairs", "query-key pairs of one sequence and head in a prefill", visible_pairs),
    ]
    return {quantity.name: quantity for quantity in found}


def _parameters_of(part: str) -> Callable[[Blocks, Point], Number]:
    return lambda blocks, point: getattr(parameters(blocks), part)


QUANTITIES: Final = _registry()


def quantity(name: str) -> Quantity:
    """Find a quantity.

    Raises:
        UnknownName: no such quantity; near ones are suggested, or all are listed.

    >>> quantity("cache").unit
    'B'
    """
    try:
        return QUANTITIES[name]
    except KeyError:
        raise UnknownName("quantity", name, QUANTITIES, f"known: {', '.join(QUANTITIES)}") from None

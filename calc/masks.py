"""Which keys a query sees: the pairs that an attention computes, the keys it reads, the positions it must keep.

A mask is plain data. Its dimensions are letters (a window is ``w``), so its counts read as integers, sweeps and
formulas like everything else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from calc.algebra import Number, floor_div, minimum, modulo, triangle
from calc.dims import LEGEND
from calc.fields import Natural, Positive, load_class, union_schema
from calc.records import Record, named_record

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler
    from pydantic_core import CoreSchema

KINDS: dict[str, str] = {
    "causal": "calc.masks:Causal",
    "full": "calc.masks:Full",
    "window": "calc.masks:Window",
    "chunk": "calc.masks:Chunk",
    "budget": "calc.masks:Budget",
    "strided": "calc.sparse_masks:Strided",
    "topk": "calc.sparse_masks:TopK",
    "local": "calc.sparse_masks:Local",
    "bigbird": "calc.sparse_masks:BigBird",
    "compressed": "calc.sparse_masks:Compressed",
    "topk_compressed": "calc.sparse_masks:TopKCompressed",
    "topk_blocks": "calc.sparse_masks:TopKBlocks",
    "windows": "calc.grid_masks:Windows",
}

Env = Mapping[str, Number]


@named_record
class Mask(Record):
    """The query-key pairs that an attention lets through; t new queries stand at the end of s positions."""

    letters: ClassVar[str] = ""
    both_ways: ClassVar[bool] = False
    """A query sees what stands after it (encoders), so that all positions are computed at once and nothing is kept."""
    kind: str

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return union_schema(KINDS, handler) if cls is Mask else handler(source)

    def bind(self) -> dict[str, Number]:
        """Bind this mask's letters to its fields."""
        return {letter: getattr(self, LEGEND[letter].name) for letter in self.letters}

    def seen(self, n: Number, env: Env) -> Number:
        """Return the pairs of the first n queries of a sequence, each seeing what stands before it."""
        raise NotImplementedError(type(self).__name__)

    def pairs(self, t: Number, s: Number, env: Env) -> Number:
        """Return the pairs let through for t queries at the end of s positions (the ``causal`` convention)."""
        return self.seen(s, env) - self.seen(s - t, env)

    def dense_pairs(self, t: Number, s: Number, env: Env) -> Number:
        """Return the pairs that a dense kernel computes when it ignores the mask (the ``full`` convention)."""
        return t * s

    def keys(self, t: Number, s: Number, env: Env) -> Number:
        """Return the distinct keys that any of the t queries sees: what a pass reads."""
        return s

    def dense_keys(self, t: Number, s: Number, env: Env) -> Number:
        """Return the keys that a dense kernel reads."""
        return s

    def queries(self, t: Number, s: Number, env: Env) -> Number:
        """Return the queries of the pass."""
        return t

    def dense_queries(self, t: Number, s: Number, env: Env) -> Number:
        """Return the queries that a dense kernel handles, padding included."""
        return t

    def kept(self, s: Number, env: Env) -> Number:
        """Return the positions that must stay cached after s positions, for any later query."""
        return s

    def period(self, env: Env) -> Number:
        """Return after how many positions ``kept`` grows in the same way again."""
        return 1


def make(data: Mapping[str, Any]) -> Mask:
    """Build a mask from trusted data."""
    fields = dict(data)
    mask: Mask = load_class(KINDS[fields["kind"]])(**fields)
    return mask


@named_record
class Causal(Mask):
    """Every position sees itself and all before it: pairs = t·s − t·(t − 1)/2.

    >>> Causal().pairs(4, 4, {}), Causal().pairs(1, 10, {})
    (10, 10)
    """

    kind: Literal["causal"] = "causal"

    def seen(self, n: Number, env: Env) -> Number:
        """Return n (n + 1) / 2."""
        return triangle(n)

    def pairs(self, t: Number, s: Number, env: Env) -> Number:
        """Return t·s − t·(t − 1)/2, the closed form of the difference."""
        return t * s - triangle(t - 1)


@named_record
class Full(Mask):
    """Every position sees every other (encoders): pairs = t·s."""

    both_ways: ClassVar[bool] = True
    kind: Literal["full"] = "full"

    def pairs(self, t: Number, s: Number, env: Env) -> Number:
        """Return t·s."""
        return t * s


@named_record
class Window(Mask):
    """A position sees itself and the w − 1 before it (sliding window; Beltagy et al. 2020, arXiv:2004.05150 §3.1).

    The first n positions see Σ min(i, w) = w(w+1)/2 + w(n − w) pairs for n ≥ w. The cache keeps w positions.

    >>> Window(window=3).pairs(5, 5, {"w": 3}), Window(window=3).kept(9, {"w": 3})
    (12, 3)
    """

    letters: ClassVar[str] = "w"
    kind: Literal["window"] = "window"
    window: Positive

    def seen(self, n: Number, env: Env) -> Number:
        """Return Σ_{i=1..n} min(i, w)."""
        full = minimum(n, env["w"])
        return triangle(full) + env["w"] * (n - full)

    def keys(self, t: Number, s: Number, env: Env) -> Number:
        """Return min(s, w + t − 1)."""
        return minimum(s, env["w"] + t - 1)

    def kept(self, s: Number, env: Env) -> Number:
        """Return min(s, w)."""
        return minimum(s, env["w"])


@named_record
class Chunk(Mask):
    """A position sees itself and those before it in its own chunk of w (Llama 4's ``attention_chunk_size``).

    The cache keeps at most w positions (those of the chunk being filled).

    >>> Chunk(window=4).pairs(6, 6, {"w": 4})
    13
    """

    letters: ClassVar[str] = "w"
    kind: Literal["chunk"] = "chunk"
    window: Positive

    def seen(self, n: Number, env: Env) -> Number:
        """Return ⌊n/w⌋ whole chunks and what the last one holds."""
        return floor_div(n, env["w"]) * triangle(env["w"]) + triangle(modulo(n, env["w"]))

    def keys(self, t: Number, s: Number, env: Env) -> Number:
        """Return the keys of every chunk that holds one of the last t positions."""
        first = s - t
        return s - floor_div(first, env["w"]) * env["w"]

    def kept(self, s: Number, env: Env) -> Number:
        """Return min(s, w): an implementation keeps the last w positions, as with a window."""
        return minimum(s, env["w"])


@named_record
class Budget(Mask):
    """Selective caching: a position sees the first σ (sinks), the χ most attended so far, and the last w.

    The cache never holds more than B = σ + χ + w positions, and a query sees what it holds: the first n positions see
    Σ min(i, B) pairs, whichever positions are heavy. Eviction is counted from the first position on; a prompt that is
    read with full attention and evicted from afterwards costs the pairs of a causal mask instead. Finding the heavy
    positions (a running sum of attention weights, one number per position and head) is not counted.

    Source: sinks and recent, StreamingLLM, arXiv:2309.17453 §3.2; heavy hitters and recent, H2O, arXiv:2306.14048 §4.

    >>> mask = Budget(n_sinks=4, window=252)
    >>> mask.kept(10_000, mask.bind()), mask.pairs(1, 10_000, mask.bind())
    (256, 256)
    """

    letters: ClassVar[str] = "σχw"
    kind: Literal["budget"] = "budget"
    n_sinks: Natural = 0
    n_heavy: Natural = 0
    window: Positive

    def seen(self, n: Number, env: Env) -> Number:
        """Return Σ_{i=1..n} min(i, B)."""
        budget = self.size(env)
        full = minimum(n, budget)
        return triangle(full) + budget * (n - full)

    def kept(self, s: Number, env: Env) -> Number:
        """Return min(s, B)."""
        return minimum(s, self.size(env))

    def size(self, env: Env) -> Number:
        """Return B = σ + χ + w."""
        return env["σ"] + env["χ"] + env["w"]

    def keys(self, t: Number, s: Number, env: Env) -> Number:
        """Return min(s, B + t − 1): what the first query keeps, and each later one in its place."""
        return minimum(s, self.size(env) + t - 1)

"""What the recurrent mixers share: the grids of a recurrence in chunks, the short convolution.

A linear recurrence over t positions has two forms that give the same result.

* *In chunks* (prefill, training): Q positions at a time. Inside a chunk, positions meet in pairs as in attention;
  between chunks only a state passes. These are matrix products, and count as ``matmul``.
* *Step by step* (decode): for each token the state decays, takes in an outer product, and is read. Where a product is
  summed over a letter (a state read by a query), it is an einsum and counts as ``matmul``, also where PyTorch code
  writes it ``(a * b).sum()`` and its flop counter sees nothing. What touches each element of the state once (the decay,
  adding the outer product) counts as ``all``, unless the mechanism's source writes it as a matrix product.

In the einsums of a recurrence, ``s`` is not a position of the context but what a grid below says: another position of
the same chunk, or a chunk. ``causal`` counts the pairs and positions that exist, ``full`` what eager code computes, the
padding of the last chunk included.
"""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import ClassVar, Literal

from calc.algebra import Number, ceil_div, floor_div, modulo, triangle
from calc.attention import Attention
from calc.fields import Positive
from calc.masks import Env, Mask
from calc.operations import Einsum, Elementwise, Operation, extent
from calc.records import named_record, record

SILU = 4
"""FLOPs of x · sigmoid(x): exp, add, divide, product."""
SOFTPLUS = 3
"""FLOPs of log(1 + exp(x))."""
GELU_TANH = 9
"""FLOPs of x/2 · (1 + tanh(√(2/π)(x + 0.044715 x³))): as in the feed-forward networks."""
SIGMOID = 3
"""FLOPs of 1 / (1 + exp(-x)), the sign apart."""


@named_record
class Recurrent(Attention):
    """Base of the mixers whose memory is a state of constant size."""

    def label(self) -> str:
        """Return the kind: its grids are no masks that a reader would look for."""
        return str(getattr(self, "kind", ""))


@named_record
class Grid(Mask):
    """Chunks of Q positions, laid from the first position of the pass; the last one may be padded to Q, or shorter."""

    letters: ClassVar[str] = "Q"
    chunk_size: Positive
    padded: bool = True
    """Eager code fills the last chunk with zeros and computes it whole."""

    def dense_queries(self, t: Number, s: Number, env: Env) -> Number:
        """Return ⌈t/Q⌉·Q with padding, t without."""
        return ceil_div(t, env["Q"]) * env["Q"] if self.padded else t


@named_record
class Within(Grid):
    """Pairs of positions of one chunk, where the second is not later than the first.

    pairs = ⌊t/Q⌋·Q(Q + 1)/2 + r(r + 1)/2 with r = t mod Q; eager code computes the whole square of each chunk.

    >>> grid = Within(chunk_size=4)
    >>> grid.pairs(6, 6, {"Q": 4}), grid.dense_pairs(6, 6, {"Q": 4})
    (13, 32)
    >>> Within(chunk_size=4, padded=False).dense_pairs(6, 6, {"Q": 4})
    20
    """

    kind: Literal["within"] = "within"

    def pairs(self, t: Number, s: Number, env: Env) -> Number:
        """Return the pairs in the triangles of all chunks."""
        return floor_div(t, env["Q"]) * triangle(env["Q"]) + triangle(modulo(t, env["Q"]))

    def dense_pairs(self, t: Number, s: Number, env: Env) -> Number:
        """Return the pairs in the squares of all chunks."""
        if self.padded:
            return ceil_div(t, env["Q"]) * env["Q"] * env["Q"]
        return floor_div(t, env["Q"]) * env["Q"] * env["Q"] + modulo(t, env["Q"]) * modulo(t, env["Q"])

    def keys(self, t: Number, s: Number, env: Env) -> Number:
        """Return t: the other positions are the pass's own."""
        return t

    def dense_keys(self, t: Number, s: Number, env: Env) -> Number:
        """Return the positions, padding included."""
        return self.dense_queries(t, s, env)


@named_record
class Members(Grid):
    """Pairs of a position (``t``) and the chunk (``s``) that it belongs to: as many as positions.

    >>> grid = Members(chunk_size=4)
    >>> grid.pairs(6, 6, {"Q": 4}), grid.dense_pairs(6, 6, {"Q": 4}), grid.keys(6, 6, {"Q": 4})
    (6, 8, 2)
    """

    kind: Literal["members"] = "members"

    def pairs(self, t: Number, s: Number, env: Env) -> Number:
        """Return t."""
        return t

    def dense_pairs(self, t: Number, s: Number, env: Env) -> Number:
        """Return the positions, padding included."""
        return self.dense_queries(t, s, env)

    def keys(self, t: Number, s: Number, env: Env) -> Number:
        """Return the chunks, ⌈t/Q⌉."""
        return ceil_div(t, env["Q"])

    def dense_keys(self, t: Number, s: Number, env: Env) -> Number:
        """Return the chunks, ⌈t/Q⌉."""
        return self.keys(t, s, env)


@named_record
class Passing(Grid):
    """Pairs of a chunk (``t``) and an earlier one (``s``) whose state reaches it.

    A scan passes each chunk's state to the next: ⌈t/Q⌉ pairs. Eager code may write the scan as one matrix product over
    all chunks and the initial state, (⌈t/Q⌉ + 1)² pairs (Dao & Gu 2024, arXiv:2405.21060, listing 1).

    >>> grid = Passing(chunk_size=4)
    >>> grid.pairs(6, 6, {"Q": 4}), grid.dense_pairs(6, 6, {"Q": 4})
    (2, 9)
    """

    kind: Literal["passing"] = "passing"

    def pairs(self, t: Number, s: Number, env: Env) -> Number:
        """Return the chunks."""
        return ceil_div(t, env["Q"])

    def dense_pairs(self, t: Number, s: Number, env: Env) -> Number:
        """Return the pairs of all chunks and the initial state."""
        return self.dense_keys(t, s, env) * self.dense_keys(t, s, env)

    def keys(self, t: Number, s: Number, env: Env) -> Number:
        """Return the chunks."""
        return ceil_div(t, env["Q"])

    def dense_keys(self, t: Number, s: Number, env: Env) -> Number:
        """Return the chunks and the initial state."""
        return ceil_div(t, env["Q"]) + 1

    def queries(self, t: Number, s: Number, env: Env) -> Number:
        """Return the chunks."""
        return ceil_div(t, env["Q"])

    def dense_queries(self, t: Number, s: Number, env: Env) -> Number:
        """Return the chunks and the final state."""
        return ceil_div(t, env["Q"]) + 1


def time_step(of: str, dims: str, weight: str) -> Elementwise:
    """Return Δ = softplus(projection + learned bias): the sum is a result of its own to separate kernels."""
    return Elementwise("dt", dims, inputs=(of,), each=1 + SOFTPLUS, weight=weight, needs="operands", apart=(), inside=1)


def silu_gate(dims: str, of: str, gate: str) -> Elementwise:
    """Return a result times silu(gate)."""
    return Elementwise("gate", dims, inputs=(of, gate), each=SILU + 1, needs="operands", inside=1)


def sigmoid_gate(dims: str, of: str, gate: str) -> Elementwise:
    """Return a result times σ(gate), of which separate kernels keep σ(gate)."""
    return Elementwise("gate", dims, inputs=(of, gate), each=SIGMOID + 1, needs="operands", apart=(of,), inside=1)


@record
class Convolution(Einsum):
    """A causal depthwise convolution: besides its input it reads the ``past`` inputs that the state keeps."""

    _: KW_ONLY
    past: str
    columns: str = "K"
    """How many of them are kept: K, or K − 1 (``u``)."""

    def reads(self, env: Env, causal: bool) -> list[tuple[str, Number]]:
        """Return the input, and the inputs before it."""
        return [*super().reads(env, causal), (self.past, extent(f"b{self.weight[:-1]}{self.columns}", env))]


def convolution(
    name: str, channels: str, of: str, *, bias: bool = False, silu: bool = True, columns: str = "K"
) -> tuple[Operation, ...]:
    """Return a causal depthwise convolution of K taps over the channels, and its activation ``{name}_act``.

    FLOPs: 2·b·t·channels·K, one product and one sum for each tap at each of the t positions. PyTorch code pads both
    ends and cuts the tail off, so that its flop counter sees t + K − 1 positions in prefill (and 2 at a decode step
    where the cache holds K inputs); the K − 1 (or 1) that are thrown away are not counted. The inputs that a later
    step needs are the state ``{name}_past``.

    >>> [op.name for op in convolution("conv", "I", "x_proj")]
    ['conv', 'conv_act']
    """
    taps = Convolution(
        name,
        f"bt{channels},{channels}K->bt{channels}",
        inputs=(of,),
        weight=f"{channels}K",
        bias=channels if bias else "",
        past=f"{name}_past",
        columns=columns,
    )
    if not silu:
        return (taps,)
    return (taps, Elementwise(f"{name}_act", f"bt{channels}", inputs=(name,), each=SILU, needs="operands"))

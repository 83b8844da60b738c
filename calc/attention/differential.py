"""Differential attention: one softmax subtracted from another."""

from __future__ import annotations

from dataclasses import field
from typing import ClassVar, Literal

from calc.attention.gqa import GQA
from calc.attention.grouped import Grouped
from calc.fields import Positive
from calc.masks import Causal, Mask
from calc.operations import Einsum, Elementwise, Norm, Operation, Softmax, States, Table
from calc.records import named_record


@named_record
class Differential(Grouped):
    """(softmax_1 − λ·softmax_2) v over pairs of heads, λ learned, then a norm over each pair.

    Two whole attentions with the same queries and keys, over one half of the value heads each, as
    ``DiffLlamaAttention`` of transformers runs them: 8·h·d_h matmul FLOPs per visible pair, twice those of
    grouped-query attention.
    Parameters: those of grouped-query attention and 4·d_h. Cache per token: 2·h_kv·d_h.

    Value heads go in pairs, so that h_kv is even; the counts do not depend on it.

    Source: Ye et al. 2024, arXiv:2410.05258 §2.

    Raises:
        SpecError: n_heads is not divisible by n_kv_heads.

    >>> Differential(n_heads=32, n_kv_heads=32, head_dim=64, rotary_dim=64).bind()
    {'k': 32, 'g': 1, 'h': 64, 'r': 64}
    """

    source: ClassVar[str] = "Ye et al. 2024, arXiv:2410.05258 §2"
    kind: Literal["differential"] = "differential"
    n_heads: Positive
    n_kv_heads: Positive
    head_dim: Positive
    qkv_bias: bool = False
    o_bias: bool = False
    rotary_dim: Positive | None = None
    mask: Mask = field(default_factory=Causal)

    def __post_init__(self) -> None:
        self.plain()

    def plain(self) -> GQA:
        """Return the attention that lends it its projections, rotation and cache."""
        return GQA(
            n_heads=self.n_heads,
            n_kv_heads=self.n_kv_heads,
            head_dim=self.head_dim,
            qkv_bias=self.qkv_bias,
            o_bias=self.o_bias,
            rotary_dim=self.rotary_dim,
            mask=self.mask,
        )

    def operations(self) -> Table:
        """Return projections, rotation, two attentions, their difference, its norm, output."""
        plain = {operation.name: operation for operation in self.plain().operations()}
        query = plain["scores"].inputs[0]
        before = list(plain.values())[: list(plain).index("scores")]
        return (
            *before,
            *self._run(1, query),
            *self._run(2, query),
            # λ = exp(λ_q1·λ_k1) − exp(λ_q2·λ_k2) + a constant: two products and their sums
            Elementwise("lambda_q1", "h", inputs=(), each=1, weight="h"),
            Elementwise("lambda_k1", "h", inputs=(), each=1, weight="h"),
            Elementwise("lambda_q2", "h", inputs=(), each=1, weight="h"),
            Elementwise("lambda_k2", "h", inputs=(), each=1, weight="h"),
            Elementwise("difference", "btkgh", inputs=("values_1", "values_2"), each=2, needs=("values_2",)),
            Norm("difference_norm", "btkgh", inputs=("difference",), kind="rms"),
            Elementwise("difference_scale", "btkgh", inputs=("difference_norm",), each=1),
            Einsum(
                "o_proj",
                "btkgh,kghd->btd",
                inputs=("difference_scale",),
                weight="kghd",
                bias="d" if self.o_bias else "",
            ),
        )

    def _run(self, index: int, query: str) -> tuple[Operation, ...]:
        """Return one of the two attentions."""
        scores, scale, softmax = (f"{name}_{index}" for name in ("scores", "scale", "softmax"))
        return (
            Einsum(scores, "btkgh,bskh->bkgts", inputs=(query, "k"), over=self.mask),
            Elementwise(scale, "bkgts", inputs=(scores,), each=1, over=self.mask),
            Softmax(softmax, "bkgts", inputs=(scale,), over=self.mask),
            Einsum(f"values_{index}", "bkgts,bskh->btkgh", inputs=(softmax, "v"), over=self.mask),
        )

    def state(self) -> States:
        """Return the keys and the values."""
        return self.plain().state()

    def uncompressed(self) -> States:
        """Return a key and a value for every query head."""
        return self.plain().uncompressed()

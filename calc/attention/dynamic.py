"""Attention with a mask that the values make: Doge's dynamic mask."""

from __future__ import annotations

from typing import ClassVar, Literal

from calc.attention.gqa import GQA
from calc.attention.grouped import Grouped
from calc.fields import Positive
from calc.masks import Causal
from calc.operations import Einsum, Elementwise, Softmax, States, Table, TopK
from calc.records import named_record
from calc.sparse_masks import TopK as Selected


@named_record
class DynamicMask(Grouped):
    """Grouped-query attention to the k positions whose values score highest, and their score is added to the logits.

    A position's score for a key-value head: exp(A·softplus(v W_dt)), from the cached values, so that a decode step
    scores all positions again. Parameters: those of grouped-query attention, h_kv·d_h·h_kv for W_dt and h_kv for A, and
    2·d_h for the query-key norm. Matmul FLOPs: besides, 2·h_kv²·d_h per key, and Σ min(i, k) pairs in place of i.

    Source: Shi et al. 2024 (Doge), arXiv:2412.11834 §3.1; ``DogeAttention`` of transformers.

    Raises:
        SpecError: n_heads is not divisible by n_kv_heads.

    >>> DynamicMask(n_heads=8, n_kv_heads=8, head_dim=128, n_selected=2048).bind()["J"]
    2048
    """

    source: ClassVar[str] = "Shi et al. 2024, arXiv:2412.11834 §3.1"
    kind: Literal["dynamic"] = "dynamic"
    n_heads: Positive
    n_kv_heads: Positive
    head_dim: Positive
    n_selected: Positive
    """Positions that a query keeps."""
    bias: bool = False
    rotary_dim: Positive | None = None

    def __post_init__(self) -> None:
        self.plain()

    def plain(self) -> GQA:
        """Return the attention that lends it its projections, norms, rotation and cache."""
        return GQA(
            n_heads=self.n_heads,
            n_kv_heads=self.n_kv_heads,
            head_dim=self.head_dim,
            qkv_bias=self.bias,
            o_bias=self.bias,
            qk_norm="rms",
            rotary_dim=self.rotary_dim,
        )

    def operations(self) -> Table:
        """Return projections, the values' scores, the selection, attention to what is selected, output."""
        plain = {operation.name: operation for operation in self.plain().operations()}
        before = list(plain.values())[: list(plain).index("scores")]
        mask = Selected(n_selected=self.n_selected)
        return (
            *before,
            Einsum("dt_proj", "bskh,khδ->bsδ", inputs=("v",), weight="khδ", bias="δ" if self.bias else ""),
            # softplus (exp, add, log), product, exp
            Elementwise("dt", "bsδ", inputs=("dt_proj",), each=5, weight="δ", needs=("dt_proj", "dt"), inside=1),
            TopK("select", "bδts", scanned="bδts", inputs=("dt",), over=Causal()),
            Einsum("scores", "btkgh,bskh->bkgts", inputs=(plain["scores"].inputs[0], "k"), over=mask),
            Elementwise("scale", "bkgts", inputs=("scores",), each=1, over=mask),
            Elementwise("add_dt", "bkgts", inputs=("scale",), each=1, over=mask),
            Softmax("softmax", "bkgts", inputs=("add_dt",), over=mask),
            Einsum("values", "bkgts,bskh->btkgh", inputs=("softmax", "v"), over=mask),
            plain["o_proj"],
        )

    def state(self) -> States:
        """Return the keys and the values."""
        return self.plain().state()

    def uncompressed(self) -> States:
        """Return a key and a value for every query head."""
        return self.plain().uncompressed()

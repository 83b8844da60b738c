"""Cross-attention: queries of one side, keys and values of the other."""

from __future__ import annotations

from typing import ClassVar, Literal

from calc.attention.grouped import Grouped
from calc.fields import Positive
from calc.operations import Einsum, Elementwise, Norm, Operation, Softmax, State, States, Table
from calc.records import named_record


@named_record
class CrossAttention(Grouped):
    """Attention of t queries over the m tokens of the encoder, whose keys and values are made once per prompt.

    Parameters as in grouped-query attention; t·m pairs in a pass, no mask. Cache: m·h_kv·2·d_h, constant in
    decoding.

    Source: Vaswani et al. 2017, arXiv:1706.03762 §3.2.3.

    Raises:
        SpecError: n_heads is not divisible by n_kv_heads.

    >>> CrossAttention(n_heads=8, n_kv_heads=8, head_dim=64).bind()
    {'k': 8, 'g': 1, 'h': 64}
    """

    source: ClassVar[str] = "Vaswani et al. 2017, arXiv:1706.03762 §3.2.3"
    kind: Literal["cross"] = "cross"
    n_heads: Positive
    n_kv_heads: Positive
    head_dim: Positive
    qkv_bias: bool = False
    k_bias: bool | None = None
    o_bias: bool = False
    scaled: bool = True
    softcap: bool = False
    """Scores squashed by c·tanh(x / c) (T5Gemma)."""
    qk_norm: Literal["rms"] | None = None
    """A norm over each query and key head, with one shared scale (Llama 3.2 Vision)."""
    d_source: Positive | None = None
    """Width of the encoder's states where it differs from d_model (TrOCR)."""

    def operations(self) -> Table:
        """Return the projections (keys and values once per prompt), scores, softmax, values, output."""
        bias = self.qkv_bias
        source = "W" if self.d_source else "d"
        k_bias = bias if self.k_bias is None else self.k_bias
        norms, steps = self._norms(), self._steps()
        return (
            Einsum("q_proj", "btd,dkgh->btkgh", weight="dkgh", bias="kgh" if bias else ""),
            *norms[:1],
            Einsum(
                "k_proj",
                f"bm{source},{source}kh->bmkh",
                inputs=("source",),
                weight=f"{source}kh",
                bias="kh" if k_bias else "",
                phase="prefill",
            ),
            Einsum(
                "v_proj",
                f"bm{source},{source}kh->bmkh",
                inputs=("source",),
                weight=f"{source}kh",
                bias="kh" if bias else "",
                phase="prefill",
            ),
            *norms[1:],
            Einsum("scores", "btkgh,bmkh->bkgtm", inputs=("q_norm" if norms else "q_proj", "k")),
            *steps,
            Softmax("softmax", "bkgtm", inputs=(steps[-1].name if steps else "scores",)),
            Einsum("values", "bkgtm,bmkh->btkgh", inputs=("softmax", "v")),
            Einsum(
                "o_proj",
                "btkgh,kghd->btd",
                inputs=("values",),
                weight="kghd",
                bias="d" if self.o_bias else "",
            ),
        )

    def _norms(self) -> tuple[Operation, ...]:
        """Return the norm of the queries and, once per prompt, that of the keys."""
        if self.qk_norm is None:
            return ()
        return (
            Norm("q_norm", "btkgh", inputs=("q_proj",), kind=self.qk_norm, weight="h"),
            Norm("k_norm", "bmkh", inputs=("k_proj",), kind=self.qk_norm, weight="h", phase="prefill"),
        )

    def _steps(self) -> list[Operation]:
        """Return what happens to a score before the softmax."""
        table: list[Operation] = []
        if self.scaled:
            table.append(Elementwise("scale", "bkgtm", inputs=("scores",), each=1))
        if self.softcap:
            of = table[-1].name if table else "scores"
            # separate kernels keep the tanh
            table.append(Elementwise("softcap", "bkgtm", inputs=(of,), each=3, needs="operands", apart=(), inside=1))
        return table

    def state(self) -> States:
        """Return the keys and values of the encoder's tokens."""
        return (
            State(name="k", dims="mkh", of="k_norm" if self.qk_norm else "k_proj"),
            State(name="v", dims="mkh", of="v_proj"),
        )

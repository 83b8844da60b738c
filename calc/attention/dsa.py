"""DeepSeek sparse attention: latent attention over the few positions that a light indexer selects."""

from __future__ import annotations

from typing import ClassVar, Literal

from calc.attention.mla import LatentAttention
from calc.errors import SpecError
from calc.fields import Positive
from calc.masks import Causal
from calc.operations import Einsum, Elementwise, Norm, Operation, State, States, Table, TopK
from calc.records import named_record
from calc.sparse_masks import TopK as Selected


@named_record
class DSA(LatentAttention):
    """Multi-head latent attention over the k positions that score highest in an indexer of h^I small heads.

    Index score of a pair: Σ_h w_h · ReLU(q_h · k), with queries from the query latent, one key per position for all
    heads and weights from the input. Its FLOPs stay O(n²), but with 2·h^I·(d^I + 1) per pair in place of the
    2·h·(d_n + d_r + d_v) of naive attention; attention itself sees Σ min(i, k) pairs. Parameters beyond those of MLA:
    d'_c·h^I·d^I + d·d^I + 2·d^I + d·h^I. Cache per token: d_c + d_r + d^I. With ``shared_index`` there is no indexer
    and no index key: the selection is an earlier layer's (GLM-5 where its ``indexer_types`` say so). The backward pass
    counts the indexer too, which learns from a loss of its own. Not counted: the Hadamard rotation of DeepSeek's
    kernels.

    Source: DeepSeek-AI 2025, DeepSeek-V3.2, arXiv:2512.02556 §2.1; ``DeepseekV32Indexer`` of transformers.

    Raises:
        SpecError: no query latent to index with.

    >>> spec = DSA(n_heads=128, q_lora_rank=1536, kv_lora_rank=512, qk_nope_head_dim=128, qk_rope_head_dim=64,
    ...            v_head_dim=128, n_index_heads=64, index_head_dim=128, n_selected=2048)
    >>> sum(state.elements({**spec.bind(), "s": 1}) for state in spec.state())
    704
    """

    source: ClassVar[str] = "DeepSeek-V3.2, arXiv:2512.02556 §2.1"
    kind: Literal["dsa"] = "dsa"
    n_index_heads: Positive
    index_head_dim: Positive
    n_selected: Positive
    shared_index: bool = False
    """The selection is an earlier layer's."""

    def __post_init__(self) -> None:
        if self.q_lora_rank is None:
            raise SpecError("dsa needs q_lora_rank: the indexer reads the query latent")

    @property
    def mask(self) -> Selected:
        """The positions that the indexer selects."""
        return Selected(n_selected=self.n_selected)

    def operations(self) -> Table:
        """Return the projections to the latents, the indexer, attention over what it selects, the output."""
        index = () if self.shared_index else self.indexer()
        return (*self.queries(), *self.latents(), *index, *self.attend(), *self.output())

    def indexer(self) -> list[Operation]:
        """Return the indexer: queries, keys and weights, the scores of every visible pair, the selection."""
        every = Causal()
        return [
            Einsum("index_q", "btq,qiz->btiz", inputs=("q_a_norm",), weight="qiz"),
            Einsum("index_k", "btd,dz->btz", weight="dz"),
            Norm("index_k_norm", "btz", inputs=("index_k",), kind="layer", weight="z", bias="z"),
            Elementwise("index_q_rotary", "btir", inputs=("index_q",), each=3),
            Elementwise("index_k_rotary", "btr", inputs=("index_k_norm",), each=3),
            Einsum("index_weights", "btd,di->bti", weight="di"),
            Einsum("index_dots", "btiz,bsz->btis", inputs=("index_q", "index_keys"), over=every),
            # the scale and the rectifier
            Elementwise("index_relu", "btis", inputs=("index_dots",), each=2, over=every, needs="result"),
            Einsum("index_scores", "bti,btis->bts", inputs=("index_weights", "index_relu"), over=every),
            TopK("select", "btJ", inputs=("index_scores",), scanned="bts", over=every),
        ]

    def state(self) -> States:
        """Return the latent, the rotated key and the indexer's key of every position."""
        if self.shared_index:
            return super().state()
        return (*super().state(), State(name="index_keys", dims="sz", of="index_k_rotary"))

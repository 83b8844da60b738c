"""MiniMax-M3's sparse attention: grouped-query attention over blocks of keys that a light indexer selects."""

from __future__ import annotations

from typing import ClassVar, Literal

from calc.attention.grouped import Grouped
from calc.errors import SpecError
from calc.fields import Positive
from calc.masks import Causal
from calc.operations import Einsum, Elementwise, Norm, Operation, Softmax, State, States, Table, TopK
from calc.records import named_record
from calc.sparse_masks import TopKBlocks


@named_record
class MSA(Grouped):
    """Grouped-query attention over the k blocks of B positions that score highest, the query's own always among them.

    An indexer with one small head for each key-value head scores all positions, 2·h^I·d^I FLOPs a pair; a block's score
    is its highest. Parameters: d·h·d_h + 2·d·h_kv·d_h + h·d_h·d and 2·d_h of norms, in the indexer d·h^I·d^I + d·d^I +
    2·d^I, h^I = h_kv. Cache per token: 2·h_kv·d_h + d^I. Pairs: i up to k·B, then (k − 1)·B and those of the own block.
    The backward pass counts the indexer too.

    Source: ``MiniMaxM3VLAttention`` and ``MiniMaxM3VLIndexer`` of transformers (``minimax_m3_sparse``).

    Raises:
        SpecError: n_heads is not divisible by n_kv_heads; more rotary dimensions than a head has.

    >>> spec = MSA(n_heads=64, n_kv_heads=4, head_dim=128, rotary_dim=64, index_head_dim=128, block_size=128,
    ...            n_selected=16)
    >>> sum(state.elements({**spec.bind(), "s": 1}) for state in spec.state())
    1152
    """

    source: ClassVar[str] = "MiniMaxM3VLAttention of transformers"
    kind: Literal["msa"] = "msa"
    n_heads: Positive
    n_kv_heads: Positive
    head_dim: Positive
    rotary_dim: Positive
    index_head_dim: Positive
    block_size: Positive
    n_selected: Positive

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rotary_dim > min(self.head_dim, self.index_head_dim):
            raise SpecError(
                f"rotary_dim = {self.rotary_dim} is larger than head_dim = {self.head_dim} "
                f"or index_head_dim = {self.index_head_dim}"
            )

    def operations(self) -> Table:
        """Return projections, norms, rotation, the indexer, attention over what it selects, the output."""
        mask = TopKBlocks(block_size=self.block_size, n_selected=self.n_selected)
        return (
            Einsum("q_proj", "btd,dkgh->btkgh", weight="dkgh"),
            Norm("q_norm", "btkgh", inputs=("q_proj",), kind="rms", weight="h"),
            Elementwise("q_rotary", "btkgr", inputs=("q_norm",), each=3),
            Einsum("k_proj", "btd,dkh->btkh", weight="dkh"),
            Norm("k_norm", "btkh", inputs=("k_proj",), kind="rms", weight="h"),
            Elementwise("k_rotary", "btkr", inputs=("k_norm",), each=3),
            Einsum("v_proj", "btd,dkh->btkh", weight="dkh"),
            *self._indexer(),
            Einsum("scores", "btkgh,bskh->bkgts", inputs=("q_rotary", "k"), over=mask),
            Elementwise("scale", "bkgts", inputs=("scores",), each=1, over=mask),
            Softmax("softmax", "bkgts", inputs=("scale",), over=mask),
            Einsum("values", "bkgts,bskh->btkgh", inputs=("softmax", "v"), over=mask),
            Einsum("o_proj", "btkgh,kghd->btd", inputs=("values",), weight="kghd"),
        )

    def _indexer(self) -> tuple[Operation, ...]:
        """Return the indexer, with as many heads as there are key-value heads."""
        every = Causal()
        return (
            Einsum("index_q", "btd,dkz->btkz", weight="dkz"),
            Norm("index_q_norm", "btkz", inputs=("index_q",), kind="rms", weight="z"),
            Elementwise("index_q_rotary", "btkr", inputs=("index_q_norm",), each=3),
            Einsum("index_k", "btd,dz->btz", weight="dz"),
            Norm("index_k_norm", "btz", inputs=("index_k",), kind="rms", weight="z"),
            Elementwise("index_k_rotary", "btr", inputs=("index_k_norm",), each=3),
            Einsum("index_scores", "btkz,bsz->bkts", inputs=("index_q_rotary", "index_keys"), over=every),
            # the highest of each block, then the highest blocks: each score is compared once
            TopK("select", "bktJ", inputs=("index_scores",), scanned="bkts", over=every),
        )

    def uncompressed(self) -> States:
        """Return a key and a value for every query head."""
        return (State(name="k", dims="skgh", of="k_rotary"), State(name="v", dims="skgh", of="v_proj"))

    def state(self) -> States:
        """Return keys, values and the indexer's key of every position: a later query may select any block."""
        return (
            State(name="k", dims="skh", of="k_rotary"),
            State(name="v", dims="skh", of="v_proj"),
            State(name="index_keys", dims="sz", of="index_k_rotary"),
        )

"""Native sparse attention: compressed, selected and sliding branches, gated together."""

from __future__ import annotations

from typing import ClassVar, Literal

from calc.algebra import Number, floor_div, modulo, triangle
from calc.attention.entries import Closing, Pending
from calc.attention.grouped import Grouped
from calc.errors import SpecError
from calc.fields import Positive
from calc.masks import Env, Mask, Window
from calc.operations import Einsum, Elementwise, Operation, Softmax, State, States, Table, TopK
from calc.records import named_record
from calc.sparse_masks import Compressed, TopKBlocks


@named_record
class Blocks(Mask):
    """In place of keys, the blocks of B positions that hold a position so far: Σ ⌈i/B⌉ pairs.

    >>> Blocks(block_size=4).pairs(6, 6, {"Z": 4})
    8
    """

    letters: ClassVar[str] = "Z"
    kind: Literal["blocks"] = "blocks"
    block_size: Positive

    def seen(self, n: Number, env: Env) -> Number:
        """Return Σ_{i=1..n} ⌈i/B⌉."""
        whole = floor_div(n, env["Z"])
        return env["Z"] * triangle(whole) + modulo(n, env["Z"]) * (whole + 1)


@named_record
class NSA(Grouped):
    """Native sparse attention: each query attends to compressed entries, to selected blocks and to a window of w.

    The three branches have keys and values of their own, and a gate for each head weighs their results. *Compressed*:
    every m positions, l positions become one entry by a learned map. *Selected*: blocks of B positions; the scores of
    the compressed branch, added over the heads of a group and over a block, choose k of them, the first and the
    query's own among them. Pairs: Σ (⌊(i − l)/m⌋ + 1) + about k·B·n + Σ min(i, w). Cache: entries, all positions of the
    selected branch, the window, and the positions that wait for their entry.

    Parameters: d·h·d_h + 3·d·h_kv·(d_h + d_v) + h·d_v·d, gates 3·d·h, and l·(d_h + d_v) + l·(d_h² + d_v²) in the maps.
    The paper leaves the size of the learned map open ("an MLP with intra-block position encoding"): here it is one
    matrix for keys and one for values after learned positions are added, shared by all heads. Keys of the compressed
    branch are not rotated.

    Source: Yuan et al. 2025, arXiv:2502.11089 §3.

    Raises:
        SpecError: n_heads is not divisible by n_kv_heads; a block is not a whole number of strides; fewer than three
            blocks (the first and two local ones are always selected).

    >>> spec = NSA(n_heads=64, n_kv_heads=4, head_dim=192, v_head_dim=128, rotary_dim=192)
    >>> spec.compress_block, spec.compress_stride, spec.block_size, spec.n_selected, spec.window
    (32, 16, 64, 16, 512)
    """

    source: ClassVar[str] = "Yuan et al. 2025, arXiv:2502.11089 §3"
    kind: Literal["nsa"] = "nsa"
    n_heads: Positive
    n_kv_heads: Positive
    head_dim: Positive
    v_head_dim: Positive
    rotary_dim: Positive
    compress_block: Positive = 32
    compress_stride: Positive = 16
    block_size: Positive = 64
    n_selected: Positive = 16
    window: Positive = 512

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.block_size % self.compress_stride:
            raise SpecError(
                f"block_size = {self.block_size} is not divisible by compress_stride = {self.compress_stride}"
            )
        if self.n_selected < 3:
            raise SpecError(f"n_selected = {self.n_selected} is less than 3: the first block and two local ones")

    @property
    def entries(self) -> Compressed:
        """The compressed entries that a query sees."""
        return Compressed(compress_block=self.compress_block, compress_stride=self.compress_stride)

    def label(self) -> str:
        """Return the kind and what a query sees: entries, blocks, window."""
        entries = f"entries {self.compress_block:,}/{self.compress_stride:,}"
        return f"nsa {entries} blocks {self.n_selected:,}×{self.block_size:,} window {self.window:,}"

    def operations(self) -> Table:
        """Return the queries, the three branches, their gates, the output."""
        blocks = TopKBlocks(block_size=self.block_size, n_selected=self.n_selected)
        return (
            Einsum("q_proj", "btd,dkgh->btkgh", weight="dkgh"),
            Elementwise("q_rotary", "btkgr", inputs=("q_proj",), each=3),
            *self._projections("far", rotary=False),
            *self._compressor(),
            *self._branch("far", "q_proj", self.entries),
            # the group's heads and the entries of a block, added up
            Elementwise("block_scores", "bkgts", inputs=("softmax_far",), each=1, over=self.entries),
            TopK("select", "btkJ", inputs=("block_scores",), scanned="bkts", over=Blocks(block_size=self.block_size)),
            *self._projections("selected"),
            *self._branch("selected", "q_rotary", blocks),
            *self._projections("near"),
            *self._branch("near", "q_rotary", Window(window=self.window)),
            *self._gates(),
            Einsum("o_proj", "btkgp,kgpd->btd", inputs=("mix",), weight="kgpd"),
        )

    def _projections(self, name: str, *, rotary: bool = True) -> tuple[Operation, ...]:
        turned = (Elementwise(f"k_{name}_rotary", "btkr", inputs=(f"k_{name}_proj",), each=3),) if rotary else ()
        return (
            Einsum(f"k_{name}_proj", "btd,dkh->btkh", weight="dkh"),
            Einsum(f"v_{name}_proj", "btd,dkp->btkp", weight="dkp"),
            *turned,
        )

    def _compressor(self) -> tuple[Operation, ...]:
        """Return the entries that become complete: learned positions added, then one map of the whole block."""
        closing = Closing(compress_block=self.compress_block, compress_stride=self.compress_stride)
        return (
            Elementwise("k_positions", "btkCh", inputs=("k_far_pending",), each=1, weight="Ch", over=closing),
            Einsum("k_compress", "btkCh,ChΦ->btkΦ", inputs=("k_positions",), weight="ChΦ", over=closing),
            Elementwise("v_positions", "btkCp", inputs=("v_far_pending",), each=1, weight="Cp", over=closing),
            Einsum("v_compress", "btkCp,CpΣ->btkΣ", inputs=("v_positions",), weight="CpΣ", over=closing),
        )

    def _branch(self, name: str, queries: str, over: Mask) -> tuple[Operation, ...]:
        return (
            Einsum(f"scores_{name}", "btkgh,bskh->bkgts", inputs=(queries, f"k_{name}"), over=over),
            Elementwise(f"scale_{name}", "bkgts", inputs=(f"scores_{name}",), each=1, over=over),
            Softmax(f"softmax_{name}", "bkgts", inputs=(f"scale_{name}",), over=over),
            Einsum(f"values_{name}", "bkgts,bskp->btkgp", inputs=(f"softmax_{name}", f"v_{name}"), over=over),
        )

    def _gates(self) -> tuple[Operation, ...]:
        """Return a sigmoid of the input for each head and branch, and the weighted sum of the branches."""
        names = ("far", "selected", "near")
        return (
            *(Einsum(f"gate_{name}", "btd,dkg->btkg", weight="dkg") for name in names),
            # exp, add, divide
            *(
                Elementwise(f"gate_{name}_sigmoid", "btkg", inputs=(f"gate_{name}",), each=3, needs="result")
                for name in names
            ),
            # three products, two sums
            Elementwise("mix", "btkgp", inputs=tuple(f"values_{name}" for name in names), each=5, needs="operands"),
        )

    def uncompressed(self) -> States:
        """Return a key and a value for every query head, once: one attention has no branches."""
        return (
            State(name="k", dims="skgh", of="k_selected_rotary"), State(name="v", dims="skgp", of="v_selected_proj"),
        )  # fmt: skip

    def state(self) -> States:
        """Return the entries and what waits to become one, the selected branch's positions, the window."""
        near = Window(window=self.window)
        pending = Pending(compress_block=self.compress_block, compress_stride=self.compress_stride)
        return (
            State(name="k_far", dims="skh", of="k_compress", over=self.entries),
            State(name="v_far", dims="skp", of="v_compress", over=self.entries),
            State(name="k_far_pending", dims="skh", of="k_far_proj", over=pending),
            State(name="v_far_pending", dims="skp", of="v_far_proj", over=pending),
            State(name="k_selected", dims="skh", of="k_selected_rotary"),
            State(name="v_selected", dims="skp", of="v_selected_proj"),
            State(name="k_near", dims="skh", of="k_near_rotary", over=near),
            State(name="v_near", dims="skp", of="v_near_proj", over=near),
        )

"""DeepSeek-V4's attentions: one key head that is its own value, a local window, and compressed entries of the past."""

from __future__ import annotations

from typing import ClassVar, Literal

from calc.attention import Attention
from calc.attention.entries import Closing, Pending, Previous
from calc.errors import SpecError
from calc.fields import Positive
from calc.masks import Mask, Window
from calc.operations import Einsum, Elementwise, Norm, Operation, Softmax, State, States, Table, TopK
from calc.records import named_record
from calc.sparse_masks import Compressed, TopKCompressed


@named_record
class SharedKV(Attention):
    """One key head for all queries, which is its own value, over a sliding window of w; DeepSeek-V4's local layers.

    Queries come through a latent of d'_c; the result of each group of heads goes through a latent of d_g; a learned
    sink joins each head's softmax; rotation is undone on the result. Parameters: d·d'_c + d'_c·h·d_h + d·d_h +
    h·d_h·d_g + g_o·d_g·d, the norms and h sinks. Cache: min(s, w)·d_h, once for keys and values. Matmul FLOPs per
    visible pair: 4·h·d_h.

    Source: DeepSeek-V4 technical report §2.3; ``DeepseekV4Attention`` of transformers (``sliding_attention``).

    Raises:
        SpecError: n_heads is not divisible by o_groups; more rotary dimensions than the head has.

    >>> flash = LocalKV(n_heads=64, head_dim=512, q_lora_rank=1024, rotary_dim=64, window=128, o_groups=8,
    ...                 o_lora_rank=1024)
    >>> flash.bind()["E"]
    8
    """

    source: ClassVar[str] = "DeepSeek-V4 technical report §2.3"
    n_heads: Positive
    head_dim: Positive
    q_lora_rank: Positive
    rotary_dim: Positive
    window: Positive
    o_groups: Positive
    o_lora_rank: Positive

    def __post_init__(self) -> None:
        if self.n_heads % self.o_groups:
            raise SpecError(f"n_heads = {self.n_heads} is not divisible by o_groups = {self.o_groups}")
        if self.rotary_dim > self.head_dim:
            raise SpecError(f"rotary_dim = {self.rotary_dim} is larger than head_dim = {self.head_dim}")

    @property
    def heads_per_group(self) -> int:
        """Heads that share a latent of the output."""
        return self.n_heads // self.o_groups

    def operations(self) -> Table:
        """Return queries, keys, what the past is compressed to, attention over both, the output."""
        near = Window(window=self.window)
        return (
            *self.projections(),
            *self.past(),
            *self.scores("near", "kv", near),
            *(self.scores("far", "entries", far) if (far := self.far()) else ()),
            Elementwise("sinks", "bta", inputs=("scores_near",), each=5, weight="a"),
            *self.values("near", "kv", near),
            *(self.values("far", "entries", far) if far else ()),
            # the rotated part of a value is turned back by the query's position
            Elementwise("unrotary", "btar", inputs=("values_near",), each=3),
            Einsum("o_a_proj", "btOEh,OEhS->btOS", inputs=("unrotary",), weight="OEhS"),
            Einsum("o_b_proj", "btOS,OSd->btd", inputs=("o_a_proj",), weight="OSd"),
        )

    def label(self) -> str:
        """Return the kind and what a query sees: its grids of entries are no masks that a reader would look for."""
        far = self.far()
        reach = " ".join(f"{value:,}" for value in far.bind().values()) if far else ""
        return " ".join(filter(None, (str(getattr(self, "kind", "")), reach, f"window {self.window:,}")))

    def projections(self) -> tuple[Operation, ...]:
        """Return queries through their latent, and the one key that is the value too."""
        return (
            Einsum("q_a_proj", "btd,dq->btq", weight="dq"),
            Norm("q_a_norm", "btq", inputs=("q_a_proj",), kind="rms", weight="q"),
            Einsum("q_b_proj", "btq,qah->btah", inputs=("q_a_norm",), weight="qah"),
            Norm("q_b_norm", "btah", inputs=("q_b_proj",), kind="rms"),
            Elementwise("q_rotary", "btar", inputs=("q_b_norm",), each=3),
            Einsum("kv_proj", "btd,dh->bth", weight="dh"),
            Norm("kv_norm", "bth", inputs=("kv_proj",), kind="rms", weight="h"),
            Elementwise("kv_rotary", "btr", inputs=("kv_norm",), each=3),
        )

    def past(self) -> tuple[Operation, ...]:
        """Return the operations that compress the past; none here."""
        return ()

    def far(self) -> Mask | None:
        """Return which compressed entries a query sees; None where there are none."""
        return None

    def scores(self, name: str, keys: str, over: Mask) -> tuple[Operation, ...]:
        """Return the scores with one kind of keys, and their share of the softmax."""
        return (
            Einsum(f"scores_{name}", "btah,bsh->bats", inputs=("q_rotary", keys), over=over),
            Elementwise(f"scale_{name}", "bats", inputs=(f"scores_{name}",), each=1, over=over),
            Softmax(f"softmax_{name}", "bats", inputs=(f"scale_{name}",), over=over),
        )

    def values(self, name: str, keys: str, over: Mask) -> tuple[Operation, ...]:
        """Return the weighted sum of one kind of keys."""
        return (Einsum(f"values_{name}", "bats,bsh->btah", inputs=(f"softmax_{name}", keys), over=over),)

    def state(self) -> States:
        """Return the keys of the window."""
        return (State(name="kv", dims="sh", of="kv_rotary", over=Window(window=self.window)),)

    def uncompressed(self) -> States:
        """Return a key and a value for every head: of the window, or of the past where it is compressed."""
        over = None if self.far() else Window(window=self.window)
        return tuple(State(name=name, dims="sah", of="kv_rotary", over=over) for name in ("k", "v"))


@named_record
class LocalKV(SharedKV):
    """The local layers alone: no compressed past."""

    kind: Literal["local_kv"] = "local_kv"


@named_record
class Compressing(SharedKV):
    """Base of the layers with a compressor: m positions become one entry of width d_h by a gated mean.

    Entry = norm(Σ softmax(gate + position bias) ⊙ value) over its slots, then rotated. The tokens of the block that is
    being filled wait in a buffer, as values and as gates.
    """

    compress_stride: Positive

    def compressor(self, name: str, width: str, *, overlap: bool) -> tuple[Operation, ...]:
        """Return projections, gates and entries; with ``overlap`` a token also counts in the next block's entry."""
        closing = Closing(compress_stride=self.compress_stride)
        series = (name, f"{name}_next") if overlap else (name,)
        slots = f"bt{width}D"
        return (
            *(Einsum(f"{one}_kv", f"btd,d{width}->bt{width}", weight=f"d{width}") for one in series),
            *(Einsum(f"{one}_gate", f"btd,d{width}->bt{width}", weight=f"d{width}") for one in series),
            *(
                Elementwise(f"{one}_bias", f"bt{width}", inputs=(f"{one}_gate",), each=1, weight=f"D{width}")
                for one in series
            ),
            # softmax over the slots, product, sum
            Softmax(f"{name}_weights", slots, inputs=(f"{name}_bias",), each=5 * len(series), over=closing),
            Elementwise(f"{name}_mean", slots, inputs=(f"{name}_weights",), each=2 * len(series), over=closing),
            Norm(f"{name}_norm", f"bt{width}", inputs=(f"{name}_mean",), kind="rms", weight=width, over=closing),
            Elementwise(f"{name}_rotary", "btr", inputs=(f"{name}_norm",), each=3, over=closing),
        )

    def buffers(self, name: str, width: str, *, overlap: bool) -> States:
        """Return the entries, and the values and gates of tokens whose entries are not complete."""
        pending, previous = (
            Pending(compress_stride=self.compress_stride),
            Previous(compress_stride=self.compress_stride),
        )
        series = (name, f"{name}_next") if overlap else (name,)
        return (
            State(
                name=self.entries(name),
                dims=f"s{width}",
                of=f"{name}_rotary",
                over=Compressed(compress_stride=self.compress_stride),
            ),
            *(
                State(name=f"{one}_{what}_pending", dims=f"s{width}", of=f"{one}_{made}", over=pending)
                for one in series
                for what, made in (("kv", "kv"), ("gate", "bias"))
            ),
            *(
                State(name=f"{one}_{what}_previous", dims=f"s{width}", of=f"{one}_{made}", over=previous)
                for one in series[1:]
                for what, made in (("kv", "kv"), ("gate", "bias"))
            ),
        )

    def entries(self, name: str) -> str:
        """Return the name of the state that holds a compressor's entries."""
        return "entries" if name == "compress" else f"{name}_entries"


@named_record
class HCA(Compressing):
    """Heavily compressed attention: a window of w, and one entry for each m positions of the past, all of them visible.

    Pairs: Σ min(i, w) + Σ ⌊i/m⌋. Parameters beyond those of the local layer: 2·d·d_h + m·d_h + d_h. Cache beyond the
    window: ⌊s/m⌋·d_h and a buffer of 2·(s mod m)·d_h.

    Source: DeepSeek-V4 technical report §2.3.2; ``DeepseekV4HCACompressor`` of transformers.

    >>> pro = HCA(n_heads=128, head_dim=512, q_lora_rank=1536, rotary_dim=64, window=128, o_groups=16,
    ...           o_lora_rank=1024, compress_stride=128)
    >>> {state.name: state.elements({**pro.bind(), "s": 4100}) for state in pro.state()}
    {'kv': 65536, 'entries': 16384, 'compress_kv_pending': 2048, 'compress_gate_pending': 2048}
    """

    kind: Literal["hca"] = "hca"

    def far(self) -> Mask:
        """Return all complete entries."""
        return Compressed(compress_stride=self.compress_stride)

    def past(self) -> tuple[Operation, ...]:
        """Return the compressor."""
        return self.compressor("compress", "h", overlap=False)

    def state(self) -> States:
        """Return the window, the entries and the buffer."""
        return (*super().state(), *self.buffers("compress", "h", overlap=False))


@named_record
class CSA(Compressing):
    """Compressed sparse attention: a window of w, and of the entries of m positions the k that an indexer selects.

    Each entry is the gated mean of 2·m slots: its own block, and the block before through maps of their own. The
    indexer compresses the past once more, to entries of d^I, and scores them with h^I heads from the query latent:
    Σ_h w_h · ReLU(q_h · k). Pairs: Σ min(i, w) + Σ min(⌊i/m⌋, k); scored are all Σ ⌊i/m⌋. Parameters beyond those of
    the local layer: 4·d·d_h + 2·m·d_h + d_h, and in the indexer 4·d·d^I + 2·m·d^I + d^I + d'_c·h^I·d^I + d·h^I.

    Source: DeepSeek-V4 technical report §2.3.1; ``DeepseekV4CSACompressor`` and ``DeepseekV4Indexer`` of transformers.
    """

    kind: Literal["csa"] = "csa"
    n_index_heads: Positive
    index_head_dim: Positive
    n_selected: Positive

    def far(self) -> Mask:
        """Return the selected entries."""
        return TopKCompressed(compress_stride=self.compress_stride, n_selected=self.n_selected)

    def past(self) -> tuple[Operation, ...]:
        """Return the compressor, the indexer's own, its scores and the selection."""
        every = Compressed(compress_stride=self.compress_stride)
        return (
            *self.compressor("compress", "h", overlap=True),
            *self.compressor("index", "z", overlap=True),
            Einsum("index_q", "btq,qiz->btiz", inputs=("q_a_norm",), weight="qiz"),
            Elementwise("index_q_rotary", "btir", inputs=("index_q",), each=3),
            Einsum("index_head_weights", "btd,di->bti", weight="di"),
            Einsum("index_dots", "btiz,bsz->btis", inputs=("index_q_rotary", "index_entries"), over=every),
            # the scale and the rectifier
            Elementwise("index_relu", "btis", inputs=("index_dots",), each=2, over=every),
            Einsum("index_scores", "bti,btis->bts", inputs=("index_head_weights", "index_relu"), over=every),
            TopK("select", "btJ", inputs=("index_scores",), scanned="bts", over=every),
        )

    def state(self) -> States:
        """Return the window, both kinds of entries, their buffers."""
        return (
            *super().state(),
            *self.buffers("compress", "h", overlap=True),
            *self.buffers("index", "z", overlap=True),
        )

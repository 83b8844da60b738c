"""Zamba's shared transformer: one block of attention and network whose weights serve several layers."""

from __future__ import annotations

from typing import ClassVar, Literal

from calc.activations import Activation
from calc.attention.grouped import Grouped
from calc.errors import SpecError
from calc.fields import Positive
from calc.masks import Causal
from calc.operations import Einsum, Elementwise, Norm, Operation, Softmax, State, States, Table, activation
from calc.records import named_record


@named_record
class SharedBlock(Grouped):
    """A whole transformer block that reads [x; embedding], 2·d wide, and ends in a map of the layer's own.

    Attention of h heads from 2·d to d, a gated network of d_ff, both under norms and without residuals of their own;
    the result goes through d × d and is added to what the layer's other mixer reads. The first layer that has the block
    stores its weights; in the others (``reused``) only the last map and the adapters are new. With adapters, d × r_a
    and r_a × 2·d_ff are added to the network's first maps (Zamba2). Each use keeps keys and values of its own.

    Parameters: 6·d·h·d_h + h·d_h·d, 3·d·d_ff, 3·d in norms, and for each use d² (and 3·r_a·d + 2·r_a·d_ff at most).

    Source: Glorioso et al. 2024, arXiv:2405.16712 §2; Zamba2: arXiv:2411.15242; ``ZambaAttentionDecoderLayer`` and
    ``Zamba2AttentionDecoderLayer`` of transformers.

    Raises:
        SpecError: n_heads is not divisible by n_kv_heads.

    >>> SharedBlock(n_heads=16, n_kv_heads=16, head_dim=464, d_ff=14848).bind()["Π"]
    2
    """

    source: ClassVar[str] = "Glorioso et al. 2024, arXiv:2405.16712 §2"
    kind: Literal["shared_block"] = "shared_block"
    n_heads: Positive
    n_kv_heads: Positive
    head_dim: Positive
    d_ff: Positive
    activation: Activation = "gelu"
    rotary_dim: Positive | None = None
    adapter_rank: Positive | None = None
    """Rank of what each use adds to the network's maps (Zamba2)."""
    attention_adapters: bool = False
    """Adapters of that rank on queries, keys and values too."""
    ffn_bias: bool = False
    reused: bool = False
    """The weights are an earlier layer's."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.attention_adapters and self.adapter_rank is None:
            raise SpecError("attention_adapters = true needs adapter_rank")

    @property
    def n_inputs(self) -> int:
        """The residual stream and the embedding."""
        return 2

    def operations(self) -> Table:
        """Return the norm, attention, the second norm, the network, the layer's own map."""
        tied = self.reused
        return (
            # the scales of the two norms are stored once, like the matrices
            Norm("norm", "btΠd", kind="rms", weight="" if tied else "Πd", across="Π"),
            *self._project("q_proj", "kgh"),
            *self._project("k_proj", "kh"),
            *self._project("v_proj", "kh"),
            *(Elementwise(f"{x}_rotary", f"bt{w}r", inputs=(f"{x}_proj",), each=3) for x, w in self._rotated()),
            Einsum("scores", "btkgh,bskh->bkgts", inputs=(self._named("q"), "k"), over=Causal()),
            Elementwise("scale", "bkgts", inputs=("scores",), each=1, over=Causal()),
            Softmax("softmax", "bkgts", inputs=("scale",), over=Causal()),
            Einsum("values", "bkgts,bskh->btkgh", inputs=("softmax", "v"), over=Causal()),
            Einsum("o_proj", "btkgh,kghd->btd", inputs=("values",), weight="kghd", tied=tied),
            Norm("ffn_norm", "btd", inputs=("o_proj",), kind="rms", weight="" if tied else "d"),
            *self._network(),
            Einsum("linear", "btd,do->bto", inputs=("down_proj",), weight="do"),
        )

    def _rotated(self) -> tuple[tuple[str, str], ...]:
        return (("q", "kg"), ("k", "k")) if self.rotary_dim else ()

    def _named(self, name: str) -> str:
        return f"{name}_rotary" if self.rotary_dim else f"{name}_proj"

    def _project(self, name: str, to: str) -> list[Operation]:
        """Return a map of both vectors, and its adapter."""
        table: list[Operation] = [
            Einsum(name, f"btΠd,Πd{to}->bt{to}", inputs=("norm",), weight=f"Πd{to}", tied=self.reused)
        ]
        if self.attention_adapters:
            low, high = f"{name}_adapter_a", f"{name}_adapter_b"
            table += [
                Einsum(low, "btΠd,Πdυ->btυ", inputs=("norm",), weight="Πdυ"),
                Einsum(high, f"btυ,υ{to}->bt{to}", inputs=(low,), weight=f"υ{to}"),
                Elementwise(f"{name}_sum", f"bt{to}", inputs=(name, high), each=1),
            ]
        return table

    def _network(self) -> list[Operation]:
        """Return gate, up, their adapters, activation, product, down."""
        tied, inner = self.reused, "f" if self.ffn_bias else ""
        bias = "" if tied else inner
        table: list[Operation] = [
            Einsum("gate_proj", "btd,df->btf", inputs=("ffn_norm",), weight="df", bias=bias, tied=tied),
            Einsum("up_proj", "btd,df->btf", inputs=("ffn_norm",), weight="df", bias=bias, tied=tied),
        ]
        if self.adapter_rank:
            table += [
                Einsum("adapter", "btd,dυ->btυ", inputs=("ffn_norm",), weight="dυ"),
                Einsum("gate_adapter", "btυ,υf->btf", inputs=("adapter",), weight="υf"),
                Einsum("up_adapter", "btυ,υf->btf", inputs=("adapter",), weight="υf"),
                Elementwise("adapted", "btf", inputs=("gate_adapter", "up_adapter"), each=2),
            ]
        down = "d" if self.ffn_bias and not tied else ""
        return [
            *table,
            activation("activation", "btf", "gate_proj", self.activation),
            Elementwise("gated", "btf", inputs=("activation", "up_proj"), each=1, needs="operands"),
            Einsum("down_proj", "btf,fd->btd", inputs=("gated",), weight="fd", bias=down, tied=tied),
        ]

    def state(self) -> States:
        """Return the keys and values of this use."""
        return (
            State(name="k", dims="skh", of=self._named("k"), over=Causal()),
            State(name="v", dims="skh", of="v_proj", over=Causal()),
        )

"""Multi-head latent attention: keys and values of all heads rebuilt from one small latent per token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, Self

from calc.attention import Attention
from calc.attention.gate import OutputGate, output_gate
from calc.fields import Positive
from calc.masks import Causal, Mask, Window
from calc.operations import Einsum, Elementwise, Norm, Operation, Phase, Softmax, State, States, Table
from calc.records import named_record, replace

Form = Literal["by_phase", "naive", "absorbed"]


@named_record
class LatentAttention(Attention):
    """What multi-head latent attention and its sparse variants share: the fields, the projections, the two forms."""

    n_heads: Positive
    q_lora_rank: Positive | None = None
    """Width of the query latent; None where queries are projected directly (DeepSeek-V2-Lite)."""
    kv_lora_rank: Positive
    qk_nope_head_dim: Positive
    qk_rope_head_dim: Positive
    v_head_dim: Positive
    bias: bool = False
    """Biases of the maps down to the latents and of the output (``attention_bias``)."""
    rotary: bool = True
    """The decoupled part of queries and keys is rotated (Kimi-Linear's is not)."""
    latent_scaled: bool = False
    """Queries, and the latent of keys and values, are multiplied by constants (LongCat-Flash)."""
    rope_norm: bool = False
    """An RMSNorm over the one rotated key, before its rotation (dots.note)."""
    output_gate: OutputGate | None = None
    sinks: bool = False
    """One learned logit per head that joins the softmax and takes no value."""
    form: Form = "by_phase"
    """Which form each phase computes; ``by_phase`` is naive in prefill and training, absorbed at a decode step."""

    @property
    def mask(self) -> Mask:
        """The positions that a query sees."""
        return Causal()

    @property
    def rotary_dim(self) -> int:
        """The decoupled part of a head."""
        return self.qk_rope_head_dim

    def operations(self) -> Table:
        """Return the projections to the latents, attention in its form, the output."""
        return (
            *self.queries(),
            *self.latents(),
            *self.attend(),
            *self.output(),
        )

    def queries(self) -> list[Operation]:
        """Return the query latent, and the unrotated and the rotated part of the queries."""
        table: list[Operation] = []
        of, width = "x", "d"
        if self.q_lora_rank is not None:
            table += [
                Einsum("q_a_proj", "btd,dq->btq", weight="dq", bias="q" if self.bias else ""),
                Norm("q_a_norm", "btq", inputs=("q_a_proj",), kind="rms", weight="q"),
            ]
            of, width = "q_a_norm", "q"
        nope, rope = "q_nope", "q_rope"
        table += [
            Einsum("q_nope", f"bt{width},{width}an->btan", inputs=(of,), weight=f"{width}an"),
            Einsum("q_rope", f"bt{width},{width}ar->btar", inputs=(of,), weight=f"{width}ar"),
        ]
        if self.latent_scaled:
            table += [
                Elementwise("q_nope_scaled", "btan", inputs=(nope,), each=1),
                Elementwise("q_rope_scaled", "btar", inputs=(rope,), each=1),
            ]
            rope = "q_rope_scaled"
        if self.rotary:
            # x·cos + rotate(x)·sin: two products and a sum for each rotated element
            table.append(Elementwise("q_rotary", "btar", inputs=(rope,), each=3))
        return table

    def latents(self) -> list[Operation]:
        """Return the latent of keys and values, and the one rotated key that all heads share."""
        bias = self.bias
        table: list[Operation] = [
            Einsum("kv_a_proj", "btd,dc->btc", weight="dc", bias="c" if bias else ""),
            Norm("kv_a_norm", "btc", inputs=("kv_a_proj",), kind="rms", weight="c"),
            Einsum("k_rope", "btd,dr->btr", weight="dr", bias="r" if bias else ""),
        ]
        if self.latent_scaled:
            table.append(Elementwise("kv_scaled", "btc", inputs=("kv_a_norm",), each=1))
        if self.rope_norm:
            table.append(Norm("k_rope_norm", "btr", inputs=("k_rope",), kind="rms", weight="r"))
        if self.rotary:
            table.append(Elementwise("k_rotary", "btr", inputs=(self.rope_key,), each=3))
        return table

    @property
    def rope_key(self) -> str:
        """The operation that makes the shared key before its rotation."""
        return "k_rope_norm" if self.rope_norm else "k_rope"

    @property
    def query_parts(self) -> tuple[str, str]:
        """The operations that make the unrotated and the rotated part of the queries."""
        scaled = "_scaled" if self.latent_scaled else ""
        return f"q_nope{scaled}", "q_rotary" if self.rotary else f"q_rope{scaled}"

    def attend(self) -> list[Operation]:
        """Return attention, from the rotated scores to the values."""
        _, rope = self.query_parts
        both = self.form == "by_phase"
        return [
            Einsum("scores_rope", "btar,bsr->bats", inputs=(rope, "rope"), over=self.mask),
            *(self.naive_scores("prefill" if both else None) if self.form != "absorbed" else ()),
            *(self.absorbed_scores("decode" if both else None, tied=both) if self.form != "naive" else ()),
            # the sum of both parts, and the factor
            Elementwise("scale", "bats", inputs=("scores_rope", "scores"), each=2, over=self.mask),
            *((Elementwise("sinks", "bta", inputs=("scale",), each=5, weight="a"),) if self.sinks else ()),
            Softmax("softmax", "bats", inputs=("scale",), over=self.mask),
            *(self.naive_values("prefill" if both else None) if self.form != "absorbed" else ()),
            *(self.absorbed_values("decode" if both else None, tied=both) if self.form != "naive" else ()),
        ]

    def naive_scores(self, phase: Phase | None) -> list[Operation]:
        """Return keys and values of every head, rebuilt from the latents, and the unrotated scores."""
        nope, _ = self.query_parts
        mask = self.mask
        return [
            Einsum("k_b", "bsc,can->bsan", inputs=("latent",), weight="can", over=mask, phase=phase),
            Einsum("v_b", "bsc,cap->bsap", inputs=("latent",), weight="cap", over=mask, phase=phase),
            Einsum("scores", "btan,bsan->bats", inputs=(nope, "k_b"), over=mask, phase=phase),
        ]

    def naive_values(self, phase: Phase | None) -> list[Operation]:
        """Return the weighted sum of the rebuilt values."""
        return [Einsum("values", "bats,bsap->btap", inputs=("softmax", "v_b"), over=self.mask, phase=phase)]

    def absorbed_scores(self, phase: Phase | None, *, tied: bool) -> list[Operation]:
        """Return queries taken to the latent's space, and their scores with the latents themselves."""
        nope, _ = self.query_parts
        return [
            Einsum("q_absorbed", "btan,can->btac", inputs=(nope,), weight="can", phase=phase, tied=tied),
            Einsum("scores", "btac,bsc->bats", inputs=("q_absorbed", "latent"), over=self.mask, phase=phase),
        ]

    def absorbed_values(self, phase: Phase | None, *, tied: bool) -> list[Operation]:
        """Return the weighted sum of the latents, and the values rebuilt from that one sum."""
        return [
            Einsum("context", "bats,bsc->btac", inputs=("softmax", "latent"), over=self.mask, phase=phase),
            Einsum("values", "btac,cap->btap", inputs=("context",), weight="cap", phase=phase, tied=tied),
        ]

    def output(self) -> list[Operation]:
        """Return the gate, and the map back to the residual stream."""
        gate = output_gate(self.output_gate, "a", "p", "values")
        of = gate[-1].name if gate else "values"
        bias = "d" if self.bias else ""
        return [*gate, Einsum("o_proj", "btap,apd->btd", inputs=(of,), weight="apd", bias=bias)]

    def uncompressed(self) -> States:
        """Return a key (without its rotated part) and a value for every head, as in the papers' comparison."""
        return (
            State(name="k", dims="san", of="kv_a_norm", over=self.mask),
            State(name="v", dims="sap", of="kv_a_norm", over=self.mask),
        )

    def alternatives(self) -> Mapping[str, Self]:
        """Return the naive and the absorbed form."""
        forms: tuple[Form, Form] = ("naive", "absorbed")
        return {form: replace(self, form=form) for form in forms}

    def remarks(self) -> tuple[str, ...]:
        """Return from which context on an absorbed decode step is the cheaper one."""
        context = absorbed_cheaper_from(self)
        return (f"a decode step is cheaper absorbed than naive from a context of {context:,} on (a prefill: naive)",)

    def state(self) -> States:
        """Return the latent (after its norm) and the rotated key, one of each per position for all heads."""
        latent = "kv_scaled" if self.latent_scaled else "kv_a_norm"
        return (
            State(name="latent", dims="sc", of=latent, over=self.mask),
            State(name="rope", dims="sr", of="k_rotary" if self.rotary else self.rope_key, over=self.mask),
        )


@named_record
class MLA(LatentAttention):
    """Multi-head latent attention: a latent of d_c and a rotated key of d_r stand for the keys and values of h heads.

    Cache per token: d_c + d_r, against 2·h·d_h of multi-head attention. Parameters: d·d'_c + d'_c·h·(d_n + d_r) for
    queries (d·h·(d_n + d_r) without a query latent), d·(d_c + d_r) + d_c·h·(d_n + d_v) for keys and values, h·d_v·d.

    Two forms give the same result from the same weights. *Naive*: keys and values of every head are rebuilt from the
    latents, 2·d_c·h·(d_n + d_v) FLOPs per key, then 2·h·(d_n + d_r + d_v) per pair. *Absorbed*: the query is taken to
    the latent's space and the sum of latents back, 2·d_c·h·(d_n + d_v) per query, and 2·h·(2·d_c + d_r) per pair.
    By default each phase computes what it is cheaper in: naive in prefill and training, absorbed at a decode step
    (``form`` asks for one of them in both). Where the reading says ``full``, keys that a mask hides are rebuilt too.

    Source: DeepSeek-V2, arXiv:2405.04434 §2.1 and appendix C; DeepSeek-V3, arXiv:2412.19437 §2.1.1.

    >>> v3 = MLA(n_heads=128, kv_lora_rank=512, qk_nope_head_dim=128, qk_rope_head_dim=64, v_head_dim=128)
    >>> sum(state.elements({**v3.bind(), "s": 1}) for state in v3.state())
    576
    """

    source: ClassVar[str] = "DeepSeek-V2, arXiv:2405.04434 §2.1"
    kind: Literal["mla"] = "mla"
    window: Positive | None = None
    """Positions that a sliding window reaches; None without one (dots.note has both kinds of layers)."""

    @property
    def mask(self) -> Mask:
        """The positions so far, or those of the window."""
        return Window(window=self.window) if self.window else Causal()


def absorbed_cheaper_from(spec: LatentAttention) -> int:
    """Return the context from which a decode step over all its positions needs fewer FLOPs absorbed than naive.

    The forms are equal at s = d_c·(d_n + d_v) / (d_c·(d_n + d_v) − 2·d_c + d_n + d_v), which is just above 1 in every
    published model: naive is cheaper for the very first token alone.

    >>> absorbed_cheaper_from(
    ...     MLA(n_heads=128, kv_lora_rank=512, qk_nope_head_dim=128, qk_rope_head_dim=64, v_head_dim=128)
    ... )
    2
    """
    widths = spec.qk_nope_head_dim + spec.v_head_dim
    rebuilt, wider = spec.kv_lora_rank * widths, 2 * spec.kv_lora_rank - widths
    return 1 if wider < 0 else rebuilt // (rebuilt - wider) + 1

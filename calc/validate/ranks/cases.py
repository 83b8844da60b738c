"""Layouts to prove: small models whose options and layouts between them use every rule of ``calc.parallel``."""

from __future__ import annotations

from typing import Literal

from calc.attention.gqa import GQA
from calc.attention.mla import MLA
from calc.embedding import Embedding, Head, NormSpec
from calc.ffn.dense import DenseFFN
from calc.ffn.moe import MoE
from calc.model import Layer, Model, Stack
from calc.parallel import Layout, Ways
from calc.records import Record, named_record

RMS = NormSpec(kind="rms")
RANKS = 4
"""Processes of every case."""


@named_record
class Case(Record):
    """A model, a layout of four ranks, and what they do: a step over micro-batches, a prefill, one token after it."""

    name: str
    model: Model
    layout: Layout
    ways: Ways = Ways()
    batch: int = 2
    context: int = 16
    micro_batches: int = 1
    does: Literal["training", "prefill", "decode"] = "training"

    def __str__(self) -> str:
        return self.name

    @property
    def training(self) -> bool:
        """Whether gradients are computed and weights updated."""
        return self.does == "training"


def _model(*layers: Layer, vocab: int = 36, tied: bool = False, d_model: int = 24) -> Model:
    return Model(
        name="ranks",
        d_model=d_model,
        vocab_size=vocab,
        embedding=Embedding(),
        stack=tuple(Stack(layer=(layer,)) for layer in layers),
        final_norm=RMS,
        head=Head(tied=tied),
    )


def _layer(attention: GQA | MLA, ffn: DenseFFN | MoE) -> Layer:
    return Layer(attention=attention, ffn=ffn, norm=RMS)


def _gqa(heads: int = 8, kv: int = 4, **options: object) -> GQA:
    return GQA(n_heads=heads, n_kv_heads=kv, head_dim=6, rotary_dim=4, **options)  # type: ignore[arg-type]


MLA_SPEC = MLA(n_heads=4, q_lora_rank=10, kv_lora_rank=8, qk_nope_head_dim=6, qk_rope_head_dim=4, v_head_dim=5)
MLA_DIRECT = MLA(n_heads=4, kv_lora_rank=8, qk_nope_head_dim=6, qk_rope_head_dim=4, v_head_dim=5)
GATED, PLAIN = DenseFFN(d_ff=40, activation="silu", gated=True), DenseFFN(d_ff=20, bias=True)
MOE = MoE(n_experts=8, n_active_experts=2, d_expert=12, d_shared=20, normalised=True, scoring="sigmoid")
SPARSE = MoE(n_experts=4, n_active_experts=2, d_expert=12, normalised=True)
DENSE_MODEL = _model(*2 * (_layer(_gqa(), GATED),), tied=True)

CASES: tuple[Case, ...] = (
    Case(name="tensor", model=_model(_layer(_gqa(qkv_bias=True, o_bias=True), PLAIN)), layout=Layout(tp=4)),
    Case(
        name="tensor, sequence",
        model=_model(*2 * (_layer(_gqa(qk_norm="rms"), GATED),), vocab=33),
        layout=Layout(tp=4, sequence_parallel=True),
    ),
    Case(
        name="tensor, sequence, few key-value heads",
        model=_model(_layer(_gqa(kv=2, o_bias=True), PLAIN), tied=True),
        layout=Layout(tp=4, sequence_parallel=True),
    ),
    Case(
        name="tensor, norms over all heads",
        model=_model(_layer(_gqa(qk_norm="rms", qk_norm_over="all_heads"), GATED)),
        layout=Layout(tp=2, dp=2),
    ),
    Case(name="latent attention, tensor", model=_model(_layer(MLA_SPEC, GATED)), layout=Layout(tp=4)),
    Case(
        name="latent attention, tensor, sequence, context",
        model=_model(_layer(MLA_SPEC, GATED), _layer(MLA_DIRECT, GATED)),
        layout=Layout(tp=2, cp=2, sequence_parallel=True, zero=1),
    ),
    Case(
        name="experts, tensor, sequence",
        model=_model(_layer(MLA_SPEC, GATED), _layer(MLA_SPEC, MOE)),
        layout=Layout(tp=2, dp=2, ep=4, expert_tp=1, sequence_parallel=True),
    ),
    Case(name="experts, data", model=_model(_layer(_gqa(), SPARSE)), layout=Layout(dp=4, ep=2), micro_batches=2),
    Case(
        name="experts gathered, data",
        model=_model(_layer(_gqa(), MOE)),
        layout=Layout(dp=4, ep=4),
        ways=Ways(dispatch="all_gather"),
    ),
    Case(
        name="experts divided, sequence",
        model=_model(_layer(_gqa(), MOE)),
        layout=Layout(tp=2, dp=2, sequence_parallel=True),
    ),
    Case(name="experts divided", model=_model(_layer(_gqa(), MOE)), layout=Layout(tp=4)),
    Case(
        name="experts whole, the same tokens",
        model=_model(_layer(_gqa(), SPARSE)),
        layout=Layout(tp=4, ep=4, expert_tp=1),
    ),
    Case(
        name="experts of replicas",
        model=_model(_layer(_gqa(), MOE)),
        layout=Layout(tp=2, dp=2, ep=4, expert_tp=1),
    ),
    Case(name="context in a ring", model=DENSE_MODEL, layout=Layout(cp=4)),
    Case(name="context gathered", model=DENSE_MODEL, layout=Layout(cp=2, tp=2), ways=Ways(ring="all_gather")),
    Case(
        name="context by heads",
        model=_model(*2 * (_layer(_gqa(heads=16), GATED),)),
        layout=Layout(cp=2, tp=2),
        ways=Ways(ring="all_to_all"),
    ),
    Case(name="data", model=DENSE_MODEL, layout=Layout(dp=4), micro_batches=2),
    Case(name="data, shared gradients", model=DENSE_MODEL, layout=Layout(dp=4, zero=2), micro_batches=3),
    Case(
        name="data, shared weights, recomputed",
        model=DENSE_MODEL,
        layout=Layout(dp=4, zero=3),
        ways=Ways(recompute="full"),
        micro_batches=2,
    ),
    Case(
        name="experts, data, shared weights, recomputed",
        model=_model(_layer(_gqa(), SPARSE)),
        layout=Layout(dp=4, ep=2, zero=3),
        ways=Ways(recompute="full"),
    ),
    Case(
        name="pipeline, tied head",
        model=_model(*4 * (_layer(_gqa(), GATED),), tied=True),
        layout=Layout(pp=4),
        micro_batches=3,
    ),
    Case(
        name="pipeline, virtual stages, tensor, sequence",
        model=_model(*4 * (_layer(_gqa(), GATED),)),
        layout=Layout(pp=2, tp=2, sequence_parallel=True, virtual_stages=2, schedule="interleaved"),
        micro_batches=2,
    ),
    Case(name="prefill, tensor", model=DENSE_MODEL, layout=Layout(tp=4), does="prefill"),
    Case(
        name="decode, context",
        model=_model(*2 * (_layer(_gqa(qk_norm="rms"), GATED),)),
        layout=Layout(tp=2, cp=2),
        does="decode",
    ),
    Case(
        name="prefill, experts of replicas",
        model=_model(_layer(MLA_SPEC, MOE)),
        layout=Layout(tp=2, dp=2, ep=4, expert_tp=1),
        does="prefill",
    ),
)

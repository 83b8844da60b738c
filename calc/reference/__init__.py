"""Twins: every mechanism once more, as a plain PyTorch module that shares only names with the table that it proves."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from calc.errors import UnknownName

if TYPE_CHECKING:
    from calc.reference.base import Twin

TWINS: dict[str, str] = {
    "gqa": "calc.reference.gqa:GQATwin",
    "cross": "calc.reference.cross:CrossTwin",
    "differential": "calc.reference.differential:DifferentialTwin",
    "dynamic": "calc.reference.dynamic:DynamicMaskTwin",
    "moa": "calc.reference.moa:MoATwin",
    "dense": "calc.reference.dense:DenseTwin",
    "gated_delta": "calc.reference.delta:GatedDeltaTwin",
    "kda": "calc.reference.kda:KimiDeltaTwin",
    "mla": "calc.reference.mla:MLATwin",
    "longformer": "calc.reference.longformer:LongformerTwin",
    "msa": "calc.reference.msa:MSATwin",
    "nsa": "calc.reference.nsa:NSATwin",
    "local_kv": "calc.reference.compressed:LocalKVTwin",
    "hca": "calc.reference.compressed:HCATwin",
    "csa": "calc.reference.compressed:CSATwin",
    "dsa": "calc.reference.dsa:DSATwin",
    "lightning": "calc.reference.lightning:LightningTwin",
    "linear": "calc.reference.linear:LinearTwin",
    "mamba": "calc.reference.mamba:MambaTwin",
    "mamba2": "calc.reference.mamba2:Mamba2Twin",
    "channel_mix": "calc.reference.channel_mix:ChannelMixTwin",
    "moe": "calc.reference.moe:MoETwin",
    "adapted": "calc.reference.adapted:AdaptedTwin",
    "rglru": "calc.reference.rglru:RGLRUTwin",
    "rwkv": "calc.reference.rwkv:RWKVTwin",
    "rwkv7": "calc.reference.rwkv7:RWKV7Twin",
    "shared_block": "calc.reference.shared_block:SharedBlockTwin",
    "projector": "calc.reference.projector:ProjectorTwin",
    "attention_pool": "calc.reference.attention_pool:AttentionPoolTwin",
    "shortconv": "calc.reference.shortconv:ShortConvTwin",
}
"""The kind of a mechanism → the class of its twin, imported when it is built."""


def build(spec: Any, d_model: int, vocab_size: int = 0) -> Twin:
    """Return the twin of a mechanism.

    Raises:
        UnknownName: it has none.
    """
    if spec.kind not in TWINS:
        raise UnknownName("twin", spec.kind, TWINS)
    module, _, name = TWINS[spec.kind].partition(":")
    twin: Twin = getattr(import_module(module), name)(spec, d_model, vocab_size)
    return twin

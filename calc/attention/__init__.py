"""Attention and other token mixers, one mechanism a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from calc.mechanism import Mechanism
from calc.operations import Part
from calc.records import named_record

KINDS: dict[str, str] = {
    "gqa": "calc.attention.gqa:GQA",
    "mla": "calc.attention.mla:MLA",
    "dsa": "calc.attention.dsa:DSA",
    "longformer": "calc.attention.longformer:Longformer",
    "msa": "calc.attention.msa:MSA",
    "nsa": "calc.attention.nsa:NSA",
    "local_kv": "calc.attention.compressed:LocalKV",
    "hca": "calc.attention.compressed:HCA",
    "csa": "calc.attention.compressed:CSA",
    "cross": "calc.attention.cross:CrossAttention",
    "differential": "calc.attention.differential:Differential",
    "dynamic": "calc.attention.dynamic:DynamicMask",
    "moa": "calc.attention.moa:MoA",
    "gated_delta": "calc.attention.delta:GatedDelta",
    "kda": "calc.attention.kda:KimiDelta",
    "lightning": "calc.attention.lightning:Lightning",
    "linear": "calc.attention.linear:Linear",
    "mamba": "calc.attention.mamba:Mamba",
    "mamba2": "calc.attention.mamba2:Mamba2",
    "rglru": "calc.attention.rglru:RGLRU",
    "rwkv": "calc.attention.rwkv:RWKV",
    "rwkv7": "calc.attention.rwkv7:RWKV7",
    "shared_block": "calc.attention.shared_block:SharedBlock",
    "shortconv": "calc.attention.shortconv:ShortConv",
}


@named_record
class Attention(Mechanism):
    """The family of token mixers: what stands in a layer's ``attention`` or ``cross`` field."""

    kinds: ClassVar[Mapping[str, str]] = KINDS
    part: ClassVar[Part] = "attention"

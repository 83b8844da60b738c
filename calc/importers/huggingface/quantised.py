"""What a ``quantization_config`` says about the format of every stored weight."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def scheme_of(quantised: Mapping[str, Any], expert_dtype: object = None) -> str | None:
    """Return the scheme of formats (``calc.schemes``) that a quantised checkpoint follows, or None if it is unknown.

    >>> scheme_of({"quant_method": "fp8", "weight_block_size": [128, 128]})
    'deepseek-fp8'
    """
    method = str(quantised.get("quant_method", "")).lower()
    if expert_dtype is not None:
        return "deepseek-v4-mxfp4" if _deepseek_v4(method, quantised, expert_dtype) else None
    if method in ("fp8", "fbgemm_fp8"):
        block = quantised.get("weight_block_size")
        return "fp8-linear" if block is None else "deepseek-fp8" if block == [128, 128] else None
    if method == "mxfp4":
        return "gpt-oss-mxfp4"
    if method in ("awq", "gptq"):
        return _grouped(quantised.get("bits", quantised.get("w_bit")), quantised.get("group_size"))
    if method == "bitsandbytes":
        return _bitsandbytes(quantised)
    if method == "modelopt":
        return {"NVFP4": "nvfp4-linear", "FP8": "fp8-linear"}.get(str(quantised.get("quant_algo")).upper())
    if method == "compressed-tensors":
        packed = {"nvfp4-pack-quantized": "nvfp4-linear", "mxfp4-pack-quantized": _linear("mxfp4", "bf16")}
        return packed.get(str(quantised.get("format")))
    return None


def _deepseek_v4(method: str, quantised: Mapping[str, Any], expert_dtype: object) -> bool:
    """Tell whether it is DeepSeek-V4's file; experts in any other format of their own are not described by theirs."""
    blocks = quantised.get("weight_block_size") == [128, 128] and quantised.get("scale_fmt") == "ue8m0"
    return method == "fp8" and blocks and expert_dtype == "fp4"


def _linear(form: str, rest: str) -> str:
    return f"attention={form},ffn={form},vectors={rest},rest={rest}"


def _grouped(bits: object, group: object) -> str | None:
    if bits != 4:
        return None
    return {128: "int4-linear", 64: _linear("int4-g64", "fp16")}.get(group) if isinstance(group, int) else None


def _bitsandbytes(quantised: Mapping[str, Any]) -> str | None:
    if quantised.get("load_in_8bit"):
        return "int8-linear"
    if not quantised.get("load_in_4bit") or quantised.get("bnb_4bit_quant_type", "fp4") != "nf4":
        return None
    return "nf4-linear" if quantised.get("bnb_4bit_use_double_quant") else _linear("nf4-single", "bf16")

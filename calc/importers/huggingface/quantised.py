"""What a ``quantization_config`` says about the format of every stored weight."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from calc.formats import FORMATS


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
        experts = quantised.get("store_dtype")  # MiMo: FP8 in blocks, experts in four bits
        if experts is not None:
            known = experts == "mxfp4" and quantised.get("mxfp4_block_size", 32) == 32 and block == [128, 128]
            return f"experts=mxfp4,{_linear('fp8-block128', 'bf16')}" if known else None
        if block == [1, 32] and quantised.get("scale_fmt") == "ue8m0":
            return _named("mxfp8")
        if block is None:
            return "fp8-linear" if method == "fp8" else _named("fp8-channel")
        return "deepseek-fp8" if block == [128, 128] else None
    if method == "mxfp4":
        return "gpt-oss-mxfp4"
    if method == "mxfp8":
        return _named("mxfp8")
    if method in ("awq", "gptq", "auto-round", "intel/auto-round"):
        return _grouped(quantised.get("bits", quantised.get("w_bit")), quantised.get("group_size"))
    if method == "bitnet":
        return _named("int2-tensor") if quantised.get("quantization_mode", "offline") == "offline" else None
    if method == "quark":
        return _quark(quantised)
    if method == "eetq":
        return _named("int8-channel", "fp16")
    if is_mlx(quantised):
        form = _mlx_form(quantised)
        return _EVERY_MATRIX.format(form=form) if form else None
    if method == "bitsandbytes":
        return _bitsandbytes(quantised)
    if method == "torchao":
        return _torchao(quantised.get("quant_type"))
    if method == "modelopt" or (not method and "quant_algo" in quantised):
        form = ALGORITHMS.get(str(quantised.get("quant_algo")).upper())
        return _named(form) if form else None
    if method == "compressed-tensors":
        return _compressed(quantised)
    return None


_EVERY_MATRIX: Final = "attention={form},ffn={form},router={form},embedding={form},head={form},vectors=bf16,rest=bf16"


def is_mlx(quantised: Mapping[str, Any]) -> bool:
    """Tell whether it is MLX's: bits and groups of every matrix, tables included, and no method."""
    return "quant_method" not in quantised and "bits" in quantised and "group_size" in quantised


def _mlx_form(entry: Mapping[str, Any]) -> str | None:
    """Return MLX's format of a model, or of a module that has one of its own."""
    bits, group, mode = entry.get("bits"), entry.get("group_size"), entry.get("mode", "affine")
    if not isinstance(mode, str):
        return None
    if mode == "affine":
        form = f"mlx{bits}-g{group}"
        return form if form in FORMATS else None
    others: dict[object, str] = {("mxfp4", 4, 32): "mxfp4", ("mxfp8", 8, 32): "mxfp8", ("nvfp4", 4, 16): "nvfp4"}
    return others.get((mode, bits, group)) if isinstance(bits, int) and isinstance(group, int) else None


def _quark(quantised: Mapping[str, Any]) -> str | None:
    """Return the scheme of AMD's Quark where all matrices have one format."""
    every = quantised.get("global_quant_config")
    weight = every.get("weight") if isinstance(every, Mapping) else None
    apart = quantised.get("layer_quant_config") or quantised.get("layer_type_quant_config")
    if not isinstance(weight, Mapping) or apart:
        return None
    form, group = str(weight.get("dtype")), weight.get("group_size")
    shared = str(weight.get("qscheme"))
    if form == "fp4" and group == 32 and shared == "per_group" and weight.get("scale_format") == "e8m0":
        return _named("mxfp4")
    if form == "fp8_e4m3":
        known = {"per_tensor": "fp8-tensor", "per_channel": "fp8-channel"}.get(shared)
        return _named(known) if known else None
    return None


def _deepseek_v4(method: str, quantised: Mapping[str, Any], expert_dtype: object) -> bool:
    """Tell whether it is DeepSeek-V4's file; experts in any other format of their own are not described by theirs."""
    blocks = quantised.get("weight_block_size") == [128, 128] and quantised.get("scale_fmt") == "ue8m0"
    return method == "fp8" and blocks and expert_dtype == "fp4"


def _linear(form: str, rest: str) -> str:
    return f"attention={form},ffn={form},vectors={rest},rest={rest}"


def _named(form: str, rest: str = "bf16") -> str:
    """Return the scheme of matrices in one format, by its name where it has one."""
    return _NAMED.get((form, rest)) or _linear(form, rest)


_NAMED: Final = {
    ("fp8-tensor", "bf16"): "fp8-linear",
    ("int8-channel", "bf16"): "int8-linear",
    ("int4-g128", "fp16"): "int4-linear",
    ("nvfp4", "bf16"): "nvfp4-linear",
}

ALGORITHMS: Final = {
    "NVFP4": "nvfp4",
    "W4A16_NVFP4": "nvfp4",
    "W4A8_NVFP4_FP8": "nvfp4",
    "FP8": "fp8-tensor",
    "FP8_PB_WO": "fp8-block128",
    "FP8_PER_CHANNEL_PER_TOKEN": "fp8-channel",
    "MXFP8": "mxfp8",
    "MXFP4": "mxfp4",
    "W4A8_MXFP4_FP8": "mxfp4",
    "W4A16_AWQ": "int4-g128-sym",
    "W4A8_AWQ": "int4-g128-sym",
}
"""Formats of ``quant_algo`` in ModelOpt's files."""

_GROUPED: Final = {
    (3, 128): "int3-g128",
    (4, -1): "int4-channel-zero",
    (4, 128): "int4-g128",
    (4, 64): "int4-g64",
    (4, 32): "int4-g32-packed",
    (8, -1): "int8-channel-zero",
    (8, 128): "int8-g128",
    (8, 64): "int8-g64",
    (8, 32): "int8-g32",
}
"""Formats with a scale and a zero point for each group, by bits and the group's size."""


_FLOATS: Final[dict[tuple[object, object], str]] = {
    (8, "tensor"): "fp8-tensor",
    (8, "channel"): "fp8-channel",
    (8, "block"): "fp8-block128",
    (8, 32): "mxfp8",
    (4, 16): "nvfp4",
    (4, 32): "mxfp4",
}
"""Formats of floats in compressed-tensors, by bits and what shares a scale: the strategy, or elements of a group."""


def _grouped(bits: object, group: object) -> str | None:
    form = _GROUPED.get((bits, group)) if isinstance(bits, int) and isinstance(group, int) else None
    return _named(form, "fp16") if form else None


def _torchao(kind: object) -> str | None:
    """Return the scheme of a torchao type, which newer files write as an object; four bits have many layouts."""
    if isinstance(kind, Mapping):
        inner = kind.get("default", kind)
        kind = inner.get("_type") if isinstance(inner, Mapping) else None
    known = {
        "int8_weight_only": "int8-channel",
        "int8_dynamic_activation_int8_weight": "int8-channel",
        "Int8WeightOnlyConfig": "int8-channel",
        "Int8DynamicActivationInt8WeightConfig": "int8-channel",
        "float8_weight_only": "fp8-channel",
        "Float8WeightOnlyConfig": "fp8-channel",
    }
    form = known.get(kind) if isinstance(kind, str) else None
    return _named(form) if form else None


_CLASSES: Final = re.compile(r"[A-Z]\w*")
"""Targets that are classes of modules, not names."""


def _compressed(quantised: Mapping[str, Any]) -> str | None:
    """Return the scheme of compressed-tensors, where all matrices have one format."""
    groups = quantised.get("config_groups")
    if isinstance(groups, Mapping) and groups:
        forms = {_group_form(group) for group in groups.values()}
        form = next(iter(forms)) if len(forms) == 1 else None
        return _named(form) if form else None
    packed = {"nvfp4-pack-quantized": "nvfp4-linear", "mxfp4-pack-quantized": _linear("mxfp4", "bf16")}
    return packed.get(str(quantised.get("format")))


def _group_form(group: object) -> str | None:
    """Return the format of the weights that a group of compressed-tensors describes."""
    weights = group.get("weights") if isinstance(group, Mapping) else None
    if not isinstance(weights, Mapping):
        return None
    bits, kind, size = weights.get("num_bits"), weights.get("type"), weights.get("group_size")
    strategy = str(weights.get("strategy") or ("group" if size else "tensor"))
    if kind == "float":
        if strategy == "block" and weights.get("block_structure") != [128, 128]:
            return None
        known = _FLOATS.get((bits, strategy)) or _FLOATS.get((bits, size)) if isinstance(size, int | None) else None
        return known if isinstance(bits, int) else None
    if kind not in ("int", None) or not isinstance(bits, int) or not isinstance(size, int | None):
        return None
    if strategy == "channel":
        return {4: "int4-channel", 8: "int8-channel"}.get(bits)
    if strategy != "group" or size is None:
        return None
    if weights.get("symmetric", True) is False:
        return _GROUPED.get((bits, size))
    form = f"int{bits}-g{size}-sym"
    return form if form in FORMATS else None


def apart(quantised: Mapping[str, Any]) -> list[tuple[str, list[str]]] | None:
    """Return formats with the names of the modules that have them, where a file names them; None for an unknown one.

    >>> apart({"quantized_layers": {"lm_head": {"quant_algo": "FP8"}}})
    [('fp8-tensor', ['lm_head'])]
    """
    found: dict[str, list[str]] = {}
    layers, groups = quantised.get("quantized_layers"), quantised.get("config_groups")
    if is_mlx(quantised):
        base = {key: quantised.get(key) for key in ("bits", "group_size", "mode") if key in quantised}
        for name, entry in quantised.items():
            if isinstance(entry, Mapping):
                form = _mlx_form({**base, **entry})
                if form is None:
                    return None
                found.setdefault(form, []).append(str(name))
    elif isinstance(layers, Mapping):
        for name, entry in layers.items():
            algorithm = entry.get("quant_algo") if isinstance(entry, Mapping) else entry
            form = ALGORITHMS.get(str(algorithm).upper())
            if form is None:
                return None
            found.setdefault(form, []).append(str(name))
    elif isinstance(groups, Mapping):
        for group in groups.values():
            targets = group.get("targets") if isinstance(group, Mapping) else None
            names = [str(one) for one in targets or () if not _CLASSES.fullmatch(str(one))]
            form = _group_form(group) if names else ""
            if form is None or (len(groups) > 1 and not names):
                return None
            if names:
                found.setdefault(form, []).extend(names)
    return list(found.items())


_LISTS: Final = (
    "ignore",
    "exclude",
    "modules_to_not_convert",
    "exclude_modules",
    "ignored_layers",
    "llm_int8_skip_modules",
)


def left_out(quantised: Mapping[str, Any]) -> list[str]:
    """Return the names of the modules that stay in the unquantised format."""
    found = [str(name) for key in _LISTS if isinstance(quantised.get(key), list) for name in quantised[key]]
    dynamic = quantised.get("dynamic")  # GPTQModel: "-:" before an expression leaves out
    if isinstance(dynamic, Mapping):
        found += [f"re:{str(name)[2:]}" for name in dynamic if str(name).startswith("-:")]
    if is_mlx(quantised):
        found += [str(name) for name, entry in quantised.items() if entry is False and "." in str(name)]
    extra = quantised.get("extra_config")  # AutoRound: modules with bits of their own, of which 16 are none
    if isinstance(extra, Mapping):
        found += [str(name) for name, one in extra.items() if isinstance(one, Mapping) and one.get("bits") == 16]
    return found


def _bitsandbytes(quantised: Mapping[str, Any]) -> str | None:
    if quantised.get("load_in_8bit"):
        return "int8-linear"
    if not quantised.get("load_in_4bit") or quantised.get("bnb_4bit_quant_type", "fp4") != "nf4":
        return None
    return "nf4-linear" if quantised.get("bnb_4bit_use_double_quant") else _linear("nf4-single", "bf16")

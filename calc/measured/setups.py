"""What a measured row says of a deployment: engine and version, accelerator, number formats."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeAlias

from calc.catalog import load_accelerator
from calc.errors import SpecError
from calc.hardware import Accelerator
from calc.identify import find_accelerator
from calc.measured.rows import Measurement, NotModelled
from calc.model import Model
from calc.records import replace
from calc.serving.engines import Engine, load_engine
from calc.units import FORMATS, GIB

ENGINES = (("trtllm", "tensorrt-llm"), ("tensorrt", "tensorrt-llm"), ("vllm", "vllm"), ("sglang", "sglang"),
           ("llama.cpp", "llama.cpp"), ("llamacpp", "llama.cpp"))  # fmt: skip
"""Words in a row → the engine's preset."""


_BY_MEMORY = ((100, "h200"), (60, "a100-80gb"), (35, "a100-40gb"))
"""What stands for a device that a row does not name but whose memory it states (GiB): only its memory is used."""


def engine_of(row: Measurement, default: str | None = None) -> Engine:
    """Return the engine that a row was run with, at the version it states.

    Raises:
        NotModelled: no engine is stated, or one without a preset.
    """
    text = row.text("engine", "framework", "backend", "software")
    word, name = next(((word, name) for word, name in ENGINES if word in text), ("", default))
    if name is None:
        raise NotModelled(f"the engine {text!r} is not known" if text else "the engine is not stated")
    found = re.search(r"\d+(?:\.\d+)+", text.partition(word)[2]) if word else None
    return load_engine(name, found.group() if found else None)


def device_of(row: Measurement) -> Accelerator:
    """Return the device that a row names.

    Raises:
        NotModelled: none is stated.
        CalcError: one without a preset.
    """
    named = row.first("hardware", "gpu", "device", "accelerator", "system")
    if named is None:
        raise NotModelled("hardware is not stated")
    return find_accelerator(str(named))


def accelerator_of(row: Measurement) -> Accelerator:
    """Return the accelerator that an engine ran on: with the memory that its driver showed, where the row says so.

    Raises:
        NotModelled: none is stated, or one without a preset.
    """
    text = str(row.first("gpu", "hardware", "system", "accelerator", "device") or "")
    visible = _visible(row)
    try:
        accelerator = find_accelerator(text)
    except SpecError as error:
        stand_in = next((name for least, name in _BY_MEMORY if (visible or 0) > least * GIB), None)
        if stand_in is None:
            raise NotModelled(str(error) if text else "the accelerator is not stated") from None
        accelerator = load_accelerator(stand_in)
    return replace(accelerator, visible_bytes=min(visible, accelerator.memory_bytes)) if visible else accelerator


def _visible(row: Measurement) -> int | None:
    """Return the bytes that the run's driver showed, where the row says so."""
    stated = row.first("total_gpu_gib", "gpu_total_gib", "total_memory_gib")
    if stated is None:
        found = re.search(r"(\d+\.\d+)\s*GiB visible", str(row.first("gpu", "hardware") or ""))
        stated = found.group(1) if found else None
    return None if stated is None else int(float(stated) * GIB)


def weights_of(row: Measurement, model: Model) -> str:
    """Return the format or scheme of the weights, from what a row says of precision, quantisation and model name.

    A row that says nothing is taken to run the weights as they are published.
    """
    keys = ("dtype", "weights_dtype", "quantization", "precision", "gemm_quant", "moe_quant", "model")
    text = " ".join(row.text(key) for key in keys)
    for words, scheme in (*_PUBLISHED, *_SCHEMES):
        if any(re.search(word, text) for word in words):
            return scheme if isinstance(scheme, str) else scheme(text, model)
    return model.weights_dtype


def _four_bit_floats(text: str, model: Model) -> str:
    """Return the scheme of FP4 weights.

    gpt-oss is published in MXFP4. Else NVFP4; NVIDIA's checkpoints of DeepSeek and Kimi leave attention in bf16.
    """
    if "mxfp4" in model.weights_dtype:
        return model.weights_dtype
    return "nvfp4-ffn" if _latent(model) else "nvfp4-linear"


def _eight_bit_floats(text: str, model: Model) -> str:
    """Return the scheme of FP8 weights: blocks of 128 × 128 where the model is published so, else a scale a matrix."""
    if "mxfp4" in model.weights_dtype:  # the row's fp8 is that of the activations
        return model.weights_dtype
    return "deepseek-fp8" if "block" in text or _latent(model) else "fp8-linear"


def _integers(text: str, model: Model) -> str:
    return "int4-experts" if _latent(model) else "int4-linear"


def _gguf(text: str, model: Model) -> str:
    found = re.search(r"i?q\d_(?:k(?:_[sml])?|[01]|nl|xs|xxs|s|m)", text)
    return found.group() if found else model.weights_dtype


def _latent(model: Model) -> bool:
    return any("c" in block.letters for block in model.blocks() if block.name == "attention")


_Rules: TypeAlias = tuple[tuple[tuple[str, ...], str | Callable[[str, Model], str]], ...]
_PUBLISHED: _Rules = (((r"^(?!.*fp4).*kimi-k2\.5", r"^(?!.*fp4).*kimi-k2-thinking"), "int4-experts"),)
"""Models that share a preset with another one, but are published in another format."""
_SCHEMES: _Rules = (
    ((r"\bi?q\d_",), _gguf),
    ((r"bnb", r"\bnf4", r"bitsandbytes"), "nf4-linear"),
    ((r"nvfp4", r"mxfp4", r"\bfp4", r"w4a8_mxfp4"), _four_bit_floats),
    ((r"awq", r"gptq", r"\bint4", r"w4a16", r"4-bit"), _integers),
    ((r"fp8", r"float8"), _eight_bit_floats),
    ((r"int8", r"w8a8"), "int8-linear"),
    ((r"bf16", r"bfloat16", r"fp16", r"\bf16", r"float16", r"half"), "bf16"),
)
"""Words that say how weights are stored, the most specific first."""


def checkpoint_cache(row: Measurement, engine: Engine, weights: str) -> str:
    """Return the cache's number format where a row does not state it: what the run's software makes of the checkpoint.

    ``trtllm-bench`` sets an FP8 cache for weights in FP8 or NVFP4 (TensorRT-LLM docs, performance/perf-benchmarking.md,
    "Quantization in the PyTorch Flow"; before 1.0, performance/perf-overview.md). NVIDIA's MLPerf code quantises with
    ``--qformat fp8 --kv_cache_dtype fp8`` (README of llama2-70b/tensorrt; for other models it is taken to do the same).
    NVIDIA's NVFP4 checkpoints say ``kv_cache_quant_algo: FP8``, which vLLM's "auto" follows (vllm/utils/torch_utils.py,
    resolve_kv_cache_dtype_string).
    """
    floats = weights == "fp8-linear" or weights.startswith("nvfp4")
    benchmarked = "trtllm-bench" in row.source or row.first("scenario") in ("Offline", "Server", "Interactive")
    if engine.name == "tensorrt-llm" and floats and benchmarked:
        return "fp8"
    return "fp8" if engine.name == "vllm" and weights.startswith("nvfp4") else "bf16"


def cache_dtype_of(row: Measurement, default: str = "bf16") -> str:
    """Return the cache's number format: what the row says of the cache, never what it says of the weights."""
    text = row.text("kv_dtype", "kv_cache_dtype", "cache_dtype", "kv_cache_quant", "kvcache_quant")
    if not text:
        found = re.search(r"(fp8|int8|fp4|nvfp4)\s*kv", row.text("precision"))
        text = found.group(1) if found else ""
    if not text or text == "auto":
        return default
    first = re.split(r"[/ ,]", text)[0].removeprefix("kv_")
    aliases = {"f16": "fp16", "f32": "fp32", "fp8_e4m3": "fp8", "fp8_e5m2": "fp8", "fp4": "nvfp4"}
    name = aliases.get(first, first)
    if name not in FORMATS:
        raise NotModelled(f"the cache's format {text!r} is not known")
    return name

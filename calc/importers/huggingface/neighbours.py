"""Files beside a config.json that say how its weights are quantised, where it does not say so itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

NEIGHBOURS: Final = ("hf_quant_config.json", "quantize_config.json", "quant_config.json")
"""ModelOpt's, AutoGPTQ's and AutoAWQ's files, which their loaders look for in a checkpoint's folder."""


def with_quantisation(data: dict[str, Any], path: Path, load: Callable[[Path], Any]) -> tuple[dict[str, Any], str]:
    """Return a config.json with what a file beside it says of quantisation, and that file's name, if any counts."""
    text = data.get("text_config")
    sections = (data, text if isinstance(text, dict) else {})
    if path.name != "config.json" or any(one.get("quantization_config") or one.get("quantization") for one in sections):
        return data, ""
    for name in NEIGHBOURS:
        beside = path.with_name(name)
        said = load(beside) if beside.is_file() else None
        if isinstance(said, dict):
            return {**data, "quantization_config": _as_section(name, said)}, name
    return data, ""


def _as_section(name: str, said: dict[str, Any]) -> dict[str, Any]:
    """Return a neighbour's content in the form of a ``quantization_config``."""
    if name == "hf_quant_config.json":
        inner = said.get("quantization")
        return {"quant_method": "modelopt", **(inner if isinstance(inner, dict) else {})}
    if name == "quantize_config.json":
        return {"quant_method": "gptq", **said}
    return {"quant_method": "awq", "bits": said.get("w_bit"), "group_size": said.get("q_group_size"), **said}

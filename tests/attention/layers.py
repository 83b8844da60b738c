"""Attention layers of the transformers package on the meta device: what the oracle tests of mechanisms share."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import torch


@dataclass(frozen=True)
class Case:
    """A layer of transformers, and our fields for it."""

    package: str
    layer: str
    config: str
    hf: dict[str, Any] = field(default_factory=dict)
    ours: dict[str, Any] = field(default_factory=dict)
    index: int = 0


def layer_of(case: Case, sizes: dict[str, Any]) -> tuple[Any, Any]:
    """Return the layer in eager attention, without data, and its configuration."""
    package = import_module(f"transformers.models.{case.package}")
    config = getattr(package, case.config)(**sizes | case.hf)
    config._attn_implementation = "eager"
    module = import_module(f"transformers.models.{case.package}.modeling_{case.package}")
    with torch.device("meta"):
        return getattr(module, case.layer)(config, case.index).eval(), config

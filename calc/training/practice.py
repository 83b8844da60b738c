"""What training frameworks do that takes time: kernels, formats of what is exchanged, what hides behind computing.

A preset (``presets/practices/NAME.toml``) states the habits of one framework, each with its source or, where it was
found from published step times, with how. What a framework keeps in memory is another preset (``calc.memory``).
"""

from __future__ import annotations

import tomllib
from functools import cache
from typing import Literal

from calc.catalog import names, presets_folder
from calc.errors import UnknownName
from calc.kernels import Fusion
from calc.records import Record, named_record
from calc.roofline.efficiency import AttentionKernel


@named_record
class Practice(Record):
    """The habits of a framework. Units: seconds, bytes; ``hidden`` is the share of an exchange that computing hides."""

    name: str
    title: str
    source: str
    memory: str
    """The preset of ``presets/frameworks`` that says what it keeps."""
    fusion: Fusion = "fused"
    attention: AttentionKernel = "default"
    captured: bool = False
    """Kernels start from recorded graphs; otherwise the host launches each."""
    accumulate: str = "fp32"
    """Format that the gradients of micro-batches are added up in."""
    reduce: str = "fp32"
    """Format that data-parallel ranks add gradients up in."""
    zero: int = 0
    """The usual stage of ZeRO."""
    sequence_parallel: bool = False
    data_overlap: bool = True
    """Gradients and weights are exchanged behind computing."""
    tensor_hidden: float = 0.0
    expert_hidden: float = 0.0
    context_hidden: float = 1.0
    """Of the attention's time, what may hide the exchange of keys and values."""
    pipeline_hidden: float = 0.0
    dispatch: Literal["all_to_all", "all_gather", "once_per_rank"] = "all_to_all"
    ring: Literal["ring", "all_gather"] = "ring"
    reshard: bool = True
    """Gathered weights are given up between forward and backward pass."""
    gathered_once: Literal["never", "pipeline", "always"] = "never"
    """Whether ZeRO-3 gathers weights and scatters gradients once a step, or in every micro-batch."""
    gather_copy_s: float = 0.0
    """Seconds for each weight and each rank that gathering it costs beside the exchange, where shares arrive one by one
    and are copied together."""
    selective: Literal["core", "products"] = "core"
    """What selective recompute does again: the attention core, or half of the products with all that lies between."""
    stops_early: bool = False
    """Recomputing a layer ends before its last product, whose result nobody needs."""
    checkpoint_s: float = 0.0
    """What leaving and entering a recomputed layer costs."""
    dropless_s: float = 4e-3
    """What a layer of experts costs beside its kernels for each micro-batch: the host waits to learn how many tokens
    each expert gets before it can launch anything. Found from step times of several frameworks."""
    expert_copies: float = 2.0
    """Times that tokens are copied in sorting them to experts and back, in each direction."""
    cast_bytes: float = 3.0
    """Bytes moved for each operand element that is quantised before a product: 2 read, 1 written."""
    loss_bytes: float = 30.0
    """Bytes moved for each logit by the cross entropy, forward and backward: 30 for PyTorch's operations in fp32, 12
    for a fused kernel."""


@cache
def load_practice(name: str) -> Practice:
    """Return a framework's habits from its preset.

    Raises:
        UnknownName: there is no such framework; near ones are suggested.

    >>> load_practice("torchtitan").zero
    3
    """
    known = names("practices")
    if name not in known:
        raise UnknownName("training framework", name, known)
    data = tomllib.loads((presets_folder() / "practices" / f"{name}.toml").read_text("utf-8"))
    return Practice(name=name, **data)

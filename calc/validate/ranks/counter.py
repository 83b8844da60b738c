"""Counts what a process really sends: every call that reaches PyTorch's distributed backends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from calc.parallel.collective import Kind
from calc.records import Record, record


@record
class Sent(Record):
    """One call: when, in which group (name and ranks), what, and how many bytes, as ``Collective.bytes`` counts."""

    phase: str
    group: str
    size: int
    kind: Kind
    bytes: int


def _bytes(value: Any) -> int:
    """Return the bytes of a tensor, or of all in a list."""
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    return sum(_bytes(each) for each in value) if isinstance(value, (list, tuple)) else 0


CALLS: Mapping[str, tuple[Kind, Callable[..., int]]] = {
    "allreduce_": ("all_reduce", lambda tensors, *_: _bytes(tensors)),
    "allgather_": ("all_gather", lambda outputs, *_: _bytes(outputs)),
    "_allgather_base_": ("all_gather", lambda output, *_: _bytes(output)),
    "reduce_scatter_": ("reduce_scatter", lambda output, inputs, *_: _bytes(inputs)),
    "_reduce_scatter_base_": ("reduce_scatter", lambda output, given, *_: _bytes(given)),
    "alltoall_": ("all_to_all", lambda outputs, inputs, *_: _bytes(inputs)),
    "alltoall_base_": ("all_to_all", lambda output, given, *_: _bytes(given)),
    "send": ("send_recv", lambda tensors, *_: _bytes(tensors)),
}
"""PyTorch's operator → what it is, and which of its arguments is the tensor that counts."""
SILENT = ("recv_", "recv_any_source_", "barrier", "monitored_barrier_")
"""Operators that send nothing which another one would not count."""


class CollectiveCounter(TorchDispatchMode):
    """Notes every collective of this process, forward and backward, while it is entered."""

    def __init__(self, names: Mapping[str, str]) -> None:
        super().__init__()
        self.names = names
        """PyTorch's name of a process group → the name it goes by here."""
        self.phase = ""
        self.sent: list[Sent] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Note the call, and let it through."""
        if func.namespace == "c10d":
            self._note(func._schema.name.partition("::")[2], args)
        return func(*args, **(kwargs or {}))

    def _note(self, name: str, args: tuple[Any, ...]) -> None:
        if name in SILENT:
            return
        kind, size = CALLS[name]
        group = next(filter(None, map(_group, args)))
        self.sent.append(Sent(self.phase, self.names[group.group_name], group.size(), kind, size(*args)))


def _group(value: Any) -> dist.ProcessGroup | None:
    """Return the process group that an argument is, if it is one."""
    if not isinstance(value, torch.ScriptObject):
        return None
    try:
        return dist.ProcessGroup.unbox(value)
    except RuntimeError:
        return None

"""What every instrument is: a dispatch mode that hears of each kernel, and is told which operation runs."""

from __future__ import annotations

from typing import Self

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from calc.reference.base import WATCHERS, Key

UNNAMED: Key = ("", "")
"""Where work outside every operation is counted."""


class Instrument(TorchDispatchMode):
    """Watches twins while it is entered; ``running`` is the operation that runs, None between operations."""

    def __init__(self) -> None:
        super().__init__()
        self.running: Key | None = None

    def __enter__(self) -> Self:
        WATCHERS.append(self)
        super().__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        WATCHERS.remove(self)

    def enter(self, key: Key) -> None:
        """Note which operation runs."""
        self.running = key

    def leave(self, key: Key) -> None:
        """Forget it."""
        self.running = None


def memory(tensor: Tensor) -> int:
    """Return what tells a tensor's memory from every other that is alive: views of one have the same."""
    return int(tensor.untyped_storage()._cdata)

"""Query heads in groups, each of which shares one key and one value head."""

from __future__ import annotations

from typing import TYPE_CHECKING

from calc.attention import Attention
from calc.errors import SpecError


class Grouped(Attention):
    """Base of the mechanisms whose heads come in such groups; each states the two fields in its own place.

    Raises:
        SpecError: n_heads is not divisible by n_kv_heads.
    """

    if TYPE_CHECKING:  # at run time pydantic would put them before a mechanism's other fields
        n_heads: int
        n_kv_heads: int

    def __post_init__(self) -> None:
        if self.n_heads % self.n_kv_heads:
            raise SpecError(f"n_heads = {self.n_heads} is not divisible by n_kv_heads = {self.n_kv_heads}")

    @property
    def group_size(self) -> int:
        """Query heads per key-value head."""
        return self.n_heads // self.n_kv_heads

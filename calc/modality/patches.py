"""The entry of an image: patches, projected to vectors of the model's width."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from calc.embedding import NormSpec, norm_or_none
from calc.errors import SpecError
from calc.fields import Positive
from calc.grid_masks import Merged
from calc.modality import Modal
from calc.operations import Einsum, Elementwise, Lookup, Operation, Part, Table
from calc.records import named_record


@named_record
class Patches(Modal):
    """Squares of P × P pixels, n_ch numbers each, mapped to d by a convolution whose step is its size.

    The positions of a pass are those that the layers see: n_pre learned ones (a class token) and the patches.
    Parameters: P²·n_ch·d (·P_t for a video) and d with a bias, n_pre·d, L_max·d for positions (twice for ``axes``).
    Matmul FLOPs: 2·P²·n_ch·P_t·d per patch. Resampling of the image and of the position table is not counted, but for
    the four rows that ``interpolated`` positions weigh for every patch.

    Source: Dosovitskiy et al. 2020, arXiv:2010.11929 §3.1.

    Raises:
        SpecError: positions without ``max_positions``, or the other way round.

    >>> patches = Patches(patch_size=14)
    >>> embed = patches.operations()[0]
    >>> embed.flops({"b": 1, "t": 256, "d": 1024, **patches.bind()})
    308281344
    """

    source: ClassVar[str] = "Dosovitskiy et al. 2020, arXiv:2010.11929 §3.1"
    part: ClassVar[Part] = "embedding"
    kind: Literal["patches"] = "patches"
    patch_size: Positive
    n_channels: Positive = 3
    frames_per_patch: Positive | None = None
    """Frames of a video that a patch spans; an image is repeated as often (Qwen2-VL)."""
    bias: bool = False
    n_prefix: Positive | None = None
    """Learned vectors that pass through the layers beside the patches: a class token, registers."""
    positions: Literal["none", "learned", "interpolated", "axes"] = "none"
    """``interpolated``: four rows of a table are weighted for each patch (Qwen3-VL); ``axes``: a table for rows and one
    for columns (Gemma 4)."""
    max_positions: Positive | None = None
    norm: NormSpec | None = None

    def __post_init__(self) -> None:
        if (self.positions == "none") != (self.max_positions is None):
            raise SpecError(f"patches.positions = {self.positions!r} and patches.max_positions do not go together")

    @classmethod
    def build(cls, data: Mapping[str, Any]) -> Patches:
        """Build from trusted data."""
        return cls(**{**data, "norm": norm_or_none(data.get("norm"))})

    def operations(self) -> Table:
        """Return the convolution, the learned vectors, positions, the norm."""
        frames = "ϑ" if self.frames_per_patch else ""
        pixels = f"ς{frames}Пп"
        table: list[Operation] = [
            Einsum(
                "patches",
                f"bt{pixels},d{pixels}->btd",
                inputs=("pixels",),
                weight=f"d{pixels}",
                bias="d" if self.bias else "",
                over=Merged(n_prefix=self.n_prefix) if self.n_prefix else None,
            )
        ]
        if self.n_prefix:
            table.append(Lookup("prefix", "bϖd", table="ϖd"))
        if self.positions == "axes":
            table += [
                Lookup("rows", "btd", table="Ld"),
                Lookup("columns", "btd", table="Ld"),
                Elementwise("add_positions", "btd", inputs=("patches", "rows", "columns"), each=2),
            ]
        elif self.positions != "none":
            table.append(Lookup("positions", "btd", table="Ld"))
            if self.positions == "interpolated":
                table.append(Elementwise("interpolated", "btd", inputs=("positions",), each=8))
            table.append(Elementwise("add_positions", "btd", inputs=("patches", table[-1].name), each=1))
        if self.norm:
            table.append(self.norm.operation("norm", (table[-1].name,)))
        return tuple(table)

    def label(self) -> str:
        """Return the kind and the size."""
        return f"{self.kind} {self.patch_size}×{self.patch_size}"

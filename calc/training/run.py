"""A training run: model, device, layout, batch, formats, and the practice of the framework."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from calc.checks import whole
from calc.errors import SpecError, UnknownName
from calc.formats import Format
from calc.hardware import Accelerator
from calc.model import Model
from calc.parallel import Layout, check
from calc.records import Record, named_record
from calc.training.practice import Practice
from calc.units import dtype

Recompute: TypeAlias = Literal["none", "selective", "full"]
RECOMPUTE: tuple[Recompute, ...] = ("none", "selective", "full")
Method: TypeAlias = Literal["full", "lora", "qlora"]
METHODS: tuple[Method, ...] = ("full", "lora", "qlora")

PRECISIONS: tuple[str, ...] = ("fp32", "tf32", "fp16", "bf16", "fp8", "mxfp8", "nvfp4")
"""Formats that products with weights are done in; with the last three activations and gradients are bf16."""


IN_FLIGHT = 4
"""Micro-batches for each pipeline stage, where no global batch is asked for."""


def default_batch(layout: Layout, micro_batch: int) -> int:
    """Return the sequences of a step where none are asked for: a micro-batch of each copy, or enough for a pipeline.

    >>> default_batch(Layout(dp=8), 2), default_batch(Layout(pp=4, dp=2), 1)
    (16, 32)
    """
    return layout.dp * micro_batch * (IN_FLIGHT * layout.pp if layout.pp > 1 else 1)


@named_record
class Run(Record):
    """One configuration of training; a step is ``global_batch`` sequences of ``context`` tokens.

    Raises:
        SpecError: a size that cannot be, a batch that data-parallel ranks cannot share evenly, an illegal layout.
        UnknownName: an unknown precision, kind of recompute or method.
    """

    model: Model
    accelerator: Accelerator
    layout: Layout
    micro_batch: int
    global_batch: int
    context: int
    precision: str = "bf16"
    recompute: Recompute = "none"
    optimizer: str = "adam"
    method: Method = "full"
    lora_rank: int = 16
    mtp: bool = False
    practice: Practice

    def __post_init__(self) -> None:
        for name in ("micro_batch", "global_batch", "context", "lora_rank"):
            self.__dict__[name] = whole(name, getattr(self, name))
        for what, value, known in (
            ("training precision", self.precision, PRECISIONS),
            ("kind of recompute", self.recompute, RECOMPUTE),
            ("training method", self.method, METHODS),
        ):
            if value not in known:
                raise UnknownName(what, str(value), known)
        share = self.layout.dp * self.micro_batch
        if self.global_batch % share:
            raise SpecError(
                f"global_batch = {self.global_batch} is not divisible by dp·micro_batch = "
                f"{self.layout.dp}·{self.micro_batch}"
            )
        check(self.model, self.layout)

    @property
    def micro_batches(self) -> int:
        """Micro-batches that each pipeline passes in a step: global_batch / (dp · micro_batch)."""
        return self.global_batch // (self.layout.dp * self.micro_batch)

    @property
    def tokens(self) -> int:
        """Tokens of a step."""
        return self.global_batch * self.context

    @property
    def half(self) -> str:
        """The format of activations, and of products that are not done in a lower one."""
        return self.precision if self.precision in ("fp32", "fp16") else "fp32" if self.precision == "tf32" else "bf16"

    @property
    def stored(self) -> str:
        """The precision of what is stored, as memory knows it: operands of lower formats are cast on the way."""
        return {"tf32": "fp32", "mxfp8": "fp8", "nvfp4": "fp8"}.get(self.precision, self.precision)

    def forms(self) -> Mapping[str, Format]:
        """Return the number formats by role, as kernels take them."""
        held = dtype(self.half)
        return {
            **dict.fromkeys(("weight", "activation", "cache"), held),
            "compute": dtype(self.precision),
            "gradient": dtype(self.practice.accumulate),
        }

    def facts(self) -> dict[str, Any]:
        """Return the configuration as JSON carries it."""
        names = ("tp", "pp", "cp", "ep", "dp", "zero", "virtual_stages", "schedule", "sequence_parallel")
        own = (
            "micro_batch", "global_batch", "micro_batches", "context", "precision", "recompute", "optimizer", "method",
            "mtp",
        )  # fmt: skip
        return {
            "model": self.model.name,
            "accelerator": self.accelerator.name,
            "gpus": self.layout.gpus,
            **{name: getattr(self.layout, name) for name in names},
            **{name: getattr(self, name) for name in own},
            "framework": self.practice.name,
        }

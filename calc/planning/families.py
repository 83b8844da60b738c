"""Families of deployments: everything but the number of copies, which a family is swept over."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

from calc.catalog import all_accelerators, load_accelerator
from calc.checks import listed
from calc.errors import CalcError, SpecError
from calc.hardware import Accelerator
from calc.model import Model
from calc.parallel import Layout, check, has_experts
from calc.records import Record, named_record, replace
from calc.serving.engines import Engine, load_engine
from calc.serving.weights import served_form

WIDEST = 16
"""Devices of one copy's tensor parallelism at most."""
WIDEST_EXPERTS = 32
"""Devices that share routed experts at most."""
LINEAR = "-linear"
"""Ending of schemes in which products with weights have the format, and embeddings, head and norms 16 bits."""
READERS = (0.25, 1 / 3, 0.5, 1.0, 2.0, 3.0, 4.0)
"""Devices that read prompts for each device that decodes, where the two are apart."""

Wanted: TypeAlias = str | Path | Accelerator | Sequence[str | Path | Accelerator]
"""Accelerators as they are asked for: one, or several."""


@named_record
class Family(Record):
    """A unit of deployment under an engine and in its formats; ``readers`` > 0 reads prompts in units of their own.

    A unit is one model copy on its devices, or as many copies (``layout.dp``) as share their routed experts.
    """

    accelerator: Accelerator
    layout: Layout
    engine: Engine
    weights_dtype: str
    cache_dtype: str
    readers: float = 0.0

    @property
    def devices(self) -> int:
        """Devices of one unit."""
        return self.layout.tp * self.layout.pp * self.layout.dp

    def text(self) -> str:
        """Say it in a few words."""
        return f"{self.accelerator.name} {self.unit()} {self.engine.name}"

    def unit(self) -> str:
        """Say what a unit is: its layout and the format of its weights."""
        return f"{self.degrees()} {self.weights_dtype.removesuffix(LINEAR)}"

    def degrees(self) -> str:
        """Say the layout: degrees above one."""
        layout = self.layout
        every = {"tp": layout.tp, "pp": layout.pp, "dp": layout.dp, "ep": layout.ep}
        return " ".join(f"{name}{degree}" for name, degree in every.items() if degree > 1) or "tp1"

    def apart(self) -> Iterator[Family]:
        """Yield the family with prompts read elsewhere, in every proportion; none where no link carries the cache."""
        try:
            self.accelerator.link(self.accelerator.node_size + 1)
        except CalcError:
            return
        for readers in READERS:
            yield replace(self, readers=readers)


def families(
    model: Model,
    *,
    accelerators: Wanted | None,
    max_gpus: int,
    weights_dtype: str | None,
    cache_dtype: str,
    engines: str | Sequence[str],
) -> Iterator[Family]:
    """Yield every family that reads and decodes on the same devices: accelerator, layout, weights, engine.

    Raises:
        CalcError: an unknown accelerator or engine.
    """
    loaded = [load_engine(name) for name in listed(engines)]
    if not loaded:
        raise SpecError("engines = () names no engine")
    for device in _devices(accelerators):
        for layout in _layouts(model, device, max_gpus):
            for form in (weights_dtype,) if weights_dtype is not None else _formats(model, device):
                for engine in loaded:
                    yield Family(
                        accelerator=device, layout=layout, engine=engine, weights_dtype=form, cache_dtype=cache_dtype
                    )


def _devices(wanted: Wanted | None) -> list[Accelerator]:
    """Return the accelerators asked for; by default those whose price is known."""
    if wanted is not None:
        if not wanted:
            raise SpecError("accelerators = () names no accelerator")
        return [load_accelerator(one) for one in listed(wanted)]
    return [one for one in all_accelerators() if one.price is not None]


def _layouts(model: Model, device: Accelerator, max_gpus: int) -> Iterator[Layout]:
    """Yield the layouts of a unit that the model can have and that ``max_gpus`` devices hold.

    Tensor parallelism within a domain, alone or with the experts of each layer whole on one device; two stages of the
    widest; copies of one device that share their experts, in a domain and over several.
    """
    domain = min(device.links[0].size or WIDEST, WIDEST) if device.links else 1
    widths = [width for width in (1, 2, 4, 8, 16) if width <= domain]
    found = [Layout(tp=width) for width in widths]
    if device.networked and domain > 1:
        found.append(Layout(tp=widths[-1], pp=2))
    if has_experts(model):
        found += [Layout(tp=width, ep=width, expert_tp=1) for width in widths[1:]]
        shared = [width for width in (8, 16, 32) if width <= (WIDEST_EXPERTS if device.networked else domain)]
        found += [Layout(dp=width, ep=width) for width in shared]
    for layout in found:
        if layout.gpus <= max_gpus and _legal(model, layout):
            yield layout


def _legal(model: Model, layout: Layout) -> bool:
    try:
        check(model, layout)
    except CalcError:
        return False
    return True


def _formats(model: Model, device: Accelerator) -> tuple[str, ...]:
    """Return the published format, and 8 bits where the device multiplies them and the published one is wider.

    8 bits are those of products with weights; embeddings, head and norms stay as published, as checkpoints have it.
    """
    eight = next((form for form in ("fp8", "int8") if device.multiplies(form)), None)
    loaded = served_form(model)
    return (loaded, f"{eight}{LINEAR}") if eight and loaded in ("bf16", "fp16") else (loaded,)

"""What training costs: memory of a device by part, the time of a step, and for a token budget days, money, energy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from calc.confidence import KnownError, known
from calc.memory import Run as Kept
from calc.memory import TrainingMemory, memory_of
from calc.memory.optimizers import optimizer_of
from calc.records import Record, named_record
from calc.results import Figure, Grid, Result, Row
from calc.roofline.efficiency import measured
from calc.saved import Adapters
from calc.training.run import Run
from calc.training.step import StepTime
from calc.units import memory as size

DAY, HOUR = 86_400, 3_600
LORA_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
MEMORY_PARTS = ("weights", "gradients", "optimizer", "activations", "other")
TIME_PARTS: Mapping[str, str] = {
    "compute": "forward and backward kernels",
    "recompute": "forward again",
    "tensor": "tensor parallelism",
    "expert": "expert parallelism",
    "context": "context parallelism",
    "pipeline": "between stages",
    "data": "weights and gradients",
    "bubble": "pipeline bubble",
    "optimizer": "update",
}


@named_record
class Budget(Record):
    """What a number of tokens costs. Units: s, GPU hours, USD, J; money only where a price is known.

    ``joules``: the accelerators at their power limit for the whole time; hosts, network and cooling are not counted.
    """

    tokens: int
    seconds: float
    gpu_hours: float
    usd: float | None
    joules: float | None

    @property
    def days(self) -> float:
        """Days of the whole run, without interruptions."""
        return self.seconds / DAY


@named_record
class Training(Record):
    """The answer of ``calc.train``.

    ``mfu``: FLOPs of the model's forward and backward pass, attention with all pairs as published figures count it
    (Chowdhery et al. 2022, arXiv:2204.02311 appendix B), over time, devices and the dense peak of the format that
    products are done in. ``hfu``: with the FLOPs of what is computed again.
    """

    run: Run
    memory: TrainingMemory
    capacity: int
    """Bytes of one device that programs can have."""
    time: StepTime
    mfu: float
    hfu: float
    budget: Budget | None = None
    limit: str = ""
    """The first limit hit; empty where the run fits."""
    change: str = ""
    """The smallest change that would make it fit."""
    others: tuple[Training, ...] = ()
    """What a search found beside it, fastest first."""

    @property
    def fits(self) -> bool:
        """Whether the memory of the fullest rank is within the device's."""
        return bool(self.memory.total <= self.capacity)

    @property
    def tokens_per_second(self) -> float:
        """Tokens of all devices in a second."""
        return self.run.tokens / self.time.iteration

    @property
    def tokens_per_second_per_gpu(self) -> float:
        """Tokens of one device in a second."""
        return self.tokens_per_second / self.run.layout.gpus

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON contract, base units."""
        parts = {name: float(getattr(self.memory, name)) for name in (*MEMORY_PARTS, "total")}
        data: dict[str, Any] = {
            "run": self.run.facts(),
            "fits": self.fits,
            "limit": self.limit or None,
            "change": self.change or None,
            "memory": {"per_gpu": {**parts, "capacity": self.capacity}, "stage": self.memory.stage},
            "time": {
                "iteration": self.time.iteration,
                "compute": self.time.compute + self.time.recompute,
                "communication": self.time.communication,
                "bubble": self.time.bubble,
                "optimizer": self.time.optimizer,
                "parts": asdict(self.time),
            },
            "mfu": self.mfu,
            "hfu": self.hfu,
            "tokens_per_second": self.tokens_per_second,
            "tokens_per_second_per_gpu": self.tokens_per_second_per_gpu,
        }
        if self.budget:
            data["budget"] = {"tokens": self.budget.tokens, "seconds": self.budget.seconds}
            data |= {name: getattr(self.budget, name) for name in ("days", "gpu_hours", "usd", "joules")}
        errors = {name: error for name in ("training.time", "training.memory") if (error := known(name))}
        return {
            **data,
            "errors": {name: asdict(error) for name, error in errors.items()},
            "provenance": "modelled",
            **({"others": [other.to_dict() for other in self.others]} if self.others else {}),
        }

    def to_result(self) -> Result:
        """Return the answer as tables and data."""
        grids = [_card(self)]
        if self.others:
            grids.append(_found((self, *self.others)))
        return Result(kind="train", data=self.to_dict(), grids=tuple(grids), failed=False)


def memory_for(run: Run) -> TrainingMemory:
    """Return the memory of the fullest device of a run."""
    adapters = None if run.method == "full" else Adapters(rank=run.lora_rank, targets=LORA_TARGETS)
    kept = Kept(
        model=run.model, layout=run.layout, context=run.context, micro_batches=run.micro_batches,
        recompute=run.recompute, precision=run.stored, optimizer=run.optimizer, framework=run.practice.memory,
        attention="eager" if run.practice.fusion == "eager" else None, adapters=adapters,
        frozen_form="nf4" if run.method == "qlora" else None, mtp=run.mtp,
    )  # fmt: skip
    return memory_of(kept, run.micro_batch)


def _modelled(value: float, unit: str, error: KnownError | None, *, inverse: bool = False) -> Figure:
    return error.figure(value, unit, inverse=inverse) if error else Figure(value, unit, "modelled")


def _card(answer: Training) -> Grid:
    run, layout = answer.run, answer.run.layout
    title = (
        f"{run.model.heading} on {layout.gpus:,} × {run.accelerator.title}: {layout.text()}, "
        f"micro-batch {run.micro_batch}, {run.micro_batches:,} of them, {run.context:,} tokens each"
    )
    rows = [*_verdict(answer), *_memory_rows(answer), *_time_rows(answer), *_budget_rows(answer)]
    notes = [
        f"{run.precision}, {run.optimizer}, recompute {run.recompute}, {run.practice.title}",
        "MFU: model FLOPs, attention with all pairs, over time × devices × dense peak of the products' format",
    ]
    for name, what in (("training.time", "time"), ("training.memory", "memory")):
        if error := known(name):
            notes.append(f"{what}: {error.text()}; ranges hold eight of ten")
    if not measured(run.accelerator):
        notes.append(f"no step was measured on {run.accelerator.title} or its like: times may be further off than that")
    if run.model.low is not None:
        notes.append("the model's dimensions were never published: figures are those of the middle of the estimate")
    notes += run.model.beyond(run.context)
    if run.model.tower:
        read = " and ".join({"image": "images", "audio": "sound"}[tower.modality] for tower in run.model.tower)
        notes.append(f"text alone: what reads {read} is neither loaded nor trained here")
    besides = optimizer_of(run.optimizer).besides if run.method == "full" else "the update of adapters"
    left_out = ("stragglers, failures, data loading, checkpoints, evaluation", besides)
    notes.append(f"not modelled: {', '.join(filter(None, left_out))}")
    return Grid(title, ("", "value", ""), tuple(rows), tuple(notes))


def _verdict(answer: Training) -> Iterator[Row]:
    if answer.fits:
        share = answer.memory.total / answer.capacity
        yield Row("fits", ("fits", "yes", f"{share:.0%} of {size(answer.capacity)}"), emphasis=True)
    else:
        yield Row("fits", ("fits", "no", answer.limit), emphasis=True)
        if answer.change:
            yield Row("change", ("would fit with", answer.change, ""))


def _memory_rows(answer: Training) -> Iterator[Row]:
    error, memory = known("training.memory"), answer.memory
    where = f"the fullest rank, stage {memory.stage + 1} of {answer.run.layout.pp}" if answer.run.layout.pp > 1 else ""
    yield Row("memory.total", ("total", _modelled(memory.total, "B", error), where), True, "Memory per GPU")
    for part in MEMORY_PARTS:
        value = getattr(memory, part)
        if value:
            yield Row(f"memory.{part}", (f"  {part}", Figure(value, "B", "modelled"), f"{value / memory.total:.1%}"))


def _time_rows(answer: Training) -> Iterator[Row]:
    error, time = known("training.time"), answer.time
    yield Row("time.iteration", ("step", _modelled(time.iteration, "s", error), f"{answer.run.tokens:,} tokens"), True,
              "Time")  # fmt: skip
    for part, meaning in TIME_PARTS.items():
        value = getattr(time, part)
        if value:
            share = f"{value / time.iteration:.1%}  {meaning}"
            yield Row(f"time.{part}", (f"  {part}", Figure(value, "s", "modelled"), share))
    rate = _modelled(answer.tokens_per_second_per_gpu, "tokens/s", error, inverse=True)
    yield Row("tokens_per_second_per_gpu", ("throughput", rate, "per GPU"))
    yield Row("mfu", ("MFU", Figure(answer.mfu, "percent", "modelled"), ""))
    if answer.run.recompute != "none":
        yield Row("hfu", ("HFU", Figure(answer.hfu, "percent", "modelled"), "with what is computed again"))


def _budget_rows(answer: Training) -> Iterator[Row]:
    budget, error = answer.budget, known("training.time")
    if budget is None:
        return
    text = f"{budget.tokens:,} tokens"
    yield Row("days", ("days", _modelled(budget.days, "days", error), text), True, "Budget")
    yield Row("gpu_hours", ("GPU hours", _modelled(budget.gpu_hours, "h", error), ""))
    if budget.usd is not None:
        price = budget.usd / budget.gpu_hours
        yield Row("usd", ("cost", _modelled(budget.usd, "USD", error), f"at {price:.2f} USD per GPU hour"))
    else:
        yield Row("usd", ("cost", None, f"no price is known of {answer.run.accelerator.name}: give --usd-per-hour"))
    if budget.joules is not None:
        note = "accelerators at their power limit"
        yield Row("joules", ("energy", _modelled(budget.joules, "J", error), note))


def _found(answers: tuple[Training, ...]) -> Grid:
    columns = ("layout", "batch", "micro-batch", "recompute", "memory", "step", "per GPU", "MFU")
    rows = [
        Row(
            f"layout.{number}",
            (
                one.run.layout.text(), Figure(one.run.global_batch), Figure(one.run.micro_batch), one.run.recompute,
                Figure(one.memory.total, "B", "modelled"), Figure(one.time.iteration, "s", "modelled"),
                Figure(one.tokens_per_second_per_gpu, "tokens/s", "modelled"), Figure(one.mfu, "percent", "modelled"),
            ),
            emphasis=number == 1,
        )
        for number, one in enumerate(answers, start=1)
    ]  # fmt: skip
    return Grid("The fastest layouts that fit", columns, tuple(rows))

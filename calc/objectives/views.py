"""What people ask of an objective: its FLOPs by pass, its memory by model, what it stores, its formulas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from calc import catalog
from calc.checks import idle, number, one_of, share, whole
from calc.costs import Setting
from calc.errors import UnknownName
from calc.model import Model
from calc.objectives.parts import Training
from calc.objectives.plans import OBJECTIVES, OPTIONS, Asked, Plan
from calc.results import Cell, Figure, Grid, Result, Row

ModelLike = str | Path | Model


def objective(
    name: str,
    model: ModelLike,
    *,
    batch: int = 64,
    prompt: int | None = None,
    answer: int | None = None,
    other: ModelLike | None = None,
    critic: ModelLike | None = None,
    tokens: float | None = None,
    group: int = 8,
    epochs: int = 1,
    top_k: int = 256,
    modules: int = 0,
    updates: int = 12,
    replay: float = 0.0,
    value_bytes: int = 2,
    precision: str = "bf16",
    optimizer: str = "adam",
    framework: str = "megatron",
    formulas: bool = False,
) -> Result:
    """Return what one step of a training objective costs: FLOPs by pass and model, memory by model, what is stored.

    ``name`` is one of ``OBJECTIVES``. Sequences are ``prompt + answer`` tokens long (half of the model's context each,
    unless given); for contrastive alignment they are the tokens of the two towers. ``other`` is the second model: the
    tower, the reward model, the reference, the teacher. ``tokens`` make it a whole corpus (distillation) or one update
    (continual). ``formulas`` adds the formula of every pass (and imports sympy). FLOPs are matmul FLOPs of the tables,
    forward and backward without recompute; memory is that of the models' states (weights, gradients, optimizer by
    ``precision``, ``optimizer`` and ``framework``, as in training), all devices together, and of one sequence's
    activations.

    Not counted: the loss itself, tokens that padding adds, communication.

    Raises:
        UnknownName: no such objective.
        SpecError: a size that cannot be, a model that is missing.

    >>> data = objective("ppo", "llama-3-8b", batch=8, prompt=512, answer=512).data
    >>> [entry["role"] for entry in data["memory"]["models"]]
    ['policy', 'critic', 'reference', 'reward model']
    """
    if name not in OBJECTIVES:
        raise UnknownName("objective", name, OBJECTIVES)
    title, make = OBJECTIVES[name]
    loaded = catalog.load(model)
    context = Setting.of([loaded], None).context
    asked = Asked(
        model=loaded,
        batch=batch,
        prompt=max(1, context // 2) if prompt is None else prompt,
        answer=max(1, context // 2) if answer is None else answer,
        other=None if other is None else catalog.load(other),
        critic=None if critic is None else catalog.load(critic),
        tokens=tokens,
        group=group,
        epochs=epochs,
        top_k=top_k,
        modules=modules,
        updates=updates,
        replay=replay,
        value_bytes=value_bytes,
        how=Training(precision=precision, optimizer=optimizer, framework=framework),
    )
    _check(asked)
    _check_options(
        name, other=(other, None), critic=(critic, None), tokens=(tokens, None), group=(group, 8),
        epochs=(epochs, 1), top_k=(top_k, 256), value_bytes=(value_bytes, 2), modules=(modules, 0),
        updates=(updates, 12), replay=(replay, 0.0),
    )  # fmt: skip
    plan = make(asked)
    flops = sum(phase.flops for phase in plan.phases)
    seen = max((phase.tokens for phase in plan.phases), default=0)
    data: dict[str, Any] = {
        "objective": name,
        "model": loaded.name,
        "batch": batch,
        "prompt": asked.prompt,
        "answer": asked.answer,
        "whole": plan.whole,
        "phases": [phase.to_dict() for phase in plan.phases],
        "flops": flops,
        "flops_per_token": flops / seen if seen else None,
        "memory": {
            "models": [{**vars(one), "total": one.total} for one in plan.holds],
            "total": sum(one.total for one in plan.holds),
            "precision": precision,
            "optimizer": optimizer,
            "framework": framework,
        },
        "stored": [{"name": what.strip(), "bytes": size, "how": how} for what, size, how in plan.stored],
        "formula": plan.formula,
        "source": plan.source,
    }
    grids = [_grid(title, asked, plan, flops)]
    if formulas:
        from calc.objectives.formulas import expression, grid

        grids.append(grid(plan.phases))
        for entry, phase in zip(data["phases"], plan.phases, strict=True):
            entry["formula"] = str(expression(phase)) if phase.subject else phase.note
    return Result(kind="objective", data=data, grids=tuple(grids))


def _check_options(objective: str, **given: tuple[object, object]) -> None:
    """Refuse options that another objective has, and this one does not."""
    for option, value in given.items():
        if objective not in OPTIONS[option]:
            idle(f"an option of {', '.join(OPTIONS[option])}, not of {objective}", **{option: value})


def _check(asked: Asked) -> None:
    sizes = {"batch": 1, "prompt": 1, "answer": 0, "group": 1, "epochs": 1, "top_k": 1, "modules": 0, "updates": 1}
    for name, least in sizes.items():
        whole(name, getattr(asked, name), least)
    share("replay", asked.replay, one=False)
    one_of("value_bytes", asked.value_bytes, (1, 2, 4))
    if asked.tokens is not None:
        number("tokens", asked.tokens, above=0)


def _grid(title: str, asked: Asked, plan: Plan, flops: float) -> Grid:
    rows: list[Row] = []
    section = "Compute" + ("" if plan.whole else ", one step")
    for phase in plan.phases:
        said = ", ".join(filter(None, (phase.model, phase.note)))
        rows.append(
            _row(
                f"phase.{phase.name}",
                phase.name,
                Figure(phase.flops, "FLOP"),
                f"{phase.flops / flops:.1%}",
                said,
                section,
            )
        )
        section = ""
    rows.append(_row("flops", "all passes", Figure(flops, "FLOP"), "", "", "", True))
    section = "Memory, states of the models"
    for one in plan.holds:
        each = one.total / one.parameters
        said = f"{one.model}, {'trained' if one.optimizer else 'frozen'}, {each:.3g} bytes a parameter"
        rows.append(_row(f"memory.{one.role}", one.role, Figure(one.total, "B"), "", said, section))
        section = ""
        if one.activations:
            kept = Figure(one.activations, "B")
            rows.append(_row(f"activations.{one.role}", "  activations", kept, "", "of one sequence, none recomputed"))
    total = sum(one.total for one in plan.holds)
    rows.append(_row("memory", "all models", Figure(total, "B"), "", "states, without activations", "", True))
    section = "Stored"
    for what, size, how in plan.stored:
        rows.append(_row(f"stored.{what.strip()}", what, Figure(size, "B"), "", how, section))
        section = ""
    lengths = f"{asked.prompt:,} + {asked.answer:,} tokens"
    head = f"{asked.model.heading}, {title}: batch {asked.batch:,}, {lengths}"
    notes = (f"FLOPs: {plan.formula}", *plan.notes, f"source: {plan.source}")
    return Grid(head, ("", "value", "share", ""), tuple(rows), notes)


def _row(key: str, label: str, figure: Cell, share: str, said: str, section: str = "", emphasis: bool = False) -> Row:
    return Row(key, (label, figure, share, said), emphasis, section)

"""The formula behind every pass of an objective: the tables read with symbols for lengths and a model's own numbers."""

from __future__ import annotations

from typing import Any

from sympy import Expr, Integer, Max, Min, Piecewise, Sum, Symbol, expand, summation

from calc.generation import scored
from calc.layers import Block
from calc.model import Pass, flops_by_operation, training_flops
from calc.objectives.parts import Phase
from calc.results import Grid, Row
from calc.symbolic.arrange import arranged_numbers
from calc.symbolic.limits import stepped
from calc.symbolic.styles import Unicode
from calc.symbolic.text import Walk

LENGTH = Symbol("n", positive=True, integer=True)
PROMPT = Symbol("P", positive=True, integer=True)
ANSWER = Symbol("Y", positive=True, integer=True)
STEP = Symbol("i", positive=True, integer=True)


def grid(phases: tuple[Phase, ...]) -> Grid:
    """Return the FLOPs of one sequence of every pass, as polynomials of n, or of P and Y where tokens are generated."""
    rows = []
    for phase in phases:
        each = "" if phase.subject is None else written(expression(phase))
        rows.append(Row(f"formula.{phase.name}", (phase.name, f"{phase.sequences:,.6g} ×", each or phase.note)))
    notes = ("n: tokens of a sequence, P of its prompt, Y of its answer, i one of these",)
    return Grid("Formulas, FLOPs of one sequence", ("pass", "sequences", "each"), tuple(rows), notes)


def expression(phase: Phase) -> Expr:
    """Return the FLOPs of one sequence of a pass.

    >>> import calc
    >>> from calc.objectives.parts import train
    >>> expression(train("train", calc.load("gpt2"), 8, 1024))
    55296*n**2 + 741247488*n
    """
    assert phase.subject is not None
    model, end = phase.subject
    blocks = model.blocks() if end == "vocabulary" else scored(model, end)
    if phase.kind == "train":
        found: Any = training_flops(blocks, Pass.prefill(LENGTH), "matmul", recompute=False)
    elif phase.kind == "forward":
        found = _forward(blocks, Pass.prefill(LENGTH))
    else:
        step = _forward(blocks, Pass.decode(PROMPT + STEP))
        span = (STEP, 1, ANSWER)
        steps = Sum(step, span) if _pieces(step) else summation(expand(step), span)
        found = _forward(blocks, Pass.prefill(PROMPT)) + steps
    return found if _pieces(found) else expand(found)


def _pieces(formula: Any) -> bool:
    """Tell whether an expression has pieces: a window that fills up, blocks that are begun."""
    return stepped(formula) or formula.has(Min, Max, Piecewise, Sum)


def _forward(blocks: list[Block], pass_: Pass) -> Any:
    return sum(flops_by_operation(blocks, pass_, "matmul").values())


def written(formula: Expr) -> str:
    """Write a formula the way the other formulas are."""
    walk = Walk(Unicode(), {LENGTH: 0, PROMPT: 1, ANSWER: 2, STEP: 3})
    sums = formula.atoms(Sum)
    rest = formula.xreplace(dict.fromkeys(sums, Integer(0)))
    text = walk.write(rest if stepped(rest) else arranged_numbers(rest))
    return " + ".join([text, *(f"Σ(i = 1 … Y) {walk.bracketed(each.function, False)}" for each in sums)])

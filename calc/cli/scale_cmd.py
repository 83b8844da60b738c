"""``calc scale``: what scaling laws say of a budget, or of a model and its tokens."""

from __future__ import annotations

from typing import Annotated

import typer

from calc.cli.options import FormatOption
from calc.errors import SpecError


def command(
    model: Annotated[str, typer.Argument(help="A model as elsewhere; none where a budget is asked about.")] = "",
    compute: Annotated[
        str, typer.Option("--compute", help="Training budget in FLOP, as 5.76e23; several with commas.")
    ] = "",
    tokens: Annotated[str, typer.Option("--tokens", help="Training tokens of the model, as 1.4T.")] = "",
    law: Annotated[
        str, typer.Option("--law", help="Laws by name, as kaplan,chinchilla-1,besiroglu.  [default: all]")
    ] = "",
    format: FormatOption = "table",  # noqa: A002 - the option's public name
) -> None:
    """Show the compute-optimal size and loss by published scaling laws, or how a model and its tokens stand to them."""
    from calc.report import render
    from calc.scaling import curve, scale
    from calc.units import parse_count

    laws = [name.strip() for name in law.split(",") if name.strip()]
    budgets = [parse_count(budget) for budget in compute.split(",")] if compute else []
    if len(budgets) > 1 and not model and not tokens:
        render(curve(budgets, laws=laws), format)
        return
    if len(budgets) > 1:
        raise SpecError("several budgets are compared without a model and tokens")
    budget = budgets[0] if budgets else None
    render(scale(model or None, compute=budget, tokens=parse_count(tokens) if tokens else None, laws=laws), format)

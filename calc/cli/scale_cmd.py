"""``calc scale``: what scaling laws say of a budget, or of a model and its tokens."""

from __future__ import annotations

from typing import Annotated

import typer

from calc.cli.options import FormatOption


def command(
    model: Annotated[str, typer.Argument(help="A model as elsewhere; none where a budget is asked about.")] = "",
    compute: Annotated[str, typer.Option("--compute", help="Training budget in FLOP, as 5.76e23.")] = "",
    tokens: Annotated[str, typer.Option("--tokens", help="Training tokens of the model, as 1.4T.")] = "",
    law: Annotated[
        str, typer.Option("--law", help="Laws by name, as kaplan,chinchilla-1,besiroglu.  [default: all]")
    ] = "",
    format: FormatOption = "table",  # noqa: A002 - the option's public name
) -> None:
    """Show the compute-optimal size and loss by published scaling laws, or how a model and its tokens stand to them."""
    from calc.report import render
    from calc.scaling import scale
    from calc.units import parse_count

    result = scale(
        model or None,
        compute=parse_count(compute) if compute else None,
        tokens=parse_count(tokens) if tokens else None,
        laws=[name.strip() for name in law.split(",") if name.strip()],
    )
    render(result, format)

"""``calc routed SIZE``: what routing makes of a dense size."""

from __future__ import annotations

from typing import Annotated

import typer

from calc.cli.options import FormatOption


def command(
    size: Annotated[str, typer.Argument(metavar="SIZE", help="Parameters before experts, as 1.3B.")],
    experts: Annotated[str, typer.Option("--experts", help="Numbers of experts, with commas.")] = "1,2,8,32,128,512",
    format: FormatOption = "table",  # noqa: A002 - the option's public name
) -> None:
    """Show the loss of a dense size widened by experts, and the dense size that is as good, by the laws of routing."""
    from calc.report import render
    from calc.scaling import routed_laws
    from calc.units import parse_count

    counts = [parse_count(count) for count in experts.split(",")]
    whole = [int(count) if count.is_integer() else count for count in counts]
    render(routed_laws(parse_count(size), whole), format)

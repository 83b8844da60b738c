"""``calc audit``: the numbers that documents state."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from calc.cli.options import FormatOption


def command(
    documents: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[DOCUMENT]...", help="Shipped documents, or TOML files of claims.  [default: all shipped]"
        ),
    ] = None,
    verdict: Annotated[
        list[str] | None,
        typer.Option("--verdict", help="Show these only: holds, convention, off, contradicted, unchecked."),
    ] = None,
    claim: Annotated[str | None, typer.Option("--claim", help="Tell all about one claim, by its id.")] = None,
    quantities: Annotated[
        bool, typer.Option("--quantities", help="List the quantities that a claim may name, and stop.")
    ] = False,
    require_hold: Annotated[
        bool, typer.Option("--require-hold", help="Exit 1 if a claim that is shown is off or contradicted.")
    ] = False,
    format: FormatOption = "table",  # noqa: A002 - the option's public name
) -> None:
    """Check the numbers that documents state: what holds, what does not, by how much, and who says so."""
    from calc.claims.views import audit
    from calc.claims.views import quantities as listed
    from calc.report import render

    if quantities:
        render(listed(), format)
        return
    result = audit(documents or (), verdict=verdict or (), claim=claim, require_hold=require_hold)
    render(result, format)
    if result.failed:
        sys.exit(1)

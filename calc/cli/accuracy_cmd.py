"""``calc accuracy [FILE]``: the modelled figures against published measurements."""

from __future__ import annotations

from typing import Annotated

import typer

from calc.cli.options import FormatOption


def command(
    file: Annotated[
        str | None, typer.Argument(help="Measurements, a JSON list.  [default: the published ones carried along]")
    ] = None,
    by: Annotated[str, typer.Option("--by", help="Group by quantity, kind, source, hardware or model.")] = "quantity",
    rows: Annotated[bool, typer.Option("--rows", help="Print every prediction.")] = False,
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="Record the errors in a file, for figures to carry.")
    ] = None,
    format: FormatOption = "table",  # noqa: A002 - the option's public name
) -> None:
    """Compare modelled figures with published measurements: errors by group, and what cannot be predicted, and why."""
    from calc.files import check_writable
    from calc.measured import accuracy, record_errors
    from calc.report import render
    from calc.report.progress import progress

    if output is not None:
        check_writable(output)
    with progress() as watch:
        result = accuracy(file, by=by, rows=rows, progress=watch)
    if output is not None:
        record_errors(result, output)
    render(result, format)

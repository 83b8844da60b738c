"""``calc validate [MODEL|MECHANISM...]``: formula against counter."""

from __future__ import annotations

import sys
from typing import Annotated, Literal

import typer

from calc.cli.options import FormatOption


def command(
    targets: Annotated[
        list[str] | None,
        typer.Argument(metavar="[MODEL|MECHANISM]...", help="What to prove.  [default: every mechanism]"),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Every mechanism, every preset, and the collectives.")
    ] = False,
    collectives: Annotated[
        bool, typer.Option("--collectives", help="What sharded models send, as four processes; targets are its cases.")
    ] = False,
    device: Annotated[Literal["cpu", "cuda"], typer.Option("--device", help="Where PyTorch runs.")] = "cpu",
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="File for the record: device, date, versions, every figure.")
    ] = None,
    format: FormatOption = "table",  # noqa: A002 - the option's public name
) -> None:
    """Prove the formulas: build each architecture small in PyTorch, run it, count, compare; exit 1 on a difference."""
    from calc.files import check_writable
    from calc.report import render
    from calc.report.progress import progress
    from calc.validate import prove, record_proof

    if output is not None:
        check_writable(output)
    with progress() as advance:
        result = prove(targets or (), everything=everything, collectives=collectives, device=device, progress=advance)
    if output is not None:
        record_proof(result, output)
    render(result, format)
    if result.failed:
        sys.exit(1)

"""``calc calibrate``: the constants of the time model for the machine at hand."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from calc.cli.options import FormatOption


def command(
    device: Annotated[Literal["cpu", "cuda"], typer.Option("--device", help="What to measure.")] = "cpu",
    output: Annotated[str | None, typer.Option("--output", "-o", help="File, to name as --accelerator.")] = None,
    seconds: Annotated[
        float | None, typer.Option("--seconds", help="About how long to measure.  [default: 45, cuda 120]")
    ] = None,
    form: Annotated[
        list[str] | None, typer.Option("--form", help="Number format, may be repeated.  [default: fp32, cuda bf16]")
    ] = None,
    threads: Annotated[int | None, typer.Option("--threads", help="Of a CPU.  [default: PyTorch's]")] = None,
    ranks: Annotated[
        int | None,
        typer.Option("--ranks", help="Among how many to measure exchanges.  [default: all CUDA devices; of a CPU 1]"),
    ] = None,
    format: FormatOption = "table",  # noqa: A002 - the option's public name
) -> None:
    """Measure a device and fit the time model to it: products, attention, memory, launches, exchanges."""
    from calc.calibration import calibrate, record_calibration
    from calc.files import check_writable
    from calc.report import render
    from calc.report.progress import progress

    if output is not None:
        check_writable(output)
    with progress() as watch:
        result = calibrate(device, seconds=seconds, forms=form or (), threads=threads, ranks=ranks, progress=watch)
    if output is not None:
        record_calibration(result, output)
    render(result, format)

"""``calc report MODEL...``: one HTML page."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from calc.cli.options import (
    BatchOption,
    CacheOption,
    CausalOption,
    ContextOption,
    CountsOption,
    ModelsArgument,
    SourceOption,
    WeightsOption,
)
from calc.errors import printable


def command(
    models: ModelsArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="The page to write.")] = Path("report.html"),
    accelerator: Annotated[
        str | None, typer.Option("--accelerator", "-a", help="An accelerator that they run on.")
    ] = None,
    batch: BatchOption = 1,
    context: ContextOption = None,
    source: SourceOption = None,
    weights_dtype: WeightsOption = None,
    cache_dtype: CacheOption = "bf16",
    causal: CausalOption = True,
    counts: CountsOption = "matmul",
) -> None:
    """Write one self-contained page about models: figures, operation tables, formulas, charts, conventions, sources."""
    from calc.files import write_whole
    from calc.report.page import html_report
    from calc.report.progress import progress

    given = {
        "batch": (batch, 1),
        "source": (source, None),
        "weights_dtype": (weights_dtype, None),
        "cache_dtype": (cache_dtype, "bf16"),
        "causal": (causal, True),
        "counts": (counts, "matmul"),
    }
    setting = {name: value for name, (value, default) in given.items() if value != default}
    with progress() as advance:
        page = html_report(models, accelerator, context=context, progress=advance, **setting)
    write_whole(output, page.encode())
    print(f"wrote {printable(str(output))}", file=sys.stderr)

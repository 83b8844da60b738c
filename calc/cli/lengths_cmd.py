"""``calc lengths MODEL``: from which length on softmax attention is dearer than other mixers."""

from __future__ import annotations

from typing import Annotated

import typer

from calc.cli.options import CausalOption, FormatOption, ModelArgument


def command(
    model: ModelArgument,
    quantity: Annotated[
        str, typer.Argument(help="flops.prefill, flops.decode or state+cache.  [default: all three]")
    ] = "",
    causal: CausalOption = True,
    format: FormatOption = "table",  # noqa: A002 - the option's public name
) -> None:
    """Show from which length on softmax attention is dearer than local, hierarchical, linear and state-space mixers."""
    from calc.report import render
    from calc.scaling import lengths

    render(lengths(model, quantity=quantity, causal=causal), format)

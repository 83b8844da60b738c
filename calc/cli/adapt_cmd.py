"""``calc adapt MODEL``: the expected cost of tokens that leave layers out."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from calc.cli.options import ContextOption, FormatOption, ModelArgument


def command(
    model: ModelArgument,
    exits: Annotated[
        str,
        typer.Option("--exits", help="Early exit: after which layers tokens leave, with what chance: 16:0.3,24:0.5."),
    ] = "",
    confidence: Annotated[
        Literal["head", "none"], typer.Option("--confidence", help="What asks whether a token may leave.")
    ] = "head",
    capacity: Annotated[
        float | None, typer.Option("--capacity", help="Mixture of depths: share of tokens in a routed layer.")
    ] = None,
    every: Annotated[int, typer.Option("--every", help="Every n-th layer is routed.")] = 2,
    context: ContextOption = None,
    format: FormatOption = "table",  # noqa: A002 - the option's public name
) -> None:
    """Show the expected FLOPs of a decode step with early exit, or with a mixture of depths."""
    from calc.reasoning import adapt
    from calc.reasoning.depth import parse_exits
    from calc.report import render

    result = adapt(
        model,
        exits=parse_exits(exits) if exits else None,
        confidence=confidence,
        capacity=capacity,
        every=every,
        context=context,
    )
    render(result, format)

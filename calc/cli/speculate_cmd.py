"""``calc speculate TARGET DRAFTER``: what guessed tokens give."""

from __future__ import annotations

from typing import Annotated

import typer

from calc.cli.options import BatchOption, CacheOption, ContextOption, FormatOption, WeightsOption


def command(
    target: Annotated[str, typer.Argument(metavar="TARGET", help="The model that checks.")],
    drafter: Annotated[
        str, typer.Argument(metavar="DRAFTER", help="The model that guesses; mtp for the target's own modules.")
    ],
    acceptance: Annotated[float, typer.Option("--acceptance", help="Chance that a guess stands.")],
    drafted: Annotated[
        int | None, typer.Option("--drafted", help="Guesses of a round.  [default: the fastest]")
    ] = None,
    batch: BatchOption = 1,
    context: ContextOption = None,
    weights_dtype: WeightsOption = None,
    cache_dtype: CacheOption = "bf16",
    format: FormatOption = "table",  # noqa: A002 - the option's public name
) -> None:
    """Show what speculative decoding gives: tokens of a round, FLOPs and bytes of a token, speed, the best number."""
    from calc.reasoning import speculate
    from calc.report import render

    result = speculate(
        target,
        drafter,
        acceptance=acceptance,
        drafted=drafted,
        context=context,
        batch=batch,
        weights_dtype=weights_dtype,
        cache_dtype=cache_dtype,
    )
    render(result, format)

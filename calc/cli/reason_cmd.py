"""``calc reason MODEL``: what a chain of thought costs."""

from __future__ import annotations

from typing import Annotated

import typer

from calc.cli.options import AcceleratorOption, CacheOption, FormatOption, ModelArgument


def command(
    model: ModelArgument,
    prompt: Annotated[int, typer.Option("--prompt", help="Tokens of the question.")] = 1000,
    answer: Annotated[int, typer.Option("--answer", help="Tokens of the final answer.")] = 300,
    steps: Annotated[int, typer.Option("--steps", help="Steps of the chain.")] = 0,
    step_tokens: Annotated[int | None, typer.Option("--step-tokens", help="Tokens of a step.  [default: 200]")] = None,
    check_tokens: Annotated[int, typer.Option("--check-tokens", help="Tokens that verify a step.")] = 0,
    redo: Annotated[float, typer.Option("--redo", help="Chance that a step is rejected and generated again.")] = 0.0,
    attempts: Annotated[
        int | None, typer.Option("--attempts", help="Most attempts of a step.  [default: as many as it takes]")
    ] = None,
    samples: Annotated[int, typer.Option("--samples", help="Chains side by side: best of n, or a majority.")] = 1,
    judge: Annotated[str, typer.Option("--judge", help="A reward model that reads every sample.")] = "",
    chance: Annotated[float | None, typer.Option("--chance", help="That one sample is right.")] = None,
    accelerator: AcceleratorOption = None,
    tokens_per_second: Annotated[
        float | None, typer.Option("--tokens-per-second", help="Of one sequence, for the time.")
    ] = None,
    usd_per_hour: Annotated[float | None, typer.Option("--usd-per-hour", help="Of what serves it.")] = None,
    usd_per_million: Annotated[
        float | None, typer.Option("--usd-per-million", help="Of generated tokens, for the money.")
    ] = None,
    usd_per_million_input: Annotated[
        float | None, typer.Option("--usd-per-million-input", help="Of the prompt's tokens.")
    ] = None,
    cache_dtype: CacheOption = "bf16",
    format: FormatOption = "table",  # noqa: A002 - the option's public name
) -> None:
    """Show what thinking costs: expected tokens, FLOPs, cache, time and money of chains that are checked and redone."""
    from calc.checks import idle
    from calc.reasoning import reason
    from calc.report import render

    if not steps:
        idle("a chain without --steps has none", step_tokens=(step_tokens, None), check_tokens=(check_tokens, 0))
        idle("without --steps there are none to redo", redo=(redo, 0), attempts=(attempts, None))
    if not redo:
        idle("without --redo every step stands at once", attempts=(attempts, None))
    result = reason(
        model,
        prompt=prompt,
        answer=answer,
        steps=steps,
        step_tokens=200 if step_tokens is None else step_tokens,
        check_tokens=check_tokens,
        redo=redo,
        attempts=attempts,
        samples=samples,
        judge=judge or None,
        chance=chance,
        cache_dtype=cache_dtype,
        accelerator=accelerator,
        tokens_per_second=tokens_per_second,
        usd_per_hour=usd_per_hour,
        usd_per_million=usd_per_million,
        usd_per_million_input=usd_per_million_input,
    )
    render(result, format)

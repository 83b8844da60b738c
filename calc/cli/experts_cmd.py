"""``calc experts MODEL``: the best count, size and activation of experts for a budget."""

from __future__ import annotations

from typing import Annotated

import typer

from calc.cli.options import ContextOption, FormatOption, ModelArgument


def command(
    model: ModelArgument,
    compute: Annotated[str, typer.Option("--compute", help="Training budget in FLOP, as 1e24.")],
    memory: Annotated[str, typer.Option("--memory", help="Leave out what does not fit in bf16, as 640GiB.")] = "",
    context: ContextOption = None,
    format: FormatOption = "table",  # noqa: A002 - the option's public name
) -> None:
    """Find how many experts, how large and how many at once suit a model's backbone best at a training budget."""
    from calc.report import render
    from calc.scaling import experts
    from calc.units import parse_bytes, parse_count

    room = float(parse_bytes(memory)) if memory else None
    render(experts(model, compute=parse_count(compute), context=context, memory=room), format)

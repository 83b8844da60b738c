"""``calc objective NAME MODEL``: what a training objective costs."""

from __future__ import annotations

from typing import Annotated

import typer

from calc.cli.options import FormatOption, ModelArgument


def command(
    name: Annotated[
        str,
        typer.Argument(
            metavar="OBJECTIVE",
            help="next-token, multi-token, contrastive, instruction, reward, dpo, ppo, grpo, distillation, continual.",
        ),
    ],
    model: ModelArgument,
    batch: Annotated[int, typer.Option("--batch", "-b", help="Sequences, pairs or prompts of a step.")] = 64,
    prompt: Annotated[
        int | None, typer.Option("--prompt", help="Tokens of a prompt (first tower).  [default: half the context]")
    ] = None,
    answer: Annotated[
        int | None, typer.Option("--answer", help="Tokens of an answer (second tower).  [default: half the context]")
    ] = None,
    other: Annotated[
        str, typer.Option("--with", help="The second model: tower, reward model, reference or teacher.")
    ] = "",
    critic: Annotated[str, typer.Option("--critic", help="PPO's critic.  [default: like the reward model]")] = "",
    tokens: Annotated[str, typer.Option("--tokens", help="Of the corpus to distil, or of one update, as 2T.")] = "",
    group: Annotated[int, typer.Option("--group", help="GRPO: answers of a prompt.")] = 8,
    epochs: Annotated[int, typer.Option("--epochs", help="PPO, GRPO: passes over what was generated.")] = 1,
    top_k: Annotated[int, typer.Option("--top-k", help="Distillation: logits kept of a token.")] = 256,
    value_bytes: Annotated[int, typer.Option("--value-bytes", help="Distillation: bytes of a logit.")] = 2,
    modules: Annotated[
        int | None, typer.Option("--modules", help="Multi-token: further tokens.  [default: as published]")
    ] = None,
    updates: Annotated[int, typer.Option("--updates", help="Continual: how many.")] = 12,
    replay: Annotated[float, typer.Option("--replay", help="Continual: share of old tokens in an update.")] = 0.0,
    precision: Annotated[str, typer.Option("--precision", help="bf16, fp16, fp8, bf16-true or fp32.")] = "bf16",
    optimizer: Annotated[str, typer.Option("--optimizer", help="adam, adam8bit, muon, adafactor, sgd, ...")] = "adam",
    formula: Annotated[bool, typer.Option("--formula", help="Show the formula of every pass.")] = False,
    format: FormatOption = "table",  # noqa: A002 - the option's public name
) -> None:
    """Show what a training objective costs: FLOPs by pass and model, memory by model, what is stored."""
    from calc.objectives import objective
    from calc.report import render
    from calc.units import parse_count

    result = objective(
        name,
        model,
        batch=batch,
        prompt=prompt,
        answer=answer,
        other=other or None,
        critic=critic or None,
        tokens=parse_count(tokens) if tokens else None,
        group=group,
        epochs=epochs,
        top_k=top_k,
        modules=0 if modules is None else modules,
        updates=updates,
        replay=replay,
        value_bytes=value_bytes,
        precision=precision,
        optimizer=optimizer,
        formulas=formula,
    )
    render(result, format)

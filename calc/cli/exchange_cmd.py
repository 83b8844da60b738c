"""``calc exchange MODEL``: what the devices of a layout send to each other."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from calc.cli.options import AcceleratorOption, ContextOption, FormatOption, ModelArgument


def command(
    model: ModelArgument,
    phase: Annotated[
        Literal["prefill", "decode", "train"], typer.Option("--phase", "-p", help="Which pass.")
    ] = "prefill",
    batch: Annotated[int, typer.Option("--batch", "-b", help="Sequences of each copy.")] = 1,
    context: ContextOption = None,
    tp: Annotated[int, typer.Option("--tp", help="Tensor-parallel devices.")] = 1,
    pp: Annotated[int, typer.Option("--pp", help="Pipeline stages.")] = 1,
    cp: Annotated[int, typer.Option("--cp", help="Devices that share a sequence.")] = 1,
    ep: Annotated[int, typer.Option("--ep", help="Devices that share the routed experts.")] = 1,
    dp: Annotated[int, typer.Option("--dp", help="Model copies.")] = 1,
    expert_tp: Annotated[
        int | None, typer.Option("--expert-tp", help="Devices that divide each expert.  [default: --tp]")
    ] = None,
    zero: Annotated[int, typer.Option("--zero", help="What copies share: 1 optimizer, 2 gradients, 3 weights.")] = 0,
    sequence_parallel: Annotated[
        bool, typer.Option("--sequence-parallel", help="Tokens are shared between tensor-parallel parts.")
    ] = False,
    virtual_stages: Annotated[int, typer.Option("--virtual-stages", help="Parts of the stack on each stage.")] = 1,
    stage: Annotated[int, typer.Option("--stage", help="Of which pipeline stage, from 0 on.")] = 0,
    dispatch: Annotated[
        Literal["all_to_all", "all_gather", "once_per_rank"],
        typer.Option("--dispatch", help="How tokens reach experts."),
    ] = "all_to_all",
    ring: Annotated[
        Literal["ring", "all_gather", "all_to_all"], typer.Option("--ring", help="How keys reach queries with --cp.")
    ] = "ring",
    recompute: Annotated[
        Literal["none", "selective", "full"], typer.Option("--recompute", help="What the backward pass does again.")
    ] = "none",
    accelerator: AcceleratorOption = None,
    format: FormatOption = "table",  # noqa: A002 - the option's public name
) -> None:
    """Show every collective of one device: where it comes from, its group, calls, bytes; on an accelerator its time."""
    from calc.exchanges import exchange
    from calc.parallel import Layout, Ways
    from calc.report import render

    layout = Layout(
        tp=tp,
        pp=pp,
        cp=cp,
        ep=ep,
        dp=dp,
        expert_tp=expert_tp,
        zero=zero,
        sequence_parallel=sequence_parallel,
        virtual_stages=virtual_stages,
        schedule="interleaved" if virtual_stages > 1 else "1f1b",
    )
    ways = Ways(dispatch=dispatch, ring=ring, recompute=recompute)
    result = exchange(
        model, layout, phase=phase, context=context, batch=batch, stage=stage, accelerator=accelerator, ways=ways
    )
    render(result, format)

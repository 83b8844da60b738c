"""``calc train MODEL``: what training costs."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from calc.cli.options import DeviceOption, FormatOption, ModelArgument


def command(
    model: ModelArgument,
    accelerator: DeviceOption,
    gpus: Annotated[int, typer.Option("--gpus", "-n", help="Devices.")],
    tp: Annotated[int, typer.Option("--tp", help="Tensor-parallel degree.")] = 1,
    pp: Annotated[int, typer.Option("--pp", help="Pipeline stages.")] = 1,
    cp: Annotated[int, typer.Option("--cp", help="Devices that share a sequence.")] = 1,
    ep: Annotated[int, typer.Option("--ep", help="Devices that share the routed experts.")] = 1,
    dp: Annotated[int | None, typer.Option("--dp", help="Copies.  [default: the devices left]")] = None,
    zero: Annotated[
        int | None, typer.Option("--zero", help="ZeRO stage 0 to 3 (3 is FSDP).  [default: the framework's]")
    ] = None,
    virtual_stages: Annotated[int, typer.Option("--virtual-stages", help="Parts of each pipeline stage.")] = 1,
    schedule: Annotated[
        Literal["gpipe", "1f1b", "interleaved", "zero_bubble"] | None,
        typer.Option("--schedule", help="Pipeline order."),
    ] = None,
    sequence_parallel: Annotated[
        bool | None, typer.Option("--sequence-parallel/--no-sequence-parallel", help="Share tokens between tp parts.")
    ] = None,
    micro_batch: Annotated[int, typer.Option("--micro-batch", "-b", help="Sequences of a micro-batch.")] = 1,
    global_batch: Annotated[int | None, typer.Option("--global-batch", help="Sequences of a step.")] = None,
    seq: Annotated[
        int | None, typer.Option("--seq", "-c", help="Tokens of a sequence.  [default: at most 4096]")
    ] = None,
    precision: Annotated[str, typer.Option("--precision", help="bf16, fp16, fp8, mxfp8, nvfp4, tf32, fp32.")] = "bf16",
    recompute: Annotated[
        Literal["none", "selective", "full"], typer.Option("--recompute", help="Activations computed again.")
    ] = "none",
    optimizer: Annotated[str, typer.Option("--optimizer", help="adam, adam8bit, muon, adafactor, sgd, ...")] = "adam",
    method: Annotated[Literal["full", "lora", "qlora"], typer.Option("--method", help="What is trained.")] = "full",
    lora_rank: Annotated[int, typer.Option("--lora-rank", help="Rank of adapters.")] = 16,
    mtp: Annotated[bool, typer.Option("--mtp", help="Train the multi-token prediction modules, too.")] = False,
    framework: Annotated[
        str, typer.Option("--framework", help="Its practice: megatron-core, nemo, torchtitan, ...")
    ] = "megatron-core",
    tokens: Annotated[str, typer.Option("--tokens", help="Token budget, e.g. 15T: days, money, energy.")] = "",
    usd_per_hour: Annotated[float | None, typer.Option("--usd-per-hour", help="Price of a device hour.")] = None,
    search: Annotated[bool, typer.Option("--search", help="Find the fastest layouts that fit.")] = False,
    require_fit: Annotated[bool, typer.Option("--require-fit", help="Exit with 1 if it does not fit.")] = False,
    format: FormatOption = "table",  # noqa: A002 - the option's public name
) -> None:
    """Show what training costs: memory per device, step time, utilisation, and days and money for a token budget."""
    from calc.errors import SpecError
    from calc.report import render
    from calc.report.progress import progress
    from calc.training import train
    from calc.units import parse_count

    budget = parse_count(tokens) if tokens else None
    if budget is not None and not 1 <= budget < 1e18:
        raise SpecError(f"tokens = {budget:g} is not a number of tokens")
    with progress() as watch:
        answer = train(
            model, accelerator, gpus, tp=tp, pp=pp, cp=cp, ep=ep, dp=dp, zero=zero, virtual_stages=virtual_stages,
            schedule=schedule, sequence_parallel=sequence_parallel, micro_batch=micro_batch, global_batch=global_batch,
            context=seq, precision=precision, recompute=recompute, optimizer=optimizer, method=method,
            lora_rank=lora_rank, mtp=mtp, framework=framework, tokens=None if budget is None else round(budget),
            usd_per_hour=usd_per_hour, search=search, progress=watch,
        )  # fmt: skip
    render(answer.to_result(), format)
    if require_fit and not answer.fits:
        raise SystemExit(1)

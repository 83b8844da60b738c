"""``calc serve MODEL``: what a deployment gives its users, and what it costs."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from calc.cli.options import (
    AudioOption,
    DeviceOption,
    FormatOption,
    ImagesOption,
    ModelArgument,
    VideoOption,
    WeightsOption,
)


def command(
    model: ModelArgument,
    accelerator: DeviceOption,
    input_tokens: Annotated[int, typer.Option("--input", "-i", help="Tokens of a prompt, its text.")],
    output_tokens: Annotated[int, typer.Option("--output", "-o", help="Tokens of an answer.")],
    gpus: Annotated[int, typer.Option("--gpus", "-n", help="Accelerators.")] = 1,
    concurrency: Annotated[
        float | None, typer.Option("--concurrency", "-c", help="Users.  [default: as many as fit]")
    ] = None,
    rate: Annotated[float | None, typer.Option("--rate", "-r", help="Requests a second, instead of users.")] = None,
    tp: Annotated[int | None, typer.Option("--tp", help="Tensor parallelism.  [default: all of a copy]")] = None,
    pp: Annotated[int, typer.Option("--pp", help="Pipeline stages.")] = 1,
    ep: Annotated[int, typer.Option("--ep", help="Ranks that share the experts.")] = 1,
    dp: Annotated[int | None, typer.Option("--dp", help="Copies.  [default: what is left]")] = None,
    engine: Annotated[str, typer.Option("--engine", help="vllm, sglang, tensorrt-llm, llama.cpp, or a file.")] = "vllm",
    engine_version: Annotated[str | None, typer.Option("--engine-version", help="As 0.9.2.")] = None,
    weights_dtype: WeightsOption = None,
    cache_dtype: Annotated[str, typer.Option("--cache-dtype", help="Format of the cache.")] = "bf16",
    memory_fraction: Annotated[float | None, typer.Option("--memory-fraction", help="The engine's share.")] = None,
    batched_tokens: Annotated[int | None, typer.Option("--batched-tokens", help="Most tokens of a step.")] = None,
    sequences: Annotated[int | None, typer.Option("--sequences", help="Most sequences at once.")] = None,
    cached: Annotated[float, typer.Option("--cached", help="Share of each prompt in a prefix cache.")] = 0.0,
    cached_on: Annotated[Literal["device", "host"], typer.Option("--cached-on", help="Where it is.")] = "device",
    guesses: Annotated[int, typer.Option("--guesses", help="Tokens drafted for a step.")] = 0,
    accepted: Annotated[float | None, typer.Option("--accepted", help="Tokens that a step then yields.")] = None,
    drafter: Annotated[str, typer.Option("--drafter", help="mtp, ngram, or a model.")] = "mtp",
    prefill_gpus: Annotated[int, typer.Option("--prefill-gpus", help="Of the GPUs, those that read prompts.")] = 0,
    experts_on: Annotated[
        Literal["device", "host"], typer.Option("--experts-on", help="Where experts are.")
    ] = "device",
    usd_per_hour: Annotated[float | None, typer.Option("--usd-per-hour", help="Price of one accelerator.")] = None,
    images: ImagesOption = None,
    audio: AudioOption = None,
    video: VideoOption = None,
    skew: Annotated[float, typer.Option("--skew", help="Zipf exponent of the experts' popularity.")] = 0.0,
    solve: Annotated[
        list[str] | None,
        typer.Option("--solve", help="context, users, gpus, cache-dtype or compute-batch: the other way round."),
    ] = None,
    tpot: Annotated[
        float | None, typer.Option("--tpot", help="Limit of seconds per token: is it kept? --solve keeps it.")
    ] = None,
    ttft: Annotated[float | None, typer.Option("--ttft", help="That of seconds to the first token.")] = None,
    require_fit: Annotated[
        bool, typer.Option("--require-fit", help="Exit 1 where it does not fit, or a limit is not kept.")
    ] = False,
    format: FormatOption = "table",  # noqa: A002 - the option's public name
) -> None:
    """Show what a deployment gives: memory, cache, latency under load, throughput, money, the first limit."""
    from calc.report import render
    from calc.serving import serve

    found = serve(
        model,
        accelerator,
        gpus=gpus,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        concurrency=concurrency,
        rate=rate,
        tp=tp,
        pp=pp,
        ep=ep,
        dp=dp,
        engine=engine,
        engine_version=engine_version,
        weights_dtype=weights_dtype,
        cache_dtype=cache_dtype,
        memory_fraction=memory_fraction,
        batched_tokens=batched_tokens,
        sequences=sequences,
        cached=cached,
        cached_on=cached_on,
        guesses=guesses,
        accepted=accepted,
        drafter=drafter,
        prefill_gpus=prefill_gpus,
        experts_on=experts_on,
        usd_per_hour=usd_per_hour,
        skew=skew,
        images=images,
        audio=audio,
        video=video,
    )
    limits = found.limits(tpot=tpot, ttft=ttft)
    solved = [found.solve(what, tpot=tpot, ttft=ttft) for what in dict.fromkeys(solve or ())]
    render(found.to_result(solved, limits), format)
    if require_fit and not (found.fits and all(limit.met for limit in limits)):
        raise SystemExit(1)

"""``calc plan MODEL``: the cheapest deployments that meet objectives."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from calc.cli.options import AudioOption, FormatOption, ImagesOption, ModelArgument, VideoOption


def command(
    model: ModelArgument,
    rate: Annotated[float, typer.Option("--rate", "-r", help="Requests a second, at the peak.")],
    ttft: Annotated[float, typer.Option("--ttft", help="Seconds to the first token at most.")],
    tpot: Annotated[float, typer.Option("--tpot", help="Seconds for each further token at most.")],
    input_tokens: Annotated[float | None, typer.Option("--input", "-i", help="Tokens of a prompt, on average.")] = None,
    output_tokens: Annotated[float | None, typer.Option("--output", "-o", help="Tokens of an answer.")] = None,
    input_spread: Annotated[
        float, typer.Option("--input-spread", help="Standard deviation of prompts over their mean.")
    ] = 1.0,
    output_spread: Annotated[float, typer.Option("--output-spread", help="That of answers.")] = 1.0,
    lengths: Annotated[
        str | None,
        typer.Option("--lengths", help="CSV or JSON rows of input, output, share; in place of the four above."),
    ] = None,
    quantile: Annotated[float, typer.Option("--quantile", help="Of requests that are as fast.")] = 0.9,
    profile: Annotated[
        str | None, typer.Option("--profile", help="24 numbers by hour, with commas or in a file.  [default: flat]")
    ] = None,
    accelerators: Annotated[
        str | None, typer.Option("--accelerators", "-a", help="Names with commas.  [default: all with a known price]")
    ] = None,
    max_gpus: Annotated[int, typer.Option("--max-gpus", "-n", help="Accelerators at most.")] = 1024,
    engine: Annotated[str, typer.Option("--engine", help="vllm, sglang, tensorrt-llm, with commas.")] = "vllm",
    weights_dtype: Annotated[
        str | None, typer.Option("--weights-dtype", help="Format of the weights.  [default: published, and 8 bits]")
    ] = None,
    cache_dtype: Annotated[str, typer.Option("--cache-dtype", help="Format of the cache.")] = "bf16",
    cached: Annotated[float, typer.Option("--cached", help="Share of each prompt in a prefix cache.")] = 0.0,
    disaggregated: Annotated[
        bool, typer.Option("--disaggregated/--no-disaggregated", help="Also prompts on devices of their own.")
    ] = True,
    images: ImagesOption = None,
    audio: AudioOption = None,
    video: VideoOption = None,
    usd_per_hour: Annotated[float | None, typer.Option("--usd-per-hour", help="Price of one accelerator.")] = None,
    also: Annotated[
        list[str] | None, typer.Option("--also", metavar="MODEL:RATE", help="Another model on the same fleet.")
    ] = None,
    require_plan: Annotated[bool, typer.Option("--require-plan", help="Exit 1 where nothing would do.")] = False,
    format: FormatOption = "table",  # noqa: A002 - the option's public name
) -> None:
    """Find the cheapest deployments for a load: accelerators, count, layout, format, engine, money."""
    from calc.planning import Demand, fleet
    from calc.report import render
    from calc.report.progress import progress

    spreads = (input_spread, output_spread)
    demands = [{"model": model, "rate": rate}, *(_also(text) for text in also or ())]
    with progress() as advance:
        found = fleet(
            demands, progress=advance, lengths=_lengths(lengths, input_tokens, output_tokens, spreads),
            ttft=ttft, tpot=tpot, quantile=quantile,
            profile=None if profile is None else Demand.read_profile(profile),
            accelerators=_names(accelerators), max_gpus=max_gpus, engines=_names(engine) or (),
            weights_dtype=weights_dtype, cache_dtype=cache_dtype, cached=cached, disaggregated=disaggregated,
            usd_per_hour=usd_per_hour, images=images, audio=audio, video=video,
        )  # fmt: skip
    render(found.to_result() if also else found.plans[0].to_result(), format)
    if require_plan and not found.complete:
        raise SystemExit(1)


def _lengths(
    file: str | None, input_tokens: float | None, output_tokens: float | None, spreads: tuple[float, float]
) -> Any:
    from calc.errors import SpecError
    from calc.planning import Lengths

    means = input_tokens, output_tokens
    if file is not None:
        if means != (None, None) or spreads != (1.0, 1.0):
            raise SpecError("--lengths says what --input, --output and their spreads would: give one or the other")
        return Lengths.read(file)
    if input_tokens is None or output_tokens is None:
        raise SpecError("give --input and --output, or --lengths")
    return Lengths(
        input_tokens=input_tokens, output_tokens=output_tokens, input_spread=spreads[0], output_spread=spreads[1]
    )


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def _also(text: str) -> dict[str, Any]:
    """Read MODEL:RATE.

    Raises:
        SpecError: it is not of that form.
    """
    from calc.errors import SpecError, shortened

    model, _, rate = text.rpartition(":")
    try:
        return {"model": model or text, "rate": float(rate)}
    except ValueError:
        raise SpecError(f"--also {shortened(text)}: write MODEL:RATE, as llama-3.1-8b:20") from None

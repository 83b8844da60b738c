"""``calc ops MODEL``: the operation table."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from calc.cli.options import (
    AcceleratorOption,
    BatchOption,
    CacheOption,
    CausalOption,
    ContextOption,
    CountsOption,
    FormatOption,
    ModelArgument,
    SourceOption,
    WeightsOption,
)


def command(
    model: ModelArgument,
    phase: Annotated[
        Literal["prefill", "decode", "train"],
        typer.Option("--phase", "-p", help="Which pass; train, forward and backward, needs an accelerator."),
    ] = "prefill",
    batch: BatchOption = 1,
    context: ContextOption = None,
    source: SourceOption = None,
    weights_dtype: WeightsOption = None,
    cache_dtype: CacheOption = "bf16",
    causal: CausalOption = True,
    counts: CountsOption = "matmul",
    accelerator: AcceleratorOption = None,
    tp: Annotated[int, typer.Option("--tp", help="Tensor-parallel devices; the table is that of one.")] = 1,
    fusion: Annotated[
        Literal["fused", "eager"], typer.Option("--fusion", help="Kernels as engines fuse them, or one an operation.")
    ] = "fused",
    launch: Annotated[
        Literal["graph", "stream"], typer.Option("--launch", help="From a recorded graph, or one by one by the host.")
    ] = "graph",
    format: FormatOption = "table",  # noqa: A002 - the option's public name
) -> None:
    """Print every operation of a pass: einsum, parameters, FLOPs, bytes moved when nothing is fused, intensity.

    With an accelerator: the kernels that they become, their time, what bounds it, its share.
    """
    from calc.errors import SpecError
    from calc.report import render

    if accelerator is None:
        from calc.views import operation_table

        for name, value, default in (("tp", tp, 1), ("fusion", fusion, "fused"), ("launch", launch, "graph")):
            if value != default:
                raise SpecError(f"--{name} is about kernels: name an --accelerator too")
        if phase == "train":
            raise SpecError("--phase train is about kernels: name an --accelerator too")
        result = operation_table(
            model,
            phase=phase,
            batch=batch,
            context=context,
            source=source,
            weights_dtype=weights_dtype,
            cache_dtype=cache_dtype,
            causal=causal,
            counts=counts,
        )
    else:
        from calc.timings import kernel_table

        if counts != "matmul":
            raise SpecError("--counts is about operations, and kernels show matrix products: leave --accelerator away")
        result = kernel_table(
            model,
            accelerator,
            phase=phase,
            tp=tp,
            fusion=fusion,
            launch=launch,
            batch=batch,
            context=context,
            source=source,
            weights_dtype=weights_dtype,
            cache_dtype=cache_dtype,
            causal=causal,
        )
    render(result, format)

"""Arguments and options that several commands share."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

ModelArgument = Annotated[
    str, typer.Argument(metavar="MODEL", help="A preset's name, a preset file, a config.json or its folder.")
]
ModelsArgument = Annotated[
    list[str], typer.Argument(metavar="MODEL...", help="Preset names, preset files, config.json files or folders.")
]
FormatOption = Annotated[Literal["table", "json", "csv", "md"], typer.Option("--format", "-f", help="How to print it.")]
BatchOption = Annotated[int, typer.Option("--batch", "-b", help="Sequences.")]
ContextOption = Annotated[
    int | None, typer.Option("--context", "-c", help="Tokens of each sequence.  [default: the model's, at most 8192]")
]
SourceOption = Annotated[
    int | None, typer.Option("--source", help="Tokens on the encoder's side.  [default: as many as --context]")
]
WeightsOption = Annotated[
    str | None,
    typer.Option(
        "--weights-dtype",
        help="Format of the weights (bf16, fp8, mxfp4), a scheme (deepseek-fp8, q4_k_m), or formats by role "
        "(experts=mxfp4,rest=bf16), of layers and operations, too (ffn@1-30=fp8).  [default: as published]",
    ),
]
CacheOption = Annotated[
    str, typer.Option("--cache-dtype", help="Format of the KV cache (bf16, fp8, int4-g32, nvfp4, ...).")
]
CausalOption = Annotated[
    bool,
    typer.Option("--causal/--full", help="Count the pairs the mask lets through, or all that a dense kernel does."),
]
CountsOption = Annotated[
    Literal["matmul", "all"], typer.Option("--counts", help="Matrix products only, or norms, softmax, ... too.")
]
_ACCELERATOR = typer.Option(
    "--accelerator", "-a", help="A preset of `calc list accelerators`, its TOML file, or a file of `calc calibrate`."
)
AcceleratorOption = Annotated[str | None, _ACCELERATOR]
DeviceOption = Annotated[str, _ACCELERATOR]
ImagesOption = Annotated[
    str | None, typer.Option("--images", help="Images in the prompt, width before height: 3@1024x768,1@640x480.")
]
AudioOption = Annotated[str | None, typer.Option("--audio", help="Sound in the prompt: 60s, 1m30s, 2@10s.")]
VideoOption = Annotated[
    str | None, typer.Option("--video", help="Clips, and the frames taken a second: 60s@1fps, 10s@2fps@1280x720.")
]

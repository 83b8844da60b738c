"""``calc show``: the card of a model or an accelerator."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from calc.cli.options import (
    AudioOption,
    BatchOption,
    CacheOption,
    CausalOption,
    ContextOption,
    CountsOption,
    FormatOption,
    ImagesOption,
    SourceOption,
    VideoOption,
    WeightsOption,
)

Named = Annotated[
    str,
    typer.Argument(metavar="NAME", help="A preset of a model or an accelerator, its file, or a model's config.json."),
]


TextOption = Annotated[
    int | None, typer.Option("--text", help="Tokens of text beside them, in place of --context.  [default: 256]")
]
CropsOption = Annotated[
    bool, typer.Option("--crops", help="Cut crops out of elongated images, where a model can (pan and scan).")
]


def command(
    name: Named,
    batch: BatchOption = 1,
    context: ContextOption = None,
    source: SourceOption = None,
    weights_dtype: WeightsOption = None,
    cache_dtype: CacheOption = "bf16",
    causal: CausalOption = True,
    counts: CountsOption = "matmul",
    images: ImagesOption = None,
    audio: AudioOption = None,
    video: VideoOption = None,
    text: TextOption = None,
    crops: CropsOption = False,
    format: FormatOption = "table",  # noqa: A002 - the option's public name
) -> None:
    """Show what a model costs (parameters, weights, cache, FLOPs; images and sound), or what an accelerator offers."""
    from calc.report import render
    from calc.views import show

    given: dict[str, Any] = {
        "batch": (batch, 1),
        "context": (context, None),
        "source": (source, None),
        "weights_dtype": (weights_dtype, None),
        "cache_dtype": (cache_dtype, "bf16"),
        "causal": (causal, True),
        "counts": (counts, "matmul"),
        "images": (images, None),
        "audio": (audio, None),
        "video": (video, None),
        "text": (text, None),
        "crops": (crops, False),
    }
    # what is left at its default is not passed on: none of it means anything for an accelerator
    render(show(name, **{key: value for key, (value, default) in given.items() if value != default}), format)

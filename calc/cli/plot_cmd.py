"""``calc plot NAME MODEL...``: charts."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from calc.cli.options import WeightsOption
from calc.errors import SpecError, printable


def command(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="Which chart; --list shows them.")] = "",
    models: Annotated[
        list[str] | None, typer.Argument(metavar="[MODEL]...", help="As elsewhere.  [default: those of the gallery]")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="A .png, .svg or .pdf; with --all a folder.  [default: NAME.png, plots]"),
    ] = None,
    size: Annotated[str, typer.Option("--size", help="Inches, as 8x5.  [default: what suits the data]")] = "",
    dpi: Annotated[int, typer.Option("--dpi", help="Pixels to the inch of a PNG.")] = 150,
    dark: Annotated[bool, typer.Option("--dark/--light", help="For a dark or a light page.")] = False,
    terminal: Annotated[bool, typer.Option("--terminal", "-t", help="Draw with characters here.")] = False,
    listed: Annotated[bool, typer.Option("--list", "-l", help="List the charts.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Draw the gallery: every chart, and its page.")] = False,
    results: Annotated[
        list[Path] | None,
        typer.Option("--from", help="What another command printed as JSON (- reads standard input); may be repeated."),
    ] = None,
    accelerators: Annotated[
        list[str] | None, typer.Option("--accelerator", "-a", help="Accelerators to hold it against; may be repeated.")
    ] = None,
    batch: Annotated[int | None, typer.Option("--batch", "-b", help="Sequences.")] = None,
    context: Annotated[int | None, typer.Option("--context", "-c", help="Tokens, where the chart takes them.")] = None,
    gpus: Annotated[int | None, typer.Option("--gpus", "-n", help="Devices, where the chart takes them.")] = None,
    weights_dtype: WeightsOption = None,
    cache_dtype: Annotated[str | None, typer.Option("--cache-dtype", help="Format of the KV cache.")] = None,
    format: Annotated[  # noqa: A002 - the option's public name
        Literal["table", "json", "csv", "md"] | None,
        typer.Option("--format", "-f", help="Print the plotted values instead of drawing them."),
    ] = None,
) -> None:
    """Draw a chart of models as PNG, SVG or PDF, or with characters; print its values; draw the gallery."""
    from calc.report import render
    from calc.report.progress import progress

    if listed or not (name or everything):
        from calc.charts.gallery import list_charts

        render(list_charts(), format or "table")
        return
    given = [_read(path) for path in results or ()]
    if everything:
        if name:
            raise SpecError(f"--all draws every chart: leave {name} out")
        _gallery(output, given, format)
        return
    options: dict[str, Any] = {
        "batch": batch,
        "context": context,
        "gpus": gpus,
        "weights_dtype": weights_dtype,
        "cache_dtype": cache_dtype,
        "accelerators": accelerators,
        "results": given,
    }
    from calc.charts import plot

    with progress() as advance:
        if advance:
            advance("counting", 0, 2)
        picture = plot(name, models or (), **options)
        if advance:
            advance("drawing", 1, 2)
        if output or not (terminal or format):
            wrote = picture.save(output or f"{name}.png", _size(size), dark=dark, dpi=dpi)
    if terminal:
        sys.stdout.write(picture.text(_columns()))
    if format:
        render(picture.data.result(), format)
    if output or not (terminal or format):
        print(f"{printable(picture.data.finding)}\nwrote {printable(str(wrote))}", file=sys.stderr)


def _columns() -> int:
    from shutil import get_terminal_size

    return get_terminal_size((80, 24)).columns if sys.stdout.isatty() else 80


def _size(text: str) -> tuple[float, float] | None:
    """Read inches such as 8x5."""
    if not text:
        return None
    found = re.fullmatch(r"(\d{1,3}(?:\.\d+)?)[x×](\d{1,3}(?:\.\d+)?)", text.strip())
    if not found:
        raise SpecError(f"size = {text[:40]!r} is not inches such as 8x5")
    return float(found[1]), float(found[2])


def _read(path: Path) -> dict[str, Any]:
    """Read what another command printed, and require that it is that."""
    from pydantic import ValidationError

    from calc.charts.reading import read_result
    from calc.schema import DOCUMENTS

    found = read_result(path)
    document = DOCUMENTS.get(str(found["kind"]))
    try:
        if document is not None:
            document.model_validate(found)
            return found
    except ValidationError:
        pass
    raise SpecError(f"{path} is not what this version of calc prints with --format json")


def _example_plan() -> dict[str, Any]:
    """Return the plan that the gallery's command asks for."""
    import json
    from contextlib import redirect_stdout
    from io import StringIO

    from calc.charts.gallery import ANSWERS
    from calc.cli.app import build

    arguments = [*ANSWERS["plan"].split(), "--format", "json"]
    printed = StringIO()
    with redirect_stdout(printed):
        build(arguments)(arguments, standalone_mode=False)
    found: dict[str, Any] = json.loads(printed.getvalue())
    return found


def _gallery(output: Path | None, given: list[dict[str, Any]], form: Any) -> None:
    from importlib.util import find_spec

    from calc.charts.gallery import check_folder, draw_gallery
    from calc.report import render
    from calc.report.progress import progress

    check_folder(output or "plots")  # before what takes a minute
    kinds = {answer["kind"] for answer in given}
    if "plan" not in kinds:
        given.append(_example_plan())  # it has a bar of its own
    with progress() as advance:
        if "validate" not in kinds and find_spec("torch"):
            from calc.validate import prove

            given.append(prove(progress=advance).to_dict())
        if "accuracy" not in kinds:
            from calc.measured import accuracy

            given.append(accuracy(progress=advance).to_dict())
        result = draw_gallery(output or "plots", results=given, progress=advance)
    if not find_spec("torch") and "validate" not in kinds:
        print("note: the chart proof is left out: it needs PyTorch, or --from proof.json", file=sys.stderr)
    render(result, form or "table")

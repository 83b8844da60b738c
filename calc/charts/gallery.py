"""The gallery: every chart for the models that suit it, light and dark, with a page that says what each shows."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from calc.charts import KINDS, plot
from calc.charts.chart import chart
from calc.charts.picture import DPI, Picture
from calc.errors import SpecError
from calc.results import Figure, Grid, Result, Row

PAGE = "README.md"
HEAD = "# Gallery"
ANSWERS = {
    "plan": "plan llama-3.1-70b --rate 20 --input 2000 --output 300 --ttft 2 --tpot 0.04 --accelerators h100-sxm,h200 "
    "--max-gpus 64 --profile .3,.2,.2,.2,.2,.3,.4,.6,.8,.9,1,1,.9,1,1,1,.9,.9,.8,.8,.7,.6,.5,.4",
    "proof": "validate",
    "accuracy": "accuracy",
}
"""Chart of another command's answer → the command, whose first word is the answer's kind."""
TALL, COARSE = 8.0, 100
"""Inches from which on a picture is drawn with fewer dots to the inch, so that none is a large file."""
Progress = Callable[[str, int, int], None]


def list_charts() -> Result:
    """Return the charts, one line each."""
    rows, records = [], []
    for name in KINDS:
        kind = chart(name)
        count = "none" if not kind.most else _count(kind.least, kind.most)
        taken = [option.replace("_", "-") for option in kind.takes]
        rows.append(Row(name, (name, kind.about, count, ", ".join(taken))))
        entry = {"name": name, "about": kind.about, "least": kind.least, "most": kind.most}
        records.append({**entry, "takes": list(kind.takes), "models": list(kind.models)})
    grid = Grid("", ("chart", "what it shows", "models", "options"), tuple(rows))
    return Result(kind="charts", data={"charts": records}, grids=(grid,))


def _count(least: int, most: int) -> str:
    """Write how many models a chart takes.

    >>> _count(1, 24), _count(1, 12), _count(1, 1)
    ('1+', '1–12', '1')
    """
    return f"{least}+" if most > 12 else f"{least}" if least == most else f"{least}–{most}"


def _kind(name: str) -> str | None:
    """Return the kind of answer that a chart is drawn from."""
    return ANSWERS[name].split()[0] if name in ANSWERS else None


def command(name: str) -> str:
    """Return the command that draws a chart of the gallery."""
    kind = chart(name)
    if kind.of_answers:
        answer = ANSWERS[name]
        return f"calc {answer} --format json > {name}.json && calc plot {name} --from {name}.json -o {name}.png"
    return " ".join(("calc plot", name, *kind.models, "-o", f"{name}.png"))


def draw_gallery(
    folder: str | Path = "plots",
    *,
    results: Iterable[Mapping[str, Any]] = (),
    progress: Progress | None = None,
) -> Result:
    """Draw every chart and its page into a folder, all or nothing: an earlier gallery there is replaced as a whole.

    A chart of other commands' results is drawn if ``results`` has some.

    Raises:
        SpecError: the folder holds something that is no gallery, or cannot be written; results that no chart takes.
    """
    target, given = Path(folder).expanduser().resolve(), list(results)
    check_folder(target)
    answered = {answer.get("kind") for answer in given}
    if useless := answered - {_kind(name) for name in KINDS if chart(name).of_answers}:
        raise SpecError(f"no chart of the gallery takes a result of kind {', '.join(sorted(map(str, useless)))}")
    names = [name for name in KINDS if not chart(name).of_answers or _kind(name) in answered]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".calc-") as space:
            fresh = Path(space) / "new"
            fresh.mkdir(mode=0o755)
            pictures = _draw(fresh, names, given, progress)
            (fresh / PAGE).write_text(page(pictures), encoding="utf-8")
            if target.exists():
                target.rename(Path(space) / "old")
            fresh.rename(target)
    except OSError as error:
        raise SpecError(f"cannot write {folder}: {(error.strerror or str(error)).lower()}") from None
    sizes = {path.name: path.stat().st_size for path in sorted(target.iterdir())}
    rows = tuple(Row(name, (name, Figure(size, "B"))) for name, size in sizes.items())
    data = {"folder": str(folder), "files": [{"name": name, "bytes": size} for name, size in sizes.items()]}
    return Result(kind="gallery", data=data, grids=(Grid(f"wrote {folder}", ("file", "size"), rows),))


def check_folder(folder: str | Path) -> None:
    """Refuse a folder that holds something else than a gallery.

    Raises:
        SpecError: what it holds.
    """
    target = Path(folder).expanduser().resolve()
    if not target.exists():
        return
    if not target.is_dir():
        raise SpecError(f"{target} is not a folder")
    inside = sorted(path.name for path in target.iterdir())
    page = target / PAGE
    ours = page.is_file() and page.read_text("utf-8", errors="replace").startswith(HEAD)
    other = [name for name in inside if name != PAGE and not name.endswith(".png")]
    if inside and (not ours or other):
        raise SpecError(f"{target} holds {(other or inside)[0]}, which is no part of a gallery; name another folder")


def _draw(
    folder: Path, names: list[str], results: list[Mapping[str, Any]], progress: Progress | None
) -> dict[str, Picture]:
    found = {}
    for done, name in enumerate(names):
        if progress:
            progress(name, done, len(names))
        picture = plot(name, results=[each for each in results if each.get("kind") == _kind(name)])
        dpi = DPI if picture.kind.size(picture.data)[1] <= TALL else COARSE
        picture.save(folder / f"{name}.png", dpi=dpi)
        picture.save(folder / f"{name}-dark.png", dark=True, dpi=dpi)
        found[name] = picture
    if progress:
        progress("", len(names), len(names))
    return found


def page(pictures: Mapping[str, Picture]) -> str:
    """Return the page: the finding of each chart, its picture, its models, the command that draws it."""
    parts = [HEAD, "Drawn by `calc plot --all`. Every title is computed from what the chart shows.", ""]
    for name, picture in pictures.items():
        kind, data = picture.kind, picture.data
        parts += [
            f"## {data.finding}",
            "",
            f'<picture><source media="(prefers-color-scheme: dark)" srcset="{name}-dark.png">'
            f'<img alt="{_alt(data.finding)}" src="{name}.png" width="800"></picture>',
            "",
            f"{kind.about}." + (f" Models: {', '.join(kind.models)}." if kind.models else ""),
            "",
            *(["```sh", command(name), "```"]),
            "",
        ]
    return "\n".join(parts).rstrip() + "\n"


def _alt(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")

"""``calc list``: the presets of models, accelerators and engines."""

from __future__ import annotations

from typing import Annotated

import typer

from calc.cli.options import FormatOption
from calc.errors import SpecError


def command(
    search: Annotated[
        str,
        typer.Argument(
            metavar="[accelerators|engines] [SEARCH]", help="Keep presets whose name, title or mechanisms contain this."
        ),
    ] = "",
    narrower: Annotated[str, typer.Argument(hidden=True)] = "",
    format: FormatOption = "table",  # noqa: A002 - the option's public name
) -> None:
    """List presets, one line each: parameters, active parameters, layers, mechanisms; or accelerators, or engines."""
    from calc.report import render

    if search in ("accelerators", "engines", "models"):
        kind, search = search, narrower
    elif narrower:
        raise SpecError(f"list takes one word to search for; {narrower!r} is a second")
    else:
        kind = "models"
    if kind == "accelerators":
        from calc.devices import accelerators

        render(accelerators(search), format)
    elif kind == "engines":
        from calc.serving.listing import engines

        render(engines(search), format)
    else:
        from calc.views import listing

        render(listing(search), format)

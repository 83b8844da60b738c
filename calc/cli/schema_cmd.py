"""``calc schema``: JSON schemas."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer


def command(
    what: Annotated[
        str,
        typer.Argument(
            metavar="[preset|accelerator-preset|claims|COMMAND]", help="A file's schema, or that of a command's answer."
        ),
    ] = "preset",
) -> None:
    """Print the JSON schema of a preset or of a command's JSON output (show, accelerators, ...)."""
    from calc.schema import schema

    sys.stdout.write(json.dumps(schema(what), indent=2, ensure_ascii=False) + "\n")

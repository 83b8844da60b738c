"""Answers of other commands, read back from their JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from calc.errors import SpecError
from calc.results import SCHEMA_VERSION

MAX_BYTES = 2**28


def read_result(path: Path) -> dict[str, Any]:
    """Return what a command printed with ``--format json``; ``-`` is standard input.

    Raises:
        SpecError: the file cannot be read, or holds no such answer.
    """
    name = "standard input" if str(path) == "-" else str(path)
    try:
        if str(path) == "-":
            content = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with path.open("rb") as file:
                content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise SpecError(f"cannot read {name}: {(error.strerror or str(error)).lower()}") from None
    if len(content) > MAX_BYTES:
        raise SpecError(f"{name} is larger than {MAX_BYTES >> 20} MiB: not an answer of calc")
    try:
        data = json.loads(content)
    except (ValueError, RecursionError):
        raise SpecError(f"{name} is not JSON: give what a command printed with --format json") from None
    if not isinstance(data, dict) or data.get("schema_version") != SCHEMA_VERSION or "kind" not in data:
        raise SpecError(f"{name} is not what a command of calc printed with --format json")
    return data

"""Answers of other commands, read back from their JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
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


def only_answer(kind: str, results: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the one answer that a chart is drawn from; chart, command and kind of answer have one name.

    Raises:
        SpecError: there is none, another or more than one.
    """
    if [result.get("kind") for result in results] != [kind]:
        raise SpecError(f"the chart {kind} is drawn from what `calc {kind} --format json` printed (--from)")
    return results[0]

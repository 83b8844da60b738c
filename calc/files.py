"""Writing files whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from calc.errors import SpecError, shortened


def write_whole(path: Path, content: bytes, *, replace: bool = True) -> None:
    """Write a file whole or not at all; only a regular file is replaced, and through a link, not over it.

    Raises:
        SpecError: the file exists and is not to be replaced, is none, or cannot be written.
    """
    try:
        _write(path, content, replace=replace)
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise SpecError(f"cannot write {shortened(str(path), 200)}: {reason.lower()}") from None


def write_json(data: Mapping[str, Any], path: str | Path) -> Path:
    """Write a record that is kept as JSON, whole or not at all.

    Raises:
        SpecError: the folder does not exist or cannot be written to; the file is no regular one.
    """
    target = Path(path)
    text = json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    try:
        _write(target, text.encode())
    except OSError as error:
        raise SpecError(f"{target} cannot be written: {error.strerror}") from None
    return target


def _write(path: Path, content: bytes, *, replace: bool = True) -> None:
    """Write beside the file, and put what was written in its place in one step."""
    target = path.expanduser().resolve()
    if target.exists() and not target.is_file():
        raise SpecError(f"{path} is not a regular file")
    if target.exists() and not replace:
        raise SpecError(f"{path} exists; --force replaces it")
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=".calc-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise

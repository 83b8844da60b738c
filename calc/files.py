"""Writing files whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from errno import EACCES
from pathlib import Path
from typing import Any

from calc.errors import SpecError, shortened


def write_whole(path: Path, content: bytes, *, replace: bool = True) -> None:
    """Write a file whole or not at all; only a regular file is replaced, and through a link, not over it.

    Raises:
        SpecError: the file exists and is not to be replaced, is none, or cannot be written.
    """
    try:
        target = _target(path, replace=replace)
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=".calc-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            Path(temporary).chmod(0o644)
            Path(temporary).replace(target)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except (OSError, RuntimeError) as error:
        raise _refusal(path, error) from None


def write_json(data: Mapping[str, Any], path: str | Path) -> Path:
    """Write a record that is kept as JSON, whole or not at all.

    Raises:
        SpecError: the folder does not exist or cannot be written to; the file is no regular one.
    """
    text = json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    write_whole(Path(path), text.encode())
    return Path(path)


def check_writable(path: str | Path) -> None:
    """Refuse before long work what could not be written after it.

    Raises:
        SpecError: as ``write_whole`` would.
    """
    try:
        parent = _target(Path(path)).parent
        os.scandir(parent).close()
        if not os.access(parent, os.W_OK):
            raise PermissionError(EACCES, os.strerror(EACCES))
    except (OSError, RuntimeError) as error:
        raise _refusal(Path(path), error) from None


def _target(path: Path, *, replace: bool = True) -> Path:
    target = path.expanduser().resolve()
    if target.exists() and not target.is_file():
        raise SpecError(f"{path} is not a regular file")
    if target.exists() and not replace:
        raise SpecError(f"{path} exists; --force replaces it")
    return target


def _refusal(path: Path, error: Exception) -> SpecError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return SpecError(f"cannot write {shortened(str(path), 200)}: {reason.lower()}")

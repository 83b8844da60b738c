"""Writing files whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from calc.errors import SpecError, shortened


def write_whole(path: Path, content: bytes, *, replace: bool = True) -> None:
    """Write a file whole or not at all; only a regular file is replaced, and through a link, not over it.

    Raises:
        SpecError: the file exists and is not to be replaced, is none, or cannot be written.
    """
    try:
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
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise SpecError(f"cannot write {shortened(str(path), 200)}: {reason.lower()}") from None

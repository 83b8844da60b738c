"""Files that are kept: written whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from calc.errors import SpecError


def write_json(data: Mapping[str, Any], path: str | Path) -> Path:
    """Write JSON; an existing file is replaced in one step, so that no reader ever sees half of it.

    Raises:
        SpecError: the folder does not exist or cannot be written to.
    """
    target = Path(path)
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(data, file, indent=1, ensure_ascii=False, allow_nan=False)
            file.write("\n")
        Path(name).chmod(0o644)
        Path(name).replace(target)
    except OSError as error:
        raise SpecError(f"{target} cannot be written: {error.strerror}") from None
    return target

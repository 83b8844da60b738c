"""The process around a command: streams that can be written to, and one line whatever happens."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from calc.errors import CalcError, printable

REPLACED = {
    "×": "x", "·": "*", "–": "-", "−": "-", "—": "-", "─": "-", "≈": "~", "≤": "<=", "≥": ">=", "√": "sqrt", "²": "^2",
    "³": "^3", "…": "...", "⌈": "ceil(", "⌉": ")", "⌊": "floor(", "⌋": ")", "Σ": "sum ", "∞": "inf",
    "→": "->", "÷": "/", "│": "|", "┤": "+", "└": "+", "╌": "-", "█": "#", "▓": "%", "▒": "=", "░": ".", "▚": "x",
    "▞": "o", "▄": "_", "▀": "^", "▏": "", "▎": "", "▍": "", "▌": "", "▋": "#", "▊": "#", "▉": "#",
}  # fmt: skip
"""For a stream that cannot write these signs."""


def usable_streams() -> None:
    """Make both streams writable: a closed one is replaced, one that is not Unicode writes substitutes.

    Raises:
        CalcError: there is no standard output to answer on.
    """
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123 - for as long as the process lives
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123
        raise CalcError("standard output is closed")
    for stream in (sys.stdout, sys.stderr):
        if not stream.encoding.lower().replace("-", "").startswith("utf"):
            _write_substitutes(stream)


def _write_substitutes(stream: TextIO) -> None:
    from codecs import register_error

    def substitute(error: UnicodeError) -> tuple[str, int]:
        if not isinstance(error, UnicodeEncodeError):
            raise error
        return "".join(REPLACED.get(one, "?") for one in error.object[error.start : error.end]), error.end

    register_error("calc.substitute", substitute)
    stream.reconfigure(errors="calc.substitute")  # type: ignore[attr-defined]


@contextmanager
def tidy() -> Iterator[None]:
    """Turn what goes wrong into one line and an exit code; a reader that has gone away is no error."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()  # what cannot be written shows here, and not when the interpreter ends
    except CalcError as error:
        _leave(str(error))
    except BrokenPipeError:
        _forget_output()
        raise SystemExit(0) from None
    except OSError as error:
        _forget_output()
        _leave(f"cannot write the answer: {(error.strerror or str(error)).lower()}")
    except KeyboardInterrupt:
        _forget_output()
        raise SystemExit(130) from None
    except MemoryError:
        _leave("not enough memory for this question")
    except Exception as error:
        if os.environ.get("CALC_TRACEBACK"):
            raise
        what = " ".join(printable(f"{type(error).__name__}: {error}").split())
        _leave(f"this is a bug in calc, please report it ({what[:300]}); CALC_TRACEBACK=1 shows where")


def _leave(line: str) -> None:
    with suppress(OSError):
        print(f"error: {line}", file=sys.stderr)
    raise SystemExit(1) from None


def _forget_output() -> None:
    """Give what is still buffered, and the interpreter's own last flush, somewhere to go."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

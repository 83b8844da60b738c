"""What several tests share: the command line as a user calls it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

# before anything loads torch or numpy: a worker has one core, and on tiny tensors threads that wait for each other take
# ten times the time of one
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Run:
    """What a process left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def run_calc(*arguments: str | Path, env: dict[str, str] | None = None, cwd: Path | None = None) -> Run:
    """Call ``python -m calc`` in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "calc", *map(str, arguments)],
        capture_output=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(env or {})},
        timeout=120,
        check=False,
    )
    return Run(done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.fixture(scope="session")
def calc_cli() -> Callable[..., Run]:
    return run_calc


def refused(run: Run) -> str:
    """Require one clear line and exit 1, and return the line."""
    assert run.code == 1, (run.code, run.out, run.err)
    assert run.out == ""
    assert "Traceback" not in run.err
    lines = [line for line in run.err.splitlines() if not line.startswith("note:")]
    assert len(lines) == 1, run.err
    assert lines[0].startswith("error: ")
    return lines[0]

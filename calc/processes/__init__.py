"""The same work on several ranks, each a process of its own, that exchange tensors through ``torch.distributed``."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

from calc.errors import CalcError
from calc.records import Record, record

Backend: TypeAlias = Literal["gloo", "nccl"]
POLL = 0.02
"""Seconds between two looks at a process."""
TASK, LOG = "task", "errors"
"""What is to be done, and what the processes say on standard error: files of the folder they share."""


@record
class Task(Record):
    """``work``, a function ``module:name`` of a job, done on every rank for every job."""

    work: str
    jobs: tuple[Any, ...]
    ranks: int
    backend: Backend


def each_job(work: str, jobs: Sequence[Any], ranks: int, *, backend: Backend = "gloo") -> Iterator[list[Any]]:
    """Yield what all ranks return for one job after the other.

    ``work`` is the ``module:name`` of a function of a job; what it takes and returns is pickled. The processes end with
    the iteration, however it ends. With ``nccl`` each rank has the CUDA device of its number.

    Raises:
        CalcError: a process failed; says its last words.
    """
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / TASK).write_bytes(pickle.dumps(Task(work, tuple(jobs), ranks, backend)))
        with (folder / LOG).open("wb") as log:
            started = subprocess.Popen(
                [sys.executable, "-m", "calc.processes", name],
                stderr=log,
                env={**os.environ, "PYTHONPATH": path},
                start_new_session=True,
            )
            done = 0
            try:
                for number, job in enumerate(jobs):
                    found = _awaited(number, job, ranks, started, folder)
                    done += 1
                    yield found
            finally:
                if started.poll() is None and done < len(jobs):
                    os.killpg(started.pid, signal.SIGKILL)
                started.wait()


def _awaited(number: int, job: Any, ranks: int, started: subprocess.Popen[bytes], folder: Path) -> list[Any]:
    """Return what all ranks left for a job, once they have."""
    files = [folder / f"{number}.{rank}" for rank in range(ranks)]
    while not all(file.exists() for file in files):
        if started.poll() not in (None, 0):
            lines = (folder / LOG).read_text("utf-8", "replace").strip().splitlines() or ["no message"]
            raise CalcError(f"{job}: a process ended with {started.returncode}: {lines[-1]}")
        time.sleep(POLL)
    return [pickle.loads(file.read_bytes()) for file in files]

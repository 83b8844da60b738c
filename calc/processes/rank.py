"""What each process does: connect, do every job, leave its result in a file."""

from __future__ import annotations

import multiprocessing
import pickle
import time
from collections.abc import Callable
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import FileStore

from calc.processes import POLL, TASK, Task

PATIENCE = timedelta(seconds=120)


def launch(folder: Path) -> int:
    """Do a folder's task on its ranks, forked once PyTorch is imported; returns the exit status.

    If one fails the others, which would wait for it, are ended.
    """
    task: Task = pickle.loads((folder / TASK).read_bytes())
    module, _, name = task.work.partition(":")
    work: Callable[[Any], Any] = getattr(import_module(module), name)
    context = multiprocessing.get_context("fork")
    started = [context.Process(target=_serve, args=(rank, task, work, folder)) for rank in range(task.ranks)]
    for process in started:
        process.start()
    while any(process.exitcode is None for process in started):
        if any(process.exitcode for process in started):
            for process in started:
                process.terminate()
        time.sleep(POLL)
    return max(abs(process.exitcode or 0) for process in started)


def _serve(rank: int, task: Task, work: Callable[[Any], Any], folder: Path) -> None:
    torch.set_num_threads(1)
    if task.backend == "nccl":
        torch.cuda.set_device(rank)
    store = FileStore(str(folder / "store"), task.ranks)
    dist.init_process_group(task.backend, store=store, rank=rank, world_size=task.ranks, timeout=PATIENCE)
    try:
        for number, job in enumerate(task.jobs):
            part = folder / f"{number}.{rank}.part"
            part.write_bytes(pickle.dumps(work(job)))
            part.rename(folder / f"{number}.{rank}")
    finally:
        dist.destroy_process_group()

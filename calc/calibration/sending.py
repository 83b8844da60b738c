"""What each rank does with an exchange that is measured: clock it, called again and again, as nccl-tests does."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.distributed as dist

from calc.calibration.exchanges import ELEMENT, Exchange
from calc.reference.ranks.comm import GATHER, SCATTER

ROUND_S, MOST_CALLS, ROUNDS = 0.01, 50, 4
"""About how long one clocked round of calls takes, how many they are at most, how many rounds."""


def measure(exchange: Exchange) -> list[float]:
    """Return the seconds of a call in each round on this rank, nothing where it takes no part."""
    group = _group(exchange.ranks)
    if dist.get_rank() >= exchange.ranks:
        return []
    call = _call(exchange, group)
    call()
    typical = _agreed(_round(call, 1), group)
    calls = max(1, min(MOST_CALLS, round(ROUND_S / typical)))
    times = []
    for _ in range(ROUNDS):
        _agreed(0.0, group)  # all ranks begin together
        times.append(_round(call, calls))
    return times


@cache
def _group(ranks: int) -> Any:
    return dist.new_group(range(ranks))


def _device() -> torch.device:
    return torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")


def _agreed(seconds: float, group: Any) -> float:
    """Return the longest time of any rank."""
    found = torch.tensor([seconds], dtype=torch.float64, device=_device())
    dist.all_reduce(found, op=dist.ReduceOp.MAX, group=group)
    return max(float(found), 1e-9)


def _round(call: Callable[[], object], calls: int) -> float:
    """Return the seconds of one of so many calls, one after the other."""
    if _device().type == "cpu":
        start = time.perf_counter()
        for _ in range(calls):
            call()
        return (time.perf_counter() - start) / calls
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    begin.record()
    for _ in range(calls):
        call()
    end.record()
    torch.cuda.synchronize()
    return float(begin.elapsed_time(end)) / 1e3 / calls


def _call(exchange: Exchange, group: Any) -> Callable[[], object]:
    """Return one call; of a message, half of its way there and back."""
    whole = torch.zeros(exchange.bytes // ELEMENT, device=_device())
    other = torch.empty_like(whole)
    share = torch.zeros(whole.numel() // exchange.ranks, device=_device())
    calls: dict[str, Callable[[], object]] = {
        "all_reduce": lambda: dist.all_reduce(whole, group=group),
        "all_gather": lambda: GATHER(whole, share, group=group),
        "reduce_scatter": lambda: SCATTER(share, whole, group=group),
        "all_to_all": lambda: dist.all_to_all_single(other, whole, group=group),
        "send_recv": _Volley(whole, other, group),
    }
    return calls[exchange.kind]


class _Volley:
    """A message that goes from the first rank to the second and back, in turns: two calls are there and back."""

    def __init__(self, message: torch.Tensor, received: torch.Tensor, group: Any) -> None:
        self.message, self.received, self.group, self.turn = message, received, group, 0

    def __call__(self) -> None:
        if dist.get_rank() == self.turn:
            dist.send(self.message, 1 - self.turn, group=self.group)
        else:
            dist.recv(self.received, self.turn, group=self.group)
        self.turn = 1 - self.turn

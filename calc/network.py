"""How long a collective takes: latency and bandwidth of each level of links, by the algorithm that libraries choose.

time = launch + hops · latency + bytes on the wire / (nominal bandwidth · efficiency), the form of NCCL's own tuning
model (``src/graph/tuning.cc``), with a fill: the first megabytes of a phase go slower, until all channels of the
pipeline are busy. Constants are named effects, calibrated on published nccl-tests runs of A100, H100 and B200 nodes
(``calc accuracy`` says how far off they are); a device whose links were calibrated has its own.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from calc.algebra import Number, maximum, minimum
from calc.constants import NetworkConstants
from calc.hardware import Accelerator, Link
from calc.parallel import Collective
from calc.records import Record, named_record

Library: TypeAlias = Literal["nccl", "custom"]
"""``custom``: the all-reduce kernels of serving engines for one NVLink domain (vLLM's custom_all_reduce, SGLang's,
TensorRT-LLM's), where they are faster than NCCL."""

CONSTANTS = NetworkConstants()
FAST_NVLINK = 600e9
"""Bytes/s above which NVLink is of the fifth generation."""


@named_record
class Path(Record):
    """How a group lies on the links: n ranks, ``local`` of them in each domain of the inner link, k domains."""

    ranks: int
    local: int
    inner: Link | None
    outer: Link | None

    @property
    def domains(self) -> int:
        """Domains that the group spans."""
        return -(-self.ranks // self.local)


def path(call: Collective, accelerator: Accelerator) -> Path:
    """Return which links a group's exchange crosses.

    Raises:
        CalcError: no link is stated that joins so many devices.
    """
    whole = accelerator.link(call.span, call.first)
    before = accelerator.links[: accelerator.links.index(whole)]
    if not before:
        return Path(ranks=call.size, local=call.size, inner=whole, outer=None)
    inner = before[-1]
    local = max(1, min(call.size, (inner.size or 1) // call.stride))
    return Path(ranks=call.size, local=local, inner=inner if local > 1 else None, outer=whole)


def network_constants(accelerator: Accelerator) -> NetworkConstants:
    """Return the constants that were measured between such devices, or those of published runs."""
    measured = accelerator.calibration and accelerator.calibration.links
    return measured.constants if measured else CONSTANTS


def collective_time(
    call: Collective,
    accelerator: Accelerator,
    *,
    library: Library = "nccl",
    constants: NetworkConstants | None = None,
) -> Number:
    """Return the seconds that a rank spends in a collective, all ``count`` times together, with nothing overlapped.

    A group of one domain runs a ring over the inner link (n ranks: n − 1 hops a phase; an all-reduce has two), or has
    the switch add up where it can (NVLS). Over several domains of m ranks each, a ring passes every adapter: its rate
    is the least of the inner link's and m times the outer's; an all-reduce may go by a tree of domains instead.
    An all-to-all sends each byte over the one link that leads to its peer. ``constants`` replace those of the device.
    Units: s.

    Raises:
        CalcError: no link is stated that joins so many devices.

    >>> from calc.catalog import load_accelerator
    >>> call = Collective(kind="all_gather", bytes=2**28, size=8, axis="tp", after="x", direction="forward")
    >>> round(collective_time(call, load_accelerator("h100-sxm")) * 1e6)
    769
    """
    constants = constants or network_constants(accelerator)
    if call.size == 1:
        return 0.0 * call.count * call.bytes
    at = path(call, accelerator)
    if call.kind == "all_reduce":
        seconds = _all_reduce(call, at, library, constants)
    elif call.kind == "all_to_all":
        seconds = _all_to_all(call, at, constants)
    elif call.kind == "send_recv":
        link = at.outer or at.inner
        assert link is not None
        one_way = _rate(link, constants) / constants.both_ways
        seconds = constants.send_s + _hop(link, constants) + _wire(call.bytes, 1, one_way, constants)
    else:
        seconds = _ring(call, at, constants, phases=1)
    return call.count * seconds


def _rate(link: Link, constants: NetworkConstants) -> float:
    """Return what every rank sends in a second while it receives as much."""
    return link.bytes_per_s * constants.efficiency[link.kind] * constants.both_ways


def _hop(link: Link, constants: NetworkConstants) -> float:
    return link.latency_s + constants.copy_s


def _wire(size: Number, phases: int, rate: float, constants: NetworkConstants, fill: float = 1.0) -> Number:
    """Return the time of ``size`` bytes on the wire in all phases together, each of which fills its pipeline first."""
    each = size / phases
    slow = constants.fill_slope * each
    filling = fill * constants.fill_bytes * slow / (slow + constants.fill_bytes)
    return phases * (each + filling) / rate


def _bus_rate(at: Path, constants: NetworkConstants) -> float:
    """Return the rate of a ring at every rank: that of its slowest link, adapters of a domain side by side."""
    rates = [_rate(at.inner, constants)] if at.inner else []
    rates += [at.local * _rate(at.outer, constants)] if at.outer else []
    return min(rates)


def _latency(at: Path, phases: int, constants: NetworkConstants, *, tree: bool) -> float:
    """Return the hops' latency: round the ring, or along the domains' tree (log2 of their number)."""
    inner = (at.local - 1) * _hop(at.inner, constants) if at.inner else 0.0
    if at.outer is None:
        return phases * inner
    between = (at.domains - 1).bit_length() if tree else at.domains - 1
    around = inner if tree else inner * at.domains
    return phases * (around + between * _hop(at.outer, constants))


def _ring(call: Collective, at: Path, constants: NetworkConstants, *, phases: int) -> Number:
    share = (at.ranks - 1) / at.ranks
    wire = _wire(phases * share * call.bytes, phases, _bus_rate(at, constants), constants)
    return constants.launch_s + _latency(at, phases, constants, tree=phases == 2) + wire


def _all_reduce(call: Collective, at: Path, library: Library, constants: NetworkConstants) -> Number:
    best = _ring(call, at, constants, phases=2)
    link = at.inner
    if link is not None and link.reduces and at.local > 2:
        best = minimum(best, _in_switch(call, at, link, constants))
    if library == "custom" and link is not None and at.outer is None and link.kind == "nvlink":
        best = minimum(best, _custom(call, at, link, constants))
    return best


def _in_switch(call: Collective, at: Path, link: Link, constants: NetworkConstants) -> Number:
    """Return the time where switches add up, over several domains as a tree of them (NCCL's NVLS and NVLSTree).

    Every rank's data leaves it once and the sum comes back to all, 1 + 1/m of the message each way in a domain of m.
    The k domains' sums are added up meanwhile: 2·(k − 1)/k of the message by all m adapters of each. Nodes of eight
    H100 with an adapter of 400 Gb/s each are expected to reach a bus rate of 400 to 450 GB/s, more than a ring's links
    allow (saturncloud.io/blog/crusoe-nccl-cluster-validation).
    """
    share = constants.nvls_fifth if link.bytes_per_s > FAST_NVLINK else constants.nvls_fourth
    slowest = _wire(call.bytes * (1 + 1 / at.local), 1, link.bytes_per_s * share, constants)
    if at.outer is None:
        return constants.nvls_s + slowest
    sums = 2 * (at.domains - 1) / at.domains * call.bytes
    between = _wire(sums, 2, at.local * _rate(at.outer, constants), constants)
    hops = 2 * (at.domains - 1).bit_length() * _hop(at.outer, constants)
    return constants.nvls_s + hops + maximum(slowest, between)


def _custom(call: Collective, at: Path, link: Link, constants: NetworkConstants) -> Number:
    """Return the time of the faster of two kernels: each rank reads all others' data, or reduces its share of it."""
    n = at.ranks
    most = constants.custom_bytes_per_s
    one_shot = (n - 1) * call.bytes / min(link.bytes_per_s * constants.one_shot, most)
    two_shot = 2 * (n - 1) / n * call.bytes / min(link.bytes_per_s * constants.two_shot, most)
    return minimum(constants.one_shot_s + one_shot, constants.two_shot_s + two_shot)


def _all_to_all(call: Collective, at: Path, constants: NetworkConstants) -> Number:
    """Return the time of the slower level: bytes for the own domain by the inner link, others by the outer one."""
    times = []
    for link, peers in ((at.inner, at.local - 1), (at.outer, at.ranks - at.local)):
        if link is not None and peers:
            size = call.bytes * peers / at.ranks
            times.append(_hop(link, constants) + _wire(size, 1, _rate(link, constants), constants, constants.peer_fill))
    longest = times[0]
    for time in times[1:]:
        longest = maximum(longest, time)
    return constants.launch_s + longest

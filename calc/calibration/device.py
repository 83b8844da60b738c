"""The device that is calibrated: what a measurement needs of it, and PyTorch's devices behind that."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from statistics import median
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from calc.calibration.exchanges import Exchange
from calc.calibration.points import Point
from calc.checks import one_of, whole
from calc.errors import CalcError, SpecError
from calc.hardware import Accelerator
from calc.identify import find_accelerator
from calc.processes import Backend, each_job
from calc.records import Record, named_record

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
POOL_BYTES = 2**28
"""Operands are taken from a pool that no cache holds, each time from another place, as a model's layers are."""
LEAST, MOST = 5, 40
"""Repetitions of one measurement; between them, until ``ENOUGH_S`` have been spent."""
ENOUGH_S = 0.03


MOST_PROCESSES = 64
"""Of a CPU that exchange."""
_LIKE = {"cpu": "most processes", "cuda": "CUDA devices that PyTorch sees"}
SENDING = "calc.calibration.sending:measure"


@named_record
class Facts(Record):
    """What a device says of itself."""

    name: str
    kind: str
    backend: Backend
    """What its exchanges go by."""
    ranks: int
    """How many of its like exchange: devices, or processes of a CPU."""
    memory_bytes: int
    n_cores: int
    cache_bytes: int
    forms: tuple[str, ...]
    known: Accelerator | None = None
    """The preset that its name means; None where there is none (a CPU)."""
    backward: bool = True
    grouped: bool = True
    """Its attention shares keys among query heads without copying them."""


class Device(Protocol):
    """What a calibration asks of a device; the tests give one that computes its answers."""

    def facts(self) -> Facts:
        """Return what it is."""

    def seconds(self, point: Point) -> float:
        """Return the time of one launch of a shape."""

    def unrest(self) -> float:
        """Return by how much the repetitions of the shapes measured so far differ: the median of median / least − 1."""

    def host_seconds(self) -> float:
        """Return the host's time to launch one kernel that does next to nothing."""

    def layer_seconds(self, sizes: LayerSizes, batch: int, tokens: int, context: int, form: str) -> float:
        """Return the median time of one decoder layer over ``tokens`` new tokens at the end of ``context``."""

    def exchanged(self, wanted: Sequence[Exchange]) -> Generator[float, None, None]:
        """Yield the time of one exchange among its like after the other."""


@named_record
class LayerSizes(Record):
    """A decoder layer whose time is predicted and measured."""

    d_model: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    d_ff: int


class TorchDevice:
    """A device as PyTorch runs it: wall clock on a CPU, CUDA events around a recorded graph on a GPU."""

    def __init__(
        self, kind: str, forms: tuple[str, ...] = (), threads: int | None = None, ranks: int | None = None
    ) -> None:
        one_of("device", kind, ("cpu", "cuda"))
        if kind == "cuda" and not torch.cuda.is_available():
            raise SpecError(f"device = {kind!r}: PyTorch sees no CUDA device")
        for form in forms:
            one_of("form", form, DTYPES)
        if threads is not None:
            torch.set_num_threads(threads)
        there = torch.cuda.device_count() if kind == "cuda" else MOST_PROCESSES
        self.ranks = ranks if ranks is not None else there if kind == "cuda" else 1
        if not 1 <= whole("ranks", self.ranks, 0) <= there:
            raise SpecError(f"ranks = {ranks} is not from 1 to {there}, the {_LIKE[kind]}")
        self._backend: Backend = "nccl" if kind == "cuda" else "gloo"
        self._spreads: list[float] = []
        self._side: torch.cuda.Stream | None = None
        self._scratch: Tensor | None = None
        self.kind = kind
        self.forms = forms or (("fp32",) if kind == "cpu" else ("bf16",))
        self._pools: dict[tuple[torch.dtype, bool], Tensor] = {}

    def facts(self) -> Facts:
        """Return what PyTorch and the system say of it."""
        if self.kind == "cpu":
            return Facts(
                name=_processor(), kind="cpu", backend=self._backend, ranks=self.ranks, memory_bytes=_memory(),
                n_cores=torch.get_num_threads(), cache_bytes=_cache(), forms=self.forms, grouped=False,
            )  # fmt: skip
        found: Any = torch.cuda.get_device_properties(0)
        try:
            known = find_accelerator(found.name)
        except SpecError:
            known = None
        return Facts(
            name=found.name, kind="cuda", backend=self._backend, ranks=self.ranks, memory_bytes=found.total_memory,
            n_cores=found.multi_processor_count, cache_bytes=int(getattr(found, "L2_cache_size", 0)),
            forms=self.forms, known=known,
        )  # fmt: skip

    def seconds(self, point: Point) -> float:
        """Return the time of one launch of a shape.

        Raises:
            SpecError: it does not fit in the device's memory.
            CalcError: a GPU cannot record it.
        """
        try:
            return self._typical(self._work(point))
        except torch.OutOfMemoryError:
            raise SpecError(f"{point.shape()} does not fit in the memory of {self.kind}") from None

    def host_seconds(self) -> float:
        """Return the wall time of one launch of a tiny kernel among many."""
        one = torch.zeros(8, device=self.kind)
        times = []
        for _ in range(5):
            self._wait()
            start = time.perf_counter()
            for _ in range(200):
                one.add_(1)
            times.append((time.perf_counter() - start) / 200)
        self._wait()
        return median(times)

    def layer_seconds(self, sizes: LayerSizes, batch: int, tokens: int, context: int, form: str) -> float:
        """Return the median time of one decoder layer, as an engine would run it without a compiler."""
        return self._typical(iter_of(_layer(self, sizes, batch, tokens, context, DTYPES[form])))

    def exchanged(self, wanted: Sequence[Exchange]) -> Generator[float, None, None]:
        """Yield the time of one exchange after the other, the slowest rank's, each rank a process.

        Raises:
            CalcError: a process failed.
        """
        for found in each_job(SENDING, wanted, self.ranks, backend=self._backend):
            yield typical(self.kind, [max(times) for times in zip(*filter(None, found), strict=True)])

    # ---- work

    def _take(self, shape: tuple[int, ...], dtype: torch.dtype, turn: int, *, target: bool = False) -> Tensor:
        """Return operands from a pool, for every turn from another place; targets have a pool of their own."""
        key = dtype, target
        if key not in self._pools:
            self._pools[key] = self._random((POOL_BYTES * 8 // torch.finfo(dtype).bits,), dtype)
        pool, size = self._pools[key], int(torch.Size(shape).numel())
        if size > pool.numel():
            return self._random(shape, dtype)
        places = max((pool.numel() - size) // 4096, 1)
        start = (turn * 7919 * max(size // 4096, 1)) % places * 4096
        return pool[start : start + size].view(shape)

    def _random(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        return torch.randn(shape, device=self.kind).mul_(0.1).to(dtype)

    def _work(self, point: Point) -> Iterator[Callable[[], object]]:
        """Yield what to time, over and over, with other operands each time."""
        dtype, turn = DTYPES[point.form], 0
        while True:
            turn += 1
            if point.kind == "gemm":
                a = self._take((point.m, point.k), dtype, turn)
                yield self._product(a, self._take((point.n, point.k), dtype, 3 * turn + 1))
            elif point.kind == "memory":
                shape = (max(point.bytes // 2 * 8 // torch.finfo(dtype).bits, 1),)
                yield self._copy(self._take(shape, dtype, turn, target=True), self._take(shape, dtype, turn))
            else:
                yield self._attention(point, dtype, turn)

    @staticmethod
    def _product(a: Tensor, b: Tensor) -> Callable[[], object]:
        return lambda: functional.linear(a, b)

    @staticmethod
    def _copy(target: Tensor, source: Tensor) -> Callable[[], object]:
        return lambda: target.copy_(source)

    def _attention(self, point: Point, dtype: torch.dtype, turn: int) -> Callable[[], object]:
        q = self._take((point.batch, point.heads, point.queries, point.head_dim), dtype, turn)
        k, v = (
            self._take((point.batch, point.kv_heads, point.keys, point.head_dim), dtype, turn + number)
            for number in (1, 2)
        )
        causal, shared = point.queries > 1, point.heads != point.kv_heads

        def forward() -> Tensor:
            return functional.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=shared)

        if point.direction == "forward":
            return forward
        q, k, v = (one.detach().requires_grad_() for one in (q, k, v))
        result = forward()
        gradient = torch.ones_like(result)
        return lambda: torch.autograd.grad(result, (q, k, v), gradient, retain_graph=True)

    # ---- clocks

    def _wait(self) -> None:
        if self.kind == "cuda":
            torch.cuda.synchronize()

    def _typical(self, work: Iterator[Callable[[], object]]) -> float:
        """Return the typical time of work, done over and over."""
        with self._aside():
            next(work)()  # warm up: allocate, choose kernels
            launches = self._launches(next(work))
            times: list[float] = []
            while len(times) < LEAST or (len(times) < MOST and sum(times) < ENOUGH_S):
                times.append(self._clocked([next(work) for _ in range(launches)]))
        self._spreads.append(median(times) / min(times) - 1)
        return typical(self.kind, times)

    def _aside(self) -> AbstractContextManager[object]:
        """Return a context on a GPU's side stream: graphs record a backward pass on the stream of its forward pass."""
        if self.kind == "cpu":
            return nullcontext()
        self._side = self._side or torch.cuda.Stream()  # type: ignore[no-untyped-call]
        return torch.cuda.stream(self._side)

    def _launches(self, call: Callable[[], object]) -> int:
        """Return how many launches are clocked at once: several short ones of a GPU, whose clock is coarse."""
        return 1 if self.kind == "cpu" or self._clocked([call]) > LONG_S else RECORDED

    def unrest(self) -> float:
        """Return by how much repetitions differ."""
        return median(self._spreads)

    def _clocked(self, calls: Sequence[Callable[[], object]]) -> float:
        """Return the seconds of one of several calls."""
        if self.kind == "cpu":
            # one thread's own time leaves out what other programs take; that of several does not tell waiting apart
            clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
            start = clock()
            for call in calls:
                call()
            return (clock() - start) / len(calls)
        if self._scratch is None:
            self._scratch = torch.empty(POOL_BYTES, dtype=torch.uint8, device=self.kind)
        return _recorded(calls, self._scratch)


def typical(kind: str, times: Iterable[float]) -> float:
    """Return the median time on a GPU; the least on a CPU, where other programs only ever add to it."""
    return min(times) if kind == "cpu" else median(times)


def iter_of(call: Callable[[], object]) -> Iterator[Callable[[], object]]:
    """Yield the same call for ever."""
    while True:
        yield call


RECORDED, LONG_S = 10, 1e-3
"""Launches in one recorded graph, each of other operands, and the seconds from which one alone is enough."""


def _recorded(calls: Sequence[Callable[[], object]], scratch: Tensor) -> float:
    """Return the seconds of one launch out of a CUDA graph, recorded on the stream that is current.

    The gap between kernels is part of it, the host's launches are not. ``scratch`` is overwritten before the clock
    starts, so that the cache holds no operands, and the graph is launched meanwhile.

    Raises:
        CalcError: a graph cannot hold a launch.
    """
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph, stream=torch.cuda.current_stream()):
            for call in calls:
                call()
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise CalcError(f"a CUDA graph cannot record what is measured: {str(error).splitlines()[0]}") from None
    graph.replay()
    scratch.zero_()
    start.record()
    graph.replay()
    end.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(end)) / 1e3 / len(calls)


def _layer(
    device: TorchDevice, sizes: LayerSizes, batch: int, tokens: int, context: int, dtype: torch.dtype
) -> Callable[[], object]:
    """Return one pre-norm decoder layer with merged projections and flash attention."""
    d, heads, kv, width = sizes.d_model, sizes.n_heads, sizes.n_kv_heads, sizes.head_dim
    generator = torch.Generator(device=device.kind).manual_seed(0)

    def weight(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device=device.kind).mul_(0.02).to(dtype)

    qkv, out = weight((heads + 2 * kv) * width, d), weight(d, heads * width)
    up, down = weight(2 * sizes.d_ff, d), weight(d, sizes.d_ff)
    scales = [torch.ones(d, device=device.kind, dtype=dtype) for _ in range(2)]
    x = weight(batch, tokens, d)
    past_k, past_v = (weight(batch, kv, context, width) for _ in range(2))

    def attend(normed: Tensor) -> Tensor:
        made = functional.linear(normed, qkv).view(batch, tokens, heads + 2 * kv, width).transpose(1, 2)
        q, k, v = torch.split(made, [heads, kv, kv], dim=1)
        if tokens == 1:
            past_k[:, :, -1:] = k
            past_v[:, :, -1:] = v
            k, v = past_k, past_v
        found = functional.scaled_dot_product_attention(q, k, v, is_causal=tokens > 1, enable_gqa=heads != kv)
        return functional.linear(found.transpose(1, 2).reshape(batch, tokens, heads * width), out)

    @torch.no_grad()
    def run() -> Tensor:
        stream = x + attend(functional.rms_norm(x, (d,), scales[0]))
        gate, value = functional.linear(functional.rms_norm(stream, (d,), scales[1]), up).chunk(2, dim=-1)
        return stream + functional.linear(functional.silu(gate) * value, down)

    return run


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123 - not a file of ours
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine() or "cpu"


def _memory() -> int:
    import os

    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        raise SpecError("the system does not say how much memory it has") from None


def _cache() -> int:
    """Return the bytes of the last cache that one core sees, or 0 where the system does not say."""
    from pathlib import Path

    sizes = Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")
    found = [path.read_text().strip() for path in sizes]
    units = {"K": 2**10, "M": 2**20}
    return max((int(text[:-1]) * units[text[-1]] for text in found if text[-1:] in units), default=0)

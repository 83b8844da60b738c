"""What a calibration measures: shapes of products, attentions and streams, and how each becomes a kernel."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, TypeAlias

from calc.kernels import Direction, Kernel
from calc.kernels.shapes import attention, gemm, stream
from calc.records import Record, named_record

PointKind: TypeAlias = Literal["gemm", "prefill", "decode", "memory"]
BITS = {"fp32": 32, "tf32": 32, "bf16": 16, "fp16": 16, "fp8": 8}


@named_record
class Point(Record):
    """One shape to measure: m, n, k of a product; batch, heads, … of an attention; bytes of a copy."""

    kind: PointKind
    form: str
    m: int = 0
    n: int = 0
    k: int = 0
    batch: int = 1
    heads: int = 0
    kv_heads: int = 0
    queries: int = 0
    keys: int = 0
    head_dim: int = 0
    bytes: int = 0
    direction: Direction = "forward"

    def kernel(self) -> Kernel:
        """Return the kernel that the time model knows it as."""
        bits = BITS[self.form]
        if self.kind == "gemm":
            return gemm(
                self.m, self.n, self.k, form=self.form, weight_bits=bits, input_bits=bits, output_bits=max(bits, 16)
            )  # fmt: skip
        if self.kind == "memory":
            return stream(self.bytes // 2, self.bytes - self.bytes // 2, form=self.form)
        return attention(
            self.batch,
            self.heads,
            self.kv_heads,
            self.queries,
            self.keys,
            head_dim=self.head_dim,
            causal=self.queries > 1,
            form=self.form,
            cache_bits=bits,
            activation_bits=bits,
            direction=self.direction,
        )

    def shape(self) -> dict[str, int | str]:
        """Return what it measures, for the file."""
        return {name: value for name, value in vars(self).items() if value not in (0, "forward") or name == "kind"}


def points(forms: tuple[str, ...], largest: float, *, backward: bool, grouped: bool) -> list[Point]:
    """Return the shapes for a device that does about ``largest`` FLOP in the time that one point may take.

    Shapes grow by factors of two to four from a decode step's to a prefill's; those beyond ``largest`` are left out.
    ``grouped``: whether the device's attention shares keys among query heads without copying them.
    """
    found = [
        point
        for form in forms
        for point in (*_products(form), *_prefills(form, backward), *_decodes(form, grouped))
        if point.kernel().flops <= largest and point.kernel().bytes <= largest / 16
    ]
    return [*found, *_streams(forms[0], largest)]


MATRICES = ((512, 512), (768, 3072), (3072, 768), (2048, 2048), (4096, 1024), (4096, 4096), (11008, 4096), (8192, 8192))
"""(n, k) of the products that are measured."""
DECODES = ((1, 8, 8, 64), (1, 32, 8, 128), (8, 32, 8, 128), (32, 32, 8, 128), (64, 8, 1, 128))
"""(sequences, query heads, key heads, width) of the decode attentions."""


def _products(form: str) -> Iterator[Point]:
    for n, k in MATRICES:
        for m in (1, 4, 16, 48, 128, 256, 640, 1024, 2048, 4096, 8192):
            yield Point(kind="gemm", form=form, m=m, n=n, k=k)


def _prefills(form: str, backward: bool) -> Iterator[Point]:
    ways: tuple[Direction, ...] = ("forward", "backward") if backward else ("forward",)
    for batch, heads, width in ((1, 8, 64), (1, 32, 128), (4, 16, 64), (8, 8, 128)):
        for length in (128, 256, 512, 1024, 2048, 4096, 8192, 16384):
            for way in ways:
                yield Point(
                    kind="prefill", form=form, batch=batch, heads=heads, kv_heads=heads, queries=length, keys=length,
                    head_dim=width, direction=way,
                )  # fmt: skip


def _decodes(form: str, grouped: bool) -> Iterator[Point]:
    for batch, heads, sharing, width in DECODES:
        kv_heads = sharing if grouped else heads
        for keys in (256, 1024, 2048, 4096, 8192, 32768):
            yield Point(
                kind="decode", form=form, batch=batch, heads=heads, kv_heads=kv_heads, queries=1, keys=keys,
                head_dim=width,
            )  # fmt: skip


def _streams(form: str, largest: float) -> Iterator[Point]:
    for power in range(12, 33):
        if 2**power <= max(largest / 8, 2**20):
            yield Point(kind="memory", form=form, bytes=2**power)
            yield Point(kind="memory", form=form, bytes=3 * 2 ** (power - 1))

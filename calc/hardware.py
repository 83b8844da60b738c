"""Accelerators: memory, bandwidth, dense peak by number format, links, power and price, each with its source.

A preset states what the maker states, in base units, and beside every value where it is stated. Peaks are *dense*: the
figure that data sheets print "with sparsity" is twice as high and reached by no dense matrix product.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, TypeAlias

from calc.constants import Calibration, LinkKind
from calc.errors import CalcError, SpecError
from calc.fields import Positive, Rate
from calc.formats import ALIASES, Format, multiplied_as
from calc.records import Record, named_record

Peak: TypeAlias = Literal["fp64", "fp32", "tf32", "bf16", "fp16", "fp8", "int8", "fp6", "fp4", "int4"]
PEAKS: Final = ("fp64", "fp32", "tf32", "bf16", "fp16", "fp8", "int8", "fp6", "fp4", "int4")


_SOURCED: Final = (
    "year", "memory_bytes", "visible_bytes", "memory_bytes_per_s", "n_cores", "clock_hz", "max_clock_hz", "cache_bytes",
    "tdp_watts", "node_size",
)  # fmt: skip


@named_record
class Source(Record):
    """Where values are stated: ``gives`` are the fields (``flops.bf16`` for one peak, ``flops`` for all)."""

    text: str
    gives: tuple[str, ...]


@named_record
class Link(Record):
    """What joins neighbouring devices.

    ``bytes_per_s``: what one device can send, in one direction, nominal, with all of its links of this kind together
    (NVLink's "900 GB/s" counts both directions: 450e9 here). ``latency_s``: one hop of a small message. ``size``: how
    many devices one domain joins; None where no limit is stated. ``reduces``: the switch adds up what it passes on
    (NVLS, SHARP). ``typical``: a common deployment, not a property of the accelerator.
    """

    kind: LinkKind
    bytes_per_s: Rate
    latency_s: Rate
    size: Positive | None = None
    reduces: bool = False
    typical: bool = False
    source: str


@named_record
class Price(Record):
    """What one device costs by the hour in US dollars, when, and who asks it."""

    usd_per_hour: Rate
    date: str
    source: str


@named_record
class Accelerator(Record):
    """One device as a program sees it: a GPU, a TPU chip, a Trainium chip, a laptop's system on a chip.

    Units: bytes, bytes/s, FLOP/s (OP/s for integers), Hz, W. ``memory_bytes``: nominal capacity; makers' "GB" of device
    memory are 2^30 bytes. ``visible_bytes``: what the driver offers to programs, where somebody has reported it.
    ``flops``: dense peak by format, with 32-bit accumulation where the maker tells it apart. ``n_cores``: streaming
    multiprocessors, compute units, tensor cores of a TPU or cores of an integrated GPU. ``clock_hz``: the clock that
    the stated peak is reached at; ``max_clock_hz``: the highest it may run at. ``cache_bytes``: the last cache before
    memory (L2; Infinity Cache at AMD). ``links``: innermost first. ``node_size``: devices of one host.
    """

    name: str
    title: str
    vendor: str
    year: Positive
    memory_bytes: Positive
    visible_bytes: Positive | None = None
    memory_bytes_per_s: Rate
    flops: Mapping[Peak, Rate]
    n_cores: Positive | None = None
    clock_hz: Rate | None = None
    max_clock_hz: Rate | None = None
    cache_bytes: Positive | None = None
    links: tuple[Link, ...] = ()
    node_size: Positive = 1
    tdp_watts: Rate | None = None
    price: Price | None = None
    sources: tuple[Source, ...] = ()
    aliases: tuple[str, ...] = ()
    """Words by which people name it; ``calc.identify`` finds them in any order."""
    notes: tuple[str, ...] = ()
    calibration: Calibration | None = None
    """Constants that ``calc calibrate`` measured on this very device; without, those of its generation hold."""

    def __post_init__(self) -> None:
        if not self.flops:
            raise SpecError("flops names no format: give at least one dense peak, for example bf16 = 989e12")
        sizes = [float("inf") if link.size is None else link.size for link in self.links]
        if sizes != sorted(sizes):
            raise SpecError("links stand innermost first: each must join at least as many devices as the one before it")
        if self.visible_bytes and self.visible_bytes > self.memory_bytes:
            raise SpecError(f"visible_bytes = {self.visible_bytes:,} is more than memory_bytes = {self.memory_bytes:,}")
        known = set(self.stated())
        for source in self.sources:
            for given in source.gives:
                if given not in known:
                    raise SpecError(f"sources: {given!r} is not a value that {self.name} states")

    def __hash__(self) -> int:  # flops is a mapping, which has none
        return hash((self.name, self.memory_bytes, self.memory_bytes_per_s))

    @classmethod
    def build(cls, data: Mapping[str, Any]) -> Accelerator:
        """Build from trusted data: a shipped preset, which the tests have validated."""
        values = dict(data)
        values["links"] = tuple(Link(**link) for link in data.get("links", ()))
        values["price"] = Price(**data["price"]) if "price" in data else None
        values["sources"] = tuple(Source(text=s["text"], gives=tuple(s["gives"])) for s in data.get("sources", ()))
        values["aliases"] = tuple(data.get("aliases", ()))
        values["notes"] = tuple(data.get("notes", ()))
        return cls(**values)

    def stated(self) -> Iterator[str]:
        """Yield the names of the sourced values that are stated: ``memory_bytes``, ``flops``, ``flops.bf16``, ..."""
        yield from (name for name in _SOURCED if getattr(self, name) is not None)
        yield "flops"
        yield from (f"flops.{form}" for form in self.flops)

    def source_of(self, value: str) -> str:
        """Return where a value is stated (``flops.bf16``, ``memory_bytes``); empty where nothing is said."""
        names = (value, value.partition(".")[0])
        return "; ".join(source.text for source in self.sources if any(name in source.gives for name in names))

    @property
    def capacity(self) -> int:
        """Bytes that programs can have: what the driver offers, or the nominal capacity where nobody reported it."""
        return self.visible_bytes or self.memory_bytes

    def peak(self, dtype: str | Format) -> float:
        """Return the dense peak in FLOP/s for operands of a format.

        Formats with scales beside their elements (``fp8-block128``, ``mxfp4``, ``nvfp4``) run at their elements' rate.

        Raises:
            CalcError: the matrix units do not multiply this format; says which they do.

        >>> from calc.catalog import load_accelerator
        >>> f"{load_accelerator('h100-sxm').peak('bf16'):.4g}"
        '9.894e+14'
        """
        form = self.multiplies(dtype)
        if form is None:
            name = dtype if isinstance(dtype, str) else dtype.name
            raise CalcError(f"{self.name} does not multiply {name}; it does {', '.join(self.flops)}")
        return self.flops[form]

    def multiplies(self, dtype: str | Format) -> Peak | None:
        """Return the peak's name for operands of a format, or None where the hardware has none."""
        name = (dtype if isinstance(dtype, str) else dtype.name).lower()
        name = ALIASES.get(name, name)
        name = multiplied_as(name) or name
        return next((form for form in self.flops if form == name), None)

    def half(self) -> Peak:
        """Return the name of the 16-bit format (bf16, else fp16, else the first that it has)."""
        found: Peak = next((form for form in ("bf16", "fp16") if form in self.flops), next(iter(self.flops)))
        return found

    def ridge(self, dtype: str | Format) -> float:
        """Return the arithmetic intensity in FLOP/B from which on the dense peak, not memory, is the limit.

        Formula: peak / memory bandwidth. Source: Williams, Waterman, Patterson 2009, Roofline.

        >>> from calc.catalog import load_accelerator
        >>> round(load_accelerator("h100-sxm").ridge("bf16"))
        295
        """
        return self.peak(dtype) / self.memory_bytes_per_s

    @property
    def networked(self) -> bool:
        """Whether something joins devices of several domains."""
        return len(self.links) > 1

    def link(self, span: int, first: int = 0) -> Link:
        """Return what ``span`` devices from number ``first`` on are bound by: the innermost link that joins all.

        Raises:
            CalcError: no link is stated that joins so many.

        >>> from calc.catalog import load_accelerator
        >>> [load_accelerator("h100-sxm").link(span).kind for span in (8, 16)]
        ['nvlink', 'infiniband']
        >>> load_accelerator("h100-sxm").link(5, first=4).kind  # one is in the next node
        'infiniband'
        """
        for link in self.links:
            if link.size is None or first % link.size + span <= link.size:
                return link
        most = max((link.size or 0 for link in self.links), default=1)
        joined = f"{span:,} devices: none is known"
        if self.links:
            joined = (
                f"{span:,} devices, at most {most:,}" if span > most else f"one domain of {most:,} devices to the next"
            )
        raise CalcError(
            f"no link of {self.name} joins {joined}; name a TOML file of it with one more [[links]] (its fields: calc "
            "schema accelerator-preset), or in Python an Accelerator with such links"
        )

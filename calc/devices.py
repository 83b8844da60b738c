"""What people ask of accelerators, as results: the list, the card."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from calc import catalog
from calc.checks import text
from calc.constants import SCALE_UP
from calc.hardware import PEAKS, Accelerator, Link
from calc.results import Cell, Figure, Grid, Result, Row
from calc.units import figure

MAKERS = ("NVIDIA", "AMD", "Google", "AWS", "Apple")
"""In the order of the list."""


def accelerators(search: str = "") -> Result:
    """Return the shipped accelerators, one line each, by maker and year; ``search`` keeps those named like it.

    Units: bytes, bytes/s, FLOP/s, FLOP/B, W, USD/h. The 16-bit peak is bf16, or fp16 where there is no bf16.

    >>> accelerators("h100-sxm").data["accelerators"][0]["flops"]["bf16"]
    989400000000000.0
    """
    wanted = text("search", search).lower()
    found = [one for one in catalog.all_accelerators() if wanted in f"{one.name} {one.title} {one.vendor}".lower()]
    found.sort(key=lambda one: (-MAKERS.index(one.vendor), one.year, one.flops[one.half()], one.name), reverse=True)
    columns = (
        "accelerator", "year", "memory", "bandwidth", "16-bit peak", "ridge", "fp8", "fp4", "neighbours", "network",
        "TDP", "price",
    )  # fmt: skip
    rows, seen = [], ""
    for one in found:
        rows.append(Row(one.name, _line(one), section=one.vendor if one.vendor != seen else ""))
        seen = one.vendor
    notes = (
        "dense peaks; 16-bit is bf16, or fp16 where there is no bf16; ridge: peak over bandwidth, 16-bit",
        "links: one direction, for each device; the network is a typical deployment, not part of the accelerator",
        "prices: as listed on the day that `calc show` names",
    )
    data = {"accelerators": [_facts(one) for one in found]}
    said = () if rows else (f"no accelerator matches {search!r}; `calc list accelerators` lists all",)
    return Result(kind="accelerators", data=data, grids=(Grid("", columns, tuple(rows), notes),), notes=said)


def _line(one: Accelerator) -> tuple[Cell, ...]:
    half = one.half()
    return (
        one.name,
        str(one.year),
        Figure(one.memory_bytes, "B"),
        Figure(one.memory_bytes_per_s, "B/s"),
        Figure(one.flops[half], "FLOP/s"),
        Figure(one.ridge(half), "FLOP/B"),
        Figure(one.flops.get("fp8"), "FLOP/s"),
        Figure(one.flops.get("fp4"), "FLOP/s"),
        _joined(next((link for link in one.links if link.kind in SCALE_UP), None)),
        _joined(next((link for link in one.links if link.kind not in SCALE_UP), None)),
        Figure(one.tdp_watts, "W"),
        Figure(one.price.usd_per_hour if one.price else None, "USD/h"),
    )


def _joined(link: Link | None) -> str:
    """Write a link in a word or two: ``nvlink 450 GB/s ×8``."""
    if link is None:
        return "–"
    return f"{link.kind} {figure(link.bytes_per_s, 'B/s')}" + (f" ×{link.size:,}" if link.size else "")


def _facts(one: Accelerator) -> dict[str, Any]:
    """Return an accelerator for a program: every value in base units, with its source."""
    half = one.half()
    values = {name: value for name, value in asdict(one).items() if name not in ("sources", "flops")}
    ridge = {form: one.ridge(form) for form in one.flops}
    sources = {name: one.source_of(name) for name in one.stated() if name != "flops"}
    values["links"] = [dict(link) for link in values["links"]]
    values |= {"aliases": list(one.aliases), "notes": list(one.notes), "calibration": _calibration(one)}
    return {**values, "flops": dict(one.flops), "half": half, "ridge_flop_per_byte": ridge, "sources": sources}


def _calibration(one: Accelerator) -> dict[str, Any] | None:
    """Return when constants were measured on this very device, of what, and how far off they leave it."""
    own = one.calibration
    if own is None:
        return None
    errors = {"kernels": own.errors["all"], **({"exchanges": own.links.errors["all"]} if own.links else {})}
    return {"device": own.device, "date": own.date, "errors": {what: asdict(each) for what, each in errors.items()}}


def card(accelerator: Accelerator) -> Result:
    """Return the card of an accelerator: memory, dense peaks with their ridge, links, power, price, with sources.

    The ridge is the arithmetic intensity in FLOP/B from which on the peak, not memory, is the limit.
    """
    rows = [*_memory_rows(accelerator), *_peak_rows(accelerator), *_link_rows(accelerator), *_other_rows(accelerator)]
    texts = dict.fromkeys(source.text for source in accelerator.sources)
    notes = (*accelerator.notes, *_calibrated(accelerator), *(f"source: {text}" for text in texts))
    title = f"{accelerator.title} – {accelerator.year}"
    grid = Grid(title, ("", "value", ""), tuple(rows), notes)
    return Result(kind="accelerator", data=_facts(accelerator), grids=(grid,))


def _calibrated(one: Accelerator) -> Iterator[str]:
    if own := _calibration(one):
        errors = ", ".join(f"{what} {100 * each['median']:.2g} %" for what, each in own["errors"].items())
        yield f"calibrated on {own['device']}, {own['date'][:10]}; median errors: {errors}"


def _row(key: str, label: str, value: float | None, unit: str, note: str = "", section: str = "") -> Row:
    return Row(key, (label, Figure(value, unit), note), bool(section), section)


def _memory_rows(one: Accelerator) -> Iterator[Row]:
    yield _row("memory_bytes", "capacity", one.memory_bytes, "B", "nominal", "Memory")
    if one.visible_bytes:
        yield _row("visible_bytes", "  offered to programs", one.visible_bytes, "B", "reported, varies by driver")
    yield _row("memory_bytes_per_s", "bandwidth", one.memory_bytes_per_s, "B/s")
    if one.cache_bytes:
        yield _row("cache_bytes", "last cache", one.cache_bytes, "B")


def _peak_rows(one: Accelerator) -> Iterator[Row]:
    section = "Dense peak"
    for form in (form for form in PEAKS if form in one.flops):
        note = f"memory-bound below {one.ridge(form):,.0f} FLOP/B"
        yield _row(
            f"flops.{form}", form, one.flops[form], "OP/s" if form.startswith("int") else "FLOP/s", note, section
        )
        section = ""
    if one.n_cores:
        yield _row("n_cores", "cores", one.n_cores, "")
    if one.clock_hz:
        yield _row("clock_hz", "clock of the peak", one.clock_hz, "Hz")
    if one.max_clock_hz:
        yield _row("max_clock_hz", "highest clock", one.max_clock_hz, "Hz")


def _link_rows(one: Accelerator) -> Iterator[Row]:
    for number, link in enumerate(one.links):
        joins = f"joins {link.size:,}" if link.size else "joins hosts"
        said = [joins, *["reduces in the switch"] * link.reduces, *["typical deployment"] * link.typical]
        section = "" if number else "Links, one direction for each device"
        yield _row(f"links.{number}.bytes_per_s", link.kind, link.bytes_per_s, "B/s", ", ".join(said), section)
        yield _row(f"links.{number}.latency_s", "  one hop", link.latency_s, "s")


def _other_rows(one: Accelerator) -> Iterator[Row]:
    yield _row("node_size", "devices of a host", one.node_size, "", "", "Power and price")
    if one.tdp_watts:
        yield _row("tdp_watts", "power limit", one.tdp_watts, "W")
    price = one.price
    note = f"{price.date}, {price.source}" if price else "none stated: give --usd-per-hour where money is asked for"
    yield _row("price.usd_per_hour", "by the hour", price.usd_per_hour if price else None, "USD/h", note)

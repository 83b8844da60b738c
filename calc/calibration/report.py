"""A calibration as a result, and its file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from calc.calibration.links import SHARE, fitted_links
from calc.calibration.run import Found, run
from calc.checks import number, whole
from calc.constants import CALIBRATION_VERSION
from calc.deviations import Errors, deviations
from calc.errors import SpecError
from calc.files import write_json
from calc.hardware import Accelerator
from calc.progress import Progress
from calc.results import Figure, Grid, Result, Row

RESTLESS = 0.1
"""Half of the shapes vary by more than this only where something else runs."""
DEFAULT_SECONDS = {"cpu": 45.0, "cuda": 120.0}


def measure(
    device: str,
    seconds: float | None,
    forms: tuple[str, ...],
    threads: int | None,
    ranks: int | None,
    progress: Progress | None,
) -> Result:
    """Return what a device was measured to be."""
    import torch

    from calc.calibration.device import TorchDevice

    if seconds is not None:
        number("seconds", seconds, above=0, below=86_400)
    if threads is not None and (whole("threads", threads) < 1 or device != "cpu"):
        raise SpecError(f"threads = {threads}: a CPU has one or more")
    versions = {"torch": torch.__version__, **({"cuda": str(torch.version.cuda)} if device == "cuda" else {})}
    measured = TorchDevice(device, forms, threads, ranks)
    return result(run(measured, DEFAULT_SECONDS[device] if seconds is None else seconds, versions, progress))


def result(found: Found) -> Result:
    """Return what was found: errors, constants, layers."""
    data = {
        **header(found.accelerator),
        "fitted": found.fit.fitted,
        "left_out": found.left_out,
        "unrest": found.unrest,
        "layers": [{**asdict(one), "error": one.predicted / one.measured - 1} for one in found.layers],
        "measurements": [
            {**point.shape(), "seconds": timing.seconds, "fitted": timing.fitted} for point, timing in found.timings
        ],
        "exchanges": [
            {**asdict(one.exchange), "seconds": one.seconds, "fitted": one.fitted} for one in found.exchanges
        ],
    }
    grids = (_errors(found), *_link_errors(found), _constants(found), _layers(found))
    return Result("calibration", data, tuple(grid for grid in grids if grid.rows), _notes(found))


def header(accelerator: Accelerator) -> dict[str, Any]:
    """Return what the program reads of a calibration's file: the device, its constants, their errors."""
    assert accelerator.calibration is not None
    stated = {name: value for name, value in asdict(accelerator).items() if value not in (None, (), "")}
    return {"accelerator": stated, **stated.pop("calibration")}


def _errors(found: Found) -> Grid:
    title = f"{found.calibration.device}: predicted against measured, on points that were not fitted"
    return _error_grid(title, found.calibration.errors)


def _link_errors(found: Found) -> Iterator[Grid]:
    links = found.calibration.links
    if links is not None:
        yield _error_grid(f"Exchanges by {links.backend} among {links.ranks}: likewise", links.errors)


def _error_grid(title: str, errors: Mapping[str, Errors]) -> Grid:
    rows = [
        Row(
            kind,
            (
                kind.replace("_", "-"),
                Figure(of.n),
                Figure(of.median, "percent"),
                Figure(of.p90, "percent"),
                Figure(of.bias, "percent"),
            ),
            emphasis=kind == "all",
        )
        for kind, of in errors.items()
    ]
    return Grid(title, ("", "n", "median", "90 %", "bias"), tuple(rows))


UNITS = {
    "fill_s": "s", "step_s": "s", "kernel_s": "s", "light_s": "s", "gap_s": "s", "host_s": "s", "decode_s": "s",
    "issue": "percent", "memory": "percent", "attention": "percent", "attention_decode": "percent",
    "launch_s": "s", "send_s": "s", "copy_s": "s", "nvls_s": "s", "fill_bytes": "B", "both_ways": "percent",
}  # fmt: skip


def _constants(found: Found) -> Grid:
    calibration, device = found.calibration, found.accelerator
    rows = [Row(f"flops.{form}", (f"peak {form}", Figure(rate, "FLOP/s"))) for form, rate in device.flops.items()]
    rows.append(Row("memory_bytes_per_s", ("bandwidth", Figure(device.memory_bytes_per_s, "B/s"))))
    for name, value in asdict(calibration.constants).items():
        if isinstance(value, (int, float)):
            rows.append(Row(f"constants.{name}", (name, Figure(value, UNITS.get(name, "")))))
    rows += _link_constants(found)
    return Grid("The device and its constants", ("", "value"), tuple(rows))


def _link_constants(found: Found) -> Iterator[Row]:
    """Yield the link that joins the devices, and what of its constants was fitted."""
    links = found.calibration.links
    if links is None:
        return
    link = found.accelerator.link(links.ranks)
    yield Row("link.bytes_per_s", (f"link ({link.kind})", Figure(link.bytes_per_s, "B/s")), section="Exchanges")
    yield Row("link.latency_s", ("latency", Figure(link.latency_s, "s")))
    for name, value in fitted_links(found.exchanges, found.accelerator, links.constants).items():
        kind = name.removeprefix(SHARE)
        label, unit = (f"share of {kind}", "percent") if kind != name else (name, UNITS.get(name, ""))
        yield Row(f"links.constants.{name}", (label, Figure(value, unit)))


def _layers(found: Found) -> Grid:
    rows = [
        Row(
            one.name,
            (
                f"{one.name}, {one.form}",
                Figure(one.predicted, "s", "modelled"),
                Figure(one.measured, "s"),
                Figure(one.predicted / one.measured - 1, "percent"),
            ),
        )
        for one in found.layers
    ]
    return Grid("Whole layers, predicted and measured", ("layer", "predicted", "measured", "error"), tuple(rows))


def _notes(found: Found) -> tuple[str, ...]:
    notes = [f"{len(found.timings):,} shapes measured, {found.fit.fitted:,} of them fitted"]
    if found.left_out:
        notes.append(f"the time did not suffice for {found.left_out:,} more; --seconds gives it more")
    if found.unrest > RESTLESS:
        notes.append(
            f"repetitions of a shape differ by {100 * found.unrest:.0f} %: something else runs, the fit is poor"
        )
    if found.layers:
        off = deviations([one.predicted / one.measured for one in found.layers])
        notes.append(f"whole layers: {100 * off.median:.2g} % median error over {off.n}")
    if found.exchanges:
        fitted = sum(one.fitted for one in found.exchanges)
        notes.append(f"{len(found.exchanges):,} exchanges measured, {fitted:,} of them fitted")
    return tuple(notes)


def write(result: Result, path: str | Path) -> Path:
    """Write a calibration's file."""
    return write_json({"schema_version": CALIBRATION_VERSION, "kind": "calibration", **result.data}, path)

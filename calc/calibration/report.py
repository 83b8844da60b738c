"""A calibration as a result, and its file."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from calc.calibration.fitting import summary
from calc.calibration.run import Found, Progress, run
from calc.errors import SpecError
from calc.files import write_json
from calc.results import Figure, Grid, Result, Row
from calc.roofline.calibrated import CALIBRATION_VERSION

RESTLESS = 0.1
"""Half of the shapes vary by more than this only where something else runs."""
DEFAULT_SECONDS = {"cpu": 45.0, "cuda": 120.0}


def measure(
    device: str, seconds: float | None, forms: tuple[str, ...], threads: int | None, progress: Progress | None
) -> Result:
    """Return what a device was measured to be."""
    import torch

    from calc.calibration.device import TorchDevice

    if seconds is not None and not 0 < seconds < 86400:
        raise SpecError(f"seconds = {seconds} is not a time between 0 and a day")
    if threads is not None and (threads < 1 or device != "cpu"):
        raise SpecError(f"threads = {threads}: a CPU has one or more")
    versions = {"torch": torch.__version__, **({"cuda": str(torch.version.cuda)} if device == "cuda" else {})}
    measured = TorchDevice(device, forms, threads)
    return result(run(measured, seconds or DEFAULT_SECONDS[device], versions, progress))


def result(found: Found) -> Result:
    """Return what was found: errors, constants, layers."""
    calibration = found.calibration
    data = {
        **{name: value for name, value in calibration.header().items() if name not in ("schema_version", "kind")},
        "fitted": found.fit.fitted,
        "left_out": found.left_out,
        "unrest": found.unrest,
        "layers": [{**asdict(one), "error": one.predicted / one.measured - 1} for one in found.layers],
        "measurements": [
            {**point.shape(), "seconds": timing.seconds, "fitted": timing.fitted} for point, timing in found.timings
        ],
    }
    grids = (_errors(found), _constants(found), _layers(found))
    return Result("calibration", data, tuple(grid for grid in grids if grid.rows), _notes(found))


def _errors(found: Found) -> Grid:
    rows = [
        Row(
            kind,
            (
                kind,
                Figure(int(errors["n"])),
                Figure(errors["median"], "percent"),
                Figure(errors["p90"], "percent"),
                Figure(errors["bias"], "percent"),
            ),
            emphasis=kind == "all",
        )
        for kind, errors in found.calibration.errors.items()
    ]
    title = f"{found.calibration.device}: predicted against measured, on points that were not fitted"
    return Grid(title, ("", "n", "median", "90 %", "bias"), tuple(rows))


UNITS = {
    "fill_s": "s", "step_s": "s", "kernel_s": "s", "light_s": "s", "gap_s": "s", "host_s": "s", "decode_s": "s",
    "issue": "percent", "memory": "percent", "attention": "percent", "attention_decode": "percent",
}  # fmt: skip


def _constants(found: Found) -> Grid:
    calibration = found.calibration
    device = calibration.accelerator
    rows = [Row(f"flops.{form}", (f"peak {form}", Figure(rate, "FLOP/s"))) for form, rate in device.flops.items()]
    rows.append(Row("memory_bytes_per_s", ("bandwidth", Figure(device.memory_bytes_per_s, "B/s"))))
    for name, value in asdict(calibration.constants).items():
        if isinstance(value, (int, float)):
            rows.append(Row(f"constants.{name}", (name, Figure(value, UNITS.get(name, "")))))
    return Grid("The device and its constants", ("", "value"), tuple(rows))


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
        off = summary([one.predicted / one.measured for one in found.layers])
        notes.append(f"whole layers: {100 * off['median']:.2g} % median error over {int(off['n'])}")
    return tuple(notes)


def write(result: Result, path: str | Path) -> Path:
    """Write a calibration's file."""
    return write_json({"schema_version": CALIBRATION_VERSION, "kind": "calibration", **result.data}, path)

"""Constants that were measured on one device: the file that ``calc calibrate`` writes and ``--calibration`` reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Final

from calc.catalog import accelerator_adapter, describe, read_text
from calc.errors import SpecError, shortened
from calc.hardware import Accelerator
from calc.records import Record, named_record
from calc.roofline.efficiency import Efficiency

CALIBRATION_VERSION: Final = 1
"""Of the file; one of another version is refused."""


@named_record
class Calibration(Record):
    """What a calibration found: the device, its constants, and how far they are off where they were not fitted.

    ``errors``: |predicted / measured − 1| by kind of kernel, over points that took no part in the fit: ``n``,
    ``median``, ``p90``, and the band ``low``, ``high`` of measured / predicted (10th and 90th percentile).
    """

    device: str
    date: str
    accelerator: Accelerator
    constants: Efficiency
    errors: Mapping[str, Mapping[str, float]]
    versions: Mapping[str, str]

    def header(self) -> dict[str, Any]:
        """Return what the file holds beside the measurements."""
        stated = {name: value for name, value in asdict(self.accelerator).items() if value not in (None, (), "")}
        return {
            "schema_version": CALIBRATION_VERSION,
            "kind": "calibration",
            "device": self.device,
            "date": self.date,
            "versions": dict(self.versions),
            "accelerator": stated,
            "constants": asdict(self.constants),
            "errors": {kind: dict(errors) for kind, errors in self.errors.items()},
        }


def load_calibration(path: str | Path) -> Calibration:
    """Read a calibration file.

    Raises:
        SpecError: the file is missing, no calibration, of another version, or has a constant that is none.
    """
    text = read_text(Path(path))
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SpecError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(data, dict) or data.get("kind") != "calibration":
        raise SpecError(f"{path} is no calibration: `calc calibrate -o FILE` writes one")
    if data.get("schema_version") != CALIBRATION_VERSION:
        found = shortened(repr(data.get("schema_version")))
        raise SpecError(f"{path}: schema_version = {found}, this program reads {CALIBRATION_VERSION}: calibrate again")
    for name in ("accelerator", "constants", "errors", "versions"):
        if not isinstance(data.get(name), dict):
            raise SpecError(f"{path}: {name} is missing or no object")
    return Calibration(
        device=str(data.get("device", "")),
        date=str(data.get("date", "")),
        accelerator=_accelerator(data["accelerator"], path),
        constants=_constants(data["constants"], path),
        errors=data["errors"],
        versions=data["versions"],
    )


def _accelerator(data: Mapping[str, Any], path: str | Path) -> Accelerator:
    from pydantic import ValidationError

    try:
        return accelerator_adapter().validate_python(data)
    except ValidationError as error:
        raise SpecError(f"{path}: accelerator: {describe(error)}") from None


def _constants(data: Mapping[str, Any], path: str | Path) -> Efficiency:
    known = {field.name for field in fields(Efficiency)}
    for name, value in data.items():
        if name not in known:
            raise SpecError(f"{path}: constants: {name!r} is no constant of the time model")
        numbers = list(value.values()) if name == "flops_per_joule" and isinstance(value, dict) else [value]
        if any(isinstance(one, bool) or not isinstance(one, (int, float)) or not 0 <= one < 1e30 for one in numbers):
            raise SpecError(f"{path}: constants: {name} = {shortened(repr(value))} is no such number")
    return Efficiency(**data)

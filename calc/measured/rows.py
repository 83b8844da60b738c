"""Published measurements: what was run, on what, and what came out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any

from calc.catalog import presets_folder, read_text
from calc.errors import CalcError, SpecError, shortened
from calc.records import Record, named_record, record, replace

PUBLISHED = "published.json"
"""The figures that the program carries, in ``presets/measurements``."""

SECONDARY: Mapping[str, tuple[str, str, str]] = {
    "peak_memory_gib": ("memory", "peak_memory_per_gpu", "GiB"),
    "real_peak_reserved_gib": ("memory", "peak_reserved_memory_per_gpu", "GiB"),
    "max_memory_gb_first_or_last_stage": ("memory", "max_memory_first_or_last_stage", "GB"),
    "weights_gib_per_gpu": ("memory", "model_weights_per_gpu", "GiB"),
    "mean_ttft_ms": ("inference", "mean_ttft", "ms"),
    "ttft_ms": ("inference", "ttft", "ms"),
}
"""Second figures of a row that are measurements of their own: key → (kind, metric, unit)."""


AVAILABLE: tuple[tuple[str, ...], ...] = (
    ("available_kv_cache_gib_per_gpu",),
    ("available_kv_cache_gib",),
    ("kv_cache_gib_per_gpu",),
    ("k_gib", "v_gib"),
)
"""Second figures that add up to what an engine's log says a cache may have, in GiB. What was computed back from the
tokens (``implied_…``) is no measurement."""

GIVEN_MEMORY = "_given_memory"
"""Ends the metric of a cache's tokens where they are to be told from the memory that the log says is available."""


class NotModelled(CalcError):  # noqa: N818 - reads as what it says of a row
    """A measurement that the program cannot predict; the message says why."""


@named_record
class Measurement(Record):
    """One published figure: the configuration that was run, and the value that was measured, in ``unit``.

    ``tier``: A for a primary source's own measurement, B and C for what is rounded or second-hand, ``anchor`` for the
    error that another tool states of itself, which measures no system.
    """

    id: str
    kind: str
    source: str
    config: Mapping[str, Any]
    metric: str
    value: float
    unit: str
    tier: str = ""
    secondary: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""

    @classmethod
    def of(cls, data: Any, place: str) -> Measurement:
        """Build from a row of a file.

        Raises:
            SpecError: a field that is missing, unknown or of the wrong type; ``place`` says where.
        """
        if not isinstance(data, dict):
            raise SpecError(f"{place} is not an object")
        for name, kind in (("id", str), ("kind", str), ("metric", str), ("unit", str), ("config", dict)):
            if not isinstance(data.get(name), kind):
                raise SpecError(f"{place}: {name} = {shortened(repr(data.get(name)))} is not a {kind.__name__}")
        value = data.get("value")
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
            raise SpecError(f"{place}: value = {shortened(repr(value))} is not a positive number")
        known = {name: data[name] for name in vars(_EMPTY) if data.get(name) is not None}
        return replace(_EMPTY, **known)

    def first(self, *keys: str) -> Any:
        """Return the configuration's value under the first of several keys that it has, or None."""
        return next((self.config[key] for key in keys if self.config.get(key) is not None), None)

    def whole(self, *keys: str, default: int | None = None) -> int:
        """Return a whole number of the configuration, under the first key that it has.

        Raises:
            NotModelled: there is none and no default, or it is no whole number.
        """
        value = self.first(*keys)
        if value is None and default is not None:
            return default
        if value is None:
            raise NotModelled(f"{keys[0]} is not stated")
        try:
            number = int(float(value))
        except (TypeError, ValueError):
            raise NotModelled(f"{keys[0]} = {shortened(str(value))} is not a number") from None
        return number

    def text(self, *keys: str) -> str:
        """Return a text of the configuration in lower case, or an empty one."""
        value = self.first(*keys)
        return str(value).lower() if value is not None else ""

    def further(self) -> Iterator[Measurement]:
        """Yield the second figures of the row that are measurements of their own."""
        for key, (kind, metric, unit) in SECONDARY.items():
            value = self.secondary.get(key)
            if isinstance(value, (int, float)) and metric != self.metric:
                yield replace(self, id=f"{self.id}.{key}", kind=kind, metric=metric, unit=unit, value=value)
        if self.unit == "tokens" and self.available_gib() is not None:
            yield replace(self, id=f"{self.id}.given_memory", metric=self.metric + GIVEN_MEMORY)

    def available_gib(self) -> float | None:
        """Return the GiB that the row says a cache may have, or None."""
        for keys in AVAILABLE:
            parts = [part for key in keys if isinstance(part := self.secondary.get(key), (int, float))]
            if len(parts) == len(keys):
                return float(sum(parts))
        return None


_EMPTY = Measurement(id="", kind="", source="", config={}, metric="", value=1, unit="")


@record
class Prediction(Record):
    """What the program says of a measured figure: which of its quantities it is, and the value in the row's unit."""

    quantity: str
    value: float


def read(path: str | Path | None = None) -> list[Measurement]:
    """Return the measurements of a file (a JSON list of rows), or those that the program carries.

    Raises:
        SpecError: the file cannot be read, is no list, or holds a row that is none.
    """
    origin = Path(path) if path is not None else presets_folder() / "measurements" / PUBLISHED
    text = read_text(origin)
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SpecError(f"{origin} is not valid JSON: {error}") from None
    if isinstance(rows, dict):
        rows = rows.get("measurements", rows)
    if not isinstance(rows, list):
        raise SpecError(f"{origin} holds no list of measurements")
    return [Measurement.of(row, f"{origin.name}, row {number}") for number, row in enumerate(rows, start=1)]

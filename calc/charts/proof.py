"""What has been proven: mechanism by quantity, for each device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from calc.charts.chart import Asked, Chart
from calc.charts.data import Axis, Cells, ChartData, Panel
from calc.charts.drawing.cells import draw_table, size_of_table
from calc.errors import SpecError

QUANTITIES: Mapping[str, str] = {
    "parameters": "params",
    "forward": "FLOPs forward",
    "visible": "FLOPs mask",
    "backward": "FLOPs back",
    "decode": "FLOPs decode",
    "elements": "beyond matmul",
    "read": "bytes read",
    "written": "bytes written",
    "cache": "bytes cache",
    "kept": "bytes kept",
    "kept, selective": "kept, core redone",
    "kept, flash": "kept, fused",
    "kept, full": "kept, layers redone",
}
"""Quantity of a check → the head of its column; what is not here has a column of its own name."""
FOLDED = {"visible elements": "elements", "decode elements": "elements"}


def data(asked: Asked) -> ChartData:
    """Return how many figures were compared for each mechanism and quantity, and whether all agree.

    ``results`` are what ``calc validate --format json`` printed, one for each device.
    """
    proofs = [result for result in asked.results if result.get("kind") == "validate"]
    if len(proofs) < len(asked.results) or not proofs:
        raise SpecError("the chart proof is drawn from what `calc validate --format json` printed: --from proof.json")
    panels = tuple(_panel(proof) for proof in proofs)
    figures, differ = (sum(int(proof[key]) for proof in proofs) for key in ("figures", "differ"))
    names = {target["name"] for proof in proofs for target in proof["targets"]}
    devices = len({proof["device"] for proof in proofs})
    verdict = "formula and count are the same integer in all" if not differ else f"{differ:,} differ"
    where = f" on {devices} devices" if devices > 1 else ""
    return ChartData(
        chart="proof",
        finding=f"{figures:,} figures of {len(names):,} targets compared{where}: {verdict}",
        panels=panels,
        conventions="Figures compared with counts of an instrumented PyTorch twin, as integers. Empty: nothing to "
        "count.",
        source=", ".join(dict.fromkeys(_version(proof) for proof in proofs)),
    )


def _version(proof: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {version}" for name, version in proof["versions"].items())


def _panel(proof: Mapping[str, Any]) -> Panel:
    compared: dict[str, dict[str, list[bool]]] = {}
    for target in proof["targets"]:
        row = compared.setdefault(target["name"], {})
        for check in target["checks"]:
            quantity = FOLDED.get(check["quantity"], check["quantity"])
            row.setdefault(quantity, []).append(check["expected"] == check["counted"])
    if not compared:
        raise SpecError("the proof compares nothing")
    found = {quantity for row in compared.values() for quantity in row}
    columns = [quantity for quantity in QUANTITIES if quantity in found] + sorted(found - set(QUANTITIES))
    shares = tuple(
        tuple(sum(row[column]) / len(row[column]) if column in row else None for column in columns)
        for row in compared.values()
    )
    texts = tuple(
        tuple(f"{len(row[column]):,}" if column in row else "" for column in columns) for row in compared.values()
    )
    return Panel(
        title=f"on {proof['device']}: figures compared",
        x=Axis(label="quantity", scale="names", names=tuple(QUANTITIES.get(column, column) for column in columns)),
        y=Axis(label="target", scale="names", names=tuple(compared)),
        cells=Cells(values=shares, texts=texts),
    )


CHART = Chart(
    about="What has been proven: target by quantity, for each device (from calc validate --format json)",
    data=data,
    draw=draw_table,
    least=0,
    most=0,
    takes=("results",),
    size=size_of_table,
)

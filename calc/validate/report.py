"""What a proof found, as a result: formula against counter, operation by operation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from calc import __version__
from calc.results import Figure, Grid, Result, Row
from calc.validate.run import Check, Proof

QUANTITIES: Mapping[str, str] = {
    "parameters": "parameters",
    "forward": "FLOPs, forward",
    "visible": "FLOPs, through the mask",
    "backward": "FLOPs, backward",
    "decode": "FLOPs, decode steps",
    "elements": "beyond matmul, forward",
    "visible elements": "beyond matmul, through the mask",
    "decode elements": "beyond matmul, decode steps",
    "read": "bytes read, unfused",
    "written": "bytes written, unfused",
    "cache": "cache bytes",
    "calls": "calls, all ranks",
    "sent": "bytes, all ranks",
    "agreement": "against the undivided twin",
    "kept": "bytes kept for backward",
    "kept, selective": "kept, core recomputed",
    "kept, flash": "kept, fused attention",
    "kept, full": "kept, layers recomputed",
}
"""What is compared, as a person reads it."""
COLUMNS = ("operation", "quantity", "einsum", "formula says", "PyTorch does", "difference")


def result(proof: Proof, *, detailed: bool) -> Result:
    """Return a table for each name (``detailed``), or one line for each; what differs is always shown."""
    wrong = [check for check in proof.all if not check.holds]
    grids = [_table(name, checks) for name, checks in proof.checks.items()] if detailed else [_lines(proof)]
    if wrong and not detailed:
        grids.append(_differences(wrong))
    if proof.footprints:
        grids.append(_measured(proof))
    return Result("validate", _data(proof, wrong), tuple(grids), (_summary(proof, wrong),), failed=bool(wrong))


def _summary(proof: Proof, wrong: list[Check]) -> str:
    places = len({(check.target, check.path, check.operation) for check in proof.all})
    verdict = f"{len(wrong):,} differ" if wrong else "formula and count are the same integer everywhere"
    return f"{len(proof.all):,} figures of {places:,} operations on {proof.device}: {verdict}"


def _difference(checks: Iterable[Check]) -> int | None:
    """Return how far apart the two are, added up; None where something could not be counted."""
    total = 0
    for check in checks:
        if check.counted is None:
            return None
        total += abs(check.counted - check.expected)
    return total


def _lines(proof: Proof) -> Grid:
    rows = []
    for name, checks in proof.checks.items():
        places = {(check.target, check.path, check.operation) for check in checks}
        wrong = sum(not check.holds for check in checks)
        cells = (name, Figure(len(places)), Figure(len(checks)), Figure(wrong), "differs" if wrong else "proven")
        rows.append(Row(name, cells, emphasis=bool(wrong)))
    return Grid("", ("", "operations", "figures", "differ", ""), tuple(rows))


def _table(name: str, checks: Iterable[Check]) -> Grid:
    """Add the figures of an operation up over sizes and steps."""
    groups: dict[tuple[str, str, str], list[Check]] = {}
    for check in checks:
        groups.setdefault((check.path, check.operation, check.quantity), []).append(check)
    rows = []
    seen = ""
    order = list(QUANTITIES)
    places = list(dict.fromkeys(key[:2] for key in groups))
    for key, group in sorted(groups.items(), key=lambda item: (places.index(item[0][:2]), order.index(item[0][2]))):
        path, operation, quantity = key
        label = path if path != seen else ""
        seen = path
        rows.append(Row(".".join(key), _cells(group, operation, quantity), section=label))
    sizes = len({check.target for group in groups.values() for check in group})
    note = f"added up over {sizes} sizes" if sizes > 1 else ""
    return Grid(name, COLUMNS, tuple(rows), (note,) if note else ())


def _cells(group: list[Check], operation: str, quantity: str) -> tuple[str | Figure, ...]:
    counted = [check.counted for check in group if check.counted is not None]
    difference = _difference(group)
    return (
        operation,
        QUANTITIES[quantity],
        group[0].formula,
        Figure(sum(check.expected for check in group)),
        Figure(sum(counted) if len(counted) == len(group) else None),
        Figure(difference),
    )


def _differences(wrong: list[Check]) -> Grid:
    rows = []
    for check in wrong:
        key = f"{check.target}.{check.path}.{check.operation}.{check.quantity}.{check.context}"
        rows.append(Row(key, _cells([check], f"{check.target}  {check.path}.{check.operation}", check.quantity)))
    return Grid("Differences", COLUMNS, tuple(rows))


def _measured(proof: Proof) -> Grid:
    """Return peak memory and time of every sample, as a device told them."""
    rows = [
        Row(
            f"{one.target}.{one.phase}",
            (
                one.target,
                one.phase,
                f"{one.batch} × {one.tokens}",
                Figure(one.resident, "B"),
                Figure(one.peak, "B"),
                Figure(one.seconds, "s"),
                Figure(one.modelled, "s", "modelled"),
            ),
        )
        for one in proof.footprints
    ]
    columns = ("", "pass", "tokens", "allocated before", "peak", "time", "time model")
    notes = ("peak: max_memory_allocated; time: median between events; time model: eager kernels launched by the host",)
    return Grid(f"Measured on {proof.device}", columns, tuple(rows), notes)


def _data(proof: Proof, wrong: list[Check]) -> dict[str, Any]:
    return {
        "device": proof.device,
        "versions": {"transformer-calc": __version__, "torch": proof.torch_version},
        "holds": not wrong,
        "figures": len(proof.all),
        "differ": len(wrong),
        "measured": [asdict(one) for one in proof.footprints],
        "targets": [
            {
                "name": name,
                "holds": all(check.holds for check in checks),
                "checks": [
                    {
                        "target": check.target,
                        "path": check.path,
                        "operation": check.operation,
                        "quantity": check.quantity,
                        "formula": check.formula,
                        "context": check.context,
                        "expected": check.expected,
                        "counted": check.counted,
                    }
                    for check in checks
                ],
            }
            for name, checks in proof.checks.items()
        ],
    }

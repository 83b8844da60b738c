"""The comparison: what the tables imply of a layout, against what processes sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TypeAlias

import torch

from calc.errors import UnknownName
from calc.model import Pass
from calc.parallel import Collective, Wire, check, collectives
from calc.processes import each_job
from calc.progress import Progress
from calc.validate.ranks.cases import CASES, RANKS, Case
from calc.validate.ranks.process import Report
from calc.validate.run import Check, Proof

AXES: Mapping[str, str] = {
    "tp": "tp", "same_head": "tp", "cp": "cp", "copies": "dp", "expert_copies": "expert_dp", "ep": "ep",
    "expert_world": "ep", "outer": "ep", "expert_tp": "expert_tp", "pp": "pp", "ends": "pp",
}  # fmt: skip
"""The reference's name of a group → the axis of the collectives that it does."""
WIRE = Wire(activation="fp32", weight="fp32", gradient="fp32")
"""Everything that the processes compute is fp32."""
WORK = "calc.validate.ranks.process:run"
TOLERANCE = 2e-3
"""Largest relative difference of a loss, an updated weight's movement or a logit: sums in fp32 in another order."""

PHASES = ("forward", "backward", "step")
Key: TypeAlias = tuple[str, str, int, str, int]
"""(phase, axis, ranks, kind, bytes of a call); the bytes of an all-to-all, which the router decides, are 0 here."""


def prove_collectives(
    names: Iterable[str] = (), *, cases: Iterable[Case] = CASES, progress: Progress | None = None
) -> Proof:
    """Run layouts of small models as four processes, and compare what is sent with what the tables imply.

    Calls and bytes are added up over the processes and equal as integers, by direction, axis, ranks and kind. Each
    process's loss and updated weights (or logits) are compared with those of the undivided twin.

    Raises:
        CalcError: a case that does not exist; a process that fails.
    """
    known, wanted = {case.name: case for case in cases}, list(names)
    for name in wanted:
        if name not in known:
            raise UnknownName("proof of collectives", name, known)
    chosen = [known[name] for name in wanted or known]
    ran = reports(chosen, progress)
    found = {case.name: tuple(compare(case, own)) for case, own in zip(chosen, ran, strict=True)}
    return Proof(found, f"{RANKS} gloo processes on the CPU", torch.__version__)


def compare(case: Case, reports: list[Report]) -> list[Check]:
    """Return every comparison of a case."""
    check(case.model, case.layout, RANKS)
    expected, implied = _expected(case, reports)
    counted: Counter[Key] = Counter()
    volumes: Counter[Key] = Counter()
    for report in reports:
        for sent in report.sent:
            free = sent.kind == "all_to_all"
            # of a pipeline only two ranks meet at a time
            size = 2 if AXES[sent.group] == "pp" else sent.size
            key: Key = (sent.phase, AXES[sent.group], size, sent.kind, 0 if free else sent.bytes)
            counted[key] += 1
            if free:
                volumes[key] += sent.bytes
    checks = []
    for key in sorted({*expected, *counted}, key=lambda key: (key[1], key[2], PHASES.index(key[0]), *key[3:])):
        formula = _shortened(implied.get(key, []))
        checks.append(_check(case, key, "calls", formula, expected[key], counted[key]))
        if key[3] == "all_to_all":
            sum_ = sum(call.bytes * times for call, times in _calls(case, reports) if _key(call) == key)
            checks.append(_check(case, key, "sent", formula, sum_, volumes[key]))
    wrong = sum(not report.error < TOLERANCE for report in reports)
    checks.append(Check(case.name, "results", "ranks that differ", "agreement", "", case.context, 0, wrong))
    return checks


def _shortened(places: list[str]) -> str:
    """Return where collectives come from: the first place, and how many more."""
    first, *others = dict.fromkeys(places) or [""]
    return f"{first} and {len(others)} more" if others else first


def _check(case: Case, key: Key, quantity: str, formula: str, expected: int, counted: int) -> Check:
    phase, axis, size, kind, each = key
    what = f"{kind} {phase}" + (f", {each:,} B" if each else "")
    return Check(case.name, f"{axis} of {size}", what, quantity, formula, case.context, expected, counted)


def _key(call: Collective) -> Key:
    return (call.direction, call.axis, call.size, call.kind, 0 if call.kind == "all_to_all" else call.bytes)


def _calls(case: Case, reports: list[Report]) -> list[tuple[Collective, int]]:
    """Return the implied collectives of every process, with how often each does it in the whole step."""
    found = []
    for report in reports:
        decode = case.does == "decode"
        pass_ = Pass.decode(case.context + 1, case.batch) if decode else Pass.prefill(case.context, case.batch)
        calls = collectives(
            case.model, case.layout, pass_, stage=report.stage, training=case.training, wire=WIRE, ways=case.ways
        )
        for call in calls:
            times = 1 if call.direction == "step" else case.micro_batches
            found.append((call, call.count * times))
    return found


def _expected(case: Case, reports: list[Report]) -> tuple[Counter[Key], dict[Key, list[str]]]:
    counted: Counter[Key] = Counter()
    implied: dict[Key, list[str]] = {}
    for call, times in _calls(case, reports):
        counted[_key(call)] += times
        implied.setdefault(_key(call), []).append(call.after)
    return counted, implied


def reports(cases: Iterable[Case], progress: Progress | None = None) -> list[list[Report]]:
    """Return what every process sent, and how far its results are off, in every case."""
    chosen, found = list(cases), []
    done = each_job(WORK, chosen, RANKS)
    for number, case in enumerate(chosen):
        if progress:
            progress(f"collectives: {case.name}", number, len(chosen))
        found.append(next(done))
    if progress:
        progress("", len(chosen), len(chosen))
    return found

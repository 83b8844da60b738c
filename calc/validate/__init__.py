"""Proof: twins run, instruments count, and every count is compared with the table it must equal."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

from calc.checks import listed
from calc.errors import MissingExtra, SpecError
from calc.files import write_json
from calc.progress import Progress
from calc.records import replace
from calc.results import Result


def prove(
    targets: str | Iterable[str] = (),
    *,
    everything: bool = False,
    collectives: bool = False,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Result:
    """Prove models and mechanisms against PyTorch, operation by operation: formula, count, difference.

    A mechanism is proven at small sizes that together use all its options; a model after being shrunk. Compared as
    integers: parameters, matmul FLOPs of a dense prefill (forward and backward) and the part of them that masks let
    through, matmul FLOPs of decode steps, what ``all`` counts beyond them (forward), bytes that operations of a prefill
    read and write unfused, bytes that autograd keeps for the backward pass (also with recomputation, and on the CPU
    with a fused attention), bytes of cache and state after a prefill and after each step. ``calc.validate.rules`` lists
    the operations whose small work, traffic or kept tensors are not compared, and why.

    On a GPU (``device="cuda"``) peak allocated memory and the time of every sample's passes are measured beside.

    Without targets every mechanism is proven; ``everything`` adds every preset, and the collectives. ``collectives``
    proves those alone (targets are then names of its cases): small models under layouts of tensor, sequence, expert,
    context, data (ZeRO) and pipeline parallelism run as four processes, and what they send to each other is compared
    with what their tables imply: kind, calls, bytes; and their results with those of the undivided model. The result
    has ``failed`` set if any figure differs by one.

    Raises:
        MissingExtra: PyTorch is not installed.
        CalcError: an unknown model, mechanism or device.
    """
    if find_spec("torch") is None:
        raise MissingExtra("validation needs PyTorch: pip install 'transformer-calc[torch]'")
    from calc.validate.report import result
    from calc.validate.run import prove_all, subjects

    chosen = listed(targets)
    if collectives and device != "cpu":
        raise SpecError(f"device = {device!r}: what ranks send is counted among processes on the CPU")
    if collectives and not everything:
        from calc.validate.ranks import prove_collectives

        return result(prove_collectives(chosen, progress=progress), detailed=bool(chosen))
    proof = prove_all(subjects(chosen, everything), device, progress)
    if everything and device == "cpu":
        from calc.validate.ranks import prove_collectives

        further = prove_collectives(progress=progress)
        proof = replace(proof, checks={**proof.checks, **{f"on ranks: {k}": v for k, v in further.checks.items()}})
    return result(proof, detailed=bool(chosen))


def record_proof(result: Result, path: str | Path) -> Path:
    """Write a proof as a record that can be kept and cited: device, date, versions, every figure, what was measured.

    An existing file is replaced in one step.

    Raises:
        SpecError: the folder does not exist or cannot be written to.
    """
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return write_json({**result.to_dict(), "date": now}, path)

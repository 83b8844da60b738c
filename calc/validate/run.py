"""The comparison: what the tables say, against what the instruments count, as integers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from fractions import Fraction

import torch

from calc import catalog
from calc.checks import one_of
from calc.errors import SpecError, UnknownName
from calc.hardware import Accelerator
from calc.identify import find_accelerator
from calc.modality.tower import Tower
from calc.model import Block, Model, Pass, environment, running
from calc.operations import Counts
from calc.progress import Progress
from calc.records import Record, record, replace
from calc.reference.base import Key, parameters_by_operation
from calc.saved import Keeping, Recompute, saved, saved_bytes
from calc.units import dtype
from calc.validate.elementwise import ElementCounter
from calc.validate.footprint import CudaMeter, Footprint, Meter, footprints
from calc.validate.keeping import attention_cores, flash, recomputes, recomputing
from calc.validate.products import MatmulCounter
from calc.validate.rules import by_rule, compared, kept, one_stream, operands
from calc.validate.samples import Sample, kinds, samples
from calc.validate.shrink import sample as shrunk_sample
from calc.validate.shrink import tower_sample
from calc.validate.subject import Subject, held, subject
from calc.validate.traffic import TrafficCounter


@record
class Check(Record):
    """One figure of one operation: what the table says, and what was counted.

    ``context`` is the number of positions that the pass ends with. ``counted`` is None where a twin did not tell the
    mask that it applied. Units: parameters, FLOP, bytes.
    """

    target: str
    path: str
    operation: str
    quantity: str
    formula: str
    context: int
    expected: int
    counted: int | None

    @property
    def holds(self) -> bool:
        """Whether both are the same integer."""
        return self.counted == self.expected


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let PyTorch work alone: twins are so small that threads would only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@_one_thread()
def prove(sample: Sample, device: str = "cpu") -> list[Check]:
    """Run a sample's twin and compare it with its tables, operation by operation.

    Parameters; matmul FLOPs of a dense prefill, forward and backward, and the part of them that the mask lets through;
    matmul FLOPs of decode steps; what ``all`` counts beyond matmul FLOPs, forward, through the mask and in steps; bytes
    that the operations of a prefill read and write; bytes of the cache after the prefill and after each step. Figures
    that are zero on both sides are left out.
    """
    proven = subject(sample, device)
    checks = _parameters(proven) + _training(proven)
    if not sees_both_ways(proven):
        checks += _decoding(proven)
    return [check for check in checks if check.expected or check.counted != 0]


def sees_both_ways(proven: Subject) -> bool:
    """Tell whether positions see what stands after them, so that there is no decoding."""
    operations = [operation for block in proven.blocks if not block.encoder for operation in block.operations]
    return any(operation.over is not None and operation.over.both_ways for operation in operations)


def _compare(
    proven: Subject, quantity: str, context: int, expected: Mapping[Key, int], counted: Mapping[Key, int | None]
) -> list[Check]:
    """Compare every key of either side; what one side lacks is zero there."""
    formulas = {(block.path, op.name): op.formula for block in proven.trained for op in block.operations}
    formulas |= {(block.path, state.name): state.dims for block in proven.blocks for state in block.states}
    return [
        Check(
            proven.sample.name,
            *key,
            quantity,
            formulas.get(key, ""),
            context,
            int(expected.get(key, 0)),
            counted.get(key, 0),
        )
        for key in dict.fromkeys((*expected, *counted))
    ]


def _parameters(proven: Subject) -> list[Check]:
    expected = {
        (block.path, operation.name): block.repeat * operation.parameters(block.letters)
        for block in proven.trained
        for operation in block.operations
    }
    return _compare(proven, "parameters", 0, expected, parameters_by_operation(proven.twin))


def _flops(blocks: list[Block], pass_: Pass, backward: bool = False, counts: Counts = "matmul") -> dict[Key, int]:
    """Return what tables say of a pass."""
    return {
        (block.path, operation.name): block.repeat
        * (operation.backward_flops if backward else operation.flops)(env, causal=pass_.causal, counts=counts)
        for block, operation, env in running(blocks, pass_)
    }


def _training(proven: Subject) -> list[Check]:
    """Compare a forward and a backward pass over the whole context."""
    sample = proven.sample
    with MatmulCounter() as counter:
        with ElementCounter() as elements:
            outputs = proven.run(0, sample.context)
        torch.autograd.backward(outputs, [torch.randn_like(output) for output in outputs])
    dense, visible = (sample.prefill(causal) for causal in (False, True))
    expected = _flops(proven.trained, dense)
    through_mask = {
        (block.path, operation.name): block.repeat * operation.flops(env)
        for block, operation, env in running(proven.trained, visible)
        if operation.over is not None and expected[block.path, operation.name]
    }
    return [
        *_compare(proven, "forward", sample.context, expected, counter.forward),
        *_compare(proven, "backward", sample.context, _flops(proven.trained, dense, backward=True), counter.backward),
        *_compare(proven, "visible", sample.context, through_mask, _visible(proven, counter.forward, through_mask)),
        *_beyond(proven, dense, visible, compared(proven.trained, elements.counts)),
        *_moved(proven, dense),
        *_kept(proven, dense),
    ]


def _moved(proven: Subject, dense: Pass) -> list[Check]:
    """Compare the bytes of a dense prefill that operations read and write, unfused, in fp32."""
    with torch.no_grad(), TrafficCounter() as counter:
        counter.finish(proven.run(0, proven.sample.context))
    read, written = operands(proven.trained, dense, dtype("fp32").bytes(1))
    context = proven.sample.context
    return [
        *_compare(proven, "read", context, read, {key: counter.read[key] for key in read}),
        *_compare(proven, "written", context, written, {key: counter.written[key] for key in written}),
    ]


APART = Keeping(attention="eager", fused=False, form="fp32")
"""What twins run: separate kernels, in fp32."""


def _kept(proven: Subject, dense: Pass) -> list[Check]:
    """Compare the bytes that autograd keeps for the backward pass, and with recomputation or a fused attention."""
    if not one_stream(proven.trained):
        return []
    told: Counter[Key] = Counter()
    for tensor in saved(proven.trained, dense, APART):
        told[tensor.path, tensor.operation] += int(tensor.total)
    compared_ones = {(block.path, op.name) for block in proven.trained for op in block.operations if kept(block, op)}
    found = proven.saves()
    context = proven.sample.context
    checks = _compare(
        proven,
        "kept",
        context,
        {key: size for key, size in told.items() if key in compared_ones},
        {key: size for key, size in found.items() if key in compared_ones},
    )
    if all(kept(block, op) for block in proven.trained for op in block.operations):
        checks += _kept_in_all(proven, dense)
    return checks


def _kept_in_all(proven: Subject, dense: Pass) -> list[Check]:
    """Compare all that a sample keeps: under recomputation of the attention's core or of layers, and with flash."""
    layers = isinstance(proven.sample.spec, Model) and recomputes(proven.sample.spec)
    cores = attention_cores(proven.twin, proven.trained)
    # of CUDA's fused kernels those for fp32 pad the rows' statistics, the others take 16 bits alone
    fused = bool(cores) and proven.inputs.device.type == "cpu"
    fused = fused and all(spec.v_head_dim in (None, spec.head_dim) and not spec.sinks for spec in cores)
    ways: list[tuple[str, AbstractContextManager[None], Keeping, Recompute]] = []
    if cores:
        ways.append(("kept, selective", recomputing("selective"), APART, "selective"))
    if fused:
        ways.append(("kept, flash", flash(), replace(APART, attention="flash", repeated_keys=True), "none"))
    if layers:
        ways.append(("kept, full", recomputing("full"), APART, "full"))
    checks = []
    for quantity, way, keeping, recompute in ways:
        with way:
            counted = sum(proven.saves().values())
        expected = int(saved_bytes(saved(proven.trained, dense, keeping, recompute=recompute)))
        everything = {("", "all operations"): expected}, {("", "all operations"): counted}
        checks += _compare(proven, quantity, proven.sample.context, *everything)
    return checks


def _beyond(proven: Subject, dense: Pass, visible: Pass, counted: Mapping[Key, int]) -> list[Check]:
    """Compare what ``all`` counts beyond matmul FLOPs: of all elements, and of those that masks let through."""
    context = proven.sample.context
    expected = by_rule(proven.trained, dense)
    under = {(block.path, op.name) for block in proven.trained for op in block.operations if op.over is not None}
    through_mask = {
        key: flops for key, flops in by_rule(proven.trained, visible).items() if key in under and expected[key]
    }
    shares = _visible(proven, counted, through_mask)
    return [
        *_compare(proven, "elements", context, expected, counted),
        *_compare(proven, "visible elements", context, through_mask, shares),
    ]


def _visible(proven: Subject, counted: Mapping[Key, int], keys: Iterable[Key]) -> dict[Key, int | None]:
    """Return the share of the counted FLOPs whose result the applied mask lets through."""
    applied = proven.applied()
    shares: dict[Key, int | None] = {}
    for key in keys:
        mask = applied.get(key)
        share = None if mask is None else Fraction(counted.get(key, 0) * int(mask.sum()), mask.numel())
        shares[key] = share.numerator if share is not None and share.denominator == 1 else None
    return shares


def _decoding(proven: Subject) -> list[Check]:
    """Compare the cache after a prefill, and FLOPs and cache of each step after it, in bfloat16."""
    sample = proven.sample
    proven.convert(torch.bfloat16)
    cache = proven.cache()
    checks = []
    with torch.no_grad():
        proven.run(0, sample.context, cache)
        checks += _compare(proven, "cache", sample.context, _states(proven, sample.context), held(proven, cache))
        for context in range(sample.context + 1, sample.context + sample.steps + 1):
            with MatmulCounter() as counter, ElementCounter() as elements:
                proven.run(context - 1, context, cache)
            step = Pass.decode(context, sample.batch, source=sample.source)
            checks += _compare(proven, "decode", context, _flops(proven.blocks, step), counter.forward)
            counted = compared(proven.blocks, elements.counts)
            checks += _compare(proven, "decode elements", context, by_rule(proven.blocks, step), counted)
            checks += _compare(proven, "cache", context, _states(proven, context), held(proven, cache))
    return checks


def _states(proven: Subject, context: int) -> dict[Key, int]:
    """Return the bytes that the tables say the batch keeps, in bfloat16 where the mechanism fixes no format."""
    now = Pass.decode(context, proven.sample.batch, source=proven.sample.source)
    return {
        (block.path, state.name): block.repeat
        * proven.sample.batch
        * dtype(state.form or "bf16").bytes(state.elements(environment(block, now)))
        for block in proven.blocks
        for state in block.states
    }


def subjects(targets: Iterable[str], everything: bool) -> dict[str, tuple[Sample, ...]]:
    """Return what to prove under each name: a mechanism's samples, a model's small version.

    Raises:
        CalcError: a name that is neither a mechanism nor a model.
    """
    names = list(targets) or list(kinds())
    names += catalog.names() if everything else []
    return {name: samples(name) if name in kinds() else _model_samples(name) for name in names}


def _model_samples(name: str) -> tuple[Sample, ...]:
    """Return the small version of a model, and those of its towers."""
    try:
        model = catalog.load(name)
        return (shrunk_sample(model), *map(tower_sample, model.tower))
    except UnknownName:
        raise UnknownName("mechanism or preset", name, [*kinds(), *catalog.names()]) from None


@record
class Proof(Record):
    """Everything that was compared, under the names it was asked for, and where it ran."""

    checks: Mapping[str, tuple[Check, ...]]
    device: str
    torch_version: str
    footprints: tuple[Footprint, ...] = ()
    """Peak memory and time of every sample, where there is a device that tells them."""

    @property
    def all(self) -> list[Check]:
        """Every comparison."""
        return [check for checks in self.checks.values() for check in checks]


def prove_all(
    wanted: Mapping[str, tuple[Sample, ...]],
    device: str,
    progress: Progress | None = None,
    meter: Meter | None = None,
) -> Proof:
    """Prove samples under their names; models that shrink to the same structure are run once.

    On a GPU, peak memory and time are measured too; ``meter`` measures them elsewhere.

    Raises:
        SpecError: there is no such device.
    """
    described = _device(device)
    if meter is None and device.startswith("cuda"):
        meter = CudaMeter(device)
    accelerator = _named(described)
    measured: list[Footprint] = []
    known: dict[Sample, list[Check]] = {}
    found: dict[str, tuple[Check, ...]] = {}
    for done, (name, group) in enumerate(wanted.items()):
        if progress:
            progress(name, done, len(wanted))
        checks: list[Check] = []
        for sample in group:
            structure = _anonymous(sample)
            if structure not in known:
                known[structure] = prove(structure, device)
                if meter is not None:
                    taken = footprints(structure, device, meter, accelerator)
                    measured += [replace(each, target=_label(name, sample, group)) for each in taken]
            label = _label(name, sample, group)
            checks += [replace(check, target=label) for check in known[structure]]
        found[name] = tuple(checks)
    if progress:
        progress("", len(wanted), len(wanted))
    return Proof(found, described, torch.__version__, tuple(measured))


def _label(name: str, sample: Sample, group: tuple[Sample, ...]) -> str:
    return f"{name}: {sample.name}" if len(group) > 1 else name


def _named(described: str) -> Accelerator | None:
    """Return the accelerator that a device's name means, if any."""
    try:
        return find_accelerator(described)
    except SpecError:
        return None


def _anonymous(sample: Sample) -> Sample:
    """Return a sample without what says only whose it is."""
    spec = sample.spec
    if isinstance(spec, Model):
        spec = replace(spec, name="", title="", source="", weights_dtype="bf16")
    if isinstance(spec, Tower):
        spec = replace(spec, source="")
    return replace(sample, name="", spec=spec)


def _device(device: str) -> str:
    """Return the name of a device's hardware."""
    kind = device.partition(":")[0]
    one_of("device", kind, ("cpu", "cuda"))
    if kind == "cuda" and not torch.cuda.is_available():
        raise SpecError(f"device = {device!r}: PyTorch sees no CUDA device")
    return torch.cuda.get_device_name(device) if kind == "cuda" else "cpu"

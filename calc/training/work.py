"""What one rank of a pipeline stage computes for one micro-batch: seconds forward, backward, and again."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from calc.algebra import product
from calc.hardware import Accelerator
from calc.kernels import Kernel, kernels
from calc.layers import Block
from calc.model import running
from calc.passes import Pass, environment
from calc.records import Record, named_record, replace
from calc.roofline import Efficiency, Launch, kernel_time
from calc.training.run import Run

Timed = list[tuple[Kernel, float]]


@named_record
class Work(Record):
    """Seconds of computing.

    ``again``: forward kernels that the backward pass repeats; ``attention``: the attention kernels of both passes,
    behind which a ring of keys hides.
    """

    forward: float = 0.0
    backward: float = 0.0
    again: float = 0.0
    attention: float = 0.0

    def times(self, number: float) -> Work:
        """Return as much work several times."""
        return Work(**{name: number * value for name, value in vars(self).items()})

    def __add__(self, other: Work) -> Work:
        return Work(**{name: value + getattr(other, name) for name, value in vars(self).items()})

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.forward + self.backward + self.again


def work(run: Run, blocks: Iterable[Block], constants: Efficiency) -> Work:
    """Return what a rank with these (sharded) tables computes for one micro-batch."""
    total, layout = Work(), run.layout
    shared = (
        run.model, run.accelerator, run.practice, constants, run.micro_batch, run.context, run.precision,
        run.recompute, run.method, layout.tp, layout.cp, layout.ep, layout.etp, layout.sequence_parallel,
    )  # fmt: skip
    for block in blocks:
        total = total + _once(_Question(run, block, (*shared, block.path), constants)).times(block.repeat)
    return total


class _Question:
    """What one table's work depends on: layouts of a search that differ in stages or copies alone ask it again."""

    def __init__(self, run: Run, block: Block, key: tuple[object, ...], constants: Efficiency) -> None:
        self.run, self.block, self.key, self.constants = run, block, key, constants

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Question) and self.key == other.key


@lru_cache(maxsize=4096)
def _once(asked: _Question) -> Work:
    return _unit(asked.run, replace(asked.block, repeat=1), asked.constants)


def _unit(run: Run, block: Block, constants: Efficiency) -> Work:
    """Return the work of one table.

    Beside the kernels of its operations: casts to lower formats, copies of tokens to experts and back, the host's wait
    for their numbers, the cross entropy. Each moves memory, or is a named cost of the framework (``Practice``).
    """
    pass_, habits = Pass.prefill(run.context, run.micro_batch), run.practice
    forward = _timed(run, kernels([block], pass_, run.forms(), fusion=habits.fusion), constants)
    turned = kernels([block], pass_, run.forms(), direction="backward", fusion=habits.fusion)
    backward = _timed(run, [kernel for kernel in turned if _trained(run, kernel)], constants)
    stream = constants.memory * run.accelerator.memory_bytes_per_s
    copied = _copied_bytes(run, forward) / stream
    beside = copied + (habits.dropless_s / 2 if copied else 0.0) + _loss_bytes(run, block, pass_) / 2 / stream
    return Work(
        forward=_sum(forward) + _cast_bytes(run, forward) / stream + beside,
        backward=_sum(backward) + _cast_bytes(run, backward) / stream + beside,
        again=_again(run, block, forward),
        attention=sum(time for kernel, time in (*forward, *backward) if kernel.kind == "attention"),
    )


ALIGNMENT, MISALIGNED = 8, 9.0
"""A batched product whose rows are no multiple of 8 elements (16 bytes) leaves the fast path of the matrix units
(NVIDIA, Matrix Multiplication Background User's Guide §3); how many times slower it is, from step times with head
widths of 108 and 150 beside 128 and 144 (BigScience's search)."""


def _timed(run: Run, found: Iterable[Kernel], constants: Efficiency) -> Timed:
    launch: Launch = "graph" if run.practice.captured else "stream"

    def seconds(kernel: Kernel) -> float:
        one = _launched(replace(kernel, name="", path="", operations=(), repeat=1), run.accelerator, constants, launch)
        batched = kernel.kind == "gemm" and kernel.groups > 1
        slow = MISALIGNED if batched and (kernel.n % ALIGNMENT or kernel.k % ALIGNMENT) else 1.0
        return float(kernel.repeat) * one * slow

    return [(kernel, seconds(kernel)) for kernel in found]


@lru_cache(maxsize=2**16)
def _launched(kernel: Kernel, accelerator: Accelerator, constants: Efficiency, launch: Launch) -> float:
    """Return the seconds of one launch; a search meets the same kernel in many layouts."""
    return float(kernel_time(kernel, accelerator, constants, launch=launch).seconds)


def _sum(found: Timed) -> float:
    return sum(time for _, time in found)


def _trained(run: Run, kernel: Kernel) -> bool:
    """Tell whether a backward kernel is run: frozen weights have no gradient (LoRA)."""
    return run.method == "full" or not kernel.name.endswith(".wgrad")


def repeated(run: Run, block: Block, forward: Iterable[Kernel]) -> list[tuple[Kernel, float]]:
    """Return the forward kernels of a table with the share of each that the backward pass computes again.

    Full recompute repeats a layer; a checkpoint that stops early leaves out the last product of a feed-forward part,
    whose result nobody needs. Selective recompute repeats the attention core (Korthikanti et al. 2022,
    arXiv:2205.05198 §5), or half of the products with all that lies between, attention apart.
    """
    if not block.layer or run.recompute == "none":
        return []
    if run.recompute == "full":
        last = "down_proj" if run.practice.stops_early and block.name == "ffn" else ""
        return [(kernel, 0.0 if last in kernel.operations else 1.0) for kernel in forward]
    core = _core(run, block)
    inside = 1.0 if run.practice.selective == "core" else 0.0
    besides = {} if run.practice.selective == "core" else {"gemm": 0.5, "grouped_gemm": 0.5}
    other = 1.0 - inside
    return [
        (kernel, inside if core.intersection(kernel.operations) else besides.get(kernel.kind, other))
        for kernel in forward
    ]


def _core(run: Run, block: Block) -> set[str]:
    """Return the operations between scores and values: one kernel, where the framework has a fused one."""
    pass_ = Pass.prefill(run.context, run.micro_batch)
    found = kernels([block], pass_, run.forms(), fusion="flash")
    return {name for kernel in found if kernel.kind == "attention" for name in kernel.operations}


def flops_again(run: Run) -> float:
    """Return the matmul FLOPs of a step that are computed again (``repeated``), attention with all pairs."""
    pass_ = Pass.prefill(run.context, run.global_batch, causal=False)
    total = 0.0
    for block in [*run.model.blocks(), *(run.model.mtp_blocks() if run.mtp else [])]:
        found = kernels([block], pass_, run.forms(), fusion=run.practice.fusion)
        shares = {name: share for kernel, share in repeated(run, block, found) for name in kernel.operations}
        for _, operation, env in running([block], pass_) if shares else ():
            total += shares[operation.name] * float(block.repeat * operation.flops(env, causal=False))
    return total


def _again(run: Run, block: Block, forward: Timed) -> float:
    """Return the time of what the backward pass computes again, and of leaving and entering a layer for it."""
    times = [time for _, time in forward]
    shares = [share for _, share in repeated(run, block, [kernel for kernel, _ in forward])]
    if not shares:
        return 0.0
    entered = run.practice.checkpoint_s if run.recompute == "full" and block.name == "attention" else 0.0
    return sum(share * time for share, time in zip(shares, times, strict=True)) + entered


def _cast_bytes(run: Run, found: Timed) -> float:
    """Return the bytes moved to bring operands of products into a lower format."""
    low = [k for k, _ in found if k.kind in ("gemm", "grouped_gemm") and k.form not in ("bf16", "fp16", "fp32", "tf32")]
    return sum(run.practice.cast_bytes * float(k.groups * k.k * (k.m + k.n)) for k in low)


def _copied_bytes(run: Run, forward: Timed) -> float:
    """Return the bytes read and written to sort tokens to their experts and back, in one direction."""
    first = next((kernel for kernel, _ in forward if kernel.kind == "grouped_gemm"), None)
    if first is None:
        return 0.0
    elements = float(first.m * first.groups * first.k)
    return float(run.practice.expert_copies * 2 * run.forms()["activation"].bytes(elements))


def _loss_bytes(run: Run, block: Block, pass_: Pass) -> float:
    """Return the bytes that the cross entropy moves: nothing of it is an operation of the table."""
    if block.name != "head":
        return 0.0
    env = environment(block, pass_)
    logits = next(op.output for op in block.operations if "v" in op.output)
    return run.practice.loss_bytes * float(product(env[letter] for letter in logits if letter in "btv"))

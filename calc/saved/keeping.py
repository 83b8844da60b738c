"""What a kept tensor is, and which kernels decide that it is kept."""

from __future__ import annotations

from typing import Literal, TypeAlias

from calc.algebra import Number, product
from calc.operations import Einsum, Env, Operation
from calc.records import Record, named_record
from calc.units import dtype

Recompute: TypeAlias = Literal["none", "selective", "products", "full"]
AttentionKernel: TypeAlias = Literal["eager", "flash"]
RECOMPUTES: tuple[Recompute, ...] = ("none", "selective", "products", "full")

FP32 = 4
"""Bytes of a statistic, a log-sum-exp, a softmax in full precision."""
QKV = ("q_proj", "k_proj", "v_proj")
POSITIONS = frozenset("tsm")
"""Letters of positions: an operand is never repeated along one."""

Tensor: TypeAlias = tuple[str, str]
"""Which tensor: path of the table that makes it, and the operation; ``x`` is what enters a layer or a table."""


@named_record
class Saved(Record):
    """A tensor that is kept: who keeps it first, which tensor it is, its bytes in one layer, and how often it stands.

    ``tensor`` is the operation whose result it is (``x`` for what enters from outside), followed by what it is of it
    where that is not the result itself: ``statistics``, ``inside``, ``mask``, ``log-sum-exp``, ``dropped``.
    """

    path: str
    operation: str
    tensor: str
    dims: str
    elements: Number
    """In one layer."""
    bytes: Number
    """In one layer."""
    repeat: Number = 1
    shared: bool = False
    """All layers keep the same one: the states of an encoder."""

    @property
    def total(self) -> Number:
        """Bytes of all layers."""
        return self.repeat * self.bytes


@named_record
class Adapters(Record):
    """What is trained beside frozen weights.

    ``lora``: x·A·B is added to the result of an operation (Hu et al. 2021, arXiv:2106.09685 §4.1). ``prompt``: learned
    positions whose attention is gated and added (Zhang et al. 2023, arXiv:2303.16199 §3). ``scale``: a learned factor
    and bias on every linear map's result, and the norms (Gao et al. 2023, arXiv:2304.15010 §3.1).
    """

    kind: Literal["lora", "prompt", "scale"] = "lora"
    rank: int = 8
    """Of a low-rank adapter; the learned positions of a prompt."""
    targets: tuple[str, ...] = ()
    """Names of the operations with a low-rank adapter."""
    dropout: bool = False
    """Dropout on what enters an adapter: a mask, and a copy of its own."""

    def shapes(self, operation: Operation, env: Env) -> list[tuple[Number, Number]]:
        """Return (rows, columns) of an operation's adapter: inputs × r and r × outputs; two vectors; r × d; or none."""
        if self.kind == "prompt":
            return [(self.rank, env["d"])] if operation.name == "q_proj" else []
        if self.kind == "scale":
            scaled = isinstance(operation, Einsum) and bool(operation.weight)
            return 2 * [(1, product(env[letter] for letter in sides(operation)[1]))] if scaled else []
        if not self.adapts(operation):
            return []
        inputs, outputs = (product(env[letter] for letter in side) for side in sides(operation))
        return [(inputs, self.rank), (self.rank, outputs)]

    def parameters(self, operation: Operation, env: Env) -> Number:
        """Return the parameters of an operation's adapter: r·(inputs + outputs), 2·outputs, r·d; 0 without one."""
        return sum(rows * columns for rows, columns in self.shapes(operation, env))

    def adapts(self, operation: Operation) -> bool:
        """Tell whether an operation has an adapter."""
        return isinstance(operation, Einsum) and bool(operation.weight) and operation.name in self.targets


def sides(operation: Operation) -> tuple[str, str]:
    """Return the letters of a weight that are summed over, and those of its output.

    >>> sides(Einsum("q_proj", "btd,dkgh->btkgh", weight="dkgh"))
    ('d', 'kgh')
    """
    assert isinstance(operation, Einsum)
    inner = "".join(letter for letter in operation.weight if letter not in operation.output)
    return inner, "".join(letter for letter in operation.weight if letter in operation.output)


@named_record
class Keeping(Record):
    """The kernels that run, as far as they decide what is kept."""

    attention: AttentionKernel = "flash"
    fused: bool = True
    """Norms, and chains of elementwise operations, as one kernel each."""
    dropout: bool = False
    """Dropout on the attention's weights, and on what is added to the residual stream: a byte a mask element."""
    form: str = "bf16"
    """The format of activations."""
    wide_norms: bool = False
    """Separate kernels normalise in fp32, and keep their input in it (Llama's code in transformers, litgpt)."""
    joint_qkv: bool = False
    """Queries, keys and values are views of one product: values alone keep all of it alive, and adapters of the three
    are one, whose padded result is kept where not all three have one (litgpt)."""
    repeated_keys: bool = False
    """Keys and values are repeated for the heads that share them before a flash kernel."""
    whole_operands: bool = False
    """Operands that ranks gather for a product are kept whole, not gathered again for its derivative."""
    two_results: bool = False
    """The attention's result is kept twice (ranks that share a sequence exchange heads, all to all)."""
    adapters: Adapters | None = None
    """All other weights are frozen."""
    quantised_inputs: bool = False
    """A product with a quantised frozen weight keeps its operand."""

    @property
    def bytes(self) -> int:
        """Bytes of an activation."""
        return int(dtype(self.form).bytes(1))

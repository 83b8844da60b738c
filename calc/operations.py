"""Operations: the rows of a mechanism's table, and the rules by which every figure is read off them.

A table is plain data: einsums over the letters of the legend (``calc.dims``), and a few explicit types for what is not
an einsum. The letters are bound to numbers at the end, by an environment ``{letter: value}`` whose values may be
integers (exact), numpy arrays (a sweep) or sympy symbols (a formula).

Conventions: one FLOP is one multiply or one add. ``matmul`` counts einsums and convolutions only, which is what
PyTorch's ``FlopCounterMode`` sees; ``all`` adds what the per-element rules below give, without what is done once a row
(the root in a norm) or to parameters alone. ``causal`` counts the pairs that a mask lets through, ``full`` every pair
of an eager dense kernel.
"""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Literal, TypeAlias

from calc.activations import ACTIVATION_FLOPS, ACTIVATION_NEEDS, Activation, Needs
from calc.algebra import Number, ceil_div, product
from calc.formats import Format, dtype
from calc.masks import Mask
from calc.records import Record, named_record, record, replace
from calc.tensors import PARTS, Counts, Env, Part, Phase, Role, Traffic, Weight, distinct, extent, whole_keys

__all__ = [
    "PARTS", "Counts", "Einsum", "Elementwise", "Env", "Lookup", "Norm", "Operation", "Part", "Phase", "Role",
    "Softmax", "State", "States", "Table", "TopK", "Traffic", "Weight", "activation", "cache_traffic", "distinct",
    "extent", "traffic",
]  # fmt: skip


@record
class Operation(Record):
    """One row of a table: a name, the letters of its output, the tensors it reads, what it stores.

    ``inputs`` names other operations of the table, its states, or ``x``, the block's input.
    """

    name: str
    _: KW_ONLY
    inputs: tuple[str, ...] = ("x",)
    over: Mask | None = None
    part: Part | None = None
    """Where its parameters count; None is the part of the mechanism it stands in."""
    phase: Phase | None = None
    """Done in this phase alone: when the prompt is read (what depends on the encoder's side only, a recurrence in
    chunks), or at a decode step (a recurrence token by token). None is both."""
    split: int = 1
    """Ranks that share its tokens among them (sequence parallelism); set by ``calc.parallel.shard``."""

    @property
    def output(self) -> str:
        """The letters of the result."""
        raise NotImplementedError(type(self).__name__)

    @property
    def weights(self) -> tuple[Weight, ...]:
        """The stored tensors."""
        return ()

    @property
    def needed(self) -> tuple[str, ...]:
        """What its derivative needs: operands by name, its own name for the result; nothing for a sum or a copy."""
        return ()

    @property
    def needed_apart(self) -> tuple[str, ...]:
        """What is kept for it where the operation is not one kernel."""
        return self.needed

    @property
    def formula(self) -> str:
        """The operation as text: an einsum, or the type and its letters."""
        return f"{type(self).__name__.lower()} {self.output}"

    def parameters(self, env: Env) -> Number:
        """Return the parameters this operation stores."""
        return sum(weight.total(env) for weight in self.weights)

    def active_parameters(self, env: Env) -> Number:
        """Return the parameters that one token uses."""
        return sum(weight.active(env) for weight in self.weights)

    def multiplied_parameters(self, env: Env) -> Number:
        """Return the parameters that one token multiplies by: active ones, tied or not, that are not looked up.

        A tied weight of a decode step is the one that prefill multiplies by, in another form, and counts there.
        """
        if self.phase == "decode":
            return self.active_parameters(env)
        return sum(replace(weight, tied=False).active(env) for weight in self.weights)

    def flops(self, env: Env, *, causal: bool = True, counts: Counts = "matmul") -> Number:
        """Return the FLOPs of one forward pass."""
        return self.matmul_flops(env, causal) + (self.other_flops(env, causal) if counts == "all" else 0)

    def backward_flops(self, env: Env, *, causal: bool = True, counts: Counts = "matmul") -> Number:
        """Return the FLOPs of the backward pass: a product for each operand of an einsum, twice the rule elsewhere."""
        return 2 * self.flops(env, causal=causal, counts=counts)

    def matmul_flops(self, env: Env, causal: bool) -> Number:
        """Return multiplies and adds of matrix products and convolutions."""
        return 0

    def other_flops(self, env: Env, causal: bool) -> Number:
        """Return what ``all`` counts beyond ``matmul``: the per-element rule of the type."""
        return 0

    def reads(self, env: Env, causal: bool) -> list[tuple[str, Number]]:
        """Return (name, elements) of every tensor read that is not a weight."""
        return [(name, extent(self.output, env, self.over, causal)) for name in self.inputs]

    def writes(self, env: Env, causal: bool) -> Number:
        """Return the elements written."""
        return extent(self.output, env, self.over, causal)

    def weight_reads(self, env: Env) -> Number:
        """Return the weight elements read in one pass over b·t tokens."""
        return sum(weight.read(env, env["b"] * env["t"]) for weight in self.weights)


@record
class Einsum(Operation):
    """A matrix product of any shape: FLOPs = 2 × product of the distinct letters (one multiply and one add each).

    ``weight`` is the operand that is stored, ``bias`` the letters of a vector added to the result. A letter in
    ``chosen`` (experts) indexes the weight and is not summed over, so it does not multiply the FLOPs. ``over``
    replaces t·s by the pairs that the mask lets through.

    >>> q = Einsum("q_proj", "btd,dkgh->btkgh", weight="dkgh")
    >>> q.flops({"b": 1, "t": 1, "d": 4096, "k": 8, "g": 4, "h": 128})
    33554432
    """

    equation: str
    _: KW_ONLY
    weight: str = ""
    bias: str = ""
    chosen: tuple[tuple[str, str], ...] = ()
    tied: bool = False

    def __post_init__(self) -> None:
        if len(self.operands) != len(self.inputs):
            raise ValueError(f"{self.name}: {self.equation!r} and its inputs {self.inputs} differ in number")

    @property
    def output(self) -> str:
        """The letters after the arrow."""
        return self.equation.partition("->")[2]

    @property
    def needed(self) -> tuple[str, ...]:
        """Every activation operand: for the gradient of the weight, or of the other operand."""
        return self.inputs

    @property
    def operands(self) -> tuple[str, ...]:
        """The letters of each operand that is not the weight."""
        return tuple(term for term in self.equation.partition("->")[0].split(",") if term != self.weight)

    @property
    def weights(self) -> tuple[Weight, ...]:
        """The matrix, and the bias."""
        indexed = dict(self.chosen)
        rows = "".join(letter for letter in self.weight if letter in self.output and letter not in indexed)
        matrix = (Weight(dims=self.weight, chosen=self.chosen, tied=self.tied, rows=rows),) if self.weight else ()
        return matrix + ((Weight(dims=self.bias, chosen=self.chosen),) if self.bias else ())

    def matmul_flops(self, env: Env, causal: bool) -> Number:
        """Return 2 × the product of the distinct letters."""
        indexed = dict(self.chosen)
        letters = distinct(*self.operands, self.weight, self.output)
        return 2 * extent("".join(x for x in letters if x not in indexed), env, self.over, causal)

    def other_flops(self, env: Env, causal: bool) -> Number:
        """Return one add per output element where there is a bias."""
        return extent(self.output, env, self.over, causal) if self.bias else 0

    def reads(self, env: Env, causal: bool) -> list[tuple[str, Number]]:
        """Return every activation operand with its own extent."""
        pairs = list(zip(self.inputs, self.operands, strict=True))
        if self.over is None or not any("t" in dims for _, dims in pairs):
            return [(name, extent(dims, env, self.over, causal)) for name, dims in pairs]
        return [(name, extent(dims, whole_keys(dims, env), self.over, causal)) for name, dims in pairs]

    @property
    def formula(self) -> str:
        """The einsum."""
        return self.equation


@record
class Lookup(Operation):
    """Rows of a table picked by index: no FLOPs; one row read per token.

    >>> Lookup("embedding", "btd", table="vd").flops({"b": 1, "t": 1, "d": 8, "v": 10}, counts="all")
    0
    """

    dims: str
    _: KW_ONLY
    table: str
    tied: bool = False
    inputs: tuple[str, ...] = ()

    @property
    def output(self) -> str:
        """The rows' letters."""
        return self.dims

    @property
    def weights(self) -> tuple[Weight, ...]:
        """The table."""
        rows = "".join(letter for letter in self.table if letter not in self.dims)
        return (Weight(dims=self.table, tied=self.tied, rows=rows),)

    def multiplied_parameters(self, env: Env) -> Number:
        """Return 0: a row is picked, not multiplied by."""
        return 0

    def weight_reads(self, env: Env) -> Number:
        """Return the rows picked: as many elements as the output has."""
        return extent(self.dims, env)

    def backward_flops(self, env: Env, *, causal: bool = True, counts: Counts = "matmul") -> Number:
        """Return one add per element, scattered into the table's gradient."""
        return extent(self.dims, env) if counts == "all" else 0

    @property
    def formula(self) -> str:
        """The table, and what comes out."""
        return f"{self.table}[index]->{self.dims}"


@record
class Elementwise(Operation):
    """A function of each element: ``each`` FLOPs per output element; a transcendental function counts as one.

    A learned vector (a scale, a sink) goes in ``weight``; ``scalars`` are learned numbers that stand alone. ``needs``
    says what its derivative needs: operands by name, ``operands`` for all, ``result``; a sum, a constant factor and a
    rotation need nothing.

    >>> Elementwise("residual", "btd", inputs=("x", "attention"), each=1).flops({"b": 1, "t": 2, "d": 8}, counts="all")
    16
    """

    dims: str
    _: KW_ONLY
    each: int
    weight: str = ""
    scalars: int = 0
    needs: Needs = ()
    apart: Needs | None = None
    """What separate kernels keep in place of ``needs``, where that differs."""
    inside: int = 0
    """Intermediate results, each as large as the result, that separate kernels keep as well."""

    @property
    def output(self) -> str:
        """The letters of the elements."""
        return self.dims

    @property
    def needed(self) -> tuple[str, ...]:
        """What ``needs`` says."""
        return self._names(self.needs)

    @property
    def needed_apart(self) -> tuple[str, ...]:
        """What ``apart`` says, or ``needs``."""
        return self._names(self.needs if self.apart is None else self.apart)

    def _names(self, needs: Needs) -> tuple[str, ...]:
        if needs == "operands":
            return self.inputs
        return (self.name,) if needs == "result" else tuple(needs)

    @property
    def weights(self) -> tuple[Weight, ...]:
        """The learned vector, where there is one, and the learned numbers."""
        return ((Weight(dims=self.weight),) if self.weight else ()) + self.scalars * (Weight(dims=""),)

    def other_flops(self, env: Env, causal: bool) -> Number:
        """Return ``each`` per element."""
        return self.each * extent(self.dims, env, self.over, causal)


@record
class Softmax(Elementwise):
    """Normalised exponentials over the last letter: 5 FLOPs per element (maximum, subtract, exp, sum, divide)."""

    _: KW_ONLY
    each: int = 5
    needs: Needs = "result"


def activation(
    name: str, dims: str, of: str, function: Activation, *, weight: str = "", over: Mask | None = None
) -> Elementwise:
    """Return an activation function of an operation's result.

    >>> activation("activation", "btf", "up_proj", "silu").needed
    ('up_proj',)
    """
    needs, apart, inside = ACTIVATION_NEEDS[function]
    each = ACTIVATION_FLOPS[function]
    return Elementwise(
        name, dims, inputs=(of,), each=each, weight=weight, over=over, needs=needs, apart=apart, inside=inside
    )


@record
class Norm(Operation):
    """Normalisation over the last letter (and those in ``across``), with learned scale and shift.

    FLOPs per element: RMSNorm 3 (square, add, multiply; Zhang & Sennrich 2019, arXiv:1910.07467), LayerNorm 5 (mean,
    subtract, square, add, multiply; Ba et al. 2016, arXiv:1607.06450), and one more for a scale and for a shift.
    """

    dims: str
    _: KW_ONLY
    kind: Literal["rms", "layer"]
    weight: str = ""
    bias: str = ""
    across: str = ""
    """Letters that are normalised together with the last one (all heads of a query)."""
    part: Part | None = "norm"

    @property
    def output(self) -> str:
        """The letters of the normalised tensor."""
        return self.dims

    @property
    def needed(self) -> tuple[str, ...]:
        """What is normalised."""
        return self.inputs

    @property
    def rows(self) -> str:
        """The letters of its statistics: one of each row."""
        return "".join(letter for letter in self.dims[:-1] if letter not in self.across)

    @property
    def weights(self) -> tuple[Weight, ...]:
        """Scale and shift."""
        return tuple(Weight(dims=dims) for dims in (self.weight, self.bias) if dims)

    def other_flops(self, env: Env, causal: bool) -> Number:
        """Return the rule's FLOPs per element."""
        return ((3 if self.kind == "rms" else 5) + len(self.weights)) * extent(self.dims, env, self.over, causal)


@record
class TopK(Operation):
    """The largest few of ``scanned``: one comparison per element looked at."""

    dims: str
    _: KW_ONLY
    scanned: str
    picks: bool = False
    """The values go on, not only the places: separate kernels keep what they are picked from."""

    @property
    def output(self) -> str:
        """The letters of what is kept."""
        return self.dims

    @property
    def needed_apart(self) -> tuple[str, ...]:
        """What values are picked from."""
        return self.inputs if self.picks else ()

    def other_flops(self, env: Env, causal: bool) -> Number:
        """Return one per element scanned."""
        return extent(self.scanned, env, self.over, causal)

    def reads(self, env: Env, causal: bool) -> list[tuple[str, Number]]:
        """Return the elements scanned."""
        return [(name, extent(self.scanned, env, self.over, causal)) for name in self.inputs]

    @property
    def formula(self) -> str:
        """What is scanned, and what is kept."""
        return f"top-k {self.scanned}->{self.dims}"


@named_record
class State(Record):
    """What a sequence keeps between steps: a cache that grows with the context, or a state of constant size.

    ``dims`` are the letters of one sequence's share (no ``b``). A letter ``s`` makes it a cache, and ``over`` says
    which positions must be kept. ``of`` names the operation whose result is stored. ``form`` fixes the number format
    where the mechanism does (recurrent state kept in fp32); None is the user's cache dtype.
    """

    name: str
    dims: str
    of: str
    over: Mask | None = None
    form: str | None = None
    tied: bool = False
    """Another layer keeps it, and it is counted there: this one reads it as it reads a cache of its own."""

    @property
    def positional(self) -> bool:
        """Whether it holds positions (of the context or of the source) rather than a state of constant size."""
        return "s" in self.dims or "m" in self.dims

    def stored_in(self, form: Format) -> Format:
        """Return the number format it is kept in, where the cache's is ``form``."""
        return dtype(self.form) if self.form else form.of_state(self.name, self.dims)

    def elements(self, env: Env) -> Number:
        """Return the elements kept for one sequence.

        >>> from calc.masks import Window
        >>> State(name="k", dims="skh", of="k_rope", over=Window(window=4)).elements({"s": 9, "k": 2, "h": 8, "w": 4})
        64
        """
        rows, width = self.shape(env)
        return rows * width

    def shape(self, env: Env) -> tuple[Number, Number]:
        """Return (rows, width) of one sequence's share: number formats with scales group along the last letter."""
        kept = env["s"] if self.over is None else self.over.kept(env["s"], env)
        kept = ceil_div(kept, env["μ"]) if "μ" in env else kept
        sizes = [kept if letter == "s" else env[letter] for letter in self.dims]
        return 0 if self.tied else product(sizes[:-1]), sizes[-1]


Table: TypeAlias = tuple[Operation, ...]
States: TypeAlias = tuple[State, ...]


def traffic(operation: Operation, states: States, env: Env, causal: bool) -> Traffic:
    """Return the elements that an operation moves when nothing is fused, by role.

    Every operand is read and every result written once. A tensor that the mechanism keeps (``states``) is cache, on the
    way in and on the way out.
    """
    kept = {state.name for state in states}
    stored = {state.of for state in states}
    moved: Traffic = {"weight": operation.weight_reads(env), "activation": 0, "cache": 0}
    for name, elements in operation.reads(env, causal):
        moved["cache" if name in kept else "activation"] += elements
    moved["cache" if operation.name in stored else "activation"] += operation.writes(env, causal)
    return moved


def cache_traffic(operation: Operation, states: States, env: Env, causal: bool) -> list[tuple[State, Number]]:
    """Return (state, elements) of everything that an operation reads from and writes to the cache."""
    kept = {state.name: state for state in states}
    moved = [(kept[name], elements) for name, elements in operation.reads(env, causal) if name in kept]
    written = [state for state in states if state.of == operation.name][:1]
    return moved + [(state, operation.writes(env, causal)) for state in written]

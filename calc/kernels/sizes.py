"""What a kernel computes and moves: sizes read off the letters of its operations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from calc.algebra import Number, exact_div, maximum, minimum, product
from calc.formats import Format, multiplied_as
from calc.kernels.grouping import Group, batched, columns, contracted
from calc.layers import Block
from calc.operations import Einsum, Env, Operation, Softmax, extent
from calc.passes import Pass, environment
from calc.records import Record, named_record
from calc.schemes import form_of, read_bytes

Forms: TypeAlias = Mapping[Any, Any]
"""Role → number format (``weight``, ``activation``, ``cache``); also ``compute``, the format that matrix products with
weights are done in where it is not the weights' own, and ``gradient``, that of the weights' gradients."""


@named_record
class Moved(Record):
    """Bytes that cross a kernel's border."""

    inputs: Number
    outputs: Number
    weights: Number

    @property
    def total(self) -> Number:
        """All of them."""
        return self.inputs + self.outputs + self.weights


class Sizes:
    """The numbers of one group of operations in one pass."""

    def __init__(self, block: Block, group: Group, pass_: Pass, forms: Forms) -> None:
        self.block, self.group, self.pass_, self.forms = block, group, pass_, forms
        self.env: Env = environment(block, pass_, group.operations[0])
        self.by_name = {operation.name: operation for operation in block.operations}
        self.by_name |= {operation.name: operation for operation in group.operations}
        self.states = {state.name: state for state in block.states}

    def flops(self) -> Number:
        """Return the FLOPs of matrix products."""
        return sum(operation.matmul_flops(self.env, self.pass_.causal) for operation in self.group.operations)

    def vector_flops(self) -> Number:
        """Return the FLOPs of everything else."""
        return sum(operation.other_flops(self.env, self.pass_.causal) for operation in self.group.operations)

    def moved(self) -> Moved:
        """Return what is read from memory, once for each tensor, and what is written."""
        read: dict[str, Number] = {}
        for name, index, source in self.group.reads:
            size = self._read_bytes(self.by_name[name], index, source)
            read[source] = maximum(read[source], size) if source in read else size
        written = sum((self._written_bytes(self.by_name[name]) for name in self.group.writes), start=0)
        return Moved(inputs=sum(read.values(), start=0), outputs=written, weights=self._weight_bytes())

    def _read_bytes(self, operation: Operation, index: int, source: str) -> Number:
        elements = operation.reads(self.env, self.pass_.causal)[index][1]
        state = self.states.get(source)
        if state is not None:
            if not state.positional:
                elements = minimum(elements, self.env["b"] * state.elements(self.env))
            return state.stored_in(self.forms["cache"]).bytes(elements)
        if isinstance(operation, Einsum) and operation.chosen:
            rows = extent(_rows(operation), self.env)
            elements = rows * extent(contracted(operation), self.env)  # each expert reads rows of its own
        elif source in self.by_name and not isinstance(operation, Einsum):
            elements = minimum(elements, self._extent(self.by_name[source]))  # what is broadcast is read once
        return self.forms["activation"].bytes(elements)

    def _written_bytes(self, operation: Operation) -> Number:
        kept = [state for state in self.block.states if state.of == operation.name]
        elements = self._extent(operation)
        for state in kept[:1]:
            if not state.positional:
                elements = minimum(elements, self.env["b"] * state.elements(self.env))
            return state.stored_in(self.forms["cache"]).bytes(elements)
        readers = [
            (other, index)
            for other in self.block.operations
            for index, name in enumerate(other.inputs)
            if name == operation.name and other.name not in {each.name for each in self.group.operations}
        ]
        narrower = [_dims(other, index) for other, index in readers] or ["btd"]
        summed = all(set(dims) < set(operation.output) for dims in narrower) and not isinstance(operation, Einsum)
        if summed and "j" in operation.output:  # the results of a token's experts leave as their sum
            elements = extent("".join(x for x in operation.output if x != "j"), self.env, operation.over)
        return self.forms["activation"].bytes(elements)

    def _extent(self, operation: Operation) -> Number:
        return extent(operation.output, self.env, operation.over, self.pass_.causal)

    def _weight_bytes(self) -> Number:
        total: Number = 0
        for operation in self.group.operations:
            if operation.weights:
                read = operation.weight_reads(self.env)
                total = total + read_bytes(self.block, operation, read, self.forms["weight"]) / self.block.repeat
        return total

    def form(self) -> str:
        """Return the format that the kernel multiplies in: that of its weights where devices multiply in it."""
        weighted = [operation for operation in self.group.operations if operation.weights]
        activation: str = multiplied_as(self.forms["activation"].name)
        if not weighted or self.group.kind not in ("gemm", "grouped_gemm"):
            return activation
        if weighted[0].part in ("router",) or self.block.part == "head":
            return activation
        if self.forms.get("compute") is not None:
            return multiplied_as(self.forms["compute"].name)
        return multiplied_as(form_of(self.block, weighted[0], self.forms["weight"]).name) or activation

    def operand_bits(self) -> float:
        """Return the bits of a stored element of the weight, or of the cache that an attention reads."""
        if self.group.kind in ("gemm", "grouped_gemm"):
            weighted = next(operation for operation in self.group.operations if operation.weights)
            compute = self.forms.get("compute")
            if compute is not None and self.form() == multiplied_as(compute.name):
                return float(compute.bits)  # both operands are quantised to it before they are multiplied
            return float(form_of(self.block, weighted, self.forms["weight"]).bits)
        form: Format = self.forms["cache"] if self.group.kind == "attention" else self.forms["activation"]
        return float(form.bits)

    def gemm(self) -> dict[str, Number]:
        """Return m, n, k and how many of such products there are; n is added up over merged products."""
        products = [operation for operation in self.group.operations if isinstance(operation, Einsum)]
        first = products[0]
        k = self._size(first, contracted(first))
        widths = [extent(columns(one), self.env) for one in products]
        n = sum(widths)
        flops = sum(one.matmul_flops(self.env, self.pass_.causal) for one in products)
        count: Number = extent(batched(first), self.env)
        if first.chosen:
            matrix = extent("".join(x for x in first.weight if x not in dict(first.chosen)), self.env)
            count = first.weights[0].read(self.env, self.env["b"] * self.env["t"]) / matrix
        rows = _divide(flops, 2 * n * k * count)
        return {"m": rows, "n": n, "k": k, "groups": count}

    def product(self) -> dict[str, Number]:
        """Return m, n, k and the number of products of one einsum between activations, as eager code batches them."""
        (one,) = self.group.operations
        assert isinstance(one, Einsum)
        left, right = one.operands
        shared = "".join(x for x in left if x in right and x in one.output)
        k = self._size(one, "".join(x for x in left if x in right and x not in one.output))
        n = self._size(one, "".join(x for x in right if x in one.output and x not in left))
        count = self._size(one, shared)
        flops = one.matmul_flops(self.env, self.pass_.causal)
        return {"m": _divide(flops, 2 * n * k * count), "n": n, "k": k, "groups": count}

    def attention(self) -> dict[str, Number]:
        """Return heads, queries, keys, pairs and widths of the attention over the group's widest scores."""
        env, causal = self.env, self.pass_.causal
        operations = self.group.operations
        pairs = [one for one in operations if "t" in one.output and ("s" in one.output or "m" in one.output)]
        scores = next((one for one in pairs if isinstance(one, Softmax)), max(pairs, key=lambda one: len(one.output)))
        key = "s" if "s" in scores.output else "m"
        heads = "".join(x for x in scores.output if x not in ("b", "t", key))
        made = [one for one in pairs if isinstance(one, Einsum) and set(one.output) == set(scores.output)]
        read = [one for one in operations if isinstance(one, Einsum) and one not in pairs]
        keys_of = "".join(dims for one in made for dims in one.operands if "t" not in dims)
        own = product(env[x] for x in heads)
        return {
            "batch": env["b"],
            "heads": own,
            "kv_heads": product(env[x] for x in heads if x in keys_of),
            "queries": extent("t", env, scores.over, causal),
            "keys": extent(key, env, scores.over, causal),
            "pairs": extent(f"t{key}", env, scores.over, causal),
            "head_dim": sum(product(env[x] for x in contracted(one)) for one in made),
            "value_dim": sum(product(env[x] for x in one.output if x not in scores.output) for one in read),
        }

    def _size(self, operation: Operation, letters: str) -> Number:
        return extent(letters, self.env, operation.over, self.pass_.causal) if letters else 1


def _divide(a: Number, b: Number) -> Number:
    """Return a / b, as an integer where it is one."""
    return exact_div(a, b) if isinstance(a, int) and isinstance(b, int) and a % b == 0 else a / b


def _rows(operation: Einsum) -> str:
    """Return the letters of the rows that a product makes, one for each choice of an expert."""
    return "".join(x for x in operation.output if x not in operation.weight)


def _dims(operation: Operation, index: int) -> str:
    if isinstance(operation, Einsum):
        return operation.operands[index]
    return getattr(operation, "scanned", operation.output)

"""From tables of operations to the kernels that frameworks launch for them.

``kernels`` groups the operations of (sharded) tables, reads each kernel's sizes off the letters, and turns them around
for the backward pass. Nothing here knows a mechanism: types, letters and ``inputs`` decide (``calc.kernels.grouping``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from calc.kernels.grouping import Group, groups
from calc.kernels.record import FLASH_BACKWARD, SCAN_BACKWARD, Direction, Fusion, Kernel, Kind
from calc.kernels.sizes import Forms, Moved, Sizes
from calc.layers import Block
from calc.operations import Einsum
from calc.passes import Pass
from calc.records import replace

__all__ = ["Direction", "Forms", "Fusion", "Kernel", "Kind", "kernels"]


def kernels(
    blocks: Iterable[Block],
    pass_: Pass,
    forms: Forms,
    *,
    direction: Direction = "forward",
    fusion: Fusion = "fused",
) -> list[Kernel]:
    """Return the kernels of one pass through tables, in order; of the backward pass in reverse.

    ``forms`` maps ``weight``, ``activation`` and ``cache`` to number formats (``Setting.forms``), and may name the
    format that products with weights are done in (``compute``) and that of the weights' gradients (``gradient``).

    >>> from calc import Pass, load
    >>> from calc.units import dtype
    >>> forms = dict.fromkeys(("weight", "activation", "cache"), dtype("bf16"))
    >>> found = kernels(load("llama-3-8b").blocks(), Pass.decode(4096, 8), forms)
    >>> [(each.name, each.m, each.n, each.k) for each in found if each.kind == "gemm"][:2]
    [('q_proj+k_proj+v_proj', 8, 6144, 4096), ('o_proj', 8, 4096, 4096)]
    """
    forward = [
        (Sizes(block, group, pass_, forms), _forward(block, group, pass_, forms, fusion))
        for block in blocks
        for group in groups(block, pass_, fusion)
    ]
    if direction == "forward":
        return [kernel for _, kernel in forward]
    return [turned for sizes, kernel in reversed(forward) for turned in _backward(sizes, kernel, forms)]


def _forward(block: Block, group: Group, pass_: Pass, forms: Forms, fusion: Fusion) -> Kernel:
    sizes = Sizes(block, group, pass_, forms)
    kind, shape = group.kind, {}
    if kind in ("gemm", "grouped_gemm"):
        shape = sizes.gemm()
    elif kind == "attention" and fusion != "eager":
        shape = sizes.attention()
    elif kind in ("attention", "scan") and fusion == "eager":
        (one,) = group.operations
        kind = "gemm" if isinstance(one, Einsum) and len(one.operands) == 2 and not one.weight else "memory"
        shape = sizes.product() if kind == "gemm" else {}
    moved = sizes.moved()
    names = tuple(operation.name for operation in group.operations)
    return Kernel(
        name=_name(names),
        kind=kind,
        path=block.path,
        repeat=block.repeat,
        operations=names,
        form=sizes.form(),
        flops=sizes.flops(),
        vector_flops=sizes.vector_flops(),
        bytes=moved.total,
        weight_bytes=moved.weights,
        uneven=kind == "grouped_gemm",
        operand_bits=sizes.operand_bits() if kind == group.kind else float(forms["activation"].bits),
        **shape,
    )


LONGEST = 3
"""Operations that a kernel's name lists."""


def _name(names: tuple[str, ...]) -> str:
    if len(names) <= LONGEST:
        return "+".join(names)
    return f"{names[0]}+…+{names[-1]}"


def _backward(sizes: Sizes, kernel: Kernel, forms: Forms) -> Iterator[Kernel]:
    """Yield what the backward pass launches for a forward kernel."""
    moved = sizes.moved()
    turned = replace(kernel, direction="backward", vector_flops=2 * kernel.vector_flops)
    if kernel.kind in ("gemm", "grouped_gemm") and sizes.group.kind == kernel.kind:
        yield from _gradients(turned, moved, forms)
    elif kernel.kind == "gemm":  # a product of two activations: one gradient for either of them
        for suffix, (m, n, k) in (
            ("dleft", (kernel.m, kernel.k, kernel.n)),
            ("dright", (kernel.k, kernel.n, kernel.m)),
        ):
            yield replace(turned, name=f"{kernel.name}.{suffix}", m=m, n=n, k=k)
    elif kernel.kind == "attention":
        # reads q, k, v, the result and its gradient, writes the gradients of q, k and v
        moved_bytes = 2 * moved.inputs + 2 * moved.outputs + moved.weights
        yield replace(turned, flops=FLASH_BACKWARD * kernel.flops, bytes=moved_bytes)
    elif kernel.kind == "scan":
        moved_bytes = 2 * moved.inputs + 2 * moved.outputs + moved.weights
        yield replace(turned, flops=SCAN_BACKWARD * kernel.flops, bytes=moved_bytes)
    elif kernel.kind == "lookup":
        # reads the gradient, and adds it to rows of the table's
        yield replace(turned, bytes=3 * moved.outputs)
    else:
        # reads what it read and the gradient of what it wrote, writes the gradients of what it read
        yield replace(turned, flops=2 * kernel.flops, bytes=2 * moved.inputs + moved.outputs + moved.weights)


def _gradients(turned: Kernel, moved: Moved, forms: Forms) -> Iterator[Kernel]:
    """Yield the two products behind a GEMM: the gradient of its input, and that of its weight.

    (m × n) · (n × k), and (k × m) · (m × n), which is added to what earlier micro-batches left.
    """
    gradient = forms.get("gradient") or forms["activation"]
    elements = turned.groups * turned.n * turned.k
    yield replace(turned, name=f"{turned.name}.dgrad", n=turned.k, k=turned.n, vector_flops=0)
    yield replace(
        turned,
        name=f"{turned.name}.wgrad",
        m=turned.k,
        n=turned.n,
        k=turned.m,
        bytes=moved.inputs + moved.outputs + 2 * gradient.bytes(elements),
        weight_bytes=0,
    )

"""Formats of all stored tensors, written as a scheme by roles that is as short as it can be and exact."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from calc.layers import Block
from calc.records import Record, record
from calc.schemes import SCHEMES, Tensor, tensors

_ORDER: Final = ("attention", "ffn", "router", "embedding", "head", "norm", "other", "experts", "shared", "vectors")
"""Roles after those that decide about their tensors where they are not named."""
_WRITTEN: Final = ("experts", "shared", "ffn", "attention", "router", "embedding", "head", "norm", "other", "vectors")


@record
class Stored(Record):
    """A stored tensor in one layer, its elements, and its format."""

    block: Block
    tensor: Tensor
    elements: int
    form: str

    @property
    def role(self) -> str:
        """The closest of its roles."""
        return self.tensor.roles[0]


def stored(blocks: Sequence[Block], form: Callable[[Block, Tensor], str]) -> list[Stored]:
    """Ask for the format of every tensor of a model."""
    return [Stored(block, tensor, int(size), form(block, tensor)) for block, tensor, size in tensors(blocks)]


def scheme_text(found: Sequence[Stored], base: str, rest: str) -> str:
    """Return the scheme that gives every tensor its format: ``base`` or another with a name, or one by roles.

    ``rest`` is the format of what no role names.
    """
    for name in (base, *SCHEMES):
        if (
            name in SCHEMES
            and not SCHEMES[name].by_layer
            and all(SCHEMES[name].choose(x.tensor) == x.form for x in found)
        ):
            return name
    named: dict[str, str] = {}
    narrowed: dict[str, list[str]] = {}
    for role in _ORDER:
        own = [one for one in found if one.role == role]
        if not own:
            continue
        usual = _usual(own)
        # a role has a term where another that its tensors have would decide about them otherwise
        others = {other for one in own for other in one.tensor.roles[1:]}
        if any(other in narrowed or named.get(other, rest) != usual for other in others) or (
            not others and usual != rest
        ):
            named[role] = usual
        narrower = _narrower(role, own, usual)
        if narrower:
            narrowed[role] = narrower
    terms: list[str] = []
    for role in _WRITTEN:
        terms += [f"{role}={named[role]}"] if role in named else []
        terms += narrowed.get(role, [])
    return ",".join((*terms, f"rest={rest}"))


def _usual(found: Iterable[Stored]) -> str:
    """Return the format of most elements."""
    sizes: Counter[str] = Counter()
    for one in found:
        sizes[one.form] += one.elements
    return max(sizes, key=lambda form: sizes[form])


def _narrower(role: str, found: list[Stored], usual: str) -> list[str]:
    """Return the terms of what has another format than usual in its role: whole layers first, then operations."""
    by_layer: dict[int, set[str]] = {}
    for one in found:
        by_layer.setdefault(one.tensor.layer, set()).add(one.form)
    whole: dict[str, list[int]] = {}
    for layer, forms in by_layer.items():
        if len(forms) == 1 and layer >= 0 and usual not in forms:
            whole.setdefault(next(iter(forms)), []).append(layer)
    terms = [f"{role}@{runs(layers)}={form}" for form, layers in whole.items()]
    settled = {layer for layers in whole.values() for layer in layers}
    by_operation: dict[str, dict[str, list[int]]] = {}
    for one in found:
        by_operation.setdefault(one.tensor.operation, {}).setdefault(one.form, []).append(one.tensor.layer)
    for operation, places in by_operation.items():
        unsettled = {form: [layer for layer in layers if layer not in settled] for form, layers in places.items()}
        common = max(unsettled, key=lambda form: len(unsettled[form]))
        if common != usual and unsettled[common]:
            terms.append(f"{role}.{operation}={common}")
            unsettled = places  # the term decides in settled layers, too
        for form, at in unsettled.items():
            inside = [layer for layer in at if layer >= 0]
            terms += [f"{role}.{operation}@{runs(inside)}={form}"] if inside and form != common else []
    return terms


def runs(layers: Iterable[int]) -> str:
    """Write layers as runs with even steps.

    >>> runs([0, 3, 7, 11, 15, 16])
    '0+3-15/4+16'
    """
    left = sorted(set(layers))
    written: list[str] = []
    while left:
        end, step = 1, left[1] - left[0] if len(left) > 1 else 1
        while end < len(left) and left[end] - left[end - 1] == step:
            end += 1
        if end < 3 and step > 1:
            end = 1
        first, last = left[0], left[end - 1]
        written.append(str(first) if end == 1 else f"{first}-{last}" + (f"/{step}" if step > 1 else ""))
        left = left[end:]
    return "+".join(written)

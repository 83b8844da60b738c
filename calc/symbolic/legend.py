"""Letters become symbols: a model's or a mechanism's tables over sympy symbols, and what each symbol stands for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from sympy import Expr, Integer, Symbol

from calc.algebra import Number
from calc.dims import LEGEND
from calc.model import Block, Model
from calc.operations import Role
from calc.records import Record, named_record, record, replace
from calc.units import Format


def symbol(name: str, *, may_be_zero: bool = False) -> Symbol:
    """Return the whole number of this name, positive unless it may be zero."""
    return Symbol(name, integer=True, nonnegative=True) if may_be_zero else Symbol(name, integer=True, positive=True)


@record
class Entry(Record):
    """What a symbol stands for; ``value`` is its number in the model at hand, where it has one."""

    symbol: Any
    latex: str
    meaning: str
    value: int | None = None

    @property
    def name(self) -> str:
        """The symbol's name, as ``--at`` takes it."""
        return str(self.symbol)


CONTEXT: Final = symbol("context")
BATCH: Final = symbol("batch")
SOURCE: Final = symbol("source")

FREE: Final = {
    CONTEXT: Entry(CONTEXT, "n", "tokens of each sequence"),
    BATCH: Entry(BATCH, "b", "sequences"),
    SOURCE: Entry(SOURCE, "m", "tokens on the encoder's side of each sequence"),
}
"""What a question leaves open."""

BYTES: Final[dict[Role, tuple[str, str, str]]] = {
    "weight": ("weight_bytes", r"\beta_w", "bytes of a weight"),
    "activation": ("activation_bytes", r"\beta_a", "bytes of an activation"),
    "cache": ("bytes", r"\beta", "bytes of a cached number"),
}


@record
class SymbolicFormat(Format):
    """A number format whose bytes are a symbol."""

    each: Any = None

    def bytes(self, elements: Number) -> Number:
        """Return the elements times the symbol."""
        return elements * self.each

    def stored(self, rows: Number, columns: Number, matrices: Number = 1) -> Number:
        """Return the elements of the matrices times the symbol."""
        return matrices * rows * columns * self.each


def symbolic_format(form: Format, role: Role) -> tuple[Format, Entry | None]:
    """Return a format with a symbol for its bytes; one that packs several numbers into bytes keeps its own rule."""
    bytes_each = form.bits_per_element / 8
    if not form.plain or bytes_each.denominator != 1:
        return form, None
    name, latex, meaning = BYTES[role]
    entry = Entry(symbol(name), latex, f"{meaning}, {form.name}", int(bytes_each))
    return SymbolicFormat(form.name, form.bits, each=entry.symbol), entry


@named_record
class Subject(Record):
    """A model or a mechanism over symbols.

    ``blocks`` are its tables with symbols for letters, each once; ``counts`` says how often each stands. ``numbers``
    are the same tables with integers, and empty where a mechanism's sizes are not all given.
    """

    name: str
    title: str
    source: str
    model: Model | None = None
    blocks: tuple[Block, ...]
    counts: tuple[Expr, ...]
    numbers: tuple[Block, ...] = ()
    entries: Mapping[Any, Entry]
    layers: Mapping[Any, tuple[Any, ...]]
    """Symbols that are sums of others: n_layers of the numbers of each kind of layer."""

    @property
    def counting(self) -> frozenset[Any]:
        """The symbols that say how often something stands."""
        return frozenset(self.layers).union(*(count.free_symbols for count in self.counts))

    @property
    def patterns(self) -> frozenset[Any]:
        """The symbols of masks: windows, strides, blocks."""
        found = ((block, mask) for block in self.blocks for mask in {op.over for op in block.operations} if mask)
        symbols = (block.letters[letter].free_symbols for block, mask in found for letter in mask.letters)
        return frozenset().union(*symbols)

    def values(self) -> dict[Any, int]:
        """Return the numbers of the symbols that have one."""
        return {key: entry.value for key, entry in self.entries.items() if entry.value is not None}


Place = tuple[bool, str, str]
"""Encoder or not, kind of layer, name of the block."""


def base_letters(letters: Mapping[str, Number]) -> dict[str, Number]:
    """Replace derived letters by those they come from: ``g = a/k`` and its value give ``a``.

    >>> base_letters({"k": 8, "g": 4, "h": 128})
    {'k': 8, 'a': 32, 'h': 128}
    """
    base: dict[str, Number] = {}
    for letter, value in letters.items():
        numerator, _, denominator = LEGEND[letter].derived.partition("/")
        if not numerator:
            base[letter] = value
        elif not denominator:
            base.setdefault(numerator, value)
        elif denominator in letters:
            base.setdefault(numerator, value * letters[denominator])
        else:
            base[letter] = value
    return base


def symbols_of(letters: Iterable[str], base: Mapping[str, Expr]) -> dict[str, Expr]:
    """Return every letter of a table over the symbols of its base letters."""
    found: dict[str, Expr] = {}
    for letter in letters:
        numerator, _, denominator = LEGEND[letter].derived.partition("/")
        if letter in base:
            found[letter] = base[letter]
        else:
            found[letter] = base[numerator] / base[denominator] if denominator else base[numerator]
    return found


def of_model(model: Model) -> Subject:
    """Bind a model's letters: one symbol where a letter has one value, else one for each kind of layer."""
    numbers = model.blocks()
    places = [(block.encoder, block.layer, block.name) for block in numbers]
    kinds = _kinds(numbers)
    bases = [base_letters(block.letters) for block in numbers]
    entries: dict[Any, Entry] = {}
    symbols: list[dict[str, Expr]] = [{} for _ in numbers]
    for letter in dict.fromkeys(letter for base in bases for letter in base):
        found = {place: base[letter] for place, base in zip(places, bases, strict=True) if letter in base}
        labels = _labels(found, kinds)
        for index, place in enumerate(places):
            if letter in bases[index]:
                entry = _entry(letter, labels[place], found[place])
                entries[entry.symbol] = entry
                symbols[index][letter] = entry.symbol
    counts, layers = _counts(numbers, kinds, entries)
    blocks = tuple(
        replace(block, letters=symbols_of(block.letters, base), repeat=1)
        for block, base in zip(numbers, symbols, strict=True)
    )
    return Subject(
        name=model.name,
        title=model.heading,
        source=model.source,
        model=model,
        blocks=blocks,
        counts=counts,
        numbers=tuple(numbers),
        entries=entries,
        layers=layers,
    )


def _kinds(blocks: Iterable[Block]) -> dict[tuple[bool, str], str]:
    """Return a number for each kind of layer of each side, 1, 2, …; one alone is called by its side."""
    sides: dict[bool, list[str]] = {}
    for block in blocks:
        if block.layer and block.layer not in sides.setdefault(block.encoder, []):
            sides[block.encoder].append(block.layer)
    two_sides = len(sides) == 2
    found: dict[tuple[bool, str], str] = {}
    for encoder, layers in sides.items():
        side = ("enc" if encoder else "dec") if two_sides else ""
        for number, layer in enumerate(layers, start=1):
            found[encoder, layer] = side + (str(number) if len(layers) > 1 else "")
    return found


def _labels(found: Mapping[Place, int], kinds: Mapping[tuple[bool, str], str]) -> dict[Place, str]:
    """Return the subscript of a letter at each place: none for one value, else the first kind of layer that has it."""
    if len(set(found.values())) == 1:
        return dict.fromkeys(found, "")

    def label(place: Place, with_name: bool) -> str:
        encoder, layer, name = place
        kind = kinds.get((encoder, layer), "enc" if encoder else "")
        return "_".join(filter(None, [kind, name if with_name or not kind else ""]))

    by_kind: dict[str, set[int]] = {}
    for place, value in found.items():
        by_kind.setdefault(label(place, False), set()).add(value)
    with_name = any(len(values) > 1 for values in by_kind.values())
    first: dict[int, str] = {}
    for place, value in found.items():
        first.setdefault(value, label(place, with_name))
    return {place: first[value] for place, value in found.items()}


def _entry(letter: str, label: str, value: int | None) -> Entry:
    dim = LEGEND[letter]
    name = f"{dim.name}_{label}" if label else dim.name
    return Entry(symbol(name, may_be_zero=value == 0), subscripted(dim.symbol, label), dim.meaning, value)


def subscripted(latex: str, label: str) -> str:
    r"""Add a subscript to a LaTeX symbol, after the one it may have.

    >>> subscripted(r"d_\text{ff}", "2"), subscripted("w", "1")
    ('d_{\\text{ff},2}', 'w_{1}')
    """
    if not label:
        return latex
    text = label if label.isdigit() else r"\text{" + label.replace("_", " ") + "}"
    head, under, sub = latex.partition("_")
    if not under:
        return f"{head}_{{{text}}}"
    sub = sub[1:-1] if sub.startswith("{") and sub.endswith("}") else sub
    return f"{head}_{{{sub},{text}}}"


def _counts(
    blocks: Iterable[Block], kinds: Mapping[tuple[bool, str], str], entries: dict[Any, Entry]
) -> tuple[tuple[Expr, ...], dict[Any, tuple[Any, ...]]]:
    """Return how often each block stands, as symbols, and which symbols are the sum of which."""
    counts: list[Expr] = []
    by_side: dict[bool, dict[Any, int]] = {}
    for block in blocks:
        if not block.layer:
            counts.append(Integer(int(block.repeat)))
            continue
        label = kinds[block.encoder, block.layer]
        plain = not any(character.isdigit() for character in label)
        name = "n_layers" + (f"_{label}" if label else "") if plain else f"n_{label}"
        latex = r"n_{\text{layers}}" if plain and not label else subscripted("n", label)
        what = "layers" if plain else f"layers of kind {label}"
        entry = Entry(symbol(name), latex, what, int(block.repeat))
        entries[entry.symbol] = entry
        counts.append(entry.symbol)
        by_side.setdefault(block.encoder, {})[entry.symbol] = int(block.repeat)
    layers: dict[Any, tuple[Any, ...]] = {}
    for encoder, found in by_side.items():
        if len(found) > 1:
            side = ("_enc" if encoder else "_dec") if len(by_side) == 2 else ""
            total = Entry(symbol(f"n_layers{side}"), subscripted(r"n_{\text{layers}}", side[1:]), "all layers")
            total = replace(total, value=sum(found.values()))
            entries[total.symbol] = total
            layers[total.symbol] = tuple(found)
    return tuple(counts), layers

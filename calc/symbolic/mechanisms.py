"""A mechanism alone, as the formula of one layer: built with the options asked for, its sizes left as symbols."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from math import lcm
from types import NoneType
from typing import Any, Final, Literal, get_args, get_origin, get_type_hints

from sympy import Integer

from calc import masks
from calc.attention import Attention
from calc.dims import LEGEND
from calc.errors import SpecError, UnknownName
from calc.ffn import FeedForward
from calc.fields import LARGEST, load_class
from calc.masks import Mask
from calc.mechanism import Mechanism
from calc.modality import Modal
from calc.model import Block
from calc.records import replace
from calc.symbolic.legend import Entry, Subject, base_letters, symbol, symbols_of

FAMILIES: Final = (Attention, FeedForward, Modal)


def kinds() -> dict[str, str]:
    """Return every mechanism that a layer can hold: kind → ``module:Class``."""
    return {kind: target for family in FAMILIES for kind, target in family.kinds.items()}


def of_mechanism(kind: str, options: Mapping[str, str] | None = None) -> Subject:
    """Bind a mechanism's letters to symbols; options choose its structure, or give a size its number.

    Raises:
        UnknownName: no such mechanism or option.
        SpecError: an option's value that cannot be.

    >>> of_mechanism("gqa").blocks[0].letters["g"]
    n_heads/n_kv_heads
    """
    known = kinds()
    if kind not in known:
        raise UnknownName("mechanism", kind, known)
    target: type[Mechanism] = load_class(known[kind])
    given = {name: read_option(target, name, text) for name, text in (options or {}).items()}
    block = Block.of(kind, _build(target, given))
    fixed = _fixed(target, given, block)
    base: dict[str, Any] = {}
    entries: dict[Any, Entry] = {}
    for letter in base_letters({"d": 1, "o": 1, "v": 1, **block.letters}):
        dim = LEGEND[letter]
        value = fixed.get(letter)
        entry = Entry(symbol(dim.name, may_be_zero=value == 0), dim.symbol, dim.meaning, value)
        base[letter], entries[entry.symbol] = entry.symbol, entry
    letters = symbols_of(("d", "o", "v", *block.letters), base)
    return Subject(
        name=kind,
        title=f"{kind}, one layer",
        source=target.source,
        blocks=(replace(block, letters=letters),),
        counts=(Integer(1),),
        entries=entries,
        layers={},
    )


def read_option(target: type[Mechanism], name: str, text: str) -> Any:
    """Read an option's text as what its field takes; a mask as its class, whose sizes are still open."""
    hints = get_type_hints(target)
    names = [field.name for field in fields(target) if field.name != "kind"]
    if name not in names:
        raise UnknownName(f"option of {target.__name__}", name, names, f"known: {', '.join(names)}")
    taken = [hint for hint in _members(hints[name]) if hint is not NoneType]
    for hint in taken:
        value = _value(hint, text)
        if value is not None:
            return value
    raise SpecError(f"{name} = {text!r} is not {' or '.join(_wanted(hint) for hint in taken)}")


def _members(hint: Any) -> Iterator[Any]:
    """Yield the members of a union, or the type itself."""
    if isinstance(hint, type) or get_origin(hint) is Literal:
        yield hint
    else:
        yield from get_args(hint)


def _value(hint: Any, text: str) -> Any:
    """Return the text as this type, or None."""
    if get_origin(hint) is Literal:
        return text if text in get_args(hint) else None
    if hint is bool:
        return {"true": True, "false": False}.get(text.lower())
    if hint is int:
        digits = text.replace("_", "")
        return int(digits) if digits.isdecimal() and digits.isascii() and 0 < int(digits[:14]) <= LARGEST else None
    if hint is float:
        try:
            return float(text)
        except ValueError:
            return None
    if hint is Mask and text in masks.KINDS:
        return load_class(masks.KINDS[text])
    return None


def _fixed(target: type[Mechanism], given: Mapping[str, Any], block: Block) -> dict[str, int]:
    """Return the letters whose numbers are given, or have a default: those that the placeholder leaves alone."""
    named = {letter: given[dim.name] for letter, dim in LEGEND.items() if type(given.get(dim.name)) is int}
    try:
        other = base_letters(_build(target, given, first=2).bind())
    except SpecError:
        return named
    return named | {letter: value for letter, value in base_letters(block.letters).items() if value == other[letter]}


def _wanted(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return ", ".join(map(str, get_args(hint)))
    words = {bool: "true or false", int: f"a whole number from 1 to {LARGEST:,}", float: "a number"}
    return words.get(hint) or f"one of {', '.join(masks.KINDS)}"


def _build(target: type[Any], given: Mapping[str, Any], first: int = 1) -> Any:
    """Build with placeholders for the sizes that are left open: the structure does not depend on them.

    An optional size is left out, unless the mechanism cannot be built without one.
    """
    hints = get_type_hints(target)
    open_fields = [field for field in fields(target) if field.name not in given]
    required = [field.name for field in open_fields if field.default is MISSING and field.default_factory is MISSING]
    optional = [field.name for field in open_fields if int in _members(hints[field.name]) and field.default is None]
    sizes = [value for value in given.values() if type(value) is int]
    refusal: SpecError | None = None
    for more in ((), *((name,) for name in optional)):
        for placeholder in dict.fromkeys([first, *(first * size for size in sizes), first * lcm(*sizes)]):
            values = {name: placeholder if int in _members(hints[name]) else _first(hints[name]) for name in required}
            masked = {name: _build(value, {}, first) for name, value in given.items() if isinstance(value, type)}
            try:
                return target(**values, **dict.fromkeys(more, placeholder), **{**given, **masked})
            except SpecError as error:
                refusal = refusal or error
    raise refusal or SpecError(f"{target.__name__} cannot be built")


def _first(hint: Any) -> Any:
    """Return the first choice of a field without a default."""
    choices = get_args(hint)
    if get_origin(hint) is Literal:
        return choices[0]
    return False if hint is bool else load_class(masks.KINDS["causal"])()

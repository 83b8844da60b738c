"""The quantities that a claim may name: a registry of functions, whose arguments a file gives by name.

A claim is data and is never evaluated as code. What it can ask for is registered here: a function of a model, of
numbers, or of both, that returns its figure in base units. Its arguments are checked against its signature.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from fractions import Fraction
from inspect import Parameter, signature
from typing import Any, Final, TypeAlias, TypeVar

from calc import catalog
from calc.claims.stated import LARGEST_EXPONENT, number, stated
from calc.errors import SpecError, UnknownName, shortened
from calc.fields import LARGEST
from calc.model import Model
from calc.operations import PARTS
from calc.records import Record, record

Range: TypeAlias = tuple[Fraction, Fraction]
"""A number or a range: what rests on one is computed at both ends."""


@record
class Argument(Record):
    """An argument of a quantity: its name, its type as the signature says it, whether it may be left out."""

    name: str
    kind: str
    required: bool
    default: Any = None

    def text(self) -> str:
        """Write it as a signature does: what must be given, and what it is otherwise."""
        return self.name if self.required else f"{self.name} = {'none' if self.default is None else self.default}"


@record
class Quantity(Record):
    """A figure that can be asked for. ``unit`` is one that a claim's unit must have as its base."""

    name: str
    unit: str
    meaning: str
    arguments: tuple[Argument, ...]
    of: Callable[..., Any]

    @property
    def of_model(self) -> bool:
        """Whether it is a figure of a model."""
        return any(argument.name == "model" for argument in self.arguments)


QUANTITIES: Final[dict[str, Quantity]] = {}


F = TypeVar("F", bound=Callable[..., Any])


def quantity(name: str, unit: str) -> Callable[[F], F]:
    """Register a function: its first docstring line is the meaning, its signature says what a claim must give."""

    def register(of: F) -> F:
        if name in QUANTITIES:
            raise ValueError(f"two quantities are named {name!r}")
        meaning = (of.__doc__ or "").strip().splitlines()[0].removeprefix("Return ").rstrip(".")
        QUANTITIES[name] = Quantity(name, unit, meaning, tuple(map(_argument, signature(of).parameters.values())), of)
        return of

    return register


def _argument(parameter: Parameter) -> Argument:
    required = parameter.default is Parameter.empty
    return Argument(parameter.name, str(parameter.annotation), required, None if required else parameter.default)


@record
class Computed(Record):
    """What a quantity is: a value, and a range where an argument or the architecture is one.

    ``estimate``: it rests on an architecture that its maker never published.
    """

    value: Fraction
    low: Fraction
    high: Fraction
    estimate: bool = False


def compute(asked: Quantity, model: str | None, at: Mapping[str, Any]) -> Computed:
    """Compute a quantity from what a claim says.

    Raises:
        SpecError: an argument that is missing, unknown or of the wrong type; a question that the model cannot answer.
        UnknownName: no such model.
    """
    if asked.of_model and model is None:
        raise SpecError(f"{asked.name} is a figure of a model: model is missing")
    if model is not None and not asked.of_model:
        raise SpecError(f"{asked.name} is not a figure of a model: model = {model!r} has no meaning")
    given = {**at, **({"model": model} if model is not None else {})}
    known = {argument.name: argument for argument in asked.arguments}
    for name in given:
        if name not in known or (name == "model" and "model" in at):
            raise UnknownName(
                f"argument of {asked.name}", name, [each for each in known if each != "model"] or ["none"]
            )
    for argument in asked.arguments:
        if argument.required and argument.name not in given:
            raise SpecError(f"{asked.name} needs {argument.name}")
    values = {name: _read(known[name], value) for name, value in given.items()}
    try:
        found = _over_bounds(asked, values)
        if max(abs(found.low), abs(found.high)) > 10**LARGEST_EXPONENT:
            raise SpecError(f"{asked.name} is beyond 1e{LARGEST_EXPONENT}: an argument is a slip of the keyboard")
        return found
    except (ArithmeticError, OverflowError) as error:
        raise SpecError(f"{asked.name} cannot be computed: {error}") from None


def _read(argument: Argument, value: Any) -> Any:
    """Check one argument, and load models.

    Raises:
        SpecError: of the wrong type.
    """
    kind = argument.kind.removesuffix(" | None")
    given = shortened(repr(value) if isinstance(value, str) else written(value))
    wrong = SpecError(f"{argument.name} = {given} is not {WANTED[kind]}")
    if (kind == "bool" and isinstance(value, bool)) or (kind == "str" and isinstance(value, str)):
        return value
    if kind == "Model" and isinstance(value, str):
        return catalog.load(value)
    if kind == "Part" and value in PARTS:
        return value
    if kind == "int" and isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= LARGEST:
        return value
    try:
        return _numbers(kind, value)
    except (ValueError, TypeError):
        raise wrong from None


def written(value: Any) -> str:
    """Write an argument for a person: large numbers in groups of three digits, text as it is."""
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(written, value))}]"
    if isinstance(value, (int, Decimal)) and not isinstance(value, bool):
        return f"{int(value):,}" if value == int(value) else str(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _numbers(kind: str, value: Any) -> Any:
    if kind == "Fraction":
        return Fraction(number(value))
    if kind == "Range":
        ends = stated(value)
        return tuple(map(Fraction, ends)) if isinstance(ends, tuple) else (Fraction(ends), Fraction(ends))
    if kind == "list[Fraction]" and isinstance(value, list) and 1 <= len(value) <= 100:
        return [Fraction(number(each)) for each in value]
    raise ValueError


WANTED: Final = {
    "Model": "a preset's name or a path",
    "str": "text",
    "bool": "true or false",
    "Part": f"one of {', '.join(PARTS)}",
    "int": f"a whole number from 1 to {LARGEST:,}",
    "Fraction": "a number",
    "Range": "a number or a range [from, to]",
    "list[Fraction]": "a list of numbers",
}
"""What each type of argument must be, in the words of a refusal."""


def _over_bounds(asked: Quantity, values: Mapping[str, Any]) -> Computed:
    """Ask once, or three times where models are estimates: in the middle and at both ends."""
    middle = asked.of(**values)
    if isinstance(middle, tuple):
        low, high = sorted(map(Fraction, middle))
        return Computed((low + high) / 2, low, high)
    value = Fraction(middle)
    ends = [Fraction(asked.of(**{**values, **end})) for end in _ends(values)]
    if all(end == value for end in ends):
        return Computed(value, value, value)
    return Computed(value, min(value, *ends), max(value, *ends), estimate=True)


def _ends(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the models at every combination of the ends of estimated ones."""
    found: list[dict[str, Any]] = [{}]
    for name, value in values.items():
        if isinstance(value, Model) and (bounds := value.bounds()):
            found = [{**end, name: bound} for end in found for bound in bounds]
    return found if found != [{}] else []

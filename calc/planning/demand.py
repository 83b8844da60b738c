"""What is asked of a deployment: requests, their lengths, the day's traffic, and how fast answers must come."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

from calc.catalog import read_text
from calc.checks import is_number, number
from calc.errors import SpecError, shortened
from calc.records import Record, named_record, replace
from calc.serving.steady import Work

HOURS = 24
LARGEST = 10**9


@named_record
class Lengths(Record):
    """Tokens of prompts and answers: means, and the coefficient of variation of either.

    The model of load takes means and the spread of a request's work; a histogram gives both exactly.
    """

    input_tokens: float
    output_tokens: float
    input_spread: float = 1.0
    """Standard deviation of prompts' tokens over their mean."""
    output_spread: float = 1.0

    def __post_init__(self) -> None:
        for name in ("input_tokens", "output_tokens"):
            number(name, getattr(self, name), least=1, most=LARGEST, what="number of tokens")
        for name in ("input_spread", "output_spread"):
            number(name, getattr(self, name), least=0, most=100, what="coefficient of variation")

    @classmethod
    def of_histogram(cls, rows: Iterable[Sequence[float] | Mapping[str, float]]) -> Lengths:
        """Take means and spreads of rows of ``input``, ``output`` and ``share``, in this order or by these names.

        Shares need not add up to one; without them every row counts the same.

        >>> lengths = Lengths.of_histogram([(1000, 100, 3), {"input": 2000, "output": 300, "share": 1}])
        >>> lengths.input_tokens, lengths.output_tokens
        (1250.0, 150.0)
        """
        return cls._of([_histogram_row(row, "a histogram") for row in rows])

    @classmethod
    def _of(cls, table: list[tuple[float, ...]]) -> Lengths:
        if not table or any(min(row) < 0 for row in table) or not sum(row[2] for row in table):
            raise SpecError("a histogram has rows of input tokens, output tokens and a share, none of them negative")
        whole = sum(row[2] for row in table)
        means, spreads = [], []
        for column in (0, 1):
            mean = sum(row[column] * row[2] for row in table) / whole
            variance = sum((row[column] - mean) ** 2 * row[2] for row in table) / whole
            means.append(mean)
            spreads.append(variance**0.5 / mean if mean else 0.0)
        return cls(input_tokens=means[0], output_tokens=means[1], input_spread=spreads[0], output_spread=spreads[1])

    @classmethod
    def read(cls, path: str | Path) -> Lengths:
        """Read a histogram as ``of_histogram`` takes it: a CSV file, perhaps with a header, or a JSON list.

        Raises:
            SpecError: the file cannot be read, or holds no such rows.
        """
        rows = _rows(Path(path))
        if rows and isinstance(rows[0], list) and rows[0] and _is_header(rows[0]):
            names = rows[0]
            rows = [dict(zip(names, row, strict=False)) if len(row) == len(names) else row for row in rows[1:]]
        return cls._of([_histogram_row(row, str(path)) for row in rows])

    def behind(self, tokens: int) -> Lengths:
        """Return the lengths where so many tokens, in every prompt the same, stand before the text.

        >>> Lengths(input_tokens=1000, output_tokens=1, input_spread=1.0).behind(1000).input_spread
        0.5
        """
        whole = self.input_tokens + tokens
        return replace(self, input_tokens=whole, input_spread=self.input_spread * self.input_tokens / whole)

    def work(self, cached: float = 0.0) -> Work:
        """Return what the model of load takes; ``cached`` is the share of prompts in a prefix cache."""
        found = min(cached * self.input_tokens, self.input_tokens - 1)
        return Work(
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            cached=max(found, 0.0),
            variation=self.output_spread,
        )


@named_record
class Demand(Record):
    """Requests per second, at the peak, and over the day: 24 shares of the peak."""

    rate: float
    lengths: Lengths
    profile: tuple[float, ...] = (1.0,) * HOURS

    def __post_init__(self) -> None:
        number("rate", self.rate, above=0, below=LARGEST, what="number of requests per second")
        if len(self.profile) != HOURS:
            raise SpecError(f"a day's profile has {HOURS} numbers, one for each hour, not {len(self.profile)}")
        if not all(is_number(share) and 0 <= share < LARGEST for share in self.profile) or not max(self.profile):
            raise SpecError("a day's profile has numbers from 0 on, and one above 0")
        most = max(self.profile)
        self.__dict__["profile"] = tuple(share / most for share in self.profile)

    @staticmethod
    def read_profile(text: str) -> tuple[float, ...]:
        """Read 24 numbers separated by commas, or a CSV or JSON file of them.

        Raises:
            SpecError: the text is neither.
        """
        if "," in text:
            return tuple(row[0] for row in _numbers([[part] for part in text.split(",")], 1, text))
        rows = [row if isinstance(row, list) else [row] for row in _rows(Path(text))]
        if rows and _is_header(rows[0]):
            rows = rows[1:]
        if len(rows) == 1:  # all hours in one line
            rows = [[value] for value in rows[0]]
        return tuple(row[0] for row in _numbers(rows, 1, text))


@named_record
class Objectives(Record):
    """Seconds to the first token and between tokens, at the median or at the quantile ``quantile``."""

    ttft: float
    tpot: float
    quantile: float = 0.5

    def __post_init__(self) -> None:
        for name in ("ttft", "tpot"):
            number(name, getattr(self, name), above=0, below=LARGEST, what="number of seconds")
        number("quantile", self.quantile, least=0.5, below=1)


COLUMNS = ("input", "output", "share")
"""Of a histogram of lengths."""


def _rows(path: Path) -> list[Any]:
    """Return the rows of a file: lists of texts from CSV, whatever a JSON list holds."""
    text = read_text(path)
    if path.suffix.lower() != ".json":
        return [row for row in csv.reader(text.splitlines()) if row and not row[0].lstrip().startswith("#")]
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SpecError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(data, list):
        raise SpecError(f"{path} holds a JSON {type(data).__name__}, not a list")
    return data


def _is_header(row: Sequence[Any]) -> bool:
    return not any(map(_reads_as_number, row))


def _reads_as_number(value: Any) -> bool:
    try:
        return not isinstance(value, bool) and isfinite(float(value))
    except (TypeError, ValueError, OverflowError):
        return False


def _histogram_row(row: Any, origin: str) -> tuple[float, ...]:
    """Return input, output and share, which is 1 where it is left out.

    Raises:
        SpecError: a row of something else.
    """
    values = row
    if isinstance(row, Mapping):
        named = {str(name).strip().lower().removesuffix("_tokens"): value for name, value in row.items()}
        missing = {"input", "output"} - set(named)
        values = () if missing or set(named) - set(COLUMNS) else [named.get(name, 1) for name in COLUMNS]
    values = list(values) if isinstance(values, Iterable) and not isinstance(values, str) else []
    values += [1] if len(values) == 2 else []
    if len(values) != len(COLUMNS) or not all(map(_reads_as_number, values)):
        wanted = 'a row of input, output and share: 1000,200,0.5 or {"input": 1000, "output": 200, "share": 0.5}'
        raise SpecError(f"{shortened(origin, 100)}: {shortened(str(row))} is not {wanted}")
    return tuple(float(value) for value in values)


def _numbers(rows: Iterable[Sequence[Any]], columns: int, origin: str) -> list[list[float]]:
    found = []
    for row in rows:
        if len(row) != columns or not all(_reads_as_number(value) for value in row):
            raise SpecError(f"{shortened(origin, 100)}: {shortened(str(list(row)))} is no row of {columns} numbers")
        found.append([float(value) for value in row])
    return found

"""What is asked of a deployment: requests, their lengths, the day's traffic, and how fast answers must come."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import Any

from calc.catalog import read_text
from calc.checks import is_number, number
from calc.errors import SpecError, shortened
from calc.records import Record, named_record
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
    def of_histogram(cls, rows: Iterable[Sequence[float]]) -> Lengths:
        """Take means and spreads of (input tokens, output tokens, share) rows; shares need not add up to one.

        >>> lengths = Lengths.of_histogram([(1000, 100, 3), (2000, 300, 1)])
        >>> lengths.input_tokens, lengths.output_tokens
        (1250.0, 150.0)
        """
        table = [tuple(float(value) for value in row) for row in rows]
        if not table or any(len(row) != 3 or min(row) < 0 for row in table) or not sum(row[2] for row in table):
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
        """Read a histogram: a CSV file or a JSON list with three columns.

        Raises:
            SpecError: the file cannot be read, or holds no such rows.
        """
        return cls.of_histogram(_rows(Path(path), 3))

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
        return tuple(row[0] for row in _rows(Path(text), 1))


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


def _rows(path: Path, columns: int) -> list[list[float]]:
    text = read_text(path)
    if path.suffix.lower() == ".json":
        try:
            data = json.loads(text)
        except ValueError as error:
            raise SpecError(f"{path} is not valid JSON: {error}") from None
        listed = data if isinstance(data, list) else []
        rows = [row if isinstance(row, list) else [row] for row in listed]
    else:
        rows = [row for row in csv.reader(text.splitlines()) if row and not row[0].lstrip().startswith("#")]
        if rows and not _reads_as_number(rows[0][0]):
            rows = rows[1:]  # a header
        if columns == 1 and len(rows) == 1:
            rows = [[value] for value in rows[0]]
    return _numbers(rows, columns, str(path))


def _reads_as_number(value: Any) -> bool:
    try:
        return isfinite(float(value))
    except (TypeError, ValueError):
        return False


def _numbers(rows: Iterable[Sequence[Any]], columns: int, origin: str) -> list[list[float]]:
    found = []
    for row in rows:
        if len(row) != columns or not all(_reads_as_number(value) for value in row):
            raise SpecError(f"{shortened(origin, 100)}: {shortened(str(list(row)))} is no row of {columns} numbers")
        found.append([float(value) for value in row])
    return found

"""What a chart is: a question that can be asked of models, the data that answer it, and how they are drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calc import catalog
from calc.charts.data import ChartData, Series
from calc.checks import listed, whole
from calc.costs import Setting
from calc.errors import SpecError, UnknownName
from calc.hardware import Accelerator
from calc.model import Model
from calc.records import Record, named_record

if TYPE_CHECKING:
    from calc.charts.drawing.canvas import Canvas

Size = tuple[float, float]
SIZE: Size = (8.0, 5.0)
"""Inches."""
OPTIONS = ("batch", "context", "gpus", "weights_dtype", "cache_dtype", "accelerators", "results")
MOST_MODELS = 24


@named_record
class Asked(Record):
    """What a chart is asked: models, and the options that it takes (None where the chart decides)."""

    models: tuple[Model, ...] = ()
    batch: int | None = None
    context: int | None = None
    gpus: int | None = None
    weights_dtype: str | None = None
    cache_dtype: str | None = None
    accelerators: tuple[Accelerator, ...] = ()
    results: tuple[Mapping[str, Any], ...] = ()
    """What other commands printed as JSON."""

    def setting(self, context: int) -> Setting:
        """Return the setting for counting; ``context`` where none is asked for."""
        return Setting(
            batch=1 if self.batch is None else self.batch,
            context=context if self.context is None else self.context,
            weights_dtype=self.weights_dtype,
            cache_dtype=self.cache_dtype or "bf16",
        )


@named_record
class Chart(Record):
    """A kind of chart. To add one: a file here that ends in a ``CHART``, and its entry in ``KINDS``."""

    about: str
    """One line: what is drawn against what."""
    data: Callable[[Asked], ChartData]
    draw: Callable[[ChartData, Canvas], None]
    models: tuple[str, ...] = ()
    """What the gallery draws, and what is drawn where no model is named."""
    accelerators: tuple[str, ...] = ()
    """What models are held against where no accelerator is named."""
    least: int = 1
    most: int = MOST_MODELS
    takes: tuple[str, ...] = ()
    """Those of ``OPTIONS`` that change it."""
    size: Callable[[ChartData], Size] = lambda data: SIZE
    """Inches that suit the data."""

    @property
    def of_answers(self) -> bool:
        """Whether it is drawn of other commands' answers alone."""
        return not self.most and "results" in self.takes


def chart(name: str) -> Chart:
    """Return a chart by name.

    Raises:
        UnknownName: there is none of this name.
    """
    from calc.charts import KINDS

    if name not in KINDS:
        raise UnknownName("chart", name, KINDS, "`calc plot --list` shows all charts")
    found: Chart = import_module(KINDS[name]).CHART
    return found


def ask(name: str, models: str | Path | Model | Iterable[str | Path | Model], options: Mapping[str, Any]) -> Asked:
    """Return what is asked of a chart, checked: its models loaded, and only options that change it.

    Raises:
        CalcError: an unknown model or chart, too many models or too few, an option that this chart does not take.
    """
    kind = chart(name)
    given = {key: value for key, value in options.items() if value not in (None, (), [])}
    for option in given:
        if option not in OPTIONS:
            raise TypeError(f"plot() has no option {option!r}")
        if option not in kind.takes:
            taken = ", ".join(kind.takes) or "no option"
            raise SpecError(f"{option} changes nothing in the chart {name}, which takes {taken}")
    named = listed(models)
    if not kind.most and named:
        raise SpecError(f"the chart {name} is of no model; leave {named[0]} out")
    loaded = tuple(catalog.load(model) for model in named or (() if "results" in given else kind.models))
    if not kind.least <= len(loaded) <= kind.most and "results" not in given:
        wanted = f"{kind.least} to {kind.most}" if kind.least < kind.most else f"{kind.least}"
        raise SpecError(f"the chart {name} takes {wanted} models, not {len(loaded)}")
    machines = tuple(catalog.load_accelerator(each) for each in listed(given.pop("accelerators", kind.accelerators)))
    given["results"] = tuple(listed(given.get("results", ())))
    asked = Asked(models=loaded, accelerators=machines, **given)
    asked.setting(1)
    if asked.gpus is not None:
        whole("gpus", asked.gpus)
    return asked


def several(names: Iterable[str], most: int = 3) -> str:
    """Write names as a person lists them.

    >>> several(["a", "b", "c"]), several(["a", "b", "c", "d", "e"])
    ('a, b and c', 'a, b, c and 2 more')
    """
    found = list(names)
    if len(found) > most + 1:
        found = [*found[:most], f"{len(found) - most} more"]
    return " and ".join(filter(None, (", ".join(found[:-1]), found[-1]))) if found else ""


def dotted(series: Iterable[Series]) -> str:
    """Say what the dotted parts of lines are; nothing where no line has one."""
    if not any(each.stated is not None and each.x[-1] > each.stated for each in series):
        return ""
    return " Dotted: beyond the longest context that a model's maker states, which a dot marks."


def sources(models: Iterable[Model | str]) -> str:
    """Return where the models' dimensions are from, in a footer's length."""
    stated = (model if isinstance(model, str) else model.source for model in models)
    texts = list(dict.fromkeys(source.split(";")[0].strip() for source in stated if source))
    return f"{several(texts)} (dimensions)" if texts else ""


def times(ratio: float) -> str:
    """Write how many times something is something else.

    >>> times(2.318), times(58.24), times(1234.5)
    ('2.3 times', '58 times', '1,234 times')
    """
    return f"{ratio:.1f} times" if ratio < 9.95 else f"{ratio:,.0f} times"


def shared_length(stated: Iterable[float | None], lengths: Iterable[float]) -> float:
    """Return the longest of some lengths that at least half of the models state; without a statement, any is fine.

    >>> shared_length([1024, 8192, None], [512, 1024, 4096, 16384])
    4096
    """
    found = sorted(lengths)
    reach = sorted((found[-1] if each is None else each for each in stated), reverse=True)
    most = reach[(len(reach) - 1) // 2]
    return max((length for length in found if length <= most), default=found[0])

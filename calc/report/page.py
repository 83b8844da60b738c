"""A report on some models as one self-contained HTML page: figures, formulas, charts, and how to reproduce each."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calc import catalog
from calc.charts import plot
from calc.charts.chart import chart, several
from calc.charts.picture import Picture
from calc.charts.style import DARK, LIGHT, readable
from calc.charts.svg import inline
from calc.checks import listed
from calc.costs import PHASES, Costs, Setting
from calc.errors import SpecError, printable
from calc.hardware import Accelerator
from calc.model import Model
from calc.progress import Progress
from calc.report.layout import shown
from calc.report.markup import environment, table
from calc.results import Figure, Grid, Row
from calc.symbolic import Formula, formula
from calc.symbolic.legend import Entry
from calc.symbolic.styles import symbol_mathml
from calc.timings import kernel_table
from calc.version import __version__
from calc.views import compare, operation_table, show

if TYPE_CHECKING:
    from markupsafe import Markup

MOST = 8
NARROW = 4.3
"""Inches across of a chart on a phone, where its text is nearly as large as the page's."""
CHARTS = (
    "parameters", "active", "cache", "prefill", "intensity", "complexity", "experts", "latent", "tokens", "masks",
)  # fmt: skip
"""Of all models, as far as a chart is about something that they have."""
ON_DEVICES = ("roofline", "operations", "memory")
"""Of each model on an accelerator."""
QUANTITIES = ("params", "params.active", "cache", "state", "flops.prefill", "flops.decode", "complexity")
ROLES = ("page", "ink", "muted", "rule", "grid")
"""Colours of the themes that the page uses."""
CONVENTIONS = (
    ("FLOP", "One multiply or one add; a multiply-add is 2. Matrix products are counted, unless a table says more."),
    ("Causal", "Query-key pairs that masks let through are counted, not those that a dense kernel computes in vain."),
    ("Prefill, decode", "A pass over the whole prompt, logits for every position; one new token for each sequence."),
    ("Parameters", "What a checkpoint of the main model stores: tied tables once, prediction modules apart. Active: "
     "less the routed experts that a token does not use."),
    ("Cache", "Logical bytes: what the mathematics needs, without an engine's paging."),
    ("Traffic", "Bytes moved when nothing is fused, unless a table says otherwise."),
    ("Units", "1 GiB is 1024³ bytes; parameters, FLOPs and rates have decimal prefixes."),
    ("Provenance", "Upright figures are exact counts. Slanted ones are modelled, with the error measured on published "
     "measurements, or estimates of what a maker never published, with their range."),
)  # fmt: skip


def html_report(
    models: Iterable[str | Path | Model] | str | Path | Model,
    accelerator: str | Path | Accelerator | None = None,
    *,
    context: int | None = None,
    progress: Progress | None = None,
    **setting: Any,
) -> str:
    """Return a page about some models, and about an accelerator that they run on; takes what ``show`` takes.

    The page is self-contained: charts are inline SVG, formulas MathML, and nothing is loaded from anywhere.

    Raises:
        CalcError: an unknown model or accelerator, a size that cannot be, more models than a page can hold.

    >>> html_report("gpt2").startswith("<!doctype html>")
    True
    """
    named = listed(models)
    if not 1 <= len(named) <= MOST:
        raise SpecError(f"a report is about 1 to {MOST} models, not {len(named)}")
    loaded = [catalog.load(model) for model in named]
    asked = Setting.of(loaded, context, **setting)
    machine = None if accelerator is None else catalog.load_accelerator(accelerator)
    words = [model.name if isinstance(model, Model) else str(model) for model in named]
    named_machine = accelerator.name if isinstance(accelerator, Accelerator) else str(accelerator or "")
    page = _Page(loaded, words, asked, {"context": context, **setting}, machine, named_machine, progress)
    return environment().get_template("report.html").render(page.values())


class _Page:
    """Collects what the template needs."""

    def __init__(
        self,
        models: list[Model],
        words: list[str],
        setting: Setting,
        given: dict[str, Any],
        accelerator: Accelerator | None,
        machine: str,
        progress: Progress | None,
    ) -> None:
        self.models, self.words, self.setting = models, words, setting
        self.given = {name: value for name, value in given.items() if value is not None}
        self.accelerator, self.machine = accelerator, machine
        self.progress = progress
        self.costs = [Costs.of(model, setting) for model in models]
        self.colours = {f"--{name}": (getattr(LIGHT, name), getattr(DARK, name)) for name in ROLES}
        self.colours["--link"] = readable(LIGHT.cycle[0], LIGHT), readable(DARK.cycle[0], DARK)

    def values(self) -> dict[str, Any]:
        """Return the template's values."""
        names = [printable(model.heading) for model in self.models]
        steps = [*(("models", name) for name in names), ("charts", "charts")]
        models = []
        for number, (_, name) in enumerate(steps[:-1]):
            self._tell(name, number, len(steps))
            models.append(self._model(number))
        self._tell("charts", len(models), len(steps))
        charts = list(self._charts())
        machines = [self._machine(self.accelerator)] if self.accelerator else []
        sections = [(model["anchor"], model["title"]) for model in [*models, *machines]]
        several_ = len(models) > 1
        return {
            "version": __version__,
            "title": f"What {'do' if several_ else 'does'} {several(names, MOST)} cost?",
            "lede": _lede(self.setting),
            "command": self._command("report", *self.words, extra=("-o", "report.html"), machine=True),
            "findings": list(dict.fromkeys(each["finding"] for each in charts)),
            "comparison": self._comparison() if several_ else None,
            "models": models,
            "charts": charts,
            "accelerators": machines,
            "conventions": CONVENTIONS,
            "sources": [(name, printable(m.source)) for name, m in zip(names, self.models, strict=True) if m.source],
            "colours": self.colours,
            "contents": [
                ("summary", "Summary"),
                *([("comparison", "Comparison")] if several_ else []),
                ("charts", "Charts"),
                *sections,
                ("conventions", "Conventions"),
                ("sources", "Sources"),
            ],
        }

    def _tell(self, name: str, done: int, total: int) -> None:
        if self.progress:
            self.progress(name, done, total)

    def _command(
        self, *words: str, extra: Iterable[str] = (), machine: bool = False, without: tuple[str, ...] = ()
    ) -> str:
        """Return the command that gives the same, with the options that were given but for some that it has not."""
        given = [(_option(name), value) for name, value in self.given.items() if name not in without]
        flags = [word for name, value in given for word in _flag(name, value)]
        device = ["--accelerator", self.machine] if machine and self.machine else []
        return shlex.join(["calc", *words, *flags, *device, *extra])

    # ---- models

    def _model(self, number: int) -> dict[str, Any]:
        model, word = self.models[number], self.words[number]
        formulas, legend = self._formulas(model, word)
        return {
            "anchor": f"model-{number + 1}",
            "title": printable(model.heading),
            "notes": [printable(note) for note in model.notes],
            "tiles": [(label, shown(figure)) for label, figure in _tiles(self.costs[number])],
            "card": table(show(model, **self.given).grids[0]),
            "command": self._command("show", word),
            "formulas": formulas,
            "legend": legend,
            "phases": [
                {
                    "name": f"Operations of a {phase}",
                    "table": table(operation_table(model, phase=phase, **self._sized()).grids[0]),
                    "command": self._command("ops", word, extra=("--phase", phase)),
                }
                for phase in PHASES
            ],
        }

    def _sized(self) -> dict[str, Any]:
        """Return the options, with the context that was chosen for all models."""
        return {**self.given, "context": self.setting.context}

    def _formulas(self, model: Model, word: str) -> tuple[list[dict[str, Any]], list[tuple[Any, ...]]]:
        from markupsafe import Markup
        from sympy import Eq

        options = {name: self.given[name] for name in ("cache_dtype", "causal", "counts") if name in self.given}
        found: list[dict[str, Any]] = []
        legend: dict[str, Entry] = {}
        for name in QUANTITIES:
            each = formula(model, name, **options)
            same = name == "params.active" and each.shown == formula(model, "params", **options).shown
            if each.expression == 0 or same:
                continue
            numbers = each.numeric
            named = [_pieces(each, Eq(symbol, factor, evaluate=False)) for factor, symbol in each.named.items()]
            legend |= {entry.name: entry for entry in each.legend}
            flags = [word for option in options for word in _flag(f"--{option.replace('_', '-')}", options[option])]
            found.append(
                {
                    "name": name,
                    "meaning": each.quantity.meaning,
                    "order": each.leading()[1] if "context" in str(each.shown) else "",
                    "general": _pieces(each, each.shown),
                    "named": named,
                    "numbers": [] if numbers is None or numbers == each.shown else _pieces(each, numbers),
                    "command": shlex.join(["calc", "formula", word, name, *flags]),
                }
            )
        rows = [
            (
                Markup(f"<math>{symbol_mathml(entry.latex)}</math>"),
                entry.name,
                entry.meaning,
                "–" if entry.value is None else f"{entry.value:,}",
            )
            for entry in legend.values()
        ]
        return found, rows

    def _comparison(self) -> dict[str, Any]:
        return {
            "table": table(compare(self.models, **self.given).grids[0]),
            "command": self._command("compare", *self.words),
        }

    # ---- charts

    def _charts(self) -> Iterator[dict[str, Any]]:
        """Yield the charts that these models have; one that is about something they lack is left out."""
        for name in CHARTS:
            options = self._options(name)
            chosen, picture = self._picture(name, options)
            if picture is not None and _tells(name, picture, chosen):
                yield self._figure(name, picture, chosen, options)
        for name in ON_DEVICES if self.accelerator else ():
            options = self._options(name)
            for number in range(len(self.models)):
                alone = self._plotted(name, [number], options)
                if alone is not None:
                    yield self._figure(name, alone, [number], options)

    def _options(self, name: str) -> dict[str, Any]:
        """Return the options that a chart takes; without a context of its own it shows its usual range."""
        taken = chart(name).takes
        options = {key: value for key, value in self.given.items() if key in taken and key != "context"}
        if "accelerators" in taken and self.accelerator:
            options["accelerators"] = [self.accelerator]
        return options

    def _figure(self, name: str, picture: Picture, chosen: list[int], options: dict[str, Any]) -> dict[str, Any]:
        prefix = "-".join(map(str, (name, *chosen)))
        sizes = ((None, "w"), (_narrow(picture), "n"))
        wide, narrow = (inline(picture, size, f"{prefix}-{which}-") for size, which in sizes)
        self.colours |= {**wide.colours, **narrow.colours}
        flags = [word for key in options if key in self.given for word in _flag(_option(key), self.given[key])]
        flags += ["--accelerator", self.machine] if "accelerators" in options else []
        return {
            "finding": picture.data.finding,
            "about": chart(name).about,
            "wide": _markup(wide.markup),
            "narrow": _markup(narrow.markup),
            "command": shlex.join(["calc", "plot", name, *(self.words[number] for number in chosen), *flags]),
        }

    def _picture(self, name: str, options: dict[str, Any]) -> tuple[list[int], Picture | None]:
        """Return the numbers of the models that a chart can show, and the chart of them."""
        every, most = range(len(self.models)), chart(name).most
        picture = self._plotted(name, every[:most], options)
        if picture is not None:
            return list(every[:most]), picture
        fitting = [number for number in every if self._plotted(name, [number], options) is not None][:most]
        return fitting, self._plot(name, fitting, options) if fitting else None

    def _plotted(self, name: str, chosen: Sequence[int], options: dict[str, Any]) -> Picture | None:
        """Return a chart of some models; None where it is about something that they lack."""
        try:
            return self._plot(name, chosen, options)
        except SpecError:
            return None

    def _plot(self, name: str, chosen: Sequence[int], options: dict[str, Any]) -> Picture:
        return plot(name, [self.models[number] for number in chosen], **options)

    # ---- the accelerator

    def _machine(self, accelerator: Accelerator) -> dict[str, Any]:
        phases = [
            {
                "name": f"{printable(model.heading)}: kernels of a {phase}, modelled",
                "table": table(kernel_table(model, accelerator, phase=phase, **self._sized()).grids[0]),
                "command": self._command("ops", word, extra=("--phase", phase), machine=True, without=("counts",)),
            }
            for model, word in zip(self.models, self.words, strict=True)
            for phase in PHASES
        ]
        return {
            "anchor": "accelerator",
            "title": printable(accelerator.title),
            "card": table(show(accelerator).grids[0]),
            "command": shlex.join(["calc", "show", self.machine]),
            "fit": table(_fit(self.costs, accelerator)),
            "phases": phases,
        }


def _tells(name: str, picture: Picture, chosen: list[int]) -> bool:
    """Tell whether a chart says something here: one point, or causal masks alone, do not."""
    masks = name != "masks" or any(panel.title != "causal" for panel in picture.data.panels)
    return masks and (name != "active" or len(chosen) > 1)


def _narrow(picture: Picture) -> tuple[float, float]:
    """Return the inches of a chart on a phone: its panels stand below one another, squares two by two."""
    panels = picture.data.panels
    if len(panels) > 1:
        rows = -(-len(panels) // 2) if panels[0].cells else len(panels)
        return NARROW, 2.0 + 2.9 * rows
    return NARROW, max(5.0, picture.kind.size(picture.data)[1] + 0.5)


def _pieces(of: Formula, expression: Any) -> list[Markup]:
    return [_markup(piece) for piece in of.mathml_pieces(expression)]


def _fit(costs: list[Costs], accelerator: Accelerator) -> Grid:
    """Return whether weights and cache of each model fit one device."""
    rows = []
    for each in costs:
        need = each.figure(lambda c: c.weight_bytes + c.cache.bytes + c.cache.state_bytes, "B")
        least = -(-int(need.value or 0) // accelerator.capacity)
        cells = (
            printable(each.model.heading),
            each.figure(lambda c: c.weight_bytes, "B"),
            each.figure(lambda c: c.cache.bytes + c.cache.state_bytes, "B"),
            need,
            Figure(accelerator.capacity, "B"),
            Figure(least),
        )
        rows.append(Row(each.model.name, cells))
    columns = ("model", "weights", "cache", "together", "one device holds", "devices at least")
    note = "activations and an engine's own memory come on top"
    return Grid("Does it fit?", columns, tuple(rows), (note,))


def _tiles(costs: Costs) -> Iterator[tuple[str, Figure]]:
    """Yield the key figures of a model."""
    yield "parameters", costs.figure(lambda c: c.params.total, "parameters")
    if costs.params.active != costs.params.total:
        yield "active for a token", costs.figure(lambda c: c.params.active, "parameters")
    form = costs.setting.weights_dtype or costs.model.weights_dtype
    yield f"weights, {form}", costs.figure(lambda c: c.weight_bytes, "B")
    if costs.cache.bytes:
        yield "cache for each token", costs.figure(lambda c: c.cache.bytes_per_token, "B")
        yield "KV cache", costs.figure(lambda c: c.cache.bytes, "B")
    if costs.cache.state_bytes:
        yield "recurrent state", costs.figure(lambda c: c.cache.state_bytes, "B")
    yield "prefill", costs.figure(lambda c: c.flops["prefill"], "FLOP")
    yield "decode step", costs.figure(lambda c: c.flops["decode"], "FLOP")


def _lede(setting: Setting) -> str:
    """Say what the page's figures are of: sequences, formats, what is counted."""
    size = f"{setting.batch:,} × {setting.context:,} tokens"
    source = f" behind {setting.source:,} of a source" if setting.source else ""
    weights = f"weights in {setting.weights_dtype}, " if setting.weights_dtype else ""
    counted = "matrix products" if setting.counts == "matmul" else "all operations"
    pairs = "causal" if setting.causal else "all pairs of queries and keys"
    return f"{size}{source}, {weights}cache in {setting.cache_dtype}, {counted}, {pairs}."


def _option(key: str) -> str:
    return f"--{key.replace('_', '-')}"


def _flag(name: str, value: Any) -> list[str]:
    """Return the words of an option: --full in place of --causal False."""
    return ["--causal" if value else "--full"] if name == "--causal" else [name, str(value)]


def _markup(text: str) -> Markup:
    from markupsafe import Markup

    return Markup(text)

"""Every chart: the values it plots, against the figures they stand for; and that it can be drawn for odd inputs."""

from __future__ import annotations

import io
import json
import math
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.text
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

import calc
from calc.catalog import names
from calc.charts import KINDS
from calc.charts import balance as balance_chart
from calc.charts import day as day_chart
from calc.charts import price as price_chart
from calc.charts import tradeoff as tradeoff_chart
from calc.charts.chart import chart
from calc.charts.data import ChartData, Series
from calc.charts.masks import SHOWN, picture
from calc.charts.picture import Picture
from calc.charts.style import LIGHT, applied
from calc.costs import Costs, Setting
from calc.masks import KINDS as MASKS
from calc.masks import make
from calc.memory import training_memory
from calc.model import Model, Pass
from calc.parallel import Layout
from calc.report.layout import cells
from calc.routing import touched
from calc.schema import DOCUMENTS
from calc.sparse_masks import TopKBlocks

LONG = "An extraordinarily long name of a model that somebody gave to a checkpoint 1.5 (2026-01-01, preview)"
MIXED = (
    "gpt2", "llama-3-8b", "deepseek-v3", "kimi-k2", "mixtral-8x7b", "gemma-3-27b", "gemini-2.5-pro",
    "qwen3-next-80b-a3b", "t5-small", "mamba-2.8b",
)  # fmt: skip
SPARSE = ("mixtral-8x7b", "deepseek-v3", "kimi-k2", "gpt-oss-120b", "gpt-oss-20b", "qwen3-30b-a3b", "llama-4-scout",
          "dbrx", "olmoe-1b-7b", "glm-4.5")  # fmt: skip
LATENT = ("deepseek-v2", "deepseek-v2-lite", "deepseek-v3", "kimi-k2")
MASKED = ("gemma-3-27b", "gpt2", "llama-4-scout", "deepseek-v3.2", "mistral-7b-v0.1", "gpt-oss-20b")
OF: dict[str, tuple[str, ...]] = {
    "experts": SPARSE,
    "balance": ("mixtral-8x7b",),
    "roofline": ("deepseek-v3",),
    "operations": ("t5-small",),
    "memory": ("mixtral-8x7b",),
    "training": ("gpt2-xl",),
    "tradeoff": ("qwen3-30b-a3b",),
    "price": ("gpt-oss-20b",),
    "day": ("llama-3-8b",),
    "tokens": ("llava-1.5-7b", "gemma-3-4b", "qwen2.5-vl-7b", "llama-4-scout", "paligemma-3b-pt-224"),
    "latent": LATENT,
    "masks": MASKED,
    "complexity": tuple(name for name in MIXED if name not in ("mamba-2.8b",)),
    "intensity": tuple(name for name in MIXED if name not in ("t5-small",)),
}


def check(name: str, quantity: str, expected: int, counted: int) -> dict[str, Any]:
    """Return a comparison as ``calc validate --format json`` prints it."""
    place = {"target": name, "path": "layer", "operation": "q_proj", "formula": "btd,dh->bth", "context": 7}
    return {**place, "quantity": quantity, "expected": expected, "counted": counted}


PROOF: dict[str, Any] = {
    "schema_version": 1,
    "kind": "validate",
    "device": "cpu",
    "versions": {"torch": "2.0"},
    "holds": False,
    "measured": [],
    "figures": 5,
    "differ": 1,
    "targets": [
        {
            "name": name,
            "holds": True,
            "checks": [
                check(name, "forward", 3, 3),
                check(name, "decode", 4, 5 if name == "b" else 4),
                check(name, "something new", 1, 1),
            ][: 3 - (name == "a")],
        }
        for name in ("a", "b")
    ],
}


def plotted(name: str, *models: Any, **options: Any) -> ChartData:
    return calc.plot(name, models, **options).data


def series_of(data: ChartData, name: str) -> Series:
    return next(series for panel in data.panels for series in panel.series if series.name == name)


# ---- what is plotted


def test_cache_is_what_the_model_keeps() -> None:
    data = plotted("cache", "deepseek-v3", "mamba-2.8b", batch=4, cache_dtype="fp8")
    model, mamba = calc.load("deepseek-v3"), calc.load("mamba-2.8b")
    line = series_of(data, model.title)
    for context, held in zip(line.x, line.y, strict=True):
        assert held == model.cache(int(context), batch=4, form="fp8").bytes
    assert set(series_of(data, mamba.title).y) == {mamba.cache(1, batch=4, form="fp8").state_bytes}
    assert line.stated == model.max_context
    assert "163,840" in data.finding


@pytest.mark.parametrize(
    ("models", "options", "finding", "dots"),
    [
        (["llama-3-8b"], {"context": 1}, "keeps 128 KiB for 1 token", False),
        (["llama-3-8b"], {}, "keeps 1 GiB for 8,192 tokens: 128 KiB for each", False),
        (["mamba-2.8b"], {}, "Mamba-2.8B keeps 22.5 MiB, however long the context is", False),
        (["gpt2", "llama-3-8b"], {}, "for 8,192 tokens", True),
    ],
    ids=str,
)
def test_what_a_cache_chart_says(models: list[str], options: dict[str, Any], finding: str, dots: bool) -> None:
    data = plotted("cache", *models, **options)
    assert data.finding.endswith(finding) or finding in data.finding
    assert ("Dotted" in data.conventions) == dots
    assert "Dotted" not in plotted("prefill", "llama-3-8b", context=4096).conventions


def test_an_estimated_model_is_a_band() -> None:
    data = plotted("cache", "gemini-2.5-pro")
    series = data.panel.series[0]
    assert series.provenance == "estimate"
    assert series.low is not None
    assert series.high is not None
    assert all(low <= middle <= high for low, middle, high in zip(series.low, series.y, series.high, strict=True))
    assert series.low[-1] < series.high[-1]


def test_memories_are_levels_and_can_be_chosen() -> None:
    data = plotted("cache", "gpt-3", accelerators="h200")
    limits = [series for series in data.panel.series if series.look == "limit"]
    assert [series.y for series in limits] == [(float(calc.load_accelerator("h200").memory_bytes),)]


def test_shares_of_parameters_add_up() -> None:
    data = plotted("parameters", *MIXED)
    for row, name in enumerate(MIXED):
        assert sum(series.x[row] for series in data.panel.series) == pytest.approx(1, abs=2e-4), name
    experts = series_of(data, "routed experts")
    moe = calc.load("deepseek-v3").params()
    dense = sum(
        block.repeat * operation.parameters(block.letters)
        for block in calc.load("deepseek-v3").blocks()
        if block.name == "ffn"
        for operation in block.operations
        if operation.active_parameters(block.letters) < operation.parameters(block.letters)
    )
    assert experts.x[MIXED.index("deepseek-v3")] == dense / moe.total
    assert experts.x[MIXED.index("gpt2")] == 0


def test_active_parameters() -> None:
    data = plotted("active", "gpt-3", "deepseek-v3", "gemini-2.5-pro")
    sparse = series_of(data, "some experts used by each token")
    params = calc.load("deepseek-v3").params()
    assert (sparse.x[0], sparse.y[0]) == (params.total, params.active)
    assert sparse.low is not None
    assert sparse.low[1] < sparse.y[1]
    assert series_of(data, "all used by every token").texts == (calc.load("gpt-3").title,)


def test_crossings_of_prefill_are_exact_to_the_token() -> None:
    a, b = calc.load("qwen3-30b-a3b"), calc.load("qwen3-next-80b-a3b")
    data = plotted("prefill", a, b)
    (mark,) = data.panel.marks
    at = int(mark.x)
    dearer = [a.flops(Pass.prefill(n)) > b.flops(Pass.prefill(n)) for n in (at - 1, at)]
    assert dearer == [False, True]
    assert mark.y * at == pytest.approx(a.flops(Pass.prefill(at)))
    assert f"{at:,}" in data.finding
    assert calc.crossover(a.name, b.name, "flops.prefill").result().data["crossings"] == [at]


def test_intensity_is_flops_over_weights_and_cache() -> None:
    data = plotted("intensity", "llama-3-8b", context=4096)
    line = data.panel.series[0]
    costs = Costs.of(calc.load("llama-3-8b"), Setting(batch=16, context=4096))
    moved = costs.traffic["decode"]
    assert line.y[line.x.index(16)] == costs.flops["decode"] / (moved["weight"] + moved["cache"])
    ridge = data.panel.series[1]
    assert ridge.y[0] == calc.load_accelerator("h100-sxm").ridge("bf16")


@pytest.mark.parametrize("mask", SHOWN, ids=lambda mask: mask.kind)
@pytest.mark.parametrize("n", [1, 7, 48])
def test_pictures_of_masks_have_as_many_pairs_as_their_formulas_say(mask: Any, n: int) -> None:
    assert sum(map(sum, picture(mask, n))) == mask.pairs(n, n, mask.bind())


def test_every_mask_is_shown() -> None:
    assert {mask.kind for mask in SHOWN} == set(MASKS)


def test_masks_of_a_model_carry_its_own_counts() -> None:
    data = plotted("masks", "gemma-3-27b", context=4096)
    window = make({"kind": "window", "window": 1024})
    assert any(f"{window.pairs(4096, 4096, window.bind()):,} pairs" in panel.note for panel in data.panels)
    blocks = picture(TopKBlocks(block_size=2, n_selected=2), 6)
    assert all(row[index] for index, row in enumerate(blocks))


def test_complexity_is_the_flops_between_positions() -> None:
    data = plotted("complexity")
    causal = series_of(data, "causal")
    heads, width = 32, 128
    for context, each in zip(causal.x, causal.y, strict=True):
        assert each == pytest.approx(2 * 2 * heads * width * (context + 1) / 2)
    notes = {series.name: series.note for series in data.panel.series}
    assert [notes[name] for name in ("causal", "window of 4,096", "linear")] == ["O(n²)", "O(n)", "O(n)"]
    strided = next(series for series in data.panel.series if series.name.startswith("strided"))
    growth = strided.y[-1] / strided.y[-3]
    assert growth == pytest.approx((strided.x[-1] / strided.x[-3]) ** 0.5, rel=0.02)


def test_latent_forms() -> None:
    data = plotted("latent", "deepseek-v3", context=4096)
    model = calc.load("deepseek-v3")
    prefill, decode = data.panels
    for form, series in zip(("naive", "absorbed"), decode.series, strict=True):
        assert series.y[-1] == model.in_form(form).flops(Pass.decode(4096))
    for form, series in zip(("naive", "absorbed"), prefill.series, strict=True):
        assert series.y[-1] == model.in_form(form).flops(Pass.prefill(4096)) / 4096


def test_experts_touched() -> None:
    data = plotted("experts", "mixtral-8x7b", "gpt-oss-120b", "deepseek-v3")
    names = [series.name for series in data.panel.series]
    assert names == ["Mixtral-8x7B-v0.1 2/8", "gpt-oss-120b 4/128 and DeepSeek-V3 8/256"]
    line = data.panel.series[1]
    assert line.y[line.x.index(16)] == pytest.approx(touched(256, 8, 16) / 256)
    assert line.y[0] == pytest.approx(8 / 256)


def test_balance_converges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(balance_chart, "TOKENS", 256)
    data = plotted("balance", "mixtral-8x7b")
    still, fast = data.panel.series[0], data.panel.series[-1]
    assert still.y[0] == fast.y[0]
    assert fast.y[-1] < still.y[-1]


def test_proof_shows_what_differs() -> None:
    data = calc.plot("proof", results=[PROOF, {**PROOF, "device": "a GPU"}]).data
    assert len(data.panels) == 2
    cells = data.panel.cells
    assert cells is not None
    assert data.panel.x.names == ("FLOPs forward", "FLOPs decode", "something new")
    assert cells.values == ((1.0, 1.0, None), (1.0, 0.0, 1.0))
    assert "2 differ" in data.finding


def test_roofline_is_the_kernels_under_peak_and_bandwidth() -> None:
    data = plotted("roofline", "llama-3-8b", batch=8, context=2048, accelerators=["h200"])
    device = calc.load_accelerator("h200")
    roof, _, decode = data.panel.series
    assert roof.y[1:] == (device.flops["bf16"], device.flops["bf16"])
    assert roof.x[1] == device.ridge("bf16")
    answer = calc.kernel_table("llama-3-8b", "h200", phase="decode", batch=8, context=2048).data
    names = {kernel["kernel"] for kernel in answer["kernels"] if kernel["flops"]}
    assert len(decode.x) == len(names)
    for x, y, low, high in zip(decode.x, decode.y, decode.low or (), decode.high or (), strict=True):
        assert y <= min(device.flops["bf16"], x * device.memory_bytes_per_s) * 1.001
        assert low < y < high
    head = next(kernel for kernel in answer["kernels"] if kernel["kernel"] == "lm_head")
    assert any(y == pytest.approx(head["flops"] / head["seconds"]) for y in decode.y)
    assert "bound by memory" in data.finding


@pytest.mark.parametrize("accelerators", [(), ("h100-sxm",)])
def test_shares_of_operations_add_up(accelerators: tuple[str, ...]) -> None:
    data = plotted("operations", "deepseek-v3", context=4096, accelerators=accelerators)
    for panel in data.panels:
        (series,) = panel.series
        assert sum(series.x) == pytest.approx(1)
        assert list(series.x[:-1]) == sorted(series.x[:-1], reverse=True)
        assert series.provenance == ("modelled" if accelerators else "exact")
    if not accelerators:
        answer = calc.operation_table("deepseek-v3", phase="decode", context=4096).data
        scores = sum(entry["flops"] for entry in answer["operations"] if entry["operation"] == "scores")
        decode = data.panels[1]
        assert decode.series[0].x[decode.y.names.index("scores")] == scores / answer["total"]["flops"]


def test_training_memory_is_that_of_every_stage() -> None:
    data = plotted("memory", "llama-3-8b", gpus=16, context=4096)
    names = data.panel.y.names
    row = names.index("ZeRO 1, layers again")
    found = training_memory(calc.load("llama-3-8b"), Layout(dp=16, zero=1), context=4096, recompute="full")
    for series in data.panel.series[:5]:
        assert series.x[row] == float(getattr(found, series.name))
    (limit,) = [series for series in data.panel.series if series.look == "limit"]
    assert limit.x[0] == calc.load_accelerator("h100-sxm").capacity
    totals = [sum(series.x[index] for series in data.panel.series[:5]) for index in range(len(names))]
    assert f"{sum(total <= limit.x[0] for total in totals)} of {len(names)} ways fit" in data.finding


def test_training_time_is_that_of_the_layouts_that_fit_fastest_first() -> None:
    data = plotted("training", "llama-3-8b", gpus=8, context=4096, batch=64)
    totals = [sum(series.x[row] for series in data.panel.series) for row in range(len(data.panel.y.names))]
    assert totals == sorted(totals)
    degrees = re.match(r"tp(\d+)·pp(\d+)·dp(\d+)(?:, (\w+) recompute)?$", data.panel.y.names[0])
    assert degrees
    how: Any = {"tp": int(degrees[1]), "pp": int(degrees[2]), "recompute": degrees[4] or "none"}
    found = calc.train("llama-3-8b", "h100-sxm", 8, zero=1, context=4096, global_batch=64, **how)
    assert totals[0] == pytest.approx(float(found.time.iteration))
    assert data.panel.y.names[0] in data.finding


def test_the_tradeoff_is_what_deployments_give() -> None:
    data = plotted("tradeoff", "llama-3-8b", gpus=2, accelerators=["h100-sxm"])
    line = series_of(data, "tp 2")
    found = calc.serve("llama-3-8b", "h100-sxm", gpus=2, tp=2, input_tokens=2048, output_tokens=256, concurrency=16)
    assert (1 / found.tpot_s, found.output_tokens_per_s_per_gpu) in zip(line.x, line.y, strict=True)
    assert list(line.x) == sorted(line.x)
    several = plotted("tradeoff", "llama-3-8b", gpus=2, accelerators=["h100-sxm", "h200"])
    for series in several.panel.series:
        assert list(series.y) == sorted(series.y, reverse=True)


def test_prices_are_those_of_the_cheapest_deployments() -> None:
    data = plotted("price", "llama-3-8b", accelerators=["h100-sxm", "l4"])
    (bars,) = data.panel.series
    assert list(bars.x) == sorted(bars.x)
    served = [
        calc.serve("llama-3-8b", "h100-sxm", gpus=1, input_tokens=2048, output_tokens=256, concurrency=users)
        for users in (1, 16)
    ]
    prices = [found.usd_per_hour / 3600 / found.output_tokens_per_s * 1e6 for found in served]
    assert min(prices) in [pytest.approx(price) for price in bars.x]
    assert bars.low is not None
    assert bars.low[0] < bars.x[0]


def test_a_day_takes_whole_copies_for_its_traffic() -> None:
    data = plotted("day", "llama-3-8b", gpus=1, accelerators=["h100-sxm"])
    (line,) = data.panel.series
    best = max(
        (
            calc.serve("llama-3-8b", "h100-sxm", gpus=1, input_tokens=2048, output_tokens=256, concurrency=users)
            for users in (1, 16)
        ),
        key=lambda found: found.requests_per_s or 0,
    )
    copies = [math.ceil(day_chart.traffic(hour) / (best.requests_per_s or 1)) for hour in line.x]
    assert list(line.y) == copies
    assert max(line.y) == line.y[line.x.index(15.0)]
    share = sum(line.y[:-1]) / (len(line.y) - 1) / max(line.y)
    assert f"{share:.0%} of what its peak" in data.finding


def test_the_scaling_frontier_is_each_laws_optimum() -> None:
    size, ratio = plotted("scaling").panels
    best = calc.scale(compute=size.series[0].x[8]).data["laws"]
    assert len(size.series) == len(ratio.series) == len(best)
    for series, law in zip(size.series, best, strict=True):
        assert series.y[8] == pytest.approx(law["optimum"]["size"])


def test_tokens_of_an_image() -> None:
    data = plotted("tokens", "llava-1.5-7b", "qwen2.5-vl-7b")
    fixed, growing = data.panel.series
    assert data.panels[1].y.names == ("video, LLaVA-1.5 7B", "video, Qwen2.5-VL 7B")
    sound = plotted("tokens", "voxtral-mini-3b").panel
    assert sound.series[0].x == (750.0,)  # 12.5 a second, as Voxtral's report says
    assert set(fixed.y) == {576}
    assert growing.y[growing.x.index(448)] == 256 + 2  # a token for every 28 × 28 pixels, and one at either end


ACCURACY: dict[str, Any] = {
    "schema_version": 1,
    "kind": "accuracy",
    "rows": [
        {"quantity": "serving.tpot", "source": "a/b file.md @1", "error": error} for error in (-0.9, -0.1, 0, 0.1, 9)
    ]
    + [{"quantity": "something.new", "source": "Someone et al. 2020 (p. 3)", "error": 0.5}],
    "not_modelled": [{}],
}


@pytest.mark.parametrize("night", [1.0, 0.25])
def test_a_plan_is_drawn_from_the_answer(night: float) -> None:
    found = calc.plan(
        "llama-3.1-8b", rate=100, input_tokens=1000, output_tokens=200, ttft=1, tpot=0.03,
        accelerators=["h100-sxm"], max_gpus=16, disaggregated=False, profile=[night] * 8 + [1] * 16,
    )  # fmt: skip
    picture = found.to_result().plot()
    assert_sound(picture.data)
    assert_legible(picture)
    front = picture.data.panel.series[0]
    assert front.x == tuple(point.per_user for point in found.front)
    assert front.y == tuple(point.per_gpu for point in found.front)
    assert len(picture.data.panels) == (2 if night < 1 else 1)
    for panel in picture.data.panels[1:]:
        assert panel.series[0].y[::2] == tuple(map(float, found.hours))
    assert f"{found.best.gpus} × h100-sxm" in picture.data.finding


def test_accuracy_is_drawn_from_the_answer() -> None:
    found = calc.plot("accuracy", results=[ACCURACY])
    assert_sound(found.data)
    assert_legible(found)
    panel = found.data.panel
    assert panel.y.names == ("time per token, a/b (5)", "something.new, others (1)")
    assert panel.series[0].x == pytest.approx((0.25, 0.9, 1.0, 1.1, 4.0))
    assert "50% of 6 published measurements" in found.data.finding
    assert found.to_bytes("png", (5, 4), dpi=50).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "result",
    [
        lambda: calc.show("deepseek-v3"),
        lambda: calc.compare(["gpt2", "gemini-2.5-pro", "mamba-2.8b"]),
        lambda: calc.operation_table("gpt2", phase="decode"),
        lambda: calc.kernel_table("gpt2", "h100-sxm", phase="train"),
    ],
)
def test_answers_have_a_chart(result: Any) -> None:
    answer = result()
    found = answer.plot()
    assert_sound(found.data)
    assert_legible(found)
    assert found._repr_svg_().startswith("<?xml")


def test_the_chart_of_a_comparison_is_that_of_its_figures() -> None:
    answer = calc.compare(["gpt2", "gemini-2.5-pro"])
    data = answer.plot().data
    assert data.panel.series[0].texts == plotted("parameters", "gpt2", "gemini-2.5-pro").panel.series[0].texts
    with pytest.raises(calc.CalcError, match="no chart of 'list'"):
        calc.listing("gpt2").plot()


# ---- that it can be drawn


def long_named(name: str) -> Model:
    return replace(calc.load(name), title=f"{LONG} {name}")


def inputs(name: str) -> dict[str, tuple[Any, ...]]:
    """Return odd inputs of a chart: none named, one, as many as it takes, long names."""
    kind = chart(name)
    if kind.of_answers:
        return {}
    found: dict[str, tuple[Any, ...]] = {"gallery": ()}
    if kind.most:
        of = OF.get(name, MIXED)[: kind.most]
        found |= {"one": of[:1], "many": of, "long": tuple(long_named(each) for each in of[: max(kind.least, 3)])}
    return found


CASES = [(name, case) for name in KINDS for case in inputs(name)]


def answered(name: str, case: str) -> Picture:
    return calc.plot(name, inputs(name)[case])


@pytest.fixture(autouse=True)
def _smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate and search less than a picture for people does."""
    monkeypatch.setattr(balance_chart, "TOKENS", 128)
    monkeypatch.setattr(price_chart, "USERS", (1, 16))
    monkeypatch.setattr(price_chart, "SIZES", (1,))
    monkeypatch.setattr(tradeoff_chart, "USERS", (2, 16, 128))


@pytest.mark.parametrize(("name", "case"), CASES)
def test_every_chart_is_drawn_for_odd_inputs(name: str, case: str) -> None:
    found = answered(name, case)
    assert_sound(found.data)
    assert_legible(found)
    png = found.to_bytes("png", (5, 3.6), dark=case in ("one", "long"), dpi=50)
    with Image.open(io.BytesIO(png)) as image:
        assert image.size == (250, 180)
        assert np.unique(np.asarray(image.convert("L"))).size > 8


def test_the_proof_is_drawn() -> None:
    found = calc.plot("proof", results=[PROOF])
    assert_sound(found.data)
    assert_legible(found)


def assert_sound(data: ChartData) -> None:
    """Require a finding and finite values, and JSON that keeps its contract."""
    assert len(data.finding) > 10
    json.dumps(data.to_dict(), allow_nan=False)
    DOCUMENTS["plot"].model_validate_json(data.result().to_json())
    for panel in data.panels:
        assert panel.series or panel.cells
        for series in panel.series:
            assert len(series.x) == len(series.y)
            assert all(map(math.isfinite, (*series.x, *series.y, *(series.low or ()), *(series.high or ()))))
    text = data.panels and Picture(chart(data.chart), data).text(80)
    assert all(cells(line) <= 80 for line in str(text).splitlines())
    assert str(text).replace("\n", "").isprintable()


def assert_legible(found: Picture) -> None:
    """Require that every text lies on the page and upon no other text."""
    with applied(LIGHT):
        boxes = text_boxes(found.figure())
    for index, (said, box) in enumerate(boxes):
        for other, there in boxes[:index]:
            wide = min(box.x1, there.x1) - max(box.x0, there.x0)
            high = min(box.y1, there.y1) - max(box.y0, there.y0)
            assert wide < 2 or high < 4, f"{said!r} lies upon {other!r}"


def text_boxes(figure: Figure) -> list[tuple[str, Any]]:
    """Return every text of a figure with its rectangle, all of which must lie on the page."""
    figure.canvas.draw()
    page, boxes = figure.bbox, []
    for text in figure.findobj(matplotlib.text.Text):
        if not (text.get_visible() and text.get_text().strip()):  # type: ignore[attr-defined]
            continue
        box = text.get_window_extent()
        if box.width < 1 or box.height < 1:
            continue
        said = text.get_text()  # type: ignore[attr-defined]
        assert box.x0 >= page.x0 - 1, said
        assert box.x1 <= page.x1 + 1, said
        assert box.y0 >= page.y0 - 1, said
        assert box.y1 <= page.y1 + 1, said
        boxes.append((said, box))
    return boxes


@pytest.mark.parametrize("name", ["cache", "parameters", "active", "masks"])
def test_svg_is_the_same_every_time_and_its_text_is_text(name: str) -> None:
    first, second = (calc.plot(name).svg() for _ in range(2))
    assert first == second
    root = ET.fromstring(first)
    texts = " ".join(filter(None, (element.text for element in root.iter("{http://www.w3.org/2000/svg}text"))))
    assert all(word in texts for word in calc.plot(name).data.finding.split())
    assert "<dc:date>" not in first


def test_importing_charts_and_counting_imports_no_matplotlib() -> None:
    import subprocess
    import sys

    code = (
        "import sys, calc; calc.plot('cache', ['gpt2']).text(); calc.list_charts(); print('matplotlib' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# ---- what is refused


@pytest.mark.parametrize(
    ("name", "models", "options", "words"),
    [
        ("cahce", [], {}, "did you mean cache"),
        ("cache", ["gpt3"], {}, "no preset named 'gpt3'"),
        ("cache", names()[:25], {}, "takes 1 to 24 models, not 25"),
        ("latent", ["gpt2"], {}, "no latent attention"),
        ("experts", ["gpt2"], {}, "has no experts"),
        ("balance", ["gpt2"], {}, "has no experts"),
        ("balance", ["deepseek-v3", "kimi-k2"], {}, "takes 1 models, not 2"),
        ("masks", ["mamba-2.8b"], {}, "no attention over positions"),
        ("complexity", ["rwkv-4-169m"], {}, "without matrix products"),
        ("intensity", ["bert-base-uncased"], {}, "does not decode"),
        ("cache", ["bert-base-uncased"], {}, "keeps nothing between steps"),
        ("parameters", [], {"context": 5}, "context changes nothing in the chart parameters"),
        ("experts", [], {"batch": 5}, "batch changes nothing"),
        ("cache", [], {"context": 0}, "context = 0"),
        ("cache", [], {"batch": -1}, "batch = -1"),
        ("cache", [], {"cache_dtype": "bf61"}, "bf61"),
        ("cache", [], {"accelerators": ["h1000"]}, "h1000"),
        ("proof", [], {}, "calc validate --format json"),
        ("proof", [], {"results": [{"kind": "show"}]}, "calc validate --format json"),
        ("accuracy", [], {}, "calc accuracy --format json"),
        ("tokens", ["gpt2"], {}, "reads neither images nor sound nor video"),
        ("plan", [], {}, "calc plan --format json"),
        ("plan", [], {"results": [{"kind": "plan", "choices": []}]}, "nothing would do"),
        ("training", ["llama-3.1-405b"], {"gpus": 1}, "in no layout tried"),
        ("tradeoff", ["deepseek-v3"], {"gpus": 1}, "in no layout; give more --gpus"),
        ("price", [], {"accelerators": ["rtx-3090"]}, "no accelerator named here"),
        ("memory", [], {"gpus": 0}, "gpus = 0"),
        ("proof", ["gpt2"], {"results": [PROOF]}, "is of no model"),
    ],
)
def test_what_cannot_be_drawn_is_refused(name: str, models: list[str], options: dict[str, Any], words: str) -> None:
    with pytest.raises(calc.CalcError, match=words):
        calc.plot(name, models, **options)


def test_pictures_are_saved_whole_or_not_at_all(tmp_path: Path) -> None:
    found = calc.plot("experts", ["mixtral-8x7b"])
    for suffix, head in ((".png", b"\x89PNG"), (".svg", b"<?xml"), (".PDF", b"%PDF")):
        path = tmp_path / f"chart{suffix}"
        assert found.save(path, dark=True) == path
        assert path.read_bytes().startswith(head)
    found.save(tmp_path / "chart.png", (3, 3))
    with Image.open(tmp_path / "chart.png") as image:
        assert image.size == (450, 450)
    (tmp_path / "folder.png").mkdir()
    refused: list[tuple[Path, dict[str, Any], str]] = [
        (tmp_path / "chart.gif", {}, "does not end in"),
        (tmp_path / "chart", {}, "does not end in"),
        (tmp_path / "no" / "chart.png", {}, "no such file or directory"),
        (tmp_path / "folder.png", {}, "not a regular file"),
        (tmp_path / "chart.png", {"size": (0.5, 3)}, "inches"),
        (tmp_path / "chart.png", {"size": (300, 3)}, "inches"),
        (tmp_path / "chart.png", {"dpi": 5}, "dpi"),
    ]
    for path, how, words in refused:
        with pytest.raises(calc.CalcError, match=words):
            found.save(path, **how)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["chart.PDF", "chart.png", "chart.svg", "folder.png"]


def test_drawn_pixels_follow_the_theme() -> None:
    found = calc.plot("experts", ["mixtral-8x7b"])
    corners = []
    for dark in (False, True):
        with Image.open(io.BytesIO(found.to_bytes("png", (4, 3), dark=dark))) as image:
            corners.append(int(np.asarray(image.convert("L"))[0, 0]))
    assert corners[0] == 255
    assert corners[1] < 40

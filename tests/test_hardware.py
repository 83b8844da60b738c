"""Accelerators: every preset loads both ways, and says where each value is from."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

import calc
from calc import catalog
from calc.constants import SCALE_UP
from calc.errors import CalcError, SpecError, UnknownName
from calc.hardware import Accelerator
from calc.identify import find_accelerator
from calc.schema import DOCUMENTS
from calc.units import GIB
from tests.conftest import Run, refused

FOLDER = catalog.presets_folder() / "accelerators"
NAMES = catalog.names("accelerators")


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_is_valid_and_loads_the_same_with_and_without_validation(name: str) -> None:
    path = FOLDER / f"{name}.toml"
    found = catalog.load_accelerator(name)
    assert catalog.parse_accelerator(path.read_text("utf-8"), str(path)) == found
    assert found.name == name


@pytest.mark.parametrize("name", NAMES)
def test_every_value_has_a_source(name: str) -> None:
    found = catalog.load_accelerator(name)
    assert not [value for value in found.stated() if len(found.source_of(value)) < 10]
    assert all(len(link.source) > 10 for link in found.links)


@pytest.mark.parametrize(
    ("name", "suggested"),
    [
        ("h100", "did you mean h100-nvl, h100-sxm, h100-pcie or h100-sxm-96gb-hbm2e?"),
        ("a100", "did you mean a100-40gb, a100-80gb, a100-pcie-40gb or a100-pcie-80gb?"),
        ("NVIDIA H100 80GB HBM3", "did you mean h100-"),
        ("A100_80GB", "a100-80gb?"),
        ("b2000", "b200"),
    ],
)
def test_a_near_miss_suggests_the_name(name: str, suggested: str) -> None:
    with pytest.raises(UnknownName, match="no accelerator named") as caught:
        catalog.load_accelerator(name)
    assert suggested in str(caught.value)


def test_an_accelerator_is_found_by_name_file_and_itself(tmp_path: Path) -> None:
    named = catalog.load_accelerator("h100-sxm")
    copy = tmp_path / "copy.toml"
    copy.write_text((FOLDER / "h100-sxm.toml").read_text("utf-8"), "utf-8")
    assert catalog.load_accelerator(copy) == named
    assert catalog.load_accelerator(str(copy)) == named
    assert catalog.load_accelerator(named) is named
    assert hash(named) == hash(catalog.load_accelerator(copy))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("memory_bytes_per_s = 3.35e12", "memory_bytes_per_s = 0.0", "memory_bytes_per_s = 0.0"),
        ("memory_bytes_per_s = 3.35e12", 'memory_bytes_per_s = "3.35e12"', "memory_bytes_per_s"),
        ("memory_bytes_per_s = 3.35e12", "", "memory_bytes_per_s is missing"),
        ("bf16 = 989.4e12", "bf17 = 989.4e12", "bf17"),
        ("tdp_watts = 700.0", "tdp_watts = inf", "tdp_watts"),
        ("tdp_watts = 700.0", "watts = 700.0", "watts is not a known field"),
        ('kind = "nvlink"', 'kind = "rope"', "links.0.kind"),
        ("typical = true", "size = 4", "links stand innermost first"),
        ("visible_bytes = ", "visible_bytes = 9", "visible_bytes"),
        ('"memory_bytes_per_s", "tdp_watts"', '"bandwidth", "tdp_watts"', "'bandwidth' is not a value"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(old: str, new: str, words: str) -> None:
    text = (FOLDER / "h100-sxm.toml").read_text("utf-8")
    assert old in text
    with pytest.raises(SpecError) as caught:
        catalog.parse_accelerator(text.replace(old, new), "mine.toml")
    assert words in str(caught.value)
    assert "mine.toml" in str(caught.value)


def test_peaks_by_format() -> None:
    h100 = catalog.load_accelerator("h100-sxm")
    assert h100.peak("bfloat16") == h100.peak("bf16") == pytest.approx(989.4e12)
    assert h100.peak("fp8-block128") == h100.peak("mxfp8") == h100.flops["fp8"]
    with pytest.raises(CalcError, match="h100-sxm does not multiply nvfp4; it does tf32, bf16"):
        h100.peak("nvfp4")
    assert catalog.load_accelerator("b200").peak("nvfp4") == catalog.load_accelerator("b200").flops["fp4"]


def test_a_group_is_bound_by_the_innermost_link_that_joins_it() -> None:
    h100 = catalog.load_accelerator("h100-sxm")
    assert [h100.link(span).kind for span in (1, 8, 9, 4096)] == ["nvlink", "nvlink", "infiniband", "infiniband"]


ALL = list(catalog.all_accelerators())
RATES = {
    # dense 16-bit FLOP of one multiprocessor in one clock (compute units at AMD, cores at Apple)
    "p100-sxm": 256, "v100-16gb": 1024, "v100-32gb": 1024, "t4": 1024,
    "a100-40gb": 2048, "a100-80gb": 2048, "a100-pcie-40gb": 2048, "a100-pcie-80gb": 2048,
    "a40": 1024, "a10": 1024, "a10g": 512, "a5000": 1024, "a6000": 1024,
    "rtx-3070": 512, "rtx-3080": 512, "rtx-3080-ti": 512, "rtx-3090": 512,
    "l4": 1024, "l40": 512, "l40s": 1024, "rtx-4000-ada": 1024, "rtx-5000-ada": 1024, "rtx-6000-ada": 1024,
    "rtx-4070": 512, "rtx-4080": 512, "rtx-4090": 512, "rtx-5090": 512, "rtx-pro-6000": 1024,
    "h100-sxm": 4096, "h100-pcie": 4096, "h100-nvl": 4096, "h100-sxm-96gb-hbm2e": 4096, "h800": 4096, "gh200": 4096,
    "h200": 4096, "h200-nvl": 4096, "h20": 1024,
    "b200": 8192, "gb200": 8192, "b300": 8192, "gb300": 8192,
    "mi250x": 1024, "mi300x": 2048, "mi325x": 2048, "mi355x": 4096,
    "m1": 256, "m1-max": 256, "m1-ultra": 256, "m2-max": 256, "m2-ultra": 256, "m3-max": 256, "m3-ultra": 256,
    "m4-pro": 256, "m4-max": 256, "m1-pro": 256, "m2": 256, "m2-pro": 256, "m3": 256, "m3-pro": 256, "m3-max-30": 256,
    "m4-max-32": 256, "rtx-4070-ti": 512, "rtx-2080-ti": 512, "a30": 2048, "a800": 2048, "gh200-144gb": 4096,
}  # fmt: skip
"""Architecture whitepapers: what a multiprocessor's matrix units do in one clock, without sparsity."""


@pytest.mark.parametrize(
    "one", [one for one in ALL if one.vendor in ("NVIDIA", "AMD", "Apple")], ids=lambda one: one.name
)
def test_a_peak_is_what_its_matrix_units_do_densely(one: Accelerator) -> None:
    """Cores times clock times the dense rate: a figure with sparsity would be twice this."""
    assert one.n_cores
    assert one.clock_hz
    assert one.flops[one.half()] == pytest.approx(one.n_cores * one.clock_hz * RATES[one.name], rel=0.015)


@pytest.mark.parametrize("one", [one for one in ALL if "fp8" in one.flops], ids=lambda one: one.name)
def test_fp8_is_twice_the_16_bit_rate_where_the_units_are_twice_as_wide(one: Accelerator) -> None:
    times = {"tpu-v5p": 1, "tpu-v6e": 1, "trainium2": 1.95}.get(one.name, 2)
    assert one.flops["fp8"] == pytest.approx(times * one.flops["bf16"], rel=0.015)


@pytest.mark.parametrize("one", ALL, ids=lambda one: one.name)
def test_narrower_formats_are_never_slower(one: Accelerator) -> None:
    order = [one.flops[form] for form in ("fp32", "tf32", "bf16", "fp8", "fp4") if form in one.flops]
    assert order == sorted(order)
    if "bf16" in one.flops and "fp16" in one.flops:
        assert one.flops["bf16"] == one.flops["fp16"]
    if "fp4" in one.flops:
        times = {"b300": 3, "gb300": 3, "rtx-5090": 4}.get(one.name, 2)  # Blackwell Ultra; GeForce halves fp8 alone
        assert one.flops["fp4"] == pytest.approx(times * one.flops["fp8"], rel=0.01)


@pytest.mark.parametrize("one", ALL, ids=lambda one: one.name)
def test_links_widen_outwards_and_slow_down(one: Accelerator) -> None:
    sizes = [link.size or 10**9 for link in one.links]
    assert sizes == sorted(sizes)
    speeds = [link.bytes_per_s for link in one.links if link.kind != "pcie"]
    assert speeds == sorted(speeds, reverse=True)
    assert all(link.typical == (link.kind not in SCALE_UP) for link in one.links)
    assert all(link.bytes_per_s < one.memory_bytes_per_s for link in one.links)


def test_figures_that_everybody_knows() -> None:
    """Transcribed from the data sheets, dense, one direction."""
    facts = {
        "h100-sxm": (80, 3.35e12, 989.4e12, 450e9, 700),
        "a100-80gb": (80, 2.039e12, 312e12, 300e9, 400),
        "h200": (141, 4.8e12, 989.4e12, 450e9, 700),
        "b200": (180, 8e12, 2.25e15, 900e9, 1000),
        "h800": (80, 3.35e12, 989.4e12, 200e9, 700),
        "mi300x": (192, 5.3e12, 1307.4e12, 448e9, 750),
    }
    for name, (gib, bandwidth, peak, link, watts) in facts.items():
        one = catalog.load_accelerator(name)
        assert one.memory_bytes == gib * GIB
        assert (one.memory_bytes_per_s, one.flops["bf16"], one.link(2).bytes_per_s) == (bandwidth, peak, link)
        assert one.tdp_watts == watts


def test_every_accelerator_that_people_name_is_there() -> None:
    asked = "v100-32gb a100-40gb a100-80gb h100-sxm h100-pcie h100-nvl h800 h20 h200 b200 b300 gb200 gb300 l4 l40s a10g"
    asked += (
        " rtx-3090 rtx-4090 rtx-5090 rtx-pro-6000 mi250x mi300x mi325x mi355x tpu-v3 tpu-v4 tpu-v5e tpu-v5p tpu-v6e"
    )
    asked += " tpu-v7 trainium2 m1-max m2-ultra m3-max m4-max"
    assert not set(asked.split()) - set(NAMES)


@pytest.mark.parametrize("one", ALL, ids=lambda one: one.name)
def test_a_price_has_a_date_and_somebody_who_asks_it(one: Accelerator) -> None:
    if one.price:
        assert 0.1 < one.price.usd_per_hour < 20
        assert re.fullmatch(r"20\d\d-\d\d(-\d\d)?", one.price.date)
        assert len(one.price.source) > 20


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("8x B200-SXM (1 node)", "b200"),
        ("NVIDIA H100 80GB HBM3", "h100-sxm"),
        ("H100-80GB", "h100-sxm"),
        ("h100_80gb", "h100-sxm"),
        ("DGX-H100", "h100-sxm"),
        ("H100 80GB BF16 (Large Scale, >= 128 GPUs)", "h100-sxm"),
        ("H100 PCIe 80GB", "h100-pcie"),
        ("A100-SXM4-40GB", "a100-40gb"),
        ("A100 PCIe 80GB", "a100-pcie-80gb"),
        ("A100-40GB class (39.49 GiB visible)", "a100-40gb"),
        ("8x A100", "a100-80gb"),
        ("1 node(s) x 8 NVIDIA H200-NVL-141GB", "h200-nvl"),
        ("C885_H200x8_TRT", "h200"),
        ("GB200-NVL72_GB200-186GB_aarch64x72_TRT", "gb200"),
        ("64x4 GB300", "gb300"),
        ("GH200 (480GB CPU)", "gh200"),
        ("3090 24GB * 2", "rtx-3090"),
        ("RTX 4000 Ada 20GB", "rtx-4000-ada"),
        ("1x A6000", "a6000"),
        ("64 TPU v4 (275 TFLOP/s bf16, 1200 GB/s HBM)", "tpu-v4"),
        ("h200_sxm", "h200"),
        ("M1 Max 32-Core GPU 64GB", "m1-max"),
        ("M3 Max 30-Core GPU 36GB", "m3-max-30"),
        ("GH200 144GB", "gh200-144gb"),
        ("A800", "a800"),
    ],
)
def test_hardware_strings_of_papers_and_logs_are_understood(text: str, name: str) -> None:
    assert find_accelerator(text).name == name


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("48 GB class (not named)", "names no accelerator"),
        ("80 GB GPU, model not stated (H100 assumed by log context)", "names no accelerator"),
        ("a big one", "names no accelerator"),
        ("A100 vs H100", "a100-80gb or h100-sxm"),
        ("H100 64GB", "h100-sxm has 80 GB, not 64"),
        ("M3 Max 20-Core GPU", "m3-max has 40 GPU cores, not 20"),
    ],
)
def test_what_a_string_leaves_open_is_refused(text: str, words: str) -> None:
    with pytest.raises(SpecError, match=re.escape(words)):
        find_accelerator(text)


def test_what_a_string_says_of_power_network_and_cores_counts() -> None:
    assert find_accelerator("A100-80GB, 330W cap, hybrid cube mesh NVLink").tdp_watts == 330
    assert find_accelerator("8x H200 SXM 141GB (CTS, 1000W)").tdp_watts == 1000
    torchtitan = find_accelerator("H100 SXM 96GB HBM2e 2.4TB/s, 500W limit, 400Gb/s RDMA per GPU")
    assert (torchtitan.memory_bytes_per_s, torchtitan.tdp_watts, torchtitan.links[-1].bytes_per_s) == (
        2.4e12,
        500,
        50e9,
    )
    shared = find_accelerator("A100 80GB with 1600 Gbps node-node interconnect (RoCE)").links[-1]
    assert (shared.kind, shared.bytes_per_s) == ("roce", 25e9)
    bloom = find_accelerator("A100-80GB, 8/node, JeanZay (Omni-Path)").links[-1]
    assert (bloom.kind, bloom.bytes_per_s) == ("omnipath", 6.25e9)
    small, full = find_accelerator("M1 7-Core GPU 8GB"), catalog.load_accelerator("m1")
    assert small.flops["fp16"] == pytest.approx(7 / 8 * full.flops["fp16"])
    assert small.memory_bytes == 8 * GIB


def test_show_takes_an_accelerator_by_name_file_and_record(tmp_path: Path) -> None:
    copy = tmp_path / "mine.toml"
    copy.write_text((FOLDER / "h100-sxm.toml").read_text("utf-8"), "utf-8")
    shown = calc.show("h100-sxm")
    assert shown.kind == "accelerator"
    assert shown.data["ridge_flop_per_byte"]["bf16"] == pytest.approx(295.3, abs=0.1)
    assert calc.show(copy).to_json() == calc.show(calc.load_accelerator("h100-sxm")).to_json() == shown.to_json()
    with pytest.raises(CalcError, match="context says nothing about an accelerator"):
        calc.show("h100-sxm", context=8192)
    with pytest.raises(CalcError, match="h100-sxm"):
        calc.show("h100")


@pytest.mark.parametrize("call", [["show", "h100-sxm"], ["list", "accelerators"], ["list", "accelerators", "h100"]])
@pytest.mark.parametrize("form", ["table", "json", "csv", "md"])
def test_the_command_line_shows_accelerators(call: list[str], form: str, calc_cli: Callable[..., Run]) -> None:
    run = calc_cli(*call, "--format", form)
    assert run.code == 0
    assert all(one in run.out for one in (["nvlink", "tf32"] if call[0] == "show" else ["h100-sxm", "nvlink"]))
    if form == "json":
        DOCUMENTS["accelerator" if call[0] == "show" else "accelerators"].model_validate_json(run.out)


def test_the_list_is_searched(calc_cli: Callable[..., Run]) -> None:
    assert [one["name"] for one in calc.accelerators("mi3").data["accelerators"]] == ["mi355x", "mi325x", "mi300x"]
    assert "'nonsense' is a second" in refused(calc_cli("list", "llama", "nonsense"))

"""Calibration: a device whose constants are known is found again; PyTorch's own path runs on the CPU."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import calc
from calc.calibration import record_calibration
from calc.calibration.device import Facts, LayerSizes, TorchDevice
from calc.calibration.exchanges import KINDS, Exchange, exchanges
from calc.calibration.fitting import HELD_OUT, fit, split
from calc.calibration.links import parts
from calc.calibration.points import Point, points
from calc.calibration.report import result
from calc.calibration.run import Found, layer_kernels, run
from calc.catalog import load_accelerator
from calc.deviations import deviations
from calc.errors import CalcError, SpecError
from calc.hardware import Accelerator
from calc.model import Pass
from calc.network import CONSTANTS, collective_time
from calc.parallel import Layout
from calc.roofline import Efficiency, efficiency, kernel_time
from calc.schema import DOCUMENTS
from tests.conftest import Run

Cli = Callable[..., Run]
TRUTH = replace(
    efficiency(load_accelerator("h100-sxm")), memory=0.7, issue=0.6, flops_per_joule={}, kernel_s=6e-6, attention=0.5
)
LINKS = replace(
    CONSTANTS, launch_s=2e-5, fill_bytes=1e6, nvls_fourth=0.4, efficiency={**CONSTANTS.efficiency, "nvlink": 0.5}
)


class Pretended:
    """A device whose times are those of known constants, with some noise."""

    def __init__(
        self, known: Accelerator | None = None, noise: float = 0.02, layer_factor: float = 1.0, ranks: int = 1
    ) -> None:
        self.accelerator, self.ranks = known or load_accelerator("h100-sxm"), ranks
        self.known, self.noise, self.layer_factor = known, noise, layer_factor
        self.random = random.Random(1)

    def facts(self) -> Facts:
        kind = "cuda" if self.known else "cpu"
        return Facts(
            name="pretended", kind=kind, backend="nccl", ranks=self.ranks, memory_bytes=2**36, n_cores=132,
            cache_bytes=2**25, forms=("bf16",), known=self.known,
        )  # fmt: skip

    def seconds(self, point: Point) -> float:
        timed = kernel_time(point.kernel(), self.accelerator, TRUTH, launch="graph" if self.known else "none")
        return float(timed.seconds) * self.random.uniform(1 - self.noise, 1 + self.noise)

    def unrest(self) -> float:
        return self.noise

    def host_seconds(self) -> float:
        return 5e-6

    def exchanged(self, wanted: Sequence[Exchange]) -> Generator[float, None, None]:
        for one in wanted:
            seconds = float(collective_time(one.call(), self.accelerator, constants=LINKS))
            yield seconds * self.random.uniform(1 - self.noise, 1 + self.noise)

    def layer_seconds(self, sizes: LayerSizes, batch: int, tokens: int, context: int, form: str) -> float:
        pass_ = Pass.prefill(context, batch) if tokens > 1 else Pass.decode(context, batch)
        launch = "graph" if self.known else "none"
        times = [kernel_time(one, self.accelerator, TRUTH, launch=launch) for one in layer_kernels(sizes, pass_, form)]
        return self.layer_factor * float(sum(one.seconds for one in times))


@pytest.fixture(scope="module")
def found() -> Found:
    return run(Pretended(load_accelerator("h100-sxm")), 30.0, {"torch": "none"})


def test_a_device_with_known_constants_is_found_again(found: Found) -> None:
    errors = found.calibration.errors
    assert {"gemm", "prefill", "decode", "memory", "all"} == set(errors)
    assert errors["all"].median < 0.05
    assert errors["all"].n == pytest.approx(len(found.timings) / HELD_OUT, abs=4)
    assert found.calibration.constants.memory == pytest.approx(TRUTH.memory, rel=0.1)
    assert found.calibration.constants.host_s == 5e-6
    assert found.left_out == 0


def test_points_that_were_not_fitted_judge_the_fit(found: Found) -> None:
    held = [timing for _, timing in found.timings if not timing.fitted]
    assert found.fit.fitted + len(held) == len(found.timings)
    for kind in ("gemm", "prefill", "decode", "memory"):
        of_kind = [timing for _, timing in found.timings if timing.kind == kind]
        assert sum(not timing.fitted for timing in of_kind) == len(of_kind) // HELD_OUT


def test_the_fit_is_better_than_where_it_started() -> None:
    device = Pretended(load_accelerator("h100-sxm"), noise=0)
    wanted = points(("bf16",), 1e12, backward=True, grouped=True)
    timings = split((point.kind, point.kernel(), device.seconds(point)) for point in wanted)
    start = efficiency(device.accelerator)
    fitted = fit(timings, device.accelerator, start, launch="graph")
    before = [
        float(kernel_time(one.kernel, device.accelerator, start).seconds) / one.seconds
        for one in timings
        if not one.fitted
    ]
    assert fitted.errors["all"].mean < 0.3 * deviations(before).mean


def test_whole_layers_are_predicted_and_measured(found: Found) -> None:
    assert {layer.name.partition(",")[0] for layer in found.layers} == {"prefill", "decode"}
    assert all(abs(layer.predicted / layer.measured - 1) < 0.1 for layer in found.layers)
    # a wrong prediction shows: nothing is fitted to layers
    slow = run(Pretended(load_accelerator("h100-sxm"), layer_factor=2.0), 30.0, {})
    assert all(layer.predicted / layer.measured < 0.6 for layer in slow.layers)


def test_a_device_that_nobody_knows_is_made_of_what_was_measured() -> None:
    device = Pretended()
    made = run(device, 30.0, {}).accelerator
    assert (made.name, made.vendor, made.n_cores) == ("cpu", "measured", 132)
    assert set(made.flops) == {"bf16"}
    assert made.flops["bf16"] == pytest.approx(TRUTH.issue * device.accelerator.flops["bf16"], rel=0.25)
    assert made.memory_bytes_per_s <= 1.03 * device.accelerator.memory_bytes_per_s


def test_the_file_is_what_calibration_reads(found: Found, tmp_path: Path) -> None:
    path = record_calibration(result(found), tmp_path / "h100.json")
    assert load_accelerator(path) == found.accelerator
    data = json.loads(path.read_text())
    assert data["schema_version"] == 1
    assert len(data["measurements"]) == len(found.timings)
    assert [each.name for each in tmp_path.iterdir()] == ["h100.json"]
    with pytest.raises(SpecError, match="cannot write"):
        record_calibration(result(found), tmp_path / "nowhere" / "h100.json")


def test_the_answer_keeps_its_contract(found: Found) -> None:
    DOCUMENTS["calibration"].model_validate_json(result(found).to_json())


def test_a_busy_machine_is_told(found: Found) -> None:
    busy = result(replace(found, unrest=0.5))
    assert any("repetitions of a shape differ by 50 %" in note for note in busy.notes)


def test_too_little_time_is_refused() -> None:
    with pytest.raises(SpecError, match="give more --seconds"):
        run(Pretended(load_accelerator("h100-sxm")), 1e-9, {})


def test_shapes_beyond_the_device_are_left_out() -> None:
    wanted = points(("bf16", "fp16"), 1e9, backward=False, grouped=False)
    assert {point.form for point in wanted} == {"bf16", "fp16"}
    assert all(point.kernel().flops <= 1e9 for point in wanted)
    assert all(point.heads == point.kv_heads and point.direction == "forward" for point in wanted)
    assert {point.kind for point in wanted} == {"gemm", "prefill", "decode", "memory"}


@pytest.fixture(scope="module")
def joined() -> Found:
    return run(Pretended(load_accelerator("h100-sxm"), ranks=8), 30.0, {})


def test_links_with_known_constants_are_found_again(joined: Found) -> None:
    links = joined.calibration.links
    assert links is not None
    assert (links.backend, links.ranks) == ("nccl", 8)
    assert set(links.errors) == {*KINDS, "all"}
    assert links.errors["all"].median < 0.05
    assert links.constants.efficiency["nvlink"] * links.constants.both_ways == pytest.approx(0.5, rel=0.1)
    assert links.constants.nvls_fourth == pytest.approx(0.4, rel=0.1)
    assert links.constants.launch_s == pytest.approx(2e-5, rel=0.3)
    # links that no exchange crossed keep what published runs say
    assert links.constants.efficiency["infiniband"] == CONSTANTS.efficiency["infiniband"]
    assert joined.accelerator.links == load_accelerator("h100-sxm").links


def test_collectives_of_a_calibrated_device_take_what_was_measured(joined: Found, tmp_path: Path) -> None:
    path = record_calibration(result(joined), tmp_path / "h100.json")
    DOCUMENTS["calibration"].model_validate_json(result(joined).to_json())
    read = load_accelerator(path)
    assert read == joined.accelerator
    call = Exchange(kind="all_gather", ranks=8, bytes=2**26).call()
    truth = collective_time(call, read, constants=LINKS)
    assert collective_time(call, read) == pytest.approx(truth, rel=0.1)
    assert collective_time(call, load_accelerator("h100-sxm")) < 0.8 * truth
    own = calc.exchange("llama-3-8b", Layout(tp=8), accelerator=read).data["error"]
    assert own["n"] == joined.calibration.links.errors["all"].n  # type: ignore[union-attr]


def test_exchanges_that_were_not_fitted_judge_the_fit(joined: Found) -> None:
    for kind in KINDS:
        of_kind = [one for one in joined.exchanges if one.exchange.kind == kind]
        assert sum(not one.fitted for one in of_kind) == len(of_kind) // HELD_OUT > 0


def test_a_device_that_states_no_link_gets_what_was_measured() -> None:
    alone = replace(load_accelerator("h100-sxm"), links=())
    device = Pretended(alone, ranks=2)
    device.accelerator = load_accelerator("h100-sxm")
    [link] = run(device, 30.0, {}).accelerator.links
    assert (link.kind, link.size) == ("measured", 2)
    assert 0.4 * 450e9 < link.bytes_per_s < 0.6 * 450e9


def test_exchanges_are_of_every_kind_and_cut_into_whole_elements() -> None:
    wanted = exchanges(6, 2**20)
    assert {one.ranks for one in wanted} == {2, 4, 6}
    assert {one.kind for one in wanted if one.ranks == 6} == {*KINDS} - {"send_recv"}
    assert all(one.bytes % (4 * one.ranks) == 0 and one.bytes >= 1024 for one in wanted)
    assert exchanges(2, 2**20)[0].bytes == 1024


def test_too_few_exchanges_are_refused() -> None:
    with pytest.raises(SpecError, match=r"exchanges were measured, at least 16 are needed: give more --seconds"):
        run(Dawdling(load_accelerator("h100-sxm"), ranks=2), 0.5, {})


class Dawdling(Pretended):
    """Its first exchange takes all the time there is."""

    def exchanged(self, wanted: Sequence[Exchange]) -> Generator[float, None, None]:
        for seconds in super().exchanged(wanted):
            yield seconds
            time.sleep(0.2)


def test_pytorch_measures_every_exchange_on_the_cpu() -> None:
    """Two gloo processes; the third is not among the pairs, and all meet again."""
    wanted = [Exchange(kind=kind, ranks=2, bytes=2**12) for kind in KINDS]
    wanted += [Exchange(kind=kind, ranks=3, bytes=3 * 2**10) for kind in KINDS[:-1]]
    times = list(TorchDevice("cpu", ranks=3).exchanged(wanted))
    assert len(times) == len(wanted)
    assert all(0 < seconds < 5 for seconds in times)


def test_larger_messages_take_longer_and_are_fitted() -> None:
    device = TorchDevice("cpu", ranks=2)
    small, large = device.exchanged([Exchange(kind="all_reduce", ranks=2, bytes=size) for size in (2**12, 2**25)])
    assert large > 2 * small
    assert [one.fitted for one in parts([(Exchange(kind="all_reduce", ranks=2, bytes=8), 1.0)] * 4)] == [
        True, True, True, False,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "point",
    [
        Point(kind="gemm", form="fp32", m=4, n=64, k=32),
        Point(kind="prefill", form="fp32", batch=1, heads=2, kv_heads=2, queries=16, keys=16, head_dim=8),
        Point(
            kind="prefill", form="fp32", batch=1, heads=2, kv_heads=2, queries=16, keys=16, head_dim=8,
            direction="backward",
        ),
        Point(kind="decode", form="bf16", batch=2, heads=4, kv_heads=2, queries=1, keys=32, head_dim=8),
        Point(kind="memory", form="fp32", bytes=4096),
    ],
    ids=lambda point: f"{point.kind}-{point.direction}",
)  # fmt: skip
def test_pytorch_measures_every_kind_on_the_cpu(point: Point) -> None:
    assert 0 < TorchDevice("cpu").seconds(point) < 10


def test_pytorch_measures_launches_and_layers_on_the_cpu() -> None:
    device = TorchDevice("cpu")
    assert 0 < device.host_seconds() < 1
    sizes = LayerSizes(d_model=32, n_heads=4, n_kv_heads=2, head_dim=8, d_ff=64)
    assert 0 < device.layer_seconds(sizes, 2, 8, 8, "fp32") < 10
    assert 0 < device.layer_seconds(sizes, 2, 1, 16, "fp32") < 10
    assert device.facts().kind == "cpu"
    assert device.facts().memory_bytes > 2**20


class Stream:
    """A stream of a GPU that nobody has: entered and left."""

    def __init__(self, log: list[str]) -> None:
        self.log = log

    def __enter__(self) -> None:
        self.log.append("aside")

    def __exit__(self, *error: object) -> None:
        self.log.append("back")


class Recorded:
    """PyTorch's CUDA as a calibration uses it, without a GPU: every replayed launch takes ``seconds``."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.now, self.running = seconds, 0.0, ""
        self.log: list[str] = []
        self.operands: list[list[int]] = []
        self.stream = Stream(self.log)

    def product(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        if self.running:
            self.operands[-1].append(b.data_ptr())
        return a @ b.T

    def installed(self, monkeypatch: pytest.MonkeyPatch) -> TorchDevice:
        device = TorchDevice("cpu")
        device.kind = "cuda"
        cuda = self

        class Event:
            def __init__(self, enable_timing: bool) -> None:
                assert enable_timing

            def record(self) -> None:
                self.at = cuda.now

            def elapsed_time(self, end: Event) -> float:
                return (end.at - self.at) * 1e3

        class Graph:
            def replay(self) -> None:
                cuda.log.append("replay")
                cuda.now += cuda.seconds * len(cuda.operands[-1])

        class Recording:
            def __init__(self, graph: Graph, stream: Stream) -> None:
                assert stream is cuda.stream

            def __enter__(self) -> None:
                cuda.running = "recording"
                cuda.operands.append([])

            def __exit__(self, *error: object) -> None:
                cuda.running = ""

        for name, value in (
            ("Event", Event), ("CUDAGraph", Graph), ("graph", Recording), ("Stream", lambda: self.stream),
            ("stream", lambda one: one), ("current_stream", lambda: self.stream), ("synchronize", lambda: None),
        ):  # fmt: skip
            monkeypatch.setattr(torch.cuda, name, value)
        randn, empty = torch.randn, torch.empty
        monkeypatch.setattr(torch, "randn", lambda *shape, device: randn(*shape))
        monkeypatch.setattr(torch, "empty", lambda *shape, dtype, device: empty(*shape, dtype=dtype))
        monkeypatch.setattr("calc.calibration.device.functional.linear", self.product)
        monkeypatch.setattr("calc.calibration.device.POOL_BYTES", 2**22)
        return device


@pytest.mark.parametrize(("seconds", "launches"), [(1e-5, 10), (2e-3, 1)])
def test_a_gpu_is_clocked_over_recorded_launches_of_other_operands(
    seconds: float, launches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda = Recorded(seconds)
    device = cuda.installed(monkeypatch)
    assert device.seconds(Point(kind="gemm", form="fp32", m=4, n=128, k=128)) == pytest.approx(seconds)
    assert cuda.log[0] == "aside"
    assert cuda.log[-1] == "back"
    assert cuda.log.count("replay") == 2 * len(cuda.operands)
    trial, *clocked = cuda.operands
    assert len(trial) == 1
    assert {len(each) for each in clocked} == {launches}
    assert all(len(set(each)) > 0.7 * launches for each in clocked)


def test_what_a_graph_cannot_hold_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = Recorded(1e-5)
    device = cuda.installed(monkeypatch)

    def refuse(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        if cuda.running:
            raise RuntimeError("operation not permitted when stream is capturing\nmore")
        return a @ b.T

    monkeypatch.setattr("calc.calibration.device.functional.linear", refuse)
    with pytest.raises(CalcError, match="cannot record what is measured: operation not permitted"):
        device.seconds(Point(kind="gemm", form="fp32", m=4, n=128, k=128))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_pytorch_measures_every_kind_on_a_gpu() -> None:
    device = TorchDevice("cuda")
    shape = {"form": "bf16", "batch": 1, "heads": 8, "kv_heads": 8, "queries": 512, "keys": 512, "head_dim": 64}
    for point in (
        Point(kind="gemm", form="bf16", m=512, n=512, k=512),
        Point(kind="prefill", **shape),
        Point(kind="prefill", **shape, direction="backward"),
        Point(kind="decode", **{**shape, "queries": 1, "kv_heads": 2}),
        Point(kind="memory", form="bf16", bytes=2**20),
    ):
        assert 0 < device.seconds(point) < 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_refused(calc_cli: Cli) -> None:
    run = calc_cli("calibrate", "--device", "cuda")
    assert run.code == 1
    assert run.err.strip() == "error: device = 'cuda': PyTorch sees no CUDA device"


@pytest.mark.parametrize("command", ["calibrate", "validate", "accuracy"])
@pytest.mark.parametrize("place", ["nowhere/x.json", "."])
def test_a_file_that_cannot_be_written_is_refused_before_anything_is_measured(
    command: str, place: str, calc_cli: Cli, tmp_path: Path
) -> None:
    start = time.monotonic()
    run = calc_cli(command, "-o", place, cwd=tmp_path)
    assert (run.code, run.out) == (1, "")
    assert place in run.err
    assert time.monotonic() - start < 15
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--seconds", "0"], "seconds = 0"),
        (["--form", "fp3"], "form = 'fp3'"),
        (["--threads", "0"], "threads = 0"),
        (["--ranks", "99"], "ranks = 99 is not from 1 to 64"),
        (["--ranks", "0"], "ranks = 0 is not from 1 to 64"),
    ],
)
def test_wrong_options_are_refused(arguments: list[str], why: str, calc_cli: Cli) -> None:
    run = calc_cli("calibrate", *arguments)
    assert run.code == 1
    assert why in run.err


def test_a_short_calibration_of_this_machine_ends_in_a_file_that_ops_reads(calc_cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "cpu.json"
    made = calc_cli("calibrate", "--seconds", "8", "--threads", "1", "--ranks", "2", "-o", str(path), "-f", "json")
    assert made.code == 0, made.err
    assert made.json["errors"]["all"]["n"] >= 4
    assert made.json["links"]["ranks"] == 2
    sent = calc_cli("exchange", "gpt2", "--tp", "2", "-a", str(path), "-c", "128", "-f", "json")
    assert 0 < sent.json["total"]["forward"]["seconds"] < 10
    used = calc_cli("ops", "gpt2", "-a", str(path), "-c", "128", "-f", "json")
    assert used.code == 0, used.err
    assert used.json["accelerator"] == "cpu"
    assert used.json["total"]["seconds"] > 0


def test_the_constants_of_an_unmeasured_device_are_universal() -> None:
    assert efficiency(replace(load_accelerator("h100-sxm"), name="novel")) == Efficiency()

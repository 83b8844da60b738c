"""The time model: physical limits hold whatever the constants are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from calc import catalog
from calc.catalog import load_accelerator
from calc.kernels import Kernel, kernels
from calc.model import Model, Pass
from calc.roofline import Efficiency, efficiency, kernel_time, time_pass
from calc.schemes import weight_forms
from calc.units import dtype

H100 = load_accelerator("h100-sxm")


def forms(model: Model) -> dict[str, Any]:
    weights = weight_forms(model.weights_dtype, model.blocks())
    return {"weight": weights, "activation": dtype("bf16"), "cache": dtype("bf16")}


def product(m: float, n: float, k: float, form: str = "bf16", bits: float = 16) -> Kernel:
    moved = 2 * m * k + n * k * bits / 8 + 2 * m * n
    return Kernel(
        name="gemm", kind="gemm", path="", operations=("gemm",), form=form, flops=2 * m * n * k, bytes=moved,
        m=m, n=n, k=k, operand_bits=bits,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["llama-3-8b", "deepseek-v3", "qwen3-next-80b-a3b", "gemma-2-9b"])
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_no_kernel_beats_the_roofline(name: str, direction: Any) -> None:
    model = catalog.load(name)
    for pass_ in (Pass.prefill(2048, 4), Pass.decode(2048, 32)):
        for timed in time_pass(model.blocks(), pass_, H100, forms(model), direction=direction):
            kernel = timed.kernel
            assert timed.seconds >= kernel.flops / H100.peak(kernel.form)
            if kernel.bytes > H100.cache_bytes:
                assert timed.seconds >= kernel.bytes / H100.memory_bytes_per_s
            longer, together = max(timed.compute_s, timed.memory_s), timed.compute_s + timed.memory_s
            assert longer <= timed.seconds - timed.launch_s + 1e-12 <= together + 2e-12
            assert timed.total == kernel.repeat * timed.seconds
            assert timed.bound in ("compute", "memory", "launch")


def test_more_work_never_takes_less_time() -> None:
    for n, k in ((4096, 4096), (28672, 8192)):
        times = [kernel_time(product(m, n, k), H100).seconds for m in (1, 16, 100, 128, 500, 4096, 4100, 16384)]
        assert times == sorted(times)


def test_a_small_batch_is_bound_by_memory_and_a_large_one_by_compute() -> None:
    assert kernel_time(product(8, 8192, 8192), H100).bound == "memory"
    assert kernel_time(product(8192, 8192, 8192), H100).bound == "compute"
    assert kernel_time(product(1, 64, 64), H100).bound == "launch"


def test_a_kernel_of_a_graph_starts_faster_than_one_of_the_host() -> None:
    small = product(1, 64, 64)
    times = [kernel_time(small, H100, launch=launch).seconds for launch in ("none", "graph", "stream")]
    assert times == sorted(times)
    assert times[2] >= efficiency(H100).host_s


def test_a_format_that_the_device_lacks_runs_at_sixteen_bits() -> None:
    a100 = load_accelerator("a100-80gb")
    shape = 4096, 4096, 4096
    assert kernel_time(product(*shape, form="fp8", bits=8), a100).compute_s == pytest.approx(
        kernel_time(product(*shape, form="bf16", bits=16), a100).compute_s, rel=0.1
    )
    assert kernel_time(product(*shape, form="fp8", bits=8), H100).compute_s < 0.8 * (
        kernel_time(product(*shape), H100).compute_s
    )


def test_a_calibration_replaces_the_constants() -> None:
    slow = Efficiency(memory=0.4)
    assert (
        kernel_time(product(1, 8192, 8192), H100, slow).seconds
        > 1.8 * kernel_time(product(1, 8192, 8192), H100).seconds
    )


@pytest.mark.parametrize("name", ["llama-3-8b", "deepseek-v3"])
@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_a_sweep_gives_the_times_of_its_points(name: str, phase: str) -> None:
    model, make = catalog.load(name), Pass.prefill if phase == "prefill" else Pass.decode
    batch, context = np.array([1.0, 7, 64]), np.array([512.0, 1000, 4096])
    swept = sum(each.total for each in time_pass(model.blocks(), make(context, batch), H100, forms(model)))
    for index in range(3):
        pass_ = make(int(context[index]), int(batch[index]))
        assert swept[index] == pytest.approx(
            sum(each.total for each in time_pass(model.blocks(), pass_, H100, forms(model)))
        )


def test_kernels_keep_their_bound_in_a_sweep() -> None:
    model = catalog.load("llama-3-8b")
    (up,) = [
        each for each in kernels(model.blocks(), Pass.decode(1024, np.array([1.0, 4096])), forms(model))
        if "up_proj" in each.operations and each.kind == "gemm"
    ]  # fmt: skip
    assert list(kernel_time(up, H100).bound) == ["memory", "compute"]

"""Steps: no faster than what must be moved or computed, phases share what they share, sweeps are numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import calc
from calc.catalog import load_accelerator
from calc.parallel import Layout
from calc.serving.engines import load_engine
from calc.serving.steps import Batch, Steps

H100 = load_accelerator("h100-sxm")


def steps_of(name: str, layout: Layout | None = None, engine: str = "vllm", **options: object) -> Steps:
    return Steps(calc.load(name), H100, layout or Layout(), load_engine(engine), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("sequences", [1, 16, 64])
def test_a_decode_step_reads_weights_and_cache(sequences: int) -> None:
    steps = steps_of("llama-3-8b")
    model = calc.load("llama-3-8b")
    context = 2000
    moved = model.weight_bytes("bf16") - 2 * model.vocab_size * model.d_model  # the embedding is looked up
    moved += model.cache(context, sequences).bytes
    least = moved / H100.memory_bytes_per_s
    assert least < steps.time(Batch(sequences=sequences, context=context)).seconds < 1.6 * least + 2e-3


def test_a_long_prompt_is_bound_by_arithmetic() -> None:
    steps, model = steps_of("llama-3-8b"), calc.load("llama-3-8b")
    found = steps.time(Batch(prompts=1, chunk=8192, seen=8192, finishing=1))
    flops = 2 * model.params().active_matmul * 8192
    assert flops / H100.peak("bf16") < found.seconds < 2.2 * flops / H100.peak("bf16")
    assert found.compute_bound > 0.7 * found.kernels


def test_a_mixed_step_reads_the_weights_once() -> None:
    steps = steps_of("llama-3-8b")
    decode = steps.time(Batch(sequences=32, context=1000)).seconds
    prompt = steps.time(Batch(prompts=1, chunk=256, seen=256, finishing=1)).seconds
    both = steps.time(Batch(sequences=32, context=1000, prompts=1, chunk=256, seen=256, finishing=1)).seconds
    assert max(decode, prompt) < both < 0.8 * (decode + prompt)


@pytest.mark.parametrize("name", ["llama-3-8b", "deepseek-v2-lite", "qwen3-30b-a3b", "gemma-3-4b", "falcon-mamba-7b"])
def test_more_work_takes_longer(name: str) -> None:
    steps = steps_of(name)
    times = [steps.time(Batch(sequences=n, context=1000)).seconds for n in (1, 8, 64, 256)]
    assert times == sorted(times)
    longer = [steps.time(Batch(sequences=64, context=context)).seconds for context in (100, 3000, 30_000)]
    assert longer == sorted(longer)


def test_tensor_parallel_ranks_share_the_step_and_communicate() -> None:
    one, four = (steps_of("llama-3-70b", Layout(tp=tp)).time(Batch(sequences=8, context=1000)) for tp in (1, 4))
    assert one.communication == 0 < four.communication
    assert one.kernels / 4 < four.kernels < one.kernels / 2.5


def test_pipeline_stages_come_one_after_the_other() -> None:
    whole = steps_of("llama-3-70b").time(Batch(sequences=8, context=1000))
    staged = steps_of("llama-3-70b", Layout(pp=4)).time(Batch(sequences=8, context=1000))
    assert staged.kernels == pytest.approx(whole.kernels, rel=0.03)
    assert staged.communication > 0


def test_experts_are_divided_alike_by_width_and_by_number() -> None:
    batch = Batch(sequences=64, context=1000)
    wide = steps_of("qwen3-235b-a22b", Layout(tp=4), weights_dtype="deepseek-fp8").time(batch)
    apart = steps_of("qwen3-235b-a22b", Layout(tp=4, ep=4, expert_tp=1), weights_dtype="deepseek-fp8").time(batch)
    assert apart.by_kind["grouped_gemm"] == pytest.approx(wide.by_kind["grouped_gemm"], rel=0.4)


def test_experts_in_host_memory_run_at_its_speed() -> None:
    on_device = steps_of("qwen3-30b-a3b").time(Batch(sequences=1, context=1000))
    on_host = steps_of("qwen3-30b-a3b", host_experts=True).time(Batch(sequences=1, context=1000))
    assert on_host.by_kind["grouped_gemm"] > 3 * on_device.by_kind["grouped_gemm"]
    assert on_host.by_kind["gemm"] == on_device.by_kind["gemm"]


def test_half_a_batch_hides_the_others_communication() -> None:
    steps = steps_of("llama-3-70b", Layout(tp=8))
    batch = Batch(sequences=256, context=1000)
    assert steps.time(batch, overlapped=True).seconds < steps.time(batch).seconds


def test_guesses_to_verify_cost_little_in_a_small_batch() -> None:
    steps = steps_of("llama-3-8b")
    plain, wide = (steps.time(Batch(sequences=4, context=1000, width=width)).seconds for width in (1, 4))
    assert plain < wide < 1.3 * plain


@pytest.mark.parametrize("name", ["llama-3-8b", "deepseek-v2-lite", "qwen3-next-80b-a3b"])
def test_sweeps_are_numbers(name: str) -> None:
    steps = steps_of(name)
    sequences, prompts = np.array([1.0, 40.0, 200.0]), np.array([0.0, 1.0, 2.5])
    swept = steps.time(Batch(sequences=sequences, context=900.0, prompts=prompts, chunk=500.0, seen=500.0)).seconds
    for index in range(3):
        batch = Batch(
            sequences=float(sequences[index]), context=900.0, prompts=float(prompts[index]), chunk=500.0, seen=500.0
        )
        assert swept[index] == pytest.approx(steps.time(batch).seconds)


def test_tokens_come_to_shared_experts_as_the_engine_sends_them() -> None:
    """To one expert each (Llama 4): all-gather brings every rank eight times as many tokens as all-to-all."""
    model, gpu, layout = calc.load("llama-4-maverick"), load_accelerator("h100-sxm"), Layout(dp=8, ep=8)
    gathering = load_engine("tensorrt-llm")
    assert gathering.dispatch == "all_gather"
    times = [
        Steps(model, gpu, layout, replace(gathering, dispatch=way), weights_dtype="fp8-linear").communication(4096)
        for way in ("all_gather", "all_to_all")
    ]
    assert 4 < times[0] / times[1] < 10

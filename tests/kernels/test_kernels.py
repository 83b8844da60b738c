"""Which kernels operations become, and that nothing is lost or counted twice on the way."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from calc import catalog
from calc.kernels import Kernel, kernels
from calc.model import Model, Pass, running
from calc.schemes import weight_forms
from calc.units import dtype


def forms(model: Model) -> dict[str, Any]:
    weights = weight_forms(model.weights_dtype, model.blocks())
    return {"weight": weights, "activation": dtype("bf16"), "cache": dtype("bf16")}


def of(name: str, pass_: Pass, **options: Any) -> list[Kernel]:
    model = catalog.load(name)
    return kernels(model.blocks(), pass_, forms(model), **options)


def names(found: list[Kernel], path: str) -> list[tuple[str, tuple[str, ...]]]:
    return [(kernel.kind, kernel.operations) for kernel in found if kernel.path == path]


@pytest.mark.parametrize("fusion", ["fused", "eager"])
@pytest.mark.parametrize("name", catalog.names())
def test_every_operation_runs_once_and_keeps_its_flops(name: str, fusion: Any) -> None:
    model = catalog.load(name)
    for pass_ in (Pass.prefill(384, 2), Pass.decode(384, 2)):
        found = kernels(model.blocks(), pass_, forms(model), fusion=fusion)
        ran = Counter((kernel.path, operation) for kernel in found for operation in kernel.operations)
        wanted = Counter((block.path, operation.name) for block, operation, _ in running(model.blocks(), pass_))
        assert ran == wanted
        assert sum(kernel.repeat * kernel.flops for kernel in found) == model.flops(pass_)
        every = sum(kernel.repeat * (kernel.flops + kernel.vector_flops) for kernel in found)
        assert every == model.flops(pass_, "all")
        for kernel in found:
            assert kernel.bytes > 0, kernel
            if kernel.kind in ("gemm", "grouped_gemm"):
                assert 2 * kernel.m * kernel.n * kernel.k * kernel.groups == pytest.approx(kernel.flops), kernel
            if kernel.kind == "attention":
                assert kernel.heads >= kernel.kv_heads > 0, kernel


@pytest.mark.parametrize("name", ["llama-3-8b", "mixtral-8x7b", "gemma-2-9b"])
def test_fusing_moves_less_memory(name: str) -> None:
    for pass_ in (Pass.prefill(2048, 2), Pass.decode(2048, 2)):
        moved = [sum(kernel.repeat * kernel.bytes for kernel in of(name, pass_, fusion=f)) for f in ("fused", "eager")]
        assert moved[0] < moved[1]


def test_a_decoder_layer_becomes_what_engines_launch() -> None:
    found = of("llama-3-8b", Pass.prefill(4096, 2))
    assert names(found, "layer.attention") == [
        ("gemm", ("q_proj", "k_proj", "v_proj")),
        ("memory", ("q_rotary", "k_rotary")),
        ("attention", ("scores", "scale", "softmax", "values")),
        ("gemm", ("o_proj",)),
    ]
    assert names(found, "layer.ffn") == [
        ("gemm", ("gate_proj", "up_proj")),
        ("memory", ("activation", "gated")),
        ("gemm", ("down_proj",)),
    ]
    # an addition to the residual stream and the norm behind it, which for the last one is the next layer's
    assert names(found, "layer.residual") == [
        ("memory", ("attention_residual", "ffn_norm")),
        ("memory", ("ffn_residual", "attention_norm")),
    ]


def test_sizes_of_a_decoder_layer_are_those_of_its_shapes() -> None:
    qkv, rotary, attention, out, up, gated, down, first, _ = of("llama-3-8b", Pass.prefill(4096, 2))[1:10]
    tokens, d, f = 8192, 4096, 14336
    assert (qkv.m, qkv.n, qkv.k, qkv.groups, qkv.form) == (tokens, 4096 + 2 * 1024, d, 1, "bf16")
    assert qkv.bytes == 2 * (tokens * d + d * 6144 + tokens * 6144)
    assert rotary.bytes == 2 * 2 * tokens * (4096 + 1024)
    assert (attention.batch, attention.heads, attention.kv_heads) == (2, 32, 8)
    assert (attention.queries, attention.keys, attention.pairs) == (4096, 4096, 4096 * 4097 // 2)
    assert (attention.head_dim, attention.value_dim) == (128, 128)
    assert attention.bytes == 2 * tokens * (2 * 4096 + 2 * 1024)  # q, k, v and the result: no pairs
    assert (out.m, out.n, out.k) == (tokens, d, d)
    assert (up.m, up.n, up.k) == (tokens, 2 * f, d)
    assert gated.bytes == 2 * 3 * tokens * f
    assert (down.m, down.n, down.k) == (tokens, d, f)
    assert first.bytes == 2 * 4 * tokens * d + 2 * d  # stream and addition in, stream and norm out, the norm's scale


def test_latent_attention_is_absorbed_at_a_decode_step_and_naive_in_prefill() -> None:
    decode = {kernel.operations: kernel for kernel in of("deepseek-v3", Pass.decode(4096, 8))}
    attention = decode["scores_rope", "scores", "scale", "softmax", "context"]
    assert (attention.heads, attention.kv_heads, attention.head_dim, attention.value_dim) == (128, 1, 576, 512)
    absorbed = decode["q_absorbed",]
    assert (absorbed.m, absorbed.n, absorbed.k, absorbed.groups) == (8, 512, 128, 128)
    prefill = {kernel.operations: kernel for kernel in of("deepseek-v3", Pass.prefill(4096))}
    attention = prefill["scores_rope", "scores", "scale", "softmax", "values"]
    assert (attention.heads, attention.kv_heads, attention.head_dim, attention.value_dim) == (128, 128, 192, 128)
    assert (prefill["k_b", "v_b"].m, prefill["k_b", "v_b"].n, prefill["k_b", "v_b"].k) == (4096, 32768, 512)
    assert prefill["q_a_proj", "kv_a_proj", "k_rope"].n == 2112  # what DeepGEMM's published shapes show, too
    assert {kernel.form for kernel in prefill.values()} == {"fp8", "bf16"}


def test_experts_are_grouped_products_over_those_touched() -> None:
    found = {kernel.operations: kernel for kernel in of("deepseek-v3", Pass.decode(4096, 128))}
    grouped = [kernel for kernel in of("deepseek-v3", Pass.decode(4096, 128)) if kernel.kind == "grouped_gemm"]
    touched = 256 * (1 - (1 - 8 / 256) ** 128)
    assert grouped[0].groups == pytest.approx(touched)
    assert grouped[0].m == pytest.approx(128 * 8 / touched)
    assert (grouped[0].n, grouped[0].k) == (2 * 2048, 7168)
    choice = next(kernel for kernel in found.values() if "choice" in kernel.operations)
    assert choice.operations[0] == "router_scores"
    assert choice.kind == "memory"


@pytest.mark.parametrize("name", ["llama-3-8b", "deepseek-v3"])
def test_the_backward_pass_is_two_products_for_each(name: str) -> None:
    pass_ = Pass.prefill(1024, 2)
    forward, backward = of(name, pass_), of(name, pass_, direction="backward")
    for kernel in forward:
        behind = [each for each in backward if each.path == kernel.path and each.operations == kernel.operations]
        assert all(each.direction == "backward" and each.bytes > 0 for each in behind)
        if kernel.kind in ("gemm", "grouped_gemm"):
            data, weight = behind
            assert (data.m, data.n, data.k) == (kernel.m, kernel.k, kernel.n)
            assert (weight.m, weight.n, weight.k) == (kernel.k, kernel.n, kernel.m)
            assert data.flops == weight.flops == kernel.flops
        elif kernel.kind == "attention":
            assert [each.flops for each in behind] == [2.5 * kernel.flops]
    eager = of(name, pass_, fusion="eager"), of(name, pass_, fusion="eager", direction="backward")
    assert sum(each.repeat * each.flops for each in eager[1]) == 2 * sum(each.repeat * each.flops for each in eager[0])


def test_a_recurrence_is_one_scan() -> None:
    found = of("qwen3-next-80b-a3b", Pass.prefill(1024))
    scans = [kernel for kernel in found if kernel.kind == "scan"]
    assert [kernel.path for kernel in scans] == ["layer1.attention"]
    assert {"key_scores", "solve_keys", "read", "write"} <= set(scans[0].operations)
    step = [kernel for kernel in of("qwen3-next-80b-a3b", Pass.decode(1024)) if kernel.kind == "scan"]
    state = 4 * 32 * 128 * 128
    assert 2 * state < step[0].bytes < 2.1 * state  # the state in fp32, read and written once


@pytest.mark.parametrize("name", ["llama-3-8b", "deepseek-v3", "qwen3-next-80b-a3b"])
def test_sizes_are_the_same_in_a_sweep(name: str) -> None:
    batch, context = np.array([1.0, 7, 64]), np.array([512.0, 1000, 4096])
    swept = of(name, Pass.decode(context, batch))
    for index in range(3):
        single = of(name, Pass.decode(int(context[index]), int(batch[index])))
        for one, many in zip(single, swept, strict=True):
            for field in ("flops", "vector_flops", "bytes", "m", "n", "k", "groups", "pairs", "keys"):
                value = np.broadcast_to(getattr(many, field), batch.shape)[index]
                assert value == pytest.approx(getattr(one, field)), (one.name, field)

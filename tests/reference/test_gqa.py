"""What grouped-query attention must compute: known special cases, and transformers' layers with copied weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from calc.attention.gqa import GQA
from calc.grid_masks import Windows
from calc.masks import KINDS, Budget, Causal, Chunk, Full, Mask, Window
from calc.reference.base import Cache, Twin
from calc.reference.gqa import GQATwin, alibi_slopes, relative_buckets
from calc.reference.masks import kept, visible
from calc.sparse_masks import Local, Strided

PLAIN = GQA(n_heads=6, n_kv_heads=2, head_dim=8, rotary_dim=8)


def twin(spec: GQA, d_model: int = 18) -> GQATwin:
    torch.manual_seed(0)
    return GQATwin(spec, d_model)


def inputs(n: int = 9, d_model: int = 18) -> Tensor:
    torch.manual_seed(1)
    return torch.randn(2, n, d_model)


class TestSpecialCases:
    def test_all_heads_alike_are_multi_head(self) -> None:
        grouped, full = twin(PLAIN), twin(replace(PLAIN, n_kv_heads=6))
        weights = dict(grouped.state_dict())
        for name in ("k_proj.weight", "v_proj.weight"):
            weights[name] = weights[name].unflatten(0, (2, 8)).repeat_interleave(3, 0).flatten(0, 1)
        full.load_state_dict(weights)
        torch.testing.assert_close(full(inputs()), grouped(inputs()))

    @pytest.mark.parametrize("mask", [Window(window=9), Window(window=30), Chunk(window=9)])
    def test_a_mask_as_long_as_the_context_is_causal(self, mask: Mask) -> None:
        torch.testing.assert_close(twin(replace(PLAIN, mask=mask))(inputs()), twin(PLAIN)(inputs()))

    @pytest.mark.parametrize("mask", [Window(window=8), Chunk(window=8)])
    def test_a_shorter_one_is_not(self, mask: Mask) -> None:
        difference = (twin(replace(PLAIN, mask=mask))(inputs()) - twin(PLAIN)(inputs())).abs().amax((0, 2))
        assert difference[:8].max() < 1e-6 < 1e-3 < difference[8]

    def test_the_last_position_sees_the_same_both_ways(self) -> None:
        both = twin(replace(PLAIN, mask=Full()))(inputs())
        torch.testing.assert_close(both[:, -1], twin(PLAIN)(inputs())[:, -1])

    def test_by_hand(self) -> None:
        """One head of width 1 with maps of one: a softmax-weighted mean of what was seen."""
        made = twin(GQA(n_heads=1, n_kv_heads=1, head_dim=1), d_model=1)
        with torch.no_grad():
            for weight in made.parameters():
                weight.fill_(1.0)
        x = torch.tensor([[[1.0], [2.0]]])
        weights = torch.softmax(torch.tensor([2.0, 4.0]), 0)
        torch.testing.assert_close(made(x), torch.tensor([[[1.0], [weights[0] + 2 * weights[1]]]]))

    def test_a_window_keeps_its_width(self) -> None:
        made, cache = twin(replace(PLAIN, mask=Window(window=4))), Cache()
        for n in range(9):
            made(inputs()[:, n : n + 1], cache)
            assert cache.tensors["k"].shape == (2, min(n + 1, 4), 2, 8)


class TestMasks:
    """By the definition, read off small pictures."""

    @pytest.mark.parametrize(
        ("mask", "picture"),
        [
            (Causal(), ["x....", "xx...", "xxx..", "xxxx.", "xxxxx"]),
            (Full(), ["xxxxx"] * 5),
            (Window(window=2), ["x....", "xx...", ".xx..", "..xx.", "...xx"]),
            (Chunk(window=3), ["x....", "xx...", "xxx..", "...x.", "...xx"]),
        ],
    )
    def test_pictures(self, mask: Mask, picture: list[str]) -> None:
        n = torch.arange(5)
        drawn = ["".join("x" if seen else "." for seen in row) for row in visible(mask, n, n).tolist()]
        assert drawn == picture

    def test_kept(self) -> None:
        assert kept(Window(window=3), 7).tolist() == [4, 5, 6]
        assert kept(Chunk(window=3), 7).tolist() == [4, 5, 6]
        assert kept(Causal(), 3).tolist() == [0, 1, 2]


PLANE = Windows(window_side=2, grid_width=3)
BRUTE: list[tuple[Mask, Callable[[int, int], bool]]] = [
    (Causal(), lambda p, j: j <= p),
    (Full(), lambda p, j: True),
    (Window(window=3), lambda p, j: p - 3 < j <= p),
    (Chunk(window=4), lambda p, j: j <= p and j // 4 == p // 4),
    (Strided(window=2, stride=3), lambda p, j: j <= p and (j > p - 2 or j in (0, 3, 6, 9, 12))),
    (Budget(n_sinks=2, window=3), lambda p, j: j <= p and (j < 2 or j > p - 3)),
    (Local(window=2), lambda p, j: abs(p - j) <= 2),
    (Local(window=1, n_global=2), lambda p, j: abs(p - j) <= 1 or p < 2 or j < 2),
    (PLANE, lambda p, j: (p // 3 // 2, p % 3 // 2) == (j // 3 // 2, j % 3 // 2)),
]
"""Each mask beside its definition, for a query at p and a key at j."""


class TestAttentionItself:
    """The twin against PyTorch's own attention, and sparse patterns against a matrix of what each query sees."""

    @pytest.mark.parametrize(("mask", "sees"), BRUTE, ids=[mask.kind for mask, _ in BRUTE])
    def test_a_pattern_equals_its_matrix(self, mask: Mask, sees: Callable[[int, int], bool]) -> None:
        n, made = 12, twin(replace(PLAIN, mask=mask, rotary_dim=None))
        x = inputs(n)
        matrix = torch.tensor([[sees(p, j) for j in range(n)] for p in range(n)])
        q, k, v = (getattr(made, f"{name}_proj")(x).unflatten(-1, (-1, 8)).transpose(1, 2) for name in "qkv")
        k, v = (part.repeat_interleave(3, 1) for part in (k, v))  # one key-value head for three query heads
        seen = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=matrix)
        torch.testing.assert_close(made(x), made.o_proj(seen.transpose(1, 2).flatten(2)))

    def test_every_mask_of_positions_is_among_them(self) -> None:
        data_decides = {
            "topk",
            "topk_blocks",
            "topk_compressed",
            "compressed",
            "merged",
            "bigbird",
        }  # have tests of their own
        assert {mask.kind for mask, _ in BRUTE} == set(KINDS) - data_decides

    def test_all_heads_are_pytorch_s_multi_head_attention(self) -> None:
        made = twin(GQA(n_heads=3, n_kv_heads=3, head_dim=6, qkv_bias=True, o_bias=True, mask=Full()))
        theirs = torch.nn.MultiheadAttention(18, 3, batch_first=True)
        own = made.state_dict()
        joined = {kind: torch.cat([own[f"{part}_proj.{kind}"] for part in "qkv"]) for kind in ("weight", "bias")}
        theirs.load_state_dict(
            {f"in_proj_{kind}": tensor for kind, tensor in joined.items()}
            | {f"out_proj.{kind}": own[f"o_proj.{kind}"] for kind in joined}
        )
        x = inputs()
        torch.testing.assert_close(made(x), theirs(x, x, x, need_weights=False)[0])


class TestPositions:
    def test_alibi_slopes_of_the_paper(self) -> None:
        # arXiv:2108.12409 §3: 8 heads have 1/2 … 1/256; 16 heads start at 2^-0.5
        torch.testing.assert_close(alibi_slopes(8), 2.0 ** -torch.arange(1, 9))
        torch.testing.assert_close(alibi_slopes(16), 2.0 ** -(torch.arange(1, 17) / 2))
        assert len(alibi_slopes(12)) == 12

    def test_near_distances_have_buckets_of_their_own(self) -> None:
        assert relative_buckets(torch.arange(0, -17, -1), 32, both_ways=False).tolist() == list(range(17))
        both = relative_buckets(torch.tensor([-1, 0, 1]), 32, both_ways=True)
        assert both.tolist() == [1, 0, 17]


def copied(theirs: torch.nn.Module, made: Twin, renamed: dict[str, str]) -> Twin:
    """Copy the weights of a layer of transformers; every one of both sides is used."""
    weights = {}
    for name, weight in theirs.state_dict().items():
        own = name
        for old, new in renamed.items():
            own = own.replace(old, new)
        weights[own] = weight
    made.load_state_dict(weights)
    return made


CONFIG: dict[str, Any] = {
    "hidden_size": 18,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "rms_norm_eps": 1e-6,
    "layer_norm_eps": 1e-6,
    "attn_implementation": "eager",
}


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("family", "options", "spec"),
    [
        ("llama.Llama", {}, PLAIN),
        ("llama.Llama", {"attention_bias": True}, replace(PLAIN, qkv_bias=True, o_bias=True)),
        ("qwen2.Qwen2", {}, replace(PLAIN, qkv_bias=True)),
        ("qwen3.Qwen3", {}, replace(PLAIN, qk_norm="rms")),
        ("olmo2.Olmo2", {}, replace(PLAIN, qk_norm="rms", qk_norm_over="all_heads")),
        ("phi3.Phi3", {"num_key_value_heads": 2}, PLAIN),
        (
            "gpt_oss.GptOss",
            {"attention_bias": True, "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0}},
            replace(PLAIN, qkv_bias=True, o_bias=True, sinks=True),
        ),
        (
            "gemma2.Gemma2",
            {"query_pre_attn_scalar": 8, "layer_types": ["full_attention"]},
            replace(PLAIN, softcap=True),
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_equals_transformers(family: str, options: dict[str, Any], spec: GQA) -> None:
    """Output and input gradient, fp32, to 1e-5."""
    module = pytest.importorskip(f"transformers.models.{family.partition('.')[0]}")
    name = family.partition(".")[2]
    config = getattr(module, f"{name}Config")(**{**CONFIG, "num_hidden_layers": 1, "pad_token_id": 0, **options})
    code = __import__(f"{module.__name__}.modeling_{family.partition('.')[0]}", fromlist=["x"])
    torch.manual_seed(0)
    theirs = getattr(code, f"{name}Attention")(config, 0).eval()
    with torch.no_grad():
        for weight in theirs.parameters():
            weight.normal_(std=0.3)
    made = twin(spec)
    if hasattr(theirs, "qkv_proj"):
        _split(theirs)
    copied(theirs, made, {})
    x, mine = inputs().requires_grad_(), inputs().requires_grad_()
    positions = torch.arange(9)[None]
    mask = torch.full((9, 9), float("-inf")).triu(1)[None, None]
    angles = getattr(code, f"{name}RotaryEmbedding")(config)(x, positions)
    expected, _ = theirs(x, position_embeddings=angles, attention_mask=mask)
    result = made(mine)
    torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-5)
    expected.square().sum().backward()
    result.square().sum().backward()
    torch.testing.assert_close(mine.grad, x.grad, rtol=1e-4, atol=1e-4)
    assert expected.abs().mean() > 0.1


def _split(theirs: torch.nn.Module) -> None:
    """Give a fused projection's parts names of their own."""
    fused = theirs.qkv_proj.weight
    theirs.state_dict = lambda: {  # type: ignore[assignment, method-assign]
        **{f"{letter}_proj.weight": part for letter, part in zip("qkv", fused.split([48, 16, 16]), strict=True)},
        "o_proj.weight": theirs.o_proj.weight,
    }

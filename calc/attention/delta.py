"""The gated delta rule: a linear attention that overwrites what it stored under a key."""

from __future__ import annotations

from typing import ClassVar, Literal

from calc.attention.recurrence import (
    SIGMOID,
    Members,
    Recurrent,
    Within,
    convolution,
    silu_gate,
    time_step,
)
from calc.errors import SpecError
from calc.fields import Positive
from calc.operations import Einsum, Elementwise, Norm, Operation, State, States, Table
from calc.records import named_record


def delta_chunks(heads: str, chunk_size: int, query: str, key: str, value: str) -> tuple[Operation, ...]:
    """Return the delta rule in chunks, for heads with keys of width ``h`` and values of width ``p``.

    Inside a chunk, the corrections solve a unit lower triangular system over its positions (the UT transform), once
    for the values and once for the keys. The cost of a solve is that of the product with the inverse, as many pairs as
    a causal attention has.
    """
    within, members = Within(chunk_size=chunk_size), Members(chunk_size=chunk_size)
    keys, values, pairs, states = f"bt{heads}h", f"bt{heads}p", f"b{heads}ts", f"bs{heads}hp"
    others, weighted = f"bs{heads}h", f"bs{heads}p"

    def einsum(name: str, equation: str, inputs: tuple[str, str], over: Within | Members) -> Einsum:
        return Einsum(name, equation, inputs=inputs, over=over, phase="prefill")

    def each(name: str, dims: str, inputs: tuple[str, ...], flops: int, over: Within | Members) -> Elementwise:
        return Elementwise(name, dims, inputs=inputs, each=flops, over=over, phase="prefill")

    return (
        each("k_beta", keys, (key, "beta"), 1, members),
        each("v_beta", values, (value, "beta"), 1, members),
        einsum("key_scores", f"{keys},{others}->{pairs}", ("k_beta", key), within),
        einsum("scores", f"{keys},{others}->{pairs}", (query, key), within),
        # a difference and its exponential, and a product with either score
        each("decay_mask", pairs, ("key_scores", "scores"), 4, within),
        einsum("solve_values", f"{pairs},{weighted}->{values}", ("decay_mask", "v_beta"), within),
        einsum("solve_keys", f"{pairs},{others}->{keys}", ("decay_mask", "k_beta"), within),
        einsum("recall", f"{keys},{states}->{values}", ("solve_keys", "write"), members),
        each("correct", values, ("solve_values", "recall"), 1, members),
        einsum("read", f"{keys},{states}->{values}", (query, "write"), members),
        einsum("local", f"{pairs},{weighted}->{values}", ("decay_mask", "correct"), within),
        each("combine", values, ("read", "local"), 1, members),
        einsum("write", f"{keys},{values}->{states}", (key, "correct"), members),
        each("carry", states, ("write",), 2, members),
    )


def delta_step(heads: str, query: str, key: str, value: str) -> tuple[Operation, ...]:
    """Return the delta rule for one token: decay, recall what the key holds, write the correction, read."""
    state, keys, values = f"bt{heads}hp", f"bt{heads}h", f"bt{heads}p"
    return (
        Elementwise("step_decay", state, inputs=("recurrent",), each=1, phase="decode"),
        Einsum("step_recall", f"{state},{keys}->{values}", inputs=("step_decay", key), phase="decode"),
        Elementwise("step_correct", values, inputs=(value, "step_recall"), each=2, phase="decode"),
        Elementwise("step_write", state, inputs=("step_decay",), each=2, phase="decode"),
        Einsum("step_read", f"{state},{keys}->{values}", inputs=("step_write", query), phase="decode"),
    )


@named_record
class GatedDelta(Recurrent):
    """Gated delta net: S ← α·S, then S ← S + β·k (v − Sᵀk)ᵀ, y = Sᵀq, for each of h_v value heads.

    Queries, keys and values pass a short convolution; h_k query and key heads serve h_v value heads; the decay α is one
    number for a head and token. A gated RMSNorm over each head ends it.

    Parameters: d·(2·h_k·d_h + 2·h_v·d_v + 2·h_v) in, h_v·d_v·d out, (2·h_k·d_h + h_v·d_v)·K in the convolution, 2·h_v
    for the decay, d_v in the norm. State: h_v·d_h·d_v in fp32, and K inputs of each convolved channel: K − 1 would do,
    but the cache of ``transformers`` holds K.

    Matmul FLOPs in prefill, in chunks of Q: h_v·(6·d_h + 4·d_v) per pair of positions in a chunk, and 6·h_v·d_h·d_v per
    token to recall, read and write the states. At a decode step 4·h_v·d_h·d_v (recall and read); decay and writing are
    elementwise.

    Source: Yang et al. 2024, arXiv:2412.06464 §3; ``Qwen3NextGatedDeltaNet`` of transformers and its copies in Qwen3.5
    and OLMo Hybrid.

    Raises:
        SpecError: n_value_heads is not divisible by n_key_heads.

    >>> GatedDelta(n_key_heads=16, n_value_heads=32, head_dim=128, v_head_dim=128).bind()["V"]
    32
    """

    source: ClassVar[str] = "Yang et al. 2024, arXiv:2412.06464 §3"
    kind: Literal["gated_delta"] = "gated_delta"
    n_key_heads: Positive
    n_value_heads: Positive
    head_dim: Positive
    v_head_dim: Positive
    conv_kernel: Positive = 4
    chunk_size: Positive = 64

    def __post_init__(self) -> None:
        if self.n_value_heads % self.n_key_heads:
            raise SpecError(
                f"n_value_heads = {self.n_value_heads} is not divisible by n_key_heads = {self.n_key_heads}"
            )

    def operations(self) -> Table:
        """Return projections, convolutions, gates, the recurrence in both forms, norm, gate, output."""
        return (
            Einsum("q_proj", "btd,dAh->btAh", weight="dAh"),
            Einsum("k_proj", "btd,dAh->btAh", weight="dAh"),
            Einsum("v_proj", "btd,dVp->btVp", weight="dVp"),
            Einsum("z_proj", "btd,dVp->btVp", weight="dVp"),
            Einsum("b_proj", "btd,dV->btV", weight="dV"),
            Einsum("a_proj", "btd,dV->btV", weight="dV"),
            *convolution("conv_q", "Ah", "q_proj"),
            *convolution("conv_k", "Ah", "k_proj"),
            *convolution("conv_v", "Vp", "v_proj"),
            # square, add, multiply; queries also by 1/√d_h
            Elementwise("q_norm", "btAh", inputs=("conv_q_act",), each=4),
            Elementwise("k_norm", "btAh", inputs=("conv_k_act",), each=3),
            Elementwise("beta", "btV", inputs=("b_proj",), each=SIGMOID, needs="result"),
            time_step("a_proj", "btV", "V"),
            Elementwise("decay", "btV", inputs=("dt",), each=1, weight="V", needs="operands"),
            *delta_chunks("V", self.chunk_size, "q_norm", "k_norm", "conv_v_act"),
            *delta_step("V", "q_norm", "k_norm", "conv_v_act"),
            Norm("norm", "btVp", inputs=("combine",), kind="rms", weight="p"),
            silu_gate("btVp", "norm", "z_proj"),
            Einsum("out_proj", "btVp,Vpd->btd", inputs=("gate",), weight="Vpd"),
        )

    def state(self) -> States:
        """Return the recurrent state in fp32, and the last K inputs of the convolutions."""
        return (
            State(name="recurrent", dims="Vhp", of="step_write", form="fp32"),
            State(name="conv_q_past", dims="AhK", of="q_proj"),
            State(name="conv_k_past", dims="AhK", of="k_proj"),
            State(name="conv_v_past", dims="VpK", of="v_proj"),
        )

"""Mixture of attention heads: a router chooses the query and output projections of every token."""

from __future__ import annotations

from typing import ClassVar, Literal

from calc.attention import Attention
from calc.errors import SpecError
from calc.fields import Positive
from calc.masks import Causal
from calc.operations import Einsum, Elementwise, Softmax, State, States, Table, TopK
from calc.records import named_record


@named_record
class MoA(Attention):
    """Of E query and output projections, h_kv heads each, a token uses k; all share the h_kv key and value heads.

    Parameters: 2·E·d·h_kv·d_h, 2·d·h_kv·d_h for keys and values, E·d for the router, d for a bias. Matmul FLOPs: 2·d·E
    and 4·(k + 1)·d·h_kv·d_h per token, 4·k·h_kv·d_h per visible pair. Cache per token: 2·h_kv·d_h.

    Source: Zhang et al. 2022, arXiv:2210.05144 §3; JetMoE, Shen et al. 2024, arXiv:2404.07413 §2.3.

    Raises:
        SpecError: more active experts than experts.

    >>> MoA(n_experts=8, n_active_experts=2, n_kv_heads=16, head_dim=128, rotary_dim=128).bind()
    {'e': 8, 'j': 2, 'k': 16, 'h': 128, 'r': 128}
    """

    source: ClassVar[str] = "Zhang et al. 2022, arXiv:2210.05144 §3"
    kind: Literal["moa"] = "moa"
    n_experts: Positive
    n_active_experts: Positive
    n_kv_heads: Positive
    head_dim: Positive
    rotary_dim: Positive | None = None
    bias: bool = True
    """One bias on the sum of the chosen output projections."""

    def __post_init__(self) -> None:
        if self.n_active_experts > self.n_experts:
            raise SpecError(f"n_active_experts = {self.n_active_experts} is more than n_experts = {self.n_experts}")

    def operations(self) -> Table:
        """Return router, projections, rotation, scores, softmax, values, output."""
        mask, one = Causal(), (("e", "j"),)
        rotary = (
            Elementwise("q_rotary", "btjkr", inputs=("q_proj",), each=3),
            Elementwise("k_rotary", "btkr", inputs=("k_proj",), each=3),
        )
        return (
            Einsum("router", "btd,ed->bte", weight="ed", part="router"),
            TopK("choice", "btj", scanned="bte", inputs=("router",), part="router"),
            Softmax("router_scores", "btj", inputs=("choice",), part="router"),
            Einsum("q_proj", "btd,edkh->btjkh", weight="edkh", chosen=one),
            Einsum("k_proj", "btd,dkh->btkh", weight="dkh"),
            Einsum("v_proj", "btd,dkh->btkh", weight="dkh"),
            *(rotary if self.rotary_dim else ()),
            Einsum("scores", "btjkh,bskh->bjkts", inputs=(self._rotated("q"), "k"), over=mask),
            Elementwise("scale", "bjkts", inputs=("scores",), each=1, over=mask),
            Softmax("softmax", "bjkts", inputs=("scale",), over=mask),
            Einsum("values", "bjkts,bskh->btjkh", inputs=("softmax", "v"), over=mask),
            Einsum("o_proj", "btjkh,ekhd->btjd", inputs=("values",), weight="ekhd", chosen=one),
            # each of the k results is weighted and added
            Elementwise("combine", "btjd", inputs=("o_proj", "router_scores"), each=2, needs="operands"),
            *((Elementwise("bias", "btd", inputs=("combine",), each=1, weight="d"),) if self.bias else ()),
        )

    def _rotated(self, name: str) -> str:
        return f"{name}_rotary" if self.rotary_dim else f"{name}_proj"

    def state(self) -> States:
        """Return the keys and the values."""
        mask = Causal()
        return (
            State(name="k", dims="skh", of=self._rotated("k"), over=mask),
            State(name="v", dims="skh", of="v_proj", over=mask),
        )

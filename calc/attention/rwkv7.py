"""The time mixing of RWKV-7: a delta rule that removes along one key and writes along another."""

from __future__ import annotations

from typing import ClassVar, Literal

from calc.attention.recurrence import SIGMOID, Recurrent
from calc.fields import Positive
from calc.operations import Einsum, Elementwise, Norm, Operation, State, States, Table
from calc.records import named_record


@named_record
class RWKV7(Recurrent):
    """RWKV-7 time mixing: S ← Diag(w)·S − (α ⊙ κ)(Sᵀκ)ᵀ + k vᵀ, y = Sᵀr, for each of h heads.

    Receptance, keys, values and four gates come from a mix of the token and the one before it. Decay w, rate of
    learning α and output gate are low-rank projections of widths r_w, r_α and r_g; so is the share r_v of the first
    layer's values in those of every later layer. κ is the key, scaled and of length 1; what a token writes of itself is
    added to the result. A norm over each head, with a scale and a shift of its own, and the gate end it.

    Parameters: 4·d·h·d_h, 2·d·(r_w + r_α + r_g + r_v) where h·d_h = d, 6·d for the mixes, 5 or (from the second layer
    on) 6 vectors of h·d_h for biases and scales, 2·h·d_h for the norm. State: the last input (d), and h·d_h² in fp32.
    Matmul FLOPs: 2 × the matrices' parameters and 4·h·d_h² per token (recall and read) in every phase: the source's
    kernel goes token by token, as the tables do; kernels in chunks spend other FLOPs on the same result.

    Source: Peng et al. 2025, arXiv:2503.14456 §4 and appendix; ``RWKV7Attention`` of flash-linear-attention.

    >>> RWKV7(n_heads=12, head_dim=64, decay_rank=64, rate_rank=64, gate_rank=128).bind()["Ц"]
    64
    """

    source: ClassVar[str] = "Peng et al. 2025, arXiv:2503.14456 §4"
    kind: Literal["rwkv7"] = "rwkv7"
    n_heads: Positive
    head_dim: Positive
    decay_rank: Positive
    rate_rank: Positive
    gate_rank: Positive
    value_rank: Positive | None = None
    """None in the first layer, whose values the later ones mix with theirs."""

    @property
    def v_head_dim(self) -> int:
        """Values are as wide as keys."""
        return self.head_dim

    def operations(self) -> Table:
        """Return mixes, projections, gates, the recurrence, norm, the token's own part, gate, output."""
        later = self.value_rank is not None
        value = "value" if later else "v_proj"
        kept = ("decay", "rated", "recall", "key", value)
        return (
            Elementwise("delta", "btd", inputs=("x", "shift"), each=1),
            *(
                # the token, and a share of the difference
                Elementwise(f"{name}_mix", "btd", inputs=("x", "delta"), each=2, weight="d", needs=("delta",))
                for name in "rwkvag"
            ),
            Einsum("r_proj", "btd,dah->btah", inputs=("r_mix",), weight="dah"),
            Einsum("k_proj", "btd,dah->btah", inputs=("k_mix",), weight="dah"),
            Einsum("v_proj", "btd,dap->btap", inputs=("v_mix",), weight="dap"),
            Einsum("w_a_proj", "btd,dЦ->btЦ", inputs=("w_mix",), weight="dЦ"),
            Elementwise("w_tanh", "btЦ", inputs=("w_a_proj",), each=1, needs="result"),
            Einsum("w_b_proj", "btЦ,Цah->btah", inputs=("w_tanh",), weight="Цah", bias="ah"),
            # the exponential of a constant times the sigmoid
            Elementwise(
                "decay", "btah", inputs=("w_b_proj",), each=SIGMOID + 2, needs="result", apart=("decay",), inside=1
            ),
            *self._values(),
            Einsum("a_a_proj", "btd,dЮ->btЮ", inputs=("a_mix",), weight="dЮ"),
            Einsum("a_b_proj", "btЮ,Юah->btah", inputs=("a_a_proj",), weight="Юah", bias="ah"),
            Elementwise("rate", "btah", inputs=("a_b_proj",), each=SIGMOID, needs="result"),
            Einsum("g_a_proj", "btd,dF->btF", inputs=("g_mix",), weight="dF"),
            Elementwise("g_sigmoid", "btF", inputs=("g_a_proj",), each=SIGMOID, needs="result"),
            Einsum("g_b_proj", "btF,Fap->btap", inputs=("g_sigmoid",), weight="Fap"),
            # a scale; square, add, multiply
            Elementwise("removed", "btah", inputs=("k_proj",), each=4, weight="ah", needs="operands", inside=1),
            # k·(1 + (α − 1)·μ)
            Elementwise("key", "btah", inputs=("k_proj", "rate"), each=4, weight="ah", needs="operands", inside=2),
            Elementwise("rated", "btah", inputs=("removed", "rate"), each=1, needs="operands"),
            Einsum("recall", "btahp,btah->btap", inputs=("recurrent", "removed")),
            # the decayed state, less one outer product, with another
            Elementwise("write", "btahp", inputs=("recurrent", *kept), each=5, needs=kept),
            Einsum("read", "btahp,btah->btap", inputs=("write", "r_proj")),
            Norm("norm", "btap", inputs=("read",), kind="layer", weight="ap", bias="ap"),
            # receptance times key, times a scale, added up
            Elementwise("own", "btah", inputs=("r_proj", "key"), each=3, weight="ah", needs="operands", inside=1),
            Elementwise("add_own", "btap", inputs=("norm", "own", value), each=2, needs=(value,)),
            Elementwise("gate", "btap", inputs=("add_own", "g_b_proj"), each=1, needs="operands"),
            Einsum("o_proj", "btap,apd->btd", inputs=("gate",), weight="apd"),
        )

    def _values(self) -> tuple[Operation, ...]:
        """Return how a later layer mixes the first one's values with its own."""
        if self.value_rank is None:
            return ()
        return (
            Einsum("v_a_proj", "btd,dЯ->btЯ", inputs=("v_mix",), weight="dЯ"),
            Einsum("v_b_proj", "btЯ,Яap->btap", inputs=("v_a_proj",), weight="Яap", bias="ap"),
            Elementwise("share", "btap", inputs=("v_b_proj",), each=SIGMOID, needs="result"),
            Elementwise("value", "btap", inputs=("v_proj", "share"), each=3, needs="operands"),
        )

    def state(self) -> States:
        """Return the last input, and the recurrent state in fp32."""
        return (
            State(name="shift", dims="d", of="x"),
            State(name="recurrent", dims="ahp", of="write", form="fp32"),
        )

"""Linear attention: the softmax replaced by a feature map, so that keys and values add up to a state."""

from __future__ import annotations

from typing import ClassVar, Literal

from calc.activations import Needs
from calc.attention.recurrence import Recurrent
from calc.fields import Positive
from calc.operations import Einsum, Elementwise, State, States, Table
from calc.records import named_record

FEATURE_FLOPS = {"elu": 3, "relu": 1, "identity": 0}
"""FLOPs per element: elu(x) + 1 is exp, subtract, add."""
FEATURE_NEEDS: dict[str, Needs] = {"elu": "operands", "relu": "result", "identity": ()}


@named_record
class Linear(Recurrent):
    """Linear attention: S ← S + φ(k) vᵀ, z ← z + φ(k), y = Sᵀφ(q) / zᵀφ(q), with φ = elu + 1.

    O(t) time and constant memory in place of a softmax over t² pairs. Parameters: those of multi-head attention,
    4·d·h·d_h. State: h·(d_h·d_v + d_h). Matmul FLOPs: 4·h·d_h·d_v per token to write and read the state and 2·h·d_h for
    the denominator, in every phase (the source's Algorithm 1 goes token by token).

    Source: Katharopoulos et al. 2020, arXiv:2006.16236 §3.

    >>> Linear(n_heads=8, head_dim=64).bind()
    {'a': 8, 'h': 64, 'p': 64}
    """

    source: ClassVar[str] = "Katharopoulos et al. 2020, arXiv:2006.16236 §3"
    kind: Literal["linear"] = "linear"
    n_heads: Positive
    head_dim: Positive
    qkv_bias: bool = False
    o_bias: bool = False
    feature_map: Literal["elu", "relu", "identity"] = "elu"
    normalised: bool = True
    """Divided by zᵀφ(q)."""

    @property
    def v_head_dim(self) -> int:
        """Values are as wide as keys."""
        return self.head_dim

    def operations(self) -> Table:
        """Return projections, feature map, writing and reading the state, output."""
        key, value = ("ah", "ap") if self.qkv_bias else ("", "")
        each = FEATURE_FLOPS[self.feature_map]
        needs = FEATURE_NEEDS[self.feature_map]
        table = (
            Einsum("q_proj", "btd,dah->btah", weight="dah", bias=key),
            Einsum("k_proj", "btd,dah->btah", weight="dah", bias=key),
            Einsum("v_proj", "btd,dap->btap", weight="dap", bias=value),
            Elementwise("q_feature", "btah", inputs=("q_proj",), each=each, needs=needs),
            Elementwise("k_feature", "btah", inputs=("k_proj",), each=each, needs=needs),
            Einsum("write", "btah,btap->btahp", inputs=("k_feature", "v_proj")),
            Elementwise("accumulate", "btahp", inputs=("recurrent", "write"), each=1),
            Einsum("read", "btah,btahp->btap", inputs=("q_feature", "accumulate")),
        )
        scale = (
            Elementwise("normaliser_sum", "btah", inputs=("normaliser", "k_feature"), each=1),
            Einsum("denominator", "btah,btah->bta", inputs=("q_feature", "normaliser_sum")),
            Elementwise("divide", "btap", inputs=("read", "denominator"), each=1, needs="operands"),
        )
        last = "divide" if self.normalised else "read"
        output = Einsum("o_proj", "btap,apd->btd", inputs=(last,), weight="apd", bias="d" if self.o_bias else "")
        return (*table, *(scale if self.normalised else ()), output)

    def state(self) -> States:
        """Return the sum of outer products, and the sum of keys."""
        recurrent = State(name="recurrent", dims="ahp", of="accumulate")
        normaliser = State(name="normaliser", dims="ah", of="normaliser_sum")
        return (recurrent, normaliser) if self.normalised else (recurrent,)

"""The channel mixing of RWKV: a feed-forward network that also sees the token before."""

from __future__ import annotations

from typing import ClassVar, Literal

from calc.activations import ACTIVATION_FLOPS
from calc.ffn import FeedForward
from calc.fields import Positive
from calc.operations import Einsum, Elementwise, State, States, Table, activation
from calc.records import named_record


@named_record
class ChannelMix(FeedForward):
    """RWKV-4 channel mixing: y = σ(r W_r) ⊙ (max(k W_k, 0)² W_v), with r and k mixed from a token and the one before.

    RWKV-7's has no gate σ(r W_r). Parameters: 2·d·d_ff + d² and 2·d for the mixes; 2·d·d_ff and d without the gate.
    State: the last input, d elements. Matmul FLOPs: 2 × the matrices'
    parameters per token.

    Source: Peng et al. 2023, arXiv:2305.13048 §3.1; ``RwkvFeedForward`` of transformers; RWKV-7, arXiv:2503.14456 §4.

    >>> sum(op.parameters({"d": 768, "o": 768, "f": 3072}) for op in ChannelMix(d_ff=3072).operations())
    5309952
    """

    source: ClassVar[str] = "Peng et al. 2023, arXiv:2305.13048 §3.1"
    kind: Literal["channel_mix"] = "channel_mix"
    d_ff: Positive
    gated: bool = True

    def operations(self) -> Table:
        """Return the mixes with the token before, key, square, value, gate."""
        if not self.gated:
            return (
                Elementwise("k_mix", "btd", inputs=("x", "shift"), each=3, weight="d", needs="operands"),
                Einsum("key", "btd,df->btf", inputs=("k_mix",), weight="df"),
                activation("activation", "btf", "key", "relu2"),
                Einsum("value", "btf,fd->btd", inputs=("activation",), weight="fd"),
            )
        return (
            # x·μ + x'·(1 − μ): two products, a difference and a sum
            Elementwise("k_mix", "btd", inputs=("x", "shift"), each=3, weight="d", needs="operands"),
            Elementwise("r_mix", "btd", inputs=("x", "shift"), each=3, weight="d", needs="operands"),
            Einsum("key", "btd,df->btf", inputs=("k_mix",), weight="df"),
            activation("activation", "btf", "key", "relu2"),
            Einsum("value", "btf,fd->btd", inputs=("activation",), weight="fd"),
            Einsum("receptance", "btd,do->bto", inputs=("r_mix",), weight="do"),
            Elementwise(
                "gate",
                "btd",
                inputs=("receptance", "value"),
                each=ACTIVATION_FLOPS["sigmoid"] + 1,
                needs="operands",
                apart=("value",),
                inside=1,  # the sigmoid
            ),
        )

    def state(self) -> States:
        """Return the last input."""
        return (State(name="shift", dims="d", of="x"),)

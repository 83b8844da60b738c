"""Multi-head, grouped-query and multi-query attention, with every structural option of real decoders."""

from __future__ import annotations

from dataclasses import field
from typing import ClassVar, Literal

from calc.attention.gate import OutputGate, output_gate
from calc.attention.grouped import Grouped
from calc.errors import SpecError
from calc.fields import Positive
from calc.masks import Causal, Mask
from calc.operations import Einsum, Elementwise, Norm, Operation, Softmax, State, States, Table
from calc.records import named_record, replace


@named_record
class GQA(Grouped):
    """Grouped-query attention; MHA when ``n_kv_heads = n_heads``, MQA when it is 1.

    Softmax(q kᵀ / √d_h + positions) v over h query heads that share h_kv key-value heads.
    Parameters: d·h·d_h + d·h_kv·(d_h + d_v) + h·d_v·d. Cache per token: h_kv·(d_h + d_v). Matmul FLOPs: 2 × parameters
    per token and 2·h·(d_h + d_v) per visible pair. The addition of a mask to the scores is not counted.

    Source: Vaswani et al. 2017, arXiv:1706.03762 §3.2; Shazeer 2019, arXiv:1911.02150; Ainslie et al. 2023,
    arXiv:2305.13245.

    Raises:
        SpecError: n_heads is not divisible by n_kv_heads; more rotary dimensions than the head has.

    >>> GQA(n_heads=32, n_kv_heads=8, head_dim=128).bind()
    {'k': 8, 'g': 4, 'h': 128}
    """

    source: ClassVar[str] = "Ainslie et al. 2023, arXiv:2305.13245"
    kind: Literal["gqa"] = "gqa"
    n_heads: Positive
    n_kv_heads: Positive
    head_dim: Positive
    v_head_dim: Positive | None = None
    """Width of a value head where it differs from ``head_dim``."""
    q_lora_rank: Positive | None = None
    """Queries pass a narrower vector of this width, with a norm over it, before they become heads (Step3's multi-matrix
    factorisation, arXiv:2507.19427)."""
    qkv_bias: bool = False
    k_bias: bool | None = None
    """Bias of the key projection where it differs from ``qkv_bias`` (Whisper has none)."""
    o_bias: bool = False
    qk_norm: Literal["rms", "layer"] | None = None
    qk_norm_over: Literal["head", "each_head", "all_heads"] = "head"
    """What the query-key norm covers: one head with one shared scale (Qwen3), one head with a scale of its own
    (Command-R+), or all heads together (OLMo-2)."""
    qk_norm_bias: bool = False
    qk_norm_scale: bool = True
    rotary_dim: Positive | None = None
    """Dimensions of each head that are rotated; None without rotary positions."""
    position_bias: Literal["alibi", "relative"] | None = None
    """A bias added to every score: ALiBi's fixed slopes, or T5's learned buckets."""
    n_buckets: Positive | None = None
    """Rows of the learned bucket table, in the layer that owns it."""
    softcap: bool = False
    """Scores squashed by c·tanh(x / c) (Gemma 2)."""
    sinks: bool = False
    """One learned logit per head that joins the softmax and takes no value (gpt-oss)."""
    scaled: bool = True
    """Scores divided by √d_h (T5 does not)."""
    q_scaled: bool = False
    """Queries multiplied by a number that grows with their position (Llama 4's temperature)."""
    v_norm: bool = False
    """Values normalised for each head, without a scale (Gemma 3n, Gemma 4)."""
    v_scaled: bool = False
    """Values multiplied by a constant (MiMo)."""
    v_from_k: bool = False
    """The key projection makes the values too (Gemma 4's global layers)."""
    shared_kv: bool = False
    """Keys and values are those that an earlier layer keeps: no projections, no cache of its own (Gemma 3n)."""
    output_gate: OutputGate | None = None
    """A sigmoid gate of the input on the result (Qwen3-Next, where one map makes queries and gates)."""
    result_norm: Literal["rms"] | None = None
    """A norm over the results of all heads, before the output projection (BitNet b1.58, arXiv:2504.12285)."""
    gate_bias: bool = False
    """One bias for each head in the gate (Beam)."""
    mask: Mask = field(default_factory=Causal)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rotary_dim is not None and self.rotary_dim > self.head_dim:
            raise SpecError(f"rotary_dim = {self.rotary_dim} is larger than head_dim = {self.head_dim}")
        if self.v_from_k and self.v_head_dim not in (None, self.head_dim):
            raise SpecError(f"v_from_k needs v_head_dim = {self.v_head_dim} to be head_dim = {self.head_dim}")

    def operations(self) -> Table:
        """Return projections, norms, rotation, scores, softmax, values, gate, output."""
        p = "h" if self.v_head_dim is None else "p"
        gate = output_gate(self.output_gate, "kg", p, "values", bias=self.gate_bias)
        result = gate[-1].name if gate else "values"
        if self.result_norm:
            dims, scale = f"btkg{p}", f"kg{p}"
            gate.append(Norm("result_norm", dims, inputs=(result,), kind=self.result_norm, weight=scale, across="kg"))
        return (
            *self._queries(),
            *(() if self.shared_kv else (*self._keys(), *self._values(p))),
            *self._scores(self._queries()[-1].name),
            Einsum("values", f"bkgts,bsk{p}->btkg{p}", inputs=("softmax", "v"), over=self.mask),
            *gate,
            Einsum(
                "o_proj",
                f"btkg{p},kg{p}d->btd",
                inputs=(gate[-1].name if gate else "values",),
                weight=f"kg{p}d",
                bias="d" if self.o_bias else "",
            ),
        )

    def _queries(self) -> list[Operation]:
        bias = "kgh" if self.qkv_bias else ""
        table: list[Operation] = []
        of, width = "x", "d"
        if self.q_lora_rank is not None:
            table.append(Einsum("q_a_proj", "btd,dq->btq", weight="dq"))
            table.append(Norm("q_a_norm", "btq", inputs=("q_a_proj",), kind="rms", weight="q"))
            of, width = "q_a_norm", "q"
        equation = f"bt{width},{width}kgh->btkgh"
        table.append(Einsum("q_proj", equation, inputs=(of,), weight=f"{width}kgh", bias=bias))
        if self.qk_norm:
            table.append(self._norm("q_norm", "btkgh", "q_proj", {"head": "h", "each_head": "kgh", "all_heads": "kgh"}))
        if self.rotary_dim:
            # x·cos + rotate(x)·sin: two products and a sum for each rotated element
            table.append(Elementwise("q_rotary", "btkgr", inputs=(table[-1].name,), each=3))
        if self.q_scaled:
            table.append(Elementwise("q_scaled", "btkgh", inputs=(table[-1].name,), each=1))
        return table

    def _keys(self) -> list[Operation]:
        k_bias = self.qkv_bias if self.k_bias is None else self.k_bias
        table: list[Operation] = [Einsum("k_proj", "btd,dkh->btkh", weight="dkh", bias="kh" if k_bias else "")]
        if self.qk_norm:
            table.append(self._norm("k_norm", "btkh", "k_proj", {"head": "h", "each_head": "kh", "all_heads": "kh"}))
        if self.rotary_dim:
            table.append(Elementwise("k_rotary", "btkr", inputs=(table[-1].name,), each=3))
        return table

    def _values(self, p: str) -> list[Operation]:
        bias, table, of = f"k{p}" if self.qkv_bias else "", list[Operation](), "k_proj"
        if not self.v_from_k:
            table.append(Einsum("v_proj", f"btd,dk{p}->btk{p}", weight=f"dk{p}", bias=bias))
            of = "v_proj"
        if self.v_norm:
            table.append(Norm("v_norm", f"btk{p}", inputs=(of,), kind="rms"))
            of = "v_norm"
        if self.v_scaled:
            table.append(Elementwise("v_scaled", f"btk{p}", inputs=(of,), each=1))
        return table

    def _scores(self, query: str) -> list[Operation]:
        table: list[Operation] = [Einsum("scores", "btkgh,bskh->bkgts", inputs=(query, "k"), over=self.mask)]
        logits = "scores"
        for name, each, weight in self._score_steps():
            squashed = name == "softcap"  # whose tanh separate kernels keep
            table.append(
                Elementwise(
                    name,
                    "bkgts",
                    inputs=(logits,),
                    each=each,
                    weight=weight,
                    needs="operands" if squashed else (),
                    apart=(),
                    inside=int(squashed),
                    over=self.mask,
                )
            )
            logits = name
        if self.sinks:
            table.append(Elementwise("sinks", "btkg", inputs=(logits,), each=5, weight="kg"))
        return [*table, Softmax("softmax", "bkgts", inputs=(logits,), over=self.mask)]

    def _norm(self, name: str, dims: str, of: str, weights: dict[str, str]) -> Norm:
        weight = weights[self.qk_norm_over]
        return Norm(
            name,
            dims,
            inputs=(of,),
            kind=self.qk_norm or "rms",
            weight=weight if self.qk_norm_scale else "",
            bias=weight if self.qk_norm_bias else "",
            across=dims[2:-1] if self.qk_norm_over == "all_heads" else "",
        )

    def _score_steps(self) -> list[tuple[str, int, str]]:
        """Return what happens to a score before the softmax: (name, FLOPs per pair, learned table)."""
        steps = [("scale", 1, "")] if self.scaled else []
        if self.softcap:
            steps.append(("softcap", 3, ""))
        if self.position_bias:
            steps.append((self.position_bias, 1, "Bkg" if self.n_buckets else ""))
        return steps

    def state(self) -> States:
        """Return the keys (after norm and rotation) and the values of every visible position."""
        p = "h" if self.v_head_dim is None else "p"
        if self.mask.both_ways:
            return ()  # an encoder keeps nothing: every position is computed at once
        key, value = (self._keys()[-1].name, (self._values(p) or self._keys())[-1].name)
        return (
            State(name="k", dims="skh", of=key, over=self.mask, tied=self.shared_kv),
            State(name="v", dims=f"sk{p}", of=value, over=self.mask, tied=self.shared_kv),
        )

    def uncompressed(self) -> States:
        """Return a key and a value for every query head."""
        return tuple(replace(state, dims=state.dims.replace("k", "kg")) for state in self.state())

"""Mixture of experts: a router, routed experts of which a token uses a few, and experts shared by all tokens."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import ClassVar, Literal

from calc.activations import Activation
from calc.errors import SpecError
from calc.ffn import FeedForward
from calc.ffn.dispatch import ExpertEinsum
from calc.fields import Positive
from calc.operations import Einsum, Elementwise, Lookup, Norm, Operation, Softmax, Table, TopK, activation
from calc.records import named_record
from calc.routing import buffer_size

Scoring = Literal["softmax", "sigmoid", "sqrtsoftplus"]

SCORING_FLOPS: dict[str, int] = {
    "sigmoid": 3,  # exp, add, divide
    "sqrtsoftplus": 4,  # √ log(1 + exp x): exp, add, log, root
}
"""FLOPs per score; a softmax has its own rule."""

EXPERT_CHOICE_HAS_NO = ("correction_bias", "normalised", "routed_scale", "expert_scale", "capacity_factor")
"""Options of routers that choose experts for tokens, not tokens for experts."""


@named_record
class MoE(FeedForward):
    """Routed and shared experts: Σ_{e in top-k} g_e(x) · FFN_e(x) + FFN_shared(x), with weights g from a router.

    Parameters: router d·E, routed experts E·3·d·d_x (2·d·d_x without a gate), shared experts 3·d·d_s. A token uses k of
    the E routed ones: *active*. A batch of n tokens *touches* E·(1 − (1 − k/E)^n) of them when routing is even.
    Matmul FLOPs per token: 2·(d·E + k·3·d·d_x + 3·d·d_s); sorting and copying tokens to their experts is no FLOP.

    Llama 4's published code multiplies every expert with every token (weighted by zero): E/k times the expert FLOPs
    counted here. GShard's and Switch's one-hot dispatch products are not counted either.

    Source: Shazeer et al. 2017, arXiv:1701.06538; GShard, arXiv:2006.16668; Switch, arXiv:2101.03961; shared experts:
    DeepSeekMoE, arXiv:2401.06066; sigmoid scores, correction bias and groups: DeepSeek-V3, arXiv:2412.19437 §2.1.2.

    Raises:
        SpecError: more active experts than there are; groups that do not divide the experts or hold too few of them;
            a gate on shared experts that do not exist; limits on a gate that does not exist; a capacity factor that
            is not positive; options that do not go with the way of choosing.

    >>> moe = MoE(n_experts=256, n_active_experts=8, d_expert=2048, d_shared=2048, correction_bias=True)
    >>> sum(op.parameters({"d": 7168, **moe.bind()}) for op in moe.operations())
    11320164608
    """

    source: ClassVar[str] = "Shazeer et al. 2017, arXiv:1701.06538; DeepSeek-V3, arXiv:2412.19437 §2.1.2"
    kind: Literal["moe"] = "moe"
    n_experts: Positive
    n_active_experts: Positive
    """Experts that each token uses; with expert choice, that it uses on average (the capacity factor)."""
    d_expert: Positive
    activation: Activation = "silu"
    gated: bool = True
    expert_bias: bool = False
    """A bias in every matrix of the routed experts (gpt-oss)."""
    clamped: bool = False
    """Gate and up projections limited before the activation (gpt-oss, DeepSeek-V4)."""
    up_offset: bool = False
    """One added to the up projection (gpt-oss: act(gate) · (up + 1))."""

    n_zero_experts: Positive | None = None
    """Further choices of the router that return a token as it is: k counts them, so it is the most that a token uses
    (LongCat-Flash)."""
    d_shared: Positive | None = None
    """Hidden width of all shared experts together."""
    shared_bias: bool = False
    shared_gate: bool = False
    """A sigmoid gate on the shared experts' output, from one weight per channel (Qwen)."""

    scoring: Scoring = "softmax"
    scores_of: Literal["all", "chosen"] = "all"
    """Whether the scoring function sees the logits of all experts or only of the chosen (gpt-oss, Granite, Llama 4)."""
    normalised: bool = False
    """The chosen weights divided by their sum (Mixtral, DeepSeek-V3)."""
    routed_scale: bool = False
    """The chosen weights multiplied by a constant (DeepSeek's routed_scaling_factor)."""
    router_bias: bool = False
    """A bias in the router's linear layer (gpt-oss)."""
    correction_bias: bool = False
    """A stored bias that takes part in choosing experts and not in weighting them (DeepSeek-V3)."""
    router_groups: Positive | None = None
    """Groups of experts; a token's experts come from ``router_topk_groups`` of them."""
    router_topk_groups: Positive | None = None
    group_score: Literal["top2", "max"] = "top2"
    """What ranks a group: the sum of its two best scores (DeepSeek-V3), or its best (V2)."""
    router_norm: bool = False
    """An RMSNorm with a learned scale per channel before the router (Gemma 4)."""
    expert_scale: bool = False
    """A learned factor per expert on the chosen weights (Gemma 4)."""
    choice: Literal["token", "expert", "hash"] = "token"
    """Tokens choose experts; experts choose tokens (Zhou et al. 2022, arXiv:2202.09368); or a stored table maps every
    token id to its experts (DeepSeek-V4's first layers)."""
    capacity_factor: float | None = None
    """Experts work on buffers of ⌈c·tokens·k/E⌉ tokens and drop the rest (Switch, GShard); None drops nothing."""
    weighted: Literal["output", "input"] = "output"
    """Whether the router's weight multiplies what leaves an expert, or what enters it (Llama 4)."""

    d_latent: Positive | None = None
    """Tokens are projected to this width before the experts and back after them (Nemotron-3)."""
    latent_bias: bool = False
    latent_norm: bool = False
    """An RMSNorm over the sum of the experts' results, before they are projected back (Kimi K3)."""
    output_bias: bool = False
    """One bias on the sum of the experts' results (JetMoE)."""
    branch_norms: bool = False
    """RMSNorms after the shared branch, before and after the routed branch (Gemma 4)."""

    def __post_init__(self) -> None:
        if self.n_active_experts > self.n_experts:
            raise SpecError(f"n_active_experts = {self.n_active_experts} is more than n_experts = {self.n_experts}")
        if self.shared_gate and self.d_shared is None:
            raise SpecError("shared_gate = true needs d_shared")
        if (self.latent_bias or self.latent_norm) and self.d_latent is None:
            raise SpecError("latent_bias and latent_norm need d_latent")
        if (self.clamped or self.up_offset) and not self.gated:
            raise SpecError("clamped and up_offset need gated = true")
        if self.capacity_factor is not None and not 0 < self.capacity_factor < float("inf"):
            raise SpecError(f"capacity_factor = {self.capacity_factor} is not a positive number")
        plain = {"hash": ("correction_bias", "router_groups"), "expert": (*EXPERT_CHOICE_HAS_NO, "router_groups")}
        refused = [name for name in plain.get(self.choice, ()) if getattr(self, name)]
        if refused or (self.choice == "expert" and self.scores_of == "chosen"):
            raise SpecError(f"choice = {self.choice!r} cannot have {', '.join(refused) or 'scores_of = chosen'}")
        groups, chosen = self.router_groups, self.router_topk_groups
        if (groups is None) != (chosen is None):
            raise SpecError("router_groups and router_topk_groups go together")
        if groups is None or chosen is None:
            return
        if self.n_experts % groups:
            raise SpecError(f"n_experts = {self.n_experts} is not divisible by router_groups = {groups}")
        if not chosen <= groups or self.n_active_experts > chosen * (self.n_experts // groups):
            raise SpecError(
                f"router_topk_groups = {chosen} of {groups} groups do not hold n_active_experts = "
                f"{self.n_active_experts} of {self.n_experts} experts"
            )

    @property
    def n_routes(self) -> int:
        """Experts that the router chooses from."""
        return self.n_experts + (self.n_zero_experts or 0)

    @property
    def capacity(self) -> Fraction | None:
        """The capacity factor as the exact decimal that was written."""
        return None if self.capacity_factor is None else Fraction(str(self.capacity_factor))

    def buffer(self, tokens: int) -> int | None:
        """Return how many of ``tokens`` tokens one expert can take; None when nothing is dropped.

        >>> MoE(n_experts=128, n_active_experts=1, d_expert=3072, capacity_factor=1.25).buffer(65536)
        640
        """
        if self.capacity is None:
            return None
        size: int = buffer_size(tokens, self.n_experts, self.n_active_experts, self.capacity)
        return size

    def label(self) -> str:
        """Return the kind, and how many of how many experts."""
        shared = " + shared" if self.d_shared else ""
        return f"moe {self.n_active_experts}/{self.n_experts}{shared}"

    def operations(self) -> Table:
        """Return router, routed experts, shared experts, and their sum."""
        table = [*self._router(), *self._routed()]
        routed = table[-1].name
        if self.d_shared:
            table += self._shared()
            table.append(Elementwise("sum", "btd", inputs=(routed, table[-1].name), each=1))
        if self.output_bias:
            table.append(Elementwise("output_bias", "btd", inputs=(table[-1].name,), each=1, weight="d"))
        return tuple(table)

    def _router(self) -> Iterator[Operation]:
        """Yield logits, scores, choice, weights."""
        entry, e = "x", "ε" if self.n_zero_experts else "e"
        if self.router_norm:
            yield Norm("router_norm", "btd", kind="rms", weight="d", part="router")
            entry = "router_norm"
        bias = e if self.router_bias else ""
        yield Einsum("router", f"btd,{e}d->bt{e}", inputs=(entry,), weight=f"{e}d", bias=bias, part="router")
        scores = "router"
        if self.scores_of == "all":
            yield self._scores(f"bt{e}", scores)
            scores = "router_scores"
        if self.correction_bias:
            yield Elementwise("correction_bias", f"bt{e}", inputs=(scores,), each=1, weight=e, part="router")
            scores = "correction_bias"
        if self.router_groups:
            yield TopK("group_scores", "btγ", scanned=f"bt{e}", inputs=(scores,), part="router")
            yield TopK("groups", "btγ", scanned="btγ", inputs=("group_scores",), part="router")
        if self.choice == "hash":
            yield Lookup("choice", "btj", table="vj", part="router")
        else:
            picks = self.scores_of == "chosen"
            yield TopK("choice", "btj", scanned=f"bt{e}", inputs=(scores,), picks=picks, part="router")
        if self.scores_of == "chosen":
            yield self._scores("btj", "choice")
        if self.normalised:
            yield Elementwise(
                "normalise", "btj", inputs=("choice",), each=2, needs="operands", part="router"
            )  # a sum and a division
        if self.routed_scale:
            yield Elementwise("routed_scale", "btj", inputs=("choice",), each=1, part="router")
        if self.expert_scale:
            yield Elementwise(
                "expert_scale", "btj", inputs=("choice",), each=1, weight="e", needs="operands", inside=1, part="router"
            )

    @property
    def _weight(self) -> str:
        """The operation that makes the chosen weights, as they are sent to the experts."""
        if self.expert_scale:
            return "expert_scale"
        if self.routed_scale:
            return "routed_scale"
        return "normalise" if self.normalised else "choice"

    def _scores(self, dims: str, of: str) -> Operation:
        if self.scoring == "softmax":
            return Softmax("router_scores", dims, inputs=(of,), part="router")
        each = SCORING_FLOPS[self.scoring]
        # a root keeps its result, softplus its operand
        apart = None if self.scoring == "sigmoid" else (of, "router_scores")
        return Elementwise("router_scores", dims, inputs=(of,), each=each, needs="result", apart=apart, part="router")

    def _expert(self, name: str, equation: str, weight: str, bias: str, entry: str) -> Operation:
        return ExpertEinsum(
            name,
            equation,
            inputs=(entry,),
            weight=weight,
            bias=bias if self.expert_bias else "",
            capacity=self.capacity,
            even=self.choice == "expert",
        )

    def _routed(self) -> Iterator[Operation]:
        """Yield the way to the experts, the experts, and the weighted sum of what they return."""
        width, entry = ("λ" if self.d_latent else "d"), "x"
        if self.branch_norms:
            yield Norm("routed_norm", "btd", kind="rms", weight="d")
            entry = "routed_norm"
        if self.d_latent:
            bias = "λ" if self.latent_bias else ""
            yield Einsum("latent_down_proj", "btd,dλ->btλ", inputs=(entry,), weight="dλ", bias=bias)
            entry = "latent_down_proj"
        if self.weighted == "input":
            inputs = (entry, self._weight)
            # a copy of the token for each of its experts is made inside
            yield Elementwise(
                "weigh", f"btj{width}", inputs=inputs, each=1, needs="operands", apart=inputs[1:], inside=1
            )
            entry = "weigh"
        inner = f"bt{'j' if entry == 'weigh' else ''}{width},e{width}x->btjx"
        if self.gated:
            yield self._expert("gate_proj", inner, f"e{width}x", "ex", entry)
        yield self._expert("up_proj", inner, f"e{width}x", "ex", entry)
        yield from self._activation("", "btjx")
        out = f"btjx,ex{width}->btj{width}"
        yield self._expert("down_proj", out, f"ex{width}", f"e{width}", "gated" if self.gated else "activation")
        # each of the k results is weighted (unless its input was) and added
        each = 2 if self.weighted == "output" else 1
        inputs = ("down_proj", self._weight)
        # separate kernels keep what they add to a token's result
        if self.weighted == "output":
            yield Elementwise("combine", f"btj{width}", inputs=inputs, each=each, needs="operands", inside=1)
        else:
            yield Elementwise("combine", f"btj{width}", inputs=inputs, each=each, apart=("down_proj",))
        if self.d_latent:
            bias, last = "d" if self.latent_bias else "", "combine"
            if self.latent_norm:
                last = "latent_norm"
                yield Norm(last, "btλ", inputs=("combine",), kind="rms", weight="λ")
            yield Einsum("latent_up_proj", "btλ,λd->btd", inputs=(last,), weight="λd", bias=bias)
        if self.branch_norms:
            last = "latent_up_proj" if self.d_latent else "combine"
            yield Norm("routed_post_norm", "btd", inputs=(last,), kind="rms", weight="d")

    def _activation(self, prefix: str, dims: str) -> Iterator[Operation]:
        """Yield the limits, the activation and the product with the up projection."""
        if self.clamped:
            # the gate has an upper limit, the up projection two
            inputs = (f"{prefix}gate_proj", f"{prefix}up_proj")
            yield Elementwise(f"{prefix}clamp", dims, inputs=inputs, each=3, needs="operands")
        entry = f"{prefix}gate_proj" if self.gated else f"{prefix}up_proj"
        if self.clamped and self.gated:
            entry = f"{prefix}clamp"
        yield activation(f"{prefix}activation", dims, entry, self.activation)
        if self.gated:
            inputs = (f"{prefix}activation", f"{prefix}up_proj")
            offset = self.up_offset
            # a limited up projection, or one with one added, is a result of its own to separate kernels
            changed = self.clamped or offset
            yield Elementwise(
                f"{prefix}gated",
                dims,
                inputs=inputs,
                each=1 + offset,
                needs="operands",
                apart=inputs[:1] if changed else None,
                inside=int(changed),
            )

    def _shared(self) -> Iterator[Operation]:
        """Yield the shared experts as one network of their joint width, its gate, its norm."""
        inner = "y" if self.shared_bias else ""
        if self.gated:
            yield Einsum("shared_gate_proj", "btd,dy->bty", weight="dy", bias=inner)
        yield Einsum("shared_up_proj", "btd,dy->bty", weight="dy", bias=inner)
        yield from self._activation("shared_", "bty")
        last = "shared_gated" if self.gated else "shared_activation"
        bias = "d" if self.shared_bias else ""
        yield Einsum("shared_down_proj", "bty,yd->btd", inputs=(last,), weight="yd", bias=bias)
        last = "shared_down_proj"
        if self.shared_gate:
            yield Einsum("shared_gate", "btd,d->bt", weight="d")
            yield Elementwise("shared_gate_sigmoid", "bt", inputs=("shared_gate",), each=3, needs="result")
            inputs = ("shared_gate_sigmoid", last)
            yield Elementwise("shared_gate_product", "btd", inputs=inputs, each=1, needs="operands")
            last = "shared_gate_product"
        if self.branch_norms:
            yield Norm("shared_norm", "btd", inputs=(last,), kind="rms", weight="d")

"""What a model is to a scaling law: its N as each law counts it, and the compute that its tables cost."""

from __future__ import annotations

from calc.errors import SpecError
from calc.ffn.moe import MoE
from calc.model import Model
from calc.records import Record, named_record
from calc.scaling.laws import Counted


@named_record
class Size(Record):
    """The sizes that laws speak of, in parameters, and the routing that mixture-of-experts laws speak of.

    ``expansion``: routed and shared experts over those that a token uses; 1 for a dense model. ``granularity``: experts
    that a token uses, which is d_ff/d_expert when they are together as wide as the dense layer.
    """

    total: int
    non_embedding: int
    active: int
    expansion: float
    granularity: int

    @classmethod
    def of(cls, model: Model) -> Size:
        """Read the sizes off a model's tables."""
        params = model.params()
        experts = [layer.ffn for layer in model.kinds_of_layer() if isinstance(layer.ffn, MoE)]
        blocks = [block for block in model.blocks() if block.name in ("ffn", "ffn_beside")]
        held = sum(b.repeat * op.parameters(b.letters) for b in blocks for part, op in b.parts() if part == "ffn")
        used = sum(
            b.repeat * op.active_parameters(b.letters) for b in blocks for part, op in b.parts() if part == "ffn"
        )
        return cls(
            total=params.total,
            non_embedding=params.total - params.embedding - params.head,
            active=params.active,
            expansion=held / used if experts and used else 1.0,
            granularity=max((one.n_active_experts for one in experts), default=1),
        )

    def counted(self, what: Counted) -> int:
        """Return N as a law counts it; for a mixture of experts, dense laws are given what a token uses.

        A dense law knows no experts that stand idle: of the total, only the active parameters are meant.
        """
        if what == "active" or (what == "total" and self.expansion > 1):
            return self.active
        if self.expansion > 1:
            return self.non_embedding - (self.total - self.active)
        return self.total if what == "total" else self.non_embedding


def training_flops_per_token(model: Model, context: int) -> float:
    """Return the FLOPs of training on one token, forward and backward, read off the tables at a sequence length.

    Formula: ``training_flops(context) / context``; about 6·N and 12·n_layers·n_heads·head_dim·context/2 for attention.

    Raises:
        SpecError: a context that is not positive.

    >>> import calc
    >>> model = calc.load("llama-3-8b")
    >>> round(training_flops_per_token(model, 8192) / (6 * model.params().total), 3)
    1.068
    """
    if context < 1:
        raise SpecError(f"context = {context} is not positive")
    return float(model.training_flops(context)) / context

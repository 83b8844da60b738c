"""A pass through a model: how many sequences and tokens, in which phase, and what is done in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from calc.algebra import Number, ceil_div
from calc.errors import SpecError
from calc.layers import Block
from calc.operations import Env, Operation, Phase
from calc.records import Record, named_record
from calc.tensors import WHOLE


@named_record
class Pass(Record):
    """One pass through the model: b sequences, t new tokens each at the end of s positions, m source tokens.

    ``causal`` counts the pairs that masks let through; False counts what an eager dense kernel computes. ``skew`` is
    the Zipf exponent of the experts' popularity, which decides how many of them a batch touches; 0 is even.
    """

    batch: Number = 1
    tokens: Number
    context: Number
    source: Number
    phase: Phase = "prefill"
    causal: bool = True
    skew: float = 0
    width: Number | None = None
    """Patches in a row where the tokens are an image's (``calc.grid_masks.Windows``)."""

    def __post_init__(self) -> None:
        for name in ("batch", "tokens", "context", "source"):
            value = getattr(self, name)
            if getattr(getattr(value, "dtype", None), "kind", "") in ("i", "u"):
                # numpy's whole numbers overflow where Python's do not, and arrays of floats do not
                value = self.__dict__[name] = value.astype(float) if value.ndim else value.item()
            if isinstance(value, int) and value < 0:
                raise SpecError(f"{name} = {value} is negative")

    @classmethod
    def prefill(cls, context: Number, batch: Number = 1, *, source: Number = None, causal: bool = True) -> Pass:
        """Return the pass over a whole prompt: t = s = context; an encoder reads ``source`` tokens (as many)."""
        source = context if source is None else source
        return cls(batch=batch, tokens=context, context=context, source=source, causal=causal)

    @classmethod
    def decode(cls, context: Number, batch: Number = 1, *, source: Number = None, causal: bool = True) -> Pass:
        """Return one step: one new token per sequence, which sees ``context`` positions, itself included."""
        source = context if source is None else source
        return cls(batch=batch, tokens=1, context=context, source=source, phase="decode", causal=causal)

    def env(self, encoder: bool = False) -> dict[str, Number]:
        """Bind b, t, s and m on the decoder's or the encoder's side."""
        more = {"ζ": self.skew} if self.skew else {}
        more |= {} if self.width is None else {"ϵ": self.width}
        if encoder:
            return {"b": self.batch, "t": self.source, "s": self.source, "m": self.source, **more}
        return {"b": self.batch, "t": self.tokens, "s": self.context, "m": self.source, **more}


def environment(block: Block, pass_: Pass, operation: Operation | None = None) -> Env:
    """Bind a table's letters for one pass, as all of the table sees them or one of its operations.

    Of a sharded table they are those of one rank: where ranks share a sequence (``μ``), or the tokens of an operation
    (``split``), the new tokens are divided, rounded up; at a decode step, where they are few, sequences are instead.
    """
    env = {**pass_.env(block.encoder), **block.letters}
    if "μ" in env and pass_.phase == "prefill":
        env |= {WHOLE: env["t"], "t": ceil_div(env["t"], env["μ"])}
    if operation is not None and operation.split > 1:
        divided = "t" if pass_.phase == "prefill" else "b"
        env[divided] = ceil_div(env[divided], operation.split)
    return env


def runs(block: Block, operation: Operation, pass_: Pass) -> bool:
    """Tell whether an operation is done in this phase: what belongs to the prompt alone is not at a decode step."""
    return operation.phase in (None, pass_.phase) and not (block.encoder and pass_.phase == "decode")


def running(blocks: Iterable[Block], pass_: Pass) -> Iterator[tuple[Block, Operation, Env]]:
    """Yield every operation done in a pass, with its bound letters."""
    for block in blocks:
        env = environment(block, pass_)
        for operation in block.operations:
            if runs(block, operation, pass_):
                yield block, operation, env if operation.split == 1 else environment(block, pass_, operation)

"""Small but structurally honest sizes at which every mechanism is proven: one file a mechanism, ``SAMPLES`` in it.

Sizes are odd and unequal, so that no mistake cancels; contexts are longer than windows, so that masks matter.
"""

from __future__ import annotations

from importlib import import_module

from calc.errors import UnknownName
from calc.mechanism import Mechanism
from calc.modality.tower import Tower
from calc.model import Block, Model, Pass
from calc.records import Record, record

STRUCTURES = ("embedding", "head", "layer", "encoder_decoder", "extras", "mtp", "tower")
"""What is no mechanism of its own and is proven in small models."""


@record
class Sample(Record):
    """A mechanism or a model at a size, and the passes that it is run with.

    ``context`` tokens of ``batch`` sequences are read, then ``steps`` more one at a time; ``source`` is the length on
    the encoder's side.
    """

    name: str
    spec: Mechanism | Model | Tower
    d_model: int = 24
    batch: int = 2
    context: int = 11
    steps: int = 3
    source: int = 7
    vocab_size: int = 31
    width: int | None = None
    """Patches in a row of an image."""

    def prefill(self, causal: bool) -> Pass:
        """Return the pass over all of it."""
        return Pass(
            batch=self.batch,
            tokens=self.context,
            context=self.context,
            source=self.source,
            causal=causal,
            width=self.width,
        )

    def further(self) -> list[Block]:
        """Return the tables of what only training runs: modules that predict further tokens."""
        return self.spec.mtp_blocks() if isinstance(self.spec, Model) else []

    def blocks(self) -> list[Block]:
        """Return its tables, with their letters bound."""
        if isinstance(self.spec, (Model, Tower)):
            return self.spec.blocks()
        block = Block.of(str(getattr(self.spec, "kind", "")), self.spec)
        own = {"d": self.d_model, "o": self.d_model, "v": self.vocab_size}
        return [Block(**{**vars(block), "letters": {**own, **block.letters}})]


def kinds() -> tuple[str, ...]:
    """Return the names of all mechanisms, and of the structures around them."""
    from calc.attention import KINDS as MIXERS
    from calc.ffn import KINDS as NETWORKS

    return (*MIXERS, *NETWORKS, *STRUCTURES)


def samples(kind: str) -> tuple[Sample, ...]:
    """Return the sizes at which a mechanism is proven.

    Raises:
        UnknownName: there is no such mechanism.
    """
    if kind not in kinds():
        raise UnknownName("mechanism", kind, kinds())
    found: tuple[Sample, ...] = import_module(f"calc.validate.samples.{kind}").SAMPLES
    return found

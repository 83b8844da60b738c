"""The way through a layer: in which order its operations run, and what enters each part as the stream goes on."""

from __future__ import annotations

from collections.abc import Mapping

from calc.layers import Block
from calc.operations import Norm, Operation
from calc.saved.keeping import Tensor

BESIDE = {"beside": "attention", "laurel": "attention"}
"""Parts that read what another part reads, through its norm."""


class Order:
    """The forward pass through the tables of one layer, or through a table outside the layers.

    ``operations`` are in the order in which they run: norms before their part, residuals after it. ``entries`` is what
    enters each part, ``streams`` what an operation between parts reads under a name. ``elsewhere`` are tensors from
    outside that another table keeps: the states that a prediction module starts from.
    """

    def __init__(self, blocks: Mapping[str, Block], tables: Mapping[str, list[Operation]]) -> None:
        self.operations: list[tuple[Block, Operation]] = []
        self.entries: dict[str, Tensor] = {}
        self.streams: dict[tuple[str, str], Tensor] = {}
        self.elsewhere: set[Tensor] = set()
        self._blocks, self._tables = blocks, tables
        self._waiting = {name: block for name, block in blocks.items() if name != "residual"}
        self._normed: dict[str, Tensor] = {}
        """What the norm before a part made."""
        self._given: dict[str, Tensor] = {}
        """The latest result of a part, of what stands between it and the stream."""
        first, around = next(iter(blocks.values())), blocks.get("residual")
        if around is None or not first.layer:
            self._alone((first.path if first.layer else first.name, "x"))
            return
        self._stream = self._enters = (around.path.removesuffix(".residual"), "x")
        self._before(around)
        for operation in tables["residual"]:
            self._between(around, operation)
        self._after()

    def _alone(self, enters: Tensor) -> None:
        """Pass through tables that no stream joins; a head reads what the final norm makes."""
        for name, block in self._waiting.items():
            read = self._tables["final_norm"] if name in ("head", "pooler") and "final_norm" in self._waiting else []
            self.entries[name] = ("final_norm", read[-1].name) if read else enters
            self.operations.extend((block, op) for op in self._tables[name])

    def _run(self, name: str, entry: Tensor) -> None:
        """Pass through a part that has waited."""
        block, table = self._waiting.pop(name), self._tables[name]
        self.entries[name] = entry
        self.operations.extend((block, op) for op in table)
        if table:
            self._given[name] = (block.path, table[-1].name)

    def _before(self, around: Block) -> None:
        """Pass through what stands before the layer in its module, and makes its input."""
        later = {name for operation in around.operations for name in operation.inputs}
        for name in list(self._waiting):
            if name in later or f"{name.removesuffix('_hyper')}_hyper" in self._blocks:
                break
            outside = (self._waiting[name].path, "x")
            self.elsewhere.add(outside)
            self._run(name, outside)
            self._stream = self._enters = self._given[name]

    def _between(self, around: Block, operation: Operation) -> None:
        """Pass through a norm or a residual, after the parts that it reads."""
        own, part = (around.path, operation.name), operation.name.removesuffix("_norm")
        parts = [name for name in operation.inputs if name != "x"]
        for name in parts:
            if name in self._waiting:
                normed = self._normed.get(BESIDE.get(name, name), self._normed.get("input"))
                self._run(name, normed or (self._enters if self._first(name, around) else self._stream))
        stream = self._enters if self._first(part, around) and isinstance(operation, Norm) else self._stream
        hyper = self._blocks.get(f"{part}_hyper")
        if hyper and not parts:
            stream = (hyper.path, "collapse")
        for name in operation.inputs:
            self.streams[operation.name, name] = stream if name == "x" else self._given.get(name, (around.path, name))
        self.operations.append((around, operation))
        if not parts:
            self._normed[part] = own
        elif "x" in operation.inputs:
            self._stream = own
        else:
            self._given[parts[0]] = own

    def _first(self, part: str, around: Block) -> bool:
        """Tell whether a part reads what enters the layer, not what the part before has added to."""
        return around.parallel or (part == "ffn" and "ffn_beside" in self._blocks)

    def _after(self) -> None:
        """Pass through the parts that nothing between them reads."""
        for name in list(self._waiting):
            self._run(name, self._normed.get(BESIDE.get(name, name), self._stream))
            if name not in BESIDE and self._waiting:
                self._stream = self._given[name]

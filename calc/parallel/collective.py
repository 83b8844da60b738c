"""One kind of exchange between ranks, and the formats of what is exchanged."""

from __future__ import annotations

from typing import Literal, TypeAlias

from calc.algebra import Number
from calc.parallel.layout import Group, Layout
from calc.records import Record, named_record
from calc.units import Format, dtype

Kind: TypeAlias = Literal["all_reduce", "all_gather", "reduce_scatter", "all_to_all", "send_recv"]
Direction: TypeAlias = Literal["forward", "backward", "step"]


@named_record
class Collective(Record):
    """An exchange that one rank takes part in, ``count`` times in a pass (``direction`` forward, backward) or a step.

    ``bytes`` is the whole tensor as one rank sees it: what an all-reduce adds up, what an all-gather ends with, what a
    reduce-scatter starts with, the buffer that an all-to-all sends from (its own part included), the message of a send.
    The group has ``size`` ranks, each ``stride`` ranks from the next, from rank ``first`` on; ``abreast`` groups side
    by side wait for each other. ``after`` is the path of the table and the operation whose result it is.
    """

    kind: Kind
    bytes: Number
    size: int
    stride: int = 1
    first: int = 0
    abreast: int = 1
    count: Number = 1
    axis: Group
    after: str
    direction: Direction

    @property
    def span(self) -> int:
        """Devices from the first to the last rank of the groups: which links they cross."""
        return (self.size - 1) * self.stride + self.abreast

    @property
    def sent(self) -> Number:
        """Bytes that a rank must send, all times together.

        With n ranks: 2·(n − 1)/n of the tensor for an all-reduce, (n − 1)/n for the others, a message whole (Thakur et
        al. 2005, doi:10.1177/1094342005051521 §4).
        """
        share = 1 if self.kind == "send_recv" else (self.size - 1) / self.size
        return self.count * self.bytes * share * (2 if self.kind == "all_reduce" else 1)


@named_record
class Wire(Record):
    """Number formats of what is exchanged.

    ``gradient`` is what data-parallel ranks add up: fp32 in Megatron (``accumulate_allreduce_grads_in_fp32``) and
    torchtitan (``mixed_precision_reduce``), bf16 in DeepSpeed. ``dispatch`` and ``combine`` are what goes to the
    experts and comes back (DeepSeek-V3: fp8 and bf16, arXiv:2412.19437 §3.2.2).
    """

    activation: str = "bf16"
    weight: str = "bf16"
    gradient: str = "fp32"
    dispatch: str | None = None
    combine: str | None = None

    def of(self, what: Literal["activation", "weight", "gradient", "dispatch", "combine"]) -> Format:
        """Return the format of one of them."""
        return dtype(getattr(self, what) or self.activation)


@named_record
class Ways(Record):
    """How frameworks exchange what the tables leave open.

    ``dispatch``: tokens go to each of their experts (Megatron's ``alltoall``), every rank gets all of them
    (``all_gather``: Megatron's ``allgather``, vLLM's default), or each goes once to every rank that holds one of its
    experts (DeepEP, https://github.com/deepseek-ai/DeepEP; the expected number for independent, even choices).
    ``ring``: how context-parallel ranks share keys and values: passed on in a ring, gathered by all (Llama 3,
    arXiv:2407.21783 §3.3.2), or each rank gets all tokens of some heads (Jacobs et al. 2023, arXiv:2309.14509);
    Megatron's ``cp_comm_type`` p2p, all_gather, a2a. ``regather``: with sequence parallelism the inputs of divided
    matrices are saved as shares and gathered once more for the weights' gradients (Megatron). ``reshard``: weights
    that ZeRO-3 gathers are given up after the forward pass and gathered again (FSDP's ``FULL_SHARD``). ``recompute``:
    with ``full`` the layers' forward pass is done once more in the backward pass.
    """

    dispatch: Literal["all_to_all", "all_gather", "once_per_rank"] = "all_to_all"
    ring: Literal["ring", "all_gather", "all_to_all"] = "ring"
    regather: bool = True
    reshard: bool = True
    recompute: Literal["none", "selective", "full"] = "none"


def group_of(layout: Layout, axis: Group) -> dict[str, int]:
    """Return the size and the stride of a group as a collective takes them."""
    size, stride = layout.group(axis)
    return {"size": size, "stride": stride}

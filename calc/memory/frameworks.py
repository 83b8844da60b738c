"""Training frameworks as far as memory is concerned: what each keeps beside tensors that any must keep, with sources.

A preset (``presets/frameworks/NAME.toml``) states the behaviour of one version of one framework.
"""

from __future__ import annotations

import tomllib
from functools import cache
from typing import Any, Literal, TypeAlias

from calc.catalog import names, presets_folder
from calc.errors import UnknownName
from calc.records import Record, named_record

GradientForm: TypeAlias = Literal["fp32", "weights"]
ContextExchange: TypeAlias = Literal["ring", "all_to_all"]


@named_record
class Framework(Record):
    """What a training framework keeps on a device. Units: bytes, or shares of what is allocated.

    ``fused``: norms, chains of elementwise operations and the loss are kernels of their own; otherwise PyTorch's
    separate kernels, of which ``wide_norms`` says that norms keep their input in fp32.
    """

    name: str
    title: str
    source: str
    attention: Literal["eager", "flash"] = "flash"
    fused: bool = True
    wide_norms: bool = False

    fp32_weights: bool = False
    """Under mixed precision the stored weights are fp32, and computing casts them: they are the master copy."""
    gradient_form: GradientForm = "fp32"
    half_gradient_form: GradientForm = "fp32"
    """The same when training in fp16."""
    gradients_stay: bool = True
    """Gradients are a buffer that is there all along, not made as the backward pass goes."""
    gradients_added: bool = True
    """Products add into that buffer; otherwise a weight's gradient is a tensor of its own first."""
    stand_ins: bool = False
    """A tensor of each distinct shape stands in for gradients that were added into the buffer."""

    ties: bool = True
    """A head tied to the embedding is the same tensor; otherwise it is a copy."""
    result_copied: bool = False
    """The attention's result is copied into another layout for the output projection."""
    whole_operands: bool = False
    """What sequence-parallel ranks gather for a product is kept whole, not gathered again."""
    pipeline_gathered: bool = False
    """In a pipeline, weights stay whole and gradients unshared from micro-batch to micro-batch."""
    unshared_accumulation: bool = False
    """Gradients are shared out at the last micro-batch alone: until then each rank keeps all of them."""
    gathered_units: int = 2
    """Layers whose weights are whole at once when shards are gathered: one in use, one fetched ahead."""
    frozen_stay_gathered: bool = False
    """Layers without a trained weight of their own are not freed after the backward pass (FSDP1's hook)."""

    loss_bytes: int
    """Bytes per logit at the loss's peak, the logits themselves included."""
    fused_loss_bytes: int
    """The same with a fused cross entropy."""
    shared_loss_bytes: int | None = None
    """The same where tensor-parallel ranks share the vocabulary, if that is done otherwise."""
    loss_chunks: int = 1
    """Parts that logits are computed and dropped in, one after the other."""
    context_exchange: ContextExchange = "ring"
    """How ranks that share a sequence attend. All-to-all keeps the attention's result twice, as its kernel and as the
    output projection need it."""

    stage_outputs_stay: bool = False
    """What a pipeline stage sends is kept until its backward pass."""
    receive_buffers: bool = False
    """A pipeline stage has a buffer for what each micro-batch sends it, in either direction."""
    bucket_bytes: int = 0
    """Fixed buffers of collectives."""
    step_bytes: int = 0
    """Bytes at the optimizer's step for each parameter that this rank updates."""
    step_apart: bool = False
    """The step's tensors are larger than the blocks that activations leave, so that the allocator reserves both."""
    joint_qkv: bool = False
    """Queries, keys and values are views of one product (see ``calc.saved.Keeping``)."""
    repeated_keys: bool = False
    """Keys and values are repeated for the heads that share them."""
    quantised_head: bool = False
    """The head is quantised with the other matrices; by default it stays as it is, in bitsandbytes' way."""
    dequantised_copies: int = 1
    """Copies in 16 bits of a quantised matrix while it multiplies."""
    quantised_inputs_stay: bool = False
    """A product with a quantised frozen weight keeps its operand, though its gradient does not need it."""

    context_bytes: int
    """CUDA context, libraries and collectives' buffers: outside what PyTorch allocates."""
    fragmentation: float
    """What the caching allocator reserves beyond what is allocated, as a share of it."""


@cache
def load_framework(name: str) -> Framework:
    """Return a framework from its preset.

    Raises:
        UnknownName: there is no such framework.

    >>> load_framework("megatron").gradients_stay
    True
    """
    known = names("frameworks")
    if name not in known:
        raise UnknownName("framework", name, known)
    data: dict[str, Any] = tomllib.loads((presets_folder() / "frameworks" / f"{name}.toml").read_text("utf-8"))
    return Framework(name=name, **data)

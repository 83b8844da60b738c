"""Weights stored in several formats, by role: experts in four bits, attention in sixteen, as real checkpoints are.

A scheme looks at one stored tensor at a time – its part, its operation, its shape, its layer – and names a format.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

from calc.algebra import Number
from calc.checks import text
from calc.errors import SpecError, UnknownName
from calc.formats import ALIASES, FORMATS, Format, dtype
from calc.layers import Block
from calc.operations import PARTS, Operation, Weight
from calc.records import Record, named_record, record, replace


@named_record
class Tensor(Record):
    """A stored tensor as a scheme sees it. ``index`` is its place among ``number`` tensors of its name."""

    part: str
    operation: str
    expert: bool
    vector: bool
    columns: int
    index: int = 0
    number: int = 0
    group_size: int = 1
    n_experts: int = 0
    tied: bool = False
    layer: int = -1
    """Its layer, counted from 0; −1 outside the stack, and for schemes that do not tell layers apart."""

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles that it has, the closest first."""
        special = (("vectors", self.vector), ("experts", self.expert), ("shared", self.shared), (self.part, True))
        return tuple(role for role, true in special if true)

    @property
    def shared(self) -> bool:
        """Whether it belongs to the experts that every token uses, or to the network beside the routed ones."""
        return self.part == "ffn" and self.operation.startswith("shared_")

    @property
    def linear(self) -> bool:
        """Whether it is a matrix of an attention or a feed-forward network, routers apart."""
        return self.part in ("attention", "ffn") and not self.vector


@record
class Scheme(Record):
    """A rule that names the format of every stored tensor."""

    name: str
    choose: Callable[[Tensor], str]
    source: str
    by_layer: bool = False
    """Whether the rule looks at the layer's place in the stack."""
    blocks: tuple[Block, ...] = ()
    """The model that is stored, in numbers: some rules look at all of it (a tied head, how many experts and layers)."""


Forms: TypeAlias = Format | Scheme


def _linear(form: str, rest: str) -> Callable[[Tensor], str]:
    """Return the rule: matrices of attention and feed-forward in one format, everything else in another."""
    return lambda tensor: form if tensor.linear else rest


def _deepseek(tensor: Tensor) -> str:
    if tensor.operation == "correction_bias":
        return "fp32"
    return "fp8-block128" if tensor.linear else "bf16"


def _deepseek_v4(tensor: Tensor) -> str:
    """Return DeepSeek-V4's format: compressors and routers stay in bf16; what steers and mixes them is in fp32."""
    if tensor.expert:
        return "mxfp4"
    if tensor.operation == "choice":
        return "int64"
    if tensor.part == "other" or tensor.operation == "correction_bias":
        return "fp32"  # hyper-connections
    if tensor.part == "attention" and tensor.vector:
        return "fp32"  # sinks, the biases of compressors
    kept = tensor.operation.startswith(("compress_", "index_")) and tensor.operation != "index_q"
    return "fp8-block128-e8m0" if tensor.linear and not kept else "bf16"


def _experts(form: str) -> Callable[[Tensor], str]:
    """Return the rule: matrices of routed experts in one format, everything else in bf16."""
    return lambda tensor: form if tensor.expert and not tensor.vector else "bf16"


def _ffn(form: str) -> Callable[[Tensor], str]:
    """Return the rule: matrices of feed-forward networks in one format, everything else in bf16."""
    return lambda tensor: form if tensor.part == "ffn" and not tensor.vector else "bf16"


FALLBACK = {
    "q2_k": "iq4_nl",
    "q3_k": "iq4_nl",
    "iq4_xs": "iq4_nl",
    "q4_k": "q5_0",
    "q5_k": "q5_1",
    "q6_k": "q8_0",
}
"""What llama.cpp stores instead when rows are not a multiple of 256."""


def _gguf(mix: Callable[[Tensor], str], base: str) -> Callable[[Tensor], str]:
    """Return llama.cpp's rule around a mixture: what is never quantised, the head, and rows that do not fit."""

    def choose(tensor: Tensor) -> str:
        if tensor.vector or tensor.part in ("router", "norm") or tensor.operation in ("positions", "token_types"):
            return "fp32"
        if tensor.part == "head" or (tensor.part == "embedding" and tensor.tied):
            form = base if base == "q8_0" else "q6_k"
        else:
            form = mix(tensor)
        form = FALLBACK.get(form, form) if tensor.columns % FORMATS[form].group else form
        return "fp16" if tensor.columns % FORMATS[form].group else form

    return choose


def _more_bits(tensor: Tensor) -> bool:
    """Tell whether llama.cpp gives this layer more bits: the first and last eighth, and every third between."""
    eighth = tensor.number // 8
    return tensor.index < eighth or tensor.index >= 7 * tensor.number // 8 or (tensor.index - eighth) % 3 == 2


def _eight(tensor: Tensor, form: str) -> str:
    """Return llama.cpp's choice for eight-expert models (Mixtral): keys and values in 8 bits, the output in 5."""
    if tensor.n_experts == 8 and tensor.operation in ("k_proj", "v_proj"):
        return "q8_0"
    return "q5_k" if tensor.n_experts == 8 and tensor.operation == "o_proj" and form in ("q3_k", "q4_k") else form


def _seventy(tensor: Tensor, form: str) -> str:
    """Return llama.cpp's choice for 80-layer models with grouped queries (70B): values in 5 bits at least."""
    grouped = tensor.number == 80 and tensor.group_size == 8 and tensor.operation == "v_proj"
    return "q5_k" if grouped and form in ("q3_k", "q4_k") else form


def _mixture(base: str, values: Callable[[Tensor], str], down: Callable[[Tensor], str], output: str = "") -> Scheme:
    def mix(tensor: Tensor) -> str:
        form = base
        if tensor.operation == "v_proj":
            form = _seventy(tensor, values(tensor))
        elif tensor.operation in ("down_proj", "shared_down_proj"):
            form = down(tensor)
        elif tensor.operation == "o_proj" and tensor.n_experts != 8:
            form = output or base
        return _eight(tensor, form)

    return Scheme("", _gguf(mix, base), LLAMA_CPP, by_layer=True)


LLAMA_CPP = "llama_tensor_get_type in llama-quant.cpp of llama.cpp (separate q, k, v; not Falcon)"


def _pure(form: str) -> Scheme:
    return Scheme("", _gguf(lambda tensor: form, form), LLAMA_CPP)


def _more(high: str, base: str) -> Callable[[Tensor], str]:
    return lambda tensor: high if _more_bits(tensor) else base


def _first(high: str, base: str, count: Callable[[Tensor], int]) -> Callable[[Tensor], str]:
    return lambda tensor: high if tensor.index < count(tensor) else base


def _always(form: str) -> Callable[[Tensor], str]:
    return lambda tensor: form


def _grouped(high: str, base: str) -> Callable[[Tensor], str]:
    return lambda tensor: high if tensor.group_size >= 4 else base


SCHEMES: dict[str, Scheme] = {
    "deepseek-fp8": Scheme(
        "", _deepseek, "README_WEIGHTS.md of deepseek-ai/DeepSeek-V3: matrices in 128 × 128 blocks; the rest bf16"
    ),
    "deepseek-v4-mxfp4": Scheme(
        "", _deepseek_v4, "tensors of deepseek-ai/DeepSeek-V4-Flash: experts in MXFP4, other matrices in FP8 blocks"
    ),
    "gpt-oss-mxfp4": Scheme("", _experts("mxfp4"), "gpt-oss model card, arXiv:2508.10925 §2.1: MoE weights in MXFP4"),
    "fp8-linear": Scheme("", _linear("fp8-tensor", "bf16"), "one scale per matrix; embedding, head, norms in bf16"),
    "int8-linear": Scheme("", _linear("int8-channel", "bf16"), "LLM.int8(), arXiv:2208.07339; the rest in bf16"),
    "int4-linear": Scheme("", _linear("int4-g128", "fp16"), "GPTQ, arXiv:2210.17323; AWQ, arXiv:2306.00978"),
    "nf4-linear": Scheme("", _linear("nf4", "bf16"), "QLoRA, arXiv:2305.14314 §3"),
    "nvfp4-linear": Scheme("", _linear("nvfp4", "bf16"), "NVIDIA, NVFP4; embedding, head, norms in bf16"),
    "nvfp4-ffn": Scheme(
        "", _ffn("nvfp4"), "hf_quant_config.json of nvidia/DeepSeek-R1-FP4: attention and head are left out"
    ),
    "int4-experts": Scheme(
        "", _experts("int4-g32-sym"), "quantization_config of moonshotai/Kimi-K2.5: routed experts alone"
    ),
    "gguf-q8_0": _pure("q8_0"),
    "gguf-q6_k": _pure("q6_k"),
    "gguf-q5_k_m": _mixture("q5_k", _more("q6_k", "q5_k"), _more("q6_k", "q5_k")),
    "gguf-q5_k_s": _pure("q5_k"),
    "gguf-q4_k_m": _mixture("q4_k", _more("q6_k", "q4_k"), _more("q6_k", "q4_k")),
    "gguf-q4_k_s": _mixture(
        "q4_k", _first("q5_k", "q4_k", lambda tensor: 4), _first("q5_k", "q4_k", lambda tensor: tensor.number // 8)
    ),
    "gguf-q4_0": _pure("q4_0"),
    "gguf-q3_k_l": _mixture("q3_k", _always("q5_k"), _always("q5_k"), "q5_k"),
    "gguf-q3_k_m": _mixture(
        "q3_k",
        _first("q5_k", "q4_k", lambda tensor: 2),
        _first("q5_k", "q4_k", lambda tensor: tensor.number // 16),
        "q4_k",
    ),
    "gguf-q3_k_s": _mixture("q3_k", _always("q3_k"), _always("q3_k")),
    "gguf-q2_k": _mixture("q2_k", _grouped("q4_k", "q3_k"), _always("q3_k"), "q3_k"),
}

MAX_LAYERS = 10_000

ROLES = (*PARTS, "experts", "shared", "vectors", "rest")
_TERM = re.compile(r"(?P<role>[^.@]*)(\.(?P<operation>\w+))?(@(?P<layers>.*))?")
_RUN = re.compile(r"(\d{1,5})(?:-(\d{1,5})(?:/(\d{1,5}))?)?")


def weight_forms(name: str, blocks: Iterable[Block] = ()) -> Forms:
    """Find a number format, a named scheme, or read ``role=format,...``.

    A format is that of every tensor, down to the norms. The roles are parts, ``experts`` (routed), ``shared`` (experts
    or a network beside them), ``vectors`` (biases, scales and the like) and ``rest``: everything that no other role
    names. A role may be narrowed to an operation and to layers, counted from 0: ``attention.o_proj``, ``ffn@1-124``,
    ``attention@3-47/4+50``; the narrowest term of the closest role decides. GGUF types may be written without
    ``gguf-``.

    Raises:
        UnknownName: no such format, scheme or role.
        SpecError: roles that leave some tensor without a format, layers that are none. Bytes are counted of a scheme
            that knows ``blocks``.

    >>> weight_forms("experts=mxfp4,rest=bf16").name
    'experts=mxfp4,rest=bf16'
    """
    key = text("dtype", name).strip().lower()
    if "=" in key:
        return _by_role(key, tuple(blocks))
    plain = ALIASES.get(key.removeprefix("torch."), key.removeprefix("torch."))
    if plain in FORMATS:
        return FORMATS[plain]
    for candidate in (key, f"gguf-{key}"):
        if candidate in SCHEMES:
            return replace(SCHEMES[candidate], name=candidate, blocks=tuple(blocks))
    raise UnknownName("dtype", name, [*FORMATS, *SCHEMES])


@record
class Term(Record):
    """One term of a scheme by roles: to whom it gives a format."""

    role: str
    operation: str
    layers: tuple[range, ...]
    form: str

    @property
    def narrowness(self) -> tuple[bool, bool]:
        """What decides among terms of one role: an operation before layers, both before either."""
        return (bool(self.operation), bool(self.layers))

    def takes(self, tensor: Tensor) -> bool:
        """Tell whether it gives this tensor, which has its role, a format."""
        named = not self.operation or tensor.operation == self.operation
        return named and (not self.layers or any(tensor.layer in run for run in self.layers))


def _by_role(text: str, blocks: tuple[Block, ...]) -> Scheme:
    terms: dict[str, list[Term]] = {}
    for written in text.split(","):
        term = _term(written)
        terms.setdefault(term.role, []).append(term)
    ends = [term for term in terms.get("rest", ()) if not (term.operation or term.layers)]
    if not ends:
        raise SpecError(f"{text!r} gives no format for the rest: add rest=bf16")
    for role in terms:
        terms[role].sort(key=lambda term: term.narrowness, reverse=True)

    def choose(tensor: Tensor) -> str:
        fitting = (term.form for role in (*tensor.roles, "rest") for term in terms.get(role, ()) if term.takes(tensor))
        return next(fitting)

    by_layer = any(term.layers for role in terms.values() for term in role)
    return Scheme(text, choose, "given by role", by_layer=by_layer, blocks=blocks)


def _term(text: str) -> Term:
    whom, _, form = (piece.strip() for piece in text.partition("="))
    found = _TERM.fullmatch(whom)
    if not found or found["role"] not in ROLES:
        raise UnknownName("role of weights", found["role"] if found else whom, ROLES)
    layers = tuple(_run(run) for run in found["layers"].split("+")) if found["layers"] is not None else ()
    return Term(found["role"], found["operation"] or "", layers, dtype(form).name)


def _run(text: str) -> range:
    found = _RUN.fullmatch(text.strip())
    if not found:
        raise SpecError(f"layers {text!r} are not written as 3, 3-47 or 3-47/4")
    first, last, step = found.groups()
    return range(int(first), int(last or first) + 1, int(step or 1) or 1)


def stored_bytes(blocks: Iterable[Block], forms: Forms) -> Number:
    """Return the bytes of all stored weights, scales included."""
    total: Number = 0
    for block in blocks:
        for operation in block.operations:
            total = total + sum(_weight_bytes(block, operation, weight, forms) for weight in operation.weights)
    return total


def read_bytes(block: Block, operation: Operation, reads: Number, forms: Forms) -> Number:
    """Return the bytes of ``reads`` weight elements of one operation: a share of what it holds, tied or not."""
    if isinstance(forms, Format) and forms.plain:
        return block.repeat * forms.bytes(reads)
    weights = [replace(weight, tied=False) for weight in operation.weights]
    held = sum(_weight_bytes(block, operation, weight, forms) for weight in weights)
    elements = sum(weight.total(block.letters) for weight in weights)
    if not hasattr(reads, "shape") and reads == elements:  # exact; an array of a sweep is no integer anyway
        return held
    return held * reads / elements


def form_of(block: Block, operation: Operation, forms: Forms) -> Format:
    """Return the number format of an operation's matrix; of a scheme that tells layers apart, in most of them.

    Raises:
        SpecError: a scheme that does not know the model that is stored.
    """
    if isinstance(forms, Format):
        return forms
    weight = operation.weights[0]
    if not forms.blocks:
        raise SpecError(f"weights in {forms.name!r} have a format for each tensor: name the model that is stored")
    tensor = _tensor(block, operation, weight, forms.blocks)
    if forms.by_layer and block.positions:
        peers = _peers(operation.name, block, forms.blocks)
        chosen = [
            forms.choose(replace(tensor, index=peers.index(place), number=len(peers), layer=place))
            for place in _places([block])
        ]
        return FORMATS[max(dict.fromkeys(chosen), key=chosen.count)]
    return FORMATS[forms.choose(tensor)]


def _weight_bytes(block: Block, operation: Operation, weight: Weight, forms: Forms) -> Number:
    if weight.tied:
        return 0
    matrices, rows, columns = weight.shape(block.letters)
    if isinstance(forms, Format):
        return block.repeat * forms.stored(rows, columns, matrices)
    if not forms.blocks:
        raise SpecError(f"weights in {forms.name!r} have a format for each tensor: name the model that is stored")
    tensor = _tensor(block, operation, weight, forms.blocks)
    if not forms.by_layer or not block.positions:
        return block.repeat * FORMATS[forms.choose(tensor)].stored(rows, columns, matrices)
    peers = _peers(operation.name, block, forms.blocks)
    total: Number = 0
    for position in _places([block]):
        place = replace(tensor, index=peers.index(position), number=len(peers), layer=position)
        total = total + FORMATS[forms.choose(place)].stored(rows, columns, matrices)
    return total


def tensors(blocks: Iterable[Block]) -> Iterator[tuple[Block, Tensor, int]]:
    """Yield every tensor once a layer, in its table, with its elements: what a scheme is asked about.

    A tied one of a layer, which another form of its attention reads, has none; tables tied outside are left out.

    Raises:
        SpecError: more layers than a rule that looks at each of them can take.
    """
    blocks = tuple(blocks)
    for block in blocks:
        for operation in block.operations:
            for weight in operation.weights:
                if weight.tied and not block.positions:
                    continue
                tensor, size = _tensor(block, operation, weight, blocks), weight.total(block.letters)
                for layer in _places([block]) if block.positions else [-1]:
                    yield block, replace(tensor, layer=layer), size


def _tensor(block: Block, operation: Operation, weight: Weight, blocks: tuple[Block, ...]) -> Tensor:
    """Describe a tensor to a scheme: a choice looks at the model's numbers, also where sizes are read as symbols."""
    numbers = next((other.letters for other in blocks if other.path == block.path), block.letters)
    return Tensor(
        part=operation.part or block.part,
        operation=operation.name,
        expert=bool(weight.chosen),
        vector=not weight.rows,
        columns=weight.shape(numbers)[2],
        group_size=numbers.get("g", 1),
        n_experts=max((other.letters.get("e", 0) for other in blocks), default=0),
        tied=any(getattr(op, "tied", False) for other in blocks if other.part == "head" for op in other.operations),
    )


def _peers(name: str, block: Block, blocks: Iterable[Block]) -> list[int]:
    """Return the layers that count for a tensor's place: those with such values, or all layers of the side."""
    same = [other for other in blocks if other.positions and other.encoder == block.encoder]
    if name == "v_proj":
        same = [other for other in same if any(op.name == name for op in other.operations)]
    return _places(same)


def _places(blocks: Iterable[Block]) -> list[int]:
    """Return the layers that any of these tables stands in, in order.

    Raises:
        SpecError: more layers than a rule that looks at each of them can take.
    """
    runs = {run for block in blocks for run in block.positions}
    if sum(len(run) for run in runs) > MAX_LAYERS:
        raise SpecError(f"a scheme that tells layers apart takes at most {MAX_LAYERS:,} of them")
    return sorted({position for run in runs for position in run})

"""What claims can be held against: figures of models, read off their tables, and the arithmetic of numbers.

Every function here is one entry of the registry (``calc.claims.registry``). Figures of models call the same functions
that ``calc show`` and ``calc formula`` call; nothing here has a formula of its own for what a table already says.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields
from fractions import Fraction
from math import isqrt, log2
from typing import TYPE_CHECKING, Any

from calc.attention.gqa import GQA
from calc.checks import one_of
from calc.claims.registry import QUANTITIES, Quantity, Range, quantity
from calc.costs import complexity
from calc.errors import SpecError, UnknownName
from calc.ffn.dispatch import ExpertEinsum
from calc.ffn.moe import MoE
from calc.formats import dtype as number_format
from calc.modality.tower import Modality, Tower
from calc.model import (
    Block,
    Model,
    Pass,
    cache_bytes,
    environment,
    flops_by_operation,
    parameters,
    running,
)
from calc.operations import Part
from calc.records import replace
from calc.sparse_masks import Strided

if TYPE_CHECKING:
    from calc.scaling.laws import Routed


def find(name: str) -> Quantity:
    """Find a quantity.

    Raises:
        UnknownName: no such quantity; near ones are suggested.
    """
    try:
        return QUANTITIES[name]
    except KeyError:
        raise UnknownName("quantity", name, QUANTITIES, "`calc audit --quantities` shows all") from None


def names() -> list[str]:
    """Return the names of all quantities, sorted."""
    return sorted(QUANTITIES)


# ---- parameters


@quantity("params.total", "parameters")
def params_total(model: Model, prediction_modules: bool = False) -> int:
    """Return all parameters, with the multi-token prediction modules if asked for."""
    blocks = model.blocks() + (model.mtp_blocks() if prediction_modules else [])
    return int(parameters(blocks).total)


@quantity("params.part", "parameters")
def params_part(model: Model, part: Part) -> int:
    """Return the parameters of one part."""
    return int(getattr(model.params(), part))


@quantity("params.active", "parameters")
def params_active(model: Model, part: Part | None = None) -> int:
    """Return the parameters that one token uses, of the whole model or of one part."""
    return _active(model, part)


@quantity("params.active_matmul", "parameters")
def params_active_matmul(model: Model) -> int:
    """Return the parameters that one token is multiplied by: active, without tables that are looked up."""
    return int(model.params().active_matmul)


@quantity("params.active_without_tables", "parameters")
def params_active_without_tables(model: Model) -> int:
    """Return the active parameters without the embedding table and the head."""
    params = model.params()
    return int(params.active - params.embedding - params.head)


@quantity("params.active_share", "percent")
def params_active_share(model: Model, part: Part | None = None) -> Fraction:
    """Return the share of the parameters that one token uses, of the whole model or of one part."""
    total = model.params().total if part is None else params_part(model, part)
    return Fraction(_active(model, part), total)


@quantity("params.multiplied_share", "percent")
def params_multiplied_share(model: Model) -> Fraction:
    """Return the share of the parameters that one token is multiplied by: active, without tables that are looked up."""
    params = model.params()
    return Fraction(params.active_matmul, params.total)


def _active(model: Model, part: str | None) -> int:
    blocks = model.blocks()
    if part is None:
        return int(parameters(blocks).active)
    return sum(
        block.repeat * operation.active_parameters(block.letters)
        for block in blocks
        for of, operation in block.parts()
        if of == part
    )


@quantity("params.ratio", "")
def params_ratio(model: Model, other: Model, active: bool = False) -> Fraction:
    """Return how many times the parameters of another model this one has."""
    mine, theirs = model.params(), other.params()
    return Fraction(mine.active, theirs.active) if active else Fraction(mine.total, theirs.total)


# ---- experts


def _experts(model: Model) -> MoE:
    """Return the mixture of experts of a model that has one kind of it."""
    found = list(dict.fromkeys(layer.ffn for layer in model.kinds_of_layer() if isinstance(layer.ffn, MoE)))
    if len(found) != 1:
        raise SpecError(f"{model.name} has {len(found) or 'no'} kinds of expert layers, not one")
    return found[0]


@quantity("experts.params", "parameters")
def experts_params(model: Model, matrices: int | None = None) -> int:
    """Return the parameters of one routed expert, or of so many of its matrices."""
    moe = _experts(model)
    letters = {"d": model.d_model, **moe.bind()}
    sizes = [
        operation.parameters(letters) // moe.n_experts
        for operation in moe.operations()
        if isinstance(operation, ExpertEinsum)
    ]
    if matrices is not None and matrices > len(sizes):
        raise SpecError(f"matrices = {matrices}: an expert of {model.name} has {len(sizes)}")
    return sum(sizes[:matrices])


@quantity("experts.shared", "")
def experts_shared(model: Model) -> Fraction:
    """Return the shared experts, as many as routed ones of their joint width."""
    moe = _experts(model)
    return Fraction(moe.d_shared or 0, moe.d_expert)


@quantity("experts.per_token", "")
def experts_per_token(model: Model) -> Fraction:
    """Return the experts that one token uses: the chosen and the shared."""
    return _experts(model).n_active_experts + experts_shared(model)


@quantity("experts.share", "percent")
def experts_share(model: Model) -> Fraction:
    """Return the share of an expert layer's experts, shared ones included, that one token uses."""
    return experts_per_token(model) / (_experts(model).n_experts + experts_shared(model))


@quantity("experts.pool", "parameters")
def experts_pool(n_experts: int, d_model: int, d_expert: int, matrices: int) -> int:
    """Return the parameters of a layer of experts of given widths."""
    return n_experts * matrices * d_model * d_expert


# ---- cache


@quantity("cache.bytes_per_token", "B")
def cache_bytes_per_token(model: Model, dtype: str = "bf16") -> int:
    """Return the bytes by which one sequence's cache grows with a token."""
    return int(_cache(model, dtype).bytes_per_token)


@quantity("cache.bytes", "B")
def cache_total(model: Model, context: int, batch: int = 1, dtype: str = "bf16") -> int:
    """Return the bytes of the cache of so many sequences and tokens."""
    return int(model.cache(context, batch, dtype).bytes)


@quantity("cache.values_per_token", "")
def cache_values(model: Model) -> int:
    """Return the numbers that all layers cache for one token."""
    return int(_cache(model, ONE_BYTE).bytes_per_token)


@quantity("cache.values_per_layer", "")
def cache_values_per_layer(model: Model) -> int:
    """Return the numbers that one layer caches for one token."""
    return _per_layer(model, uncompressed=False)


@quantity("cache.multi_head_values_per_layer", "")
def multi_head_values_per_layer(model: Model) -> int:
    """Return the numbers that multi-head attention with the same heads would cache for one token in one layer."""
    return _per_layer(model, uncompressed=True)


@quantity("cache.share", "percent")
def cache_share(model: Model) -> Fraction:
    """Return the cache's share of what multi-head attention with the same heads would keep."""
    return Fraction(cache_values_per_layer(model), multi_head_values_per_layer(model))


@quantity("cache.saving", "percent")
def cache_saving(model: Model) -> Fraction:
    """Return by how much the cache is smaller than that of multi-head attention with the same heads."""
    return 1 - cache_share(model)


@quantity("cache.saving_against", "percent")
def cache_saving_against(model: Model, other: Model, bits: Fraction | None = None) -> Fraction:
    """Return by how much a token's cache is smaller than another model's in bf16, with so many bits a number."""
    mine = cache_values(model) * (Fraction(16) if bits is None else bits)
    return 1 - mine / (16 * cache_values(other))


@quantity("cache.groups", "")
def cache_groups(model: Model) -> Fraction:
    """Return the key-value heads with which grouped-query attention would cache as much as latent attention does."""
    return Fraction(cache_values_per_layer(model), 2 * int(model_field(model, "qk_nope_head_dim")))


ONE_BYTE = "int8"
"""A format in which bytes count numbers."""


def _cache(model: Model, form: str, context: int = 1_000_000) -> Any:
    """Return the cache deep in a context, where windows are full and do not grow any more."""
    return model.cache(context, form=form)


def _per_layer(model: Model, *, uncompressed: bool) -> int:
    """Return what one layer keeps of a token; every layer must keep as much."""
    blocks = [block for block in model.blocks() if block.states]
    if uncompressed:
        blocks = [replace(block, states=block.uncompressed) for block in blocks]
    now = Pass.decode(1)
    found = {
        int(cache_bytes([block], now, number_format(ONE_BYTE)).bytes_per_token // block.repeat) for block in blocks
    }
    if len(found) != 1:
        raise SpecError(f"the layers of {model.name} cache {len(found) or 'no'} different amounts, not one")
    return found.pop()


# ---- FLOPs


@quantity("flops.prefill", "FLOP")
def flops_prefill(model: Model, context: int, batch: int = 1, source: int | None = None, causal: bool = True) -> int:
    """Return the matmul FLOPs of a pass over a prompt; an encoder reads source tokens, as many without it."""
    return int(model.flops(Pass.prefill(context, batch, source=source, causal=causal)))


@quantity("flops.multiply_adds", "FLOP")
def flops_multiply_adds(
    model: Model, context: int, batch: int = 1, source: int | None = None, causal: bool = True
) -> Fraction:
    """Return half of that: what is counted where a multiply-add is one operation."""
    return Fraction(flops_prefill(model, context, batch, source, causal), 2)


@quantity("flops.decode", "FLOP")
def flops_decode(model: Model, context: int, batch: int = 1) -> int:
    """Return the matmul FLOPs of one step, one new token per sequence that sees the context."""
    return int(model.flops(Pass.decode(context, batch)))


@quantity("flops.train", "FLOP")
def flops_train(model: Model, context: int, batch: int = 1, causal: bool = True) -> int:
    """Return the matmul FLOPs of a training step, forward and backward."""
    return int(model.training_flops(context, batch, causal=causal))


@quantity("flops.train_per_token", "FLOP")
def flops_train_per_token(model: Model, context: int, causal: bool = True) -> Fraction:
    """Return the matmul FLOPs of training, per token, in sequences of so many."""
    return Fraction(flops_train(model, context, causal=causal), context)


@quantity("flops.train_share", "percent")
def flops_train_share(model: Model, other: Model, context: int, causal: bool = True) -> Fraction:
    """Return the FLOPs of training a token as a share of another model's."""
    return flops_train_per_token(model, context, causal) / flops_train_per_token(other, context, causal)


@quantity("flops.train_saving", "percent")
def flops_train_saving(model: Model, other: Model, context: int, causal: bool = True) -> Fraction:
    """Return by how much fewer FLOPs training a token needs than with another model."""
    return 1 - flops_train_share(model, other, context, causal)


@quantity("flops.training_run", "FLOP")
def flops_training_run(model: Model, tokens: Fraction, context: int, causal: bool = True) -> Fraction:
    """Return the matmul FLOPs of training on so many tokens, in sequences of so many."""
    return tokens * flops_train_per_token(model, context, causal)


@quantity("flops.training_rule", "FLOP")
def flops_training_rule(model: Model, tokens: Fraction) -> Fraction:
    """Return 6·N·D for the active parameters N and the tokens D: the rule of thumb, without attention."""
    return 6 * params_active(model) * tokens


@quantity("flops.inference_rule", "FLOP")
def flops_inference_rule(model: Model) -> int:
    """Return 2·N for the active parameters N: the rule of thumb for one token, without attention over the context."""
    return 2 * params_active(model)


@quantity("flops.deepseek_rule", "FLOP")
def flops_deepseek_rule(model: Model, context: int, ffn: Fraction | None = None) -> Fraction:
    """Return the training FLOPs of a sequence by DeepSeek's estimate, with so many standard feed-forward networks.

    n·(24·L·d² + 48·f·L·d² + 12·L·d·n + 6·V·d): multi-head attention, a network of 8/3·d with a gate, every pair of
    positions, the head. arXiv:2401.02954 §3.1 (eq. 2, f = 1, to which DeepSeek's papers add the head).
    """
    layers, d = model.n_layers, model.d_model
    per_token = (24 + 48 * (Fraction(1) if ffn is None else ffn)) * layers * d**2 + 12 * layers * d * context
    return context * (per_token + 6 * model.vocab_size * d)


@quantity("flops.ratio", "")
def flops_ratio(model: Model, other: Model, context: int, phase: str = "decode") -> Fraction:
    """Return how many times the FLOPs of another model this one needs in a phase (prefill or decode)."""
    one_of("phase", phase, ("prefill", "decode"))
    of = flops_decode if phase == "decode" else flops_prefill
    return Fraction(of(model, context), of(other, context))


@quantity("flops.share", "percent")
def flops_share(model: Model, other: Model, context: int, phase: str = "decode") -> Fraction:
    """Return the FLOPs in a phase (prefill or decode) as a share of another model's."""
    return flops_ratio(model, other, context, phase)


@quantity("flops.per_pair", "FLOP")
def flops_per_pair(model: Model, form: str | None = None) -> int:
    """Return the attention FLOPs that one layer spends on each query-key pair; form: naive or absorbed."""
    if form is not None and form not in model.forms():
        raise SpecError(f"form = {form!r}: {model.name} has {', '.join(model.forms()) or 'one form only'}")
    formed = model if form is None else model.in_form(form)
    blocks = [block for block in formed.blocks() if block.name == "attention"]
    # with a causal mask a prefill of n costs a·n + b·n(n + 1)/2: b is the cost of a pair
    found = {_prefill([block], 2) - 2 * _prefill([block], 1) for block in (replace(one, repeat=1) for one in blocks)}
    if len(found) != 1:
        raise SpecError(f"the layers of {model.name} spend {len(found) or 'no'} different amounts on a pair, not one")
    return found.pop()


def _prefill(blocks: Iterable[Block], context: int) -> int:
    return int(sum(flops_by_operation(blocks, Pass.prefill(context)).values()))


@quantity("flops.merged_heads", "")
def flops_merged_heads(model: Model, context: int) -> Fraction:
    """Return the FLOPs of attention as a multiple of those of one head as wide as all heads together."""
    mixers = [layer.attention for layer in model.kinds_of_layer() if isinstance(layer.attention, GQA)]
    if not mixers or len(mixers) < len(model.kinds_of_layer()) or any(m.n_kv_heads != m.n_heads for m in mixers):
        raise SpecError(f"{model.name} has other than plain multi-head attention")
    merged = [replace(m, n_heads=1, n_kv_heads=1, head_dim=m.n_heads * m.head_dim) for m in mixers]
    letters = {"d": model.d_model, "o": model.d_model}

    def cost(side: list[GQA]) -> int:
        blocks = [Block.of("attention", mixer) for mixer in side]
        return _prefill([replace(block, letters={**letters, **block.letters}) for block in blocks], context)

    return Fraction(cost(mixers), cost(merged))


@quantity("operation.flops", "FLOP")
def operation_flops(
    model: Model, path: str, operation: str, context: int, phase: str = "prefill", counts: str = "all"
) -> int:
    """Return the FLOPs of one operation of the table (``calc ops``), in all layers that have it."""
    make = Pass.prefill if phase == "prefill" else Pass.decode
    for block, found, env in running(model.blocks(), make(context)):
        if (block.path, found.name) == (path, operation):
            return int(block.repeat * found.flops(env, counts="matmul" if counts == "matmul" else "all"))
    raise UnknownName("operation", f"{path}.{operation}", _operations(model))


@quantity("operation.params", "parameters")
def operation_params(model: Model, path: str, operation: str) -> int:
    """Return the parameters of one operation of the table (``calc ops``), in all layers that have it."""
    for block in model.blocks():
        for found in block.operations:
            if (block.path, found.name) == (path, operation):
                return int(block.repeat * found.parameters(block.letters))
    raise UnknownName("operation", f"{path}.{operation}", _operations(model))


def _operations(model: Model) -> list[str]:
    return [f"{block.path}.{operation.name}" for block in model.blocks() for operation in block.operations]


# ---- growth


@quantity("complexity.exponent", "exponent")
def complexity_exponent(model: Model, kind: str | None = None) -> Fraction:
    """Return the power of the sequence length in a prefill's attention FLOPs: of one kind, or the highest of all."""
    powers = complexity(model.blocks())
    if kind is not None and kind not in powers:
        raise UnknownName("kind of attention", kind, powers)
    return Fraction(max(powers.values()) if kind is None else powers[kind])


@quantity("complexity.ffn_exponent", "exponent")
def complexity_ffn_exponent(model: Model) -> Fraction:
    """Return the power of the sequence length in the FLOPs of the feed-forward networks."""
    blocks = [block for block in model.blocks() if block.name in ("ffn", "ffn_beside")]
    if not blocks:
        raise SpecError(f"{model.name} has no feed-forward network")
    one, two = (_prefill(blocks, length) for length in (2**40, 2**41))
    return Fraction(round(2 * log2(two / one)), 2)


@quantity("complexity.optimal_stride", "exponent")
def complexity_optimal_stride(model: Model) -> Fraction:
    """Return that power for a strided pattern whose window and stride grow with the length as √(n/2)."""
    blocks = [block for block in model.blocks() if {"w", "l"} <= set(block.letters)]
    if not blocks or not any(isinstance(operation.over, Strided) for block in blocks for operation in block.operations):
        raise SpecError(f"{model.name} has no layer with a strided pattern")
    lengths = (2**61, 2**63)
    costs = []
    for length in lengths:
        stride = isqrt(length // 2)
        costs.append(
            _prefill([replace(block, letters={**block.letters, "w": stride, "l": stride}) for block in blocks], length)
        )
    return Fraction(round(log2(costs[1] / costs[0])), 2)  # the lengths are two doublings apart


@quantity("complexity.scores_exponent", "exponent")
def complexity_scores(model: Model) -> Fraction:
    """Return the power of the sequence length in the elements of one layer's attention scores."""
    counts = [scores_elements(model, length) for length in (2**30, 2**31)]
    return Fraction((counts[1] // counts[0]).bit_length() - 1)


@quantity("scores.values", "")
def scores_elements(model: Model, context: int) -> int:
    """Return the attention scores of one layer when every pair is kept: heads times the square of the context."""
    for block in model.blocks():
        if block.name == "attention":
            env = environment(block, Pass.prefill(context))
            for operation in block.operations:
                if operation.name == "softmax":
                    return int(operation.writes(env, False))
    raise SpecError(f"{model.name} has no attention with a softmax")


# ---- architecture


@quantity("model.field", "")
def model_field(model: Model, name: str) -> int | Fraction:
    """Return a number of the specification: of the model, or of the mechanisms of its layers (n_heads, d_ff, ...)."""
    found = set(_values(model, name))
    if len(found) == 1:
        return Fraction(found.pop())
    if found:
        raise SpecError(f"{name} of {model.name} is {', '.join(map(str, sorted(found)))}: not one number")
    raise UnknownName("field", name, _field_names(model))


@quantity("model.field_ratio", "")
def model_field_ratio(model: Model, name: str, to: str) -> Fraction:
    """Return one number of the specification as a multiple of another."""
    return Fraction(model_field(model, name)) / Fraction(model_field(model, to))


MODEL_FIELDS = ("d_model", "vocab_size", "max_context", "n_layers")


def _parts(model: Model) -> Iterator[Any]:
    for layer in model.kinds_of_layer():
        yield from (part for part in (layer.attention, layer.cross, layer.ffn, layer.ffn_beside) if part)


def _values(model: Model, name: str) -> Iterator[int | float]:
    if name in MODEL_FIELDS:
        value = getattr(model, name)
        yield from () if value is None else (value,)
        return
    for part in _parts(model):
        value = getattr(part, name, None) if name in {field.name for field in fields(part)} else None
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            yield value


def _field_names(model: Model) -> list[str]:
    own = {field.name for part in _parts(model) for field in fields(part)}
    return sorted({*MODEL_FIELDS, *(name for name in own if any(True for _ in _values(model, name)))})


@quantity("weights.bytes", "B")
def weights_bytes(model: Model, dtype: str | None = None) -> int:
    """Return the bytes of all weights, as published or in another format."""
    return int(model.weight_bytes(dtype))


@quantity("format.share", "percent")
def format_share(dtype: str, of: str = "bf16") -> Fraction:
    """Return the size of a number in one format, its scales included, as a share of another's."""
    return Fraction(number_format(dtype).bits_per_element) / Fraction(number_format(of).bits_per_element)


@quantity("format.saving", "percent")
def format_saving(dtype: str, of: str = "bf16") -> Fraction:
    """Return by how much a number is smaller in one format, its scales included, than in another."""
    return 1 - format_share(dtype, of)


# ---- time and money


@quantity("money.gpu_hours", "USD")
def money_gpu_hours(gpu_hours: Range, usd_per_hour: Range) -> Range:
    """Return GPU hours times their price."""
    return gpu_hours[0] * usd_per_hour[0], gpu_hours[1] * usd_per_hour[1]


@quantity("time.gpu_hours", "s")
def time_gpu_hours(gpu_hours: Range, gpus: int) -> Range:
    """Return the time that so many GPUs take for so many GPU hours."""
    return gpu_hours[0] * 3_600 / gpus, gpu_hours[1] * 3_600 / gpus


@quantity("time.devices", "s")
def time_devices(devices: int, days: Fraction) -> Fraction:
    """Return the time of so many devices together, each for so many days."""
    return devices * days * 86_400


@quantity("flops.of_machine", "FLOP")
def flops_of_machine(devices: int, hours: Fraction, flops_per_second: Fraction) -> Fraction:
    """Return the FLOPs of so many devices in so many hours at a rate that they sustain."""
    return devices * hours * 3_600 * flops_per_second


# ---- tokens of images, sound and video


@quantity("tokens.image", "tokens")
def tokens_image(width: int, height: int, patch: int) -> int:
    """Return the whole patches of an image."""
    return (width // patch) * (height // patch)


@quantity("tokens.audio", "tokens")
def tokens_audio(seconds: Fraction, hop_ms: Fraction, window_ms: Fraction | None = None, stride: int = 1) -> int:
    """Return the frames of a recording, one a hop or, with a window, those that fit whole; each stride is a token."""
    lasting = seconds * 1_000
    frames = lasting // hop_ms if window_ms is None else (lasting - window_ms) // hop_ms + 1
    return max(int(frames), 0) // stride


@quantity("tokens.video", "tokens")
def tokens_video(
    seconds: Fraction, fps: Fraction, tokens_per_frame: int, audio_tokens_per_second: Fraction | None = None
) -> Fraction:
    """Return the tokens of a video: those of its frames, and of its sound if asked for."""
    return int(seconds * fps) * tokens_per_frame + seconds * (audio_tokens_per_second or 0)


@quantity("tokens.longest_video", "s")
def tokens_longest_video(
    context: int, fps: Fraction, tokens_per_frame: int, audio_tokens_per_second: Fraction | None = None
) -> Fraction:
    """Return how long a video may be to fit a context."""
    return context / (fps * tokens_per_frame + (audio_tokens_per_second or 0))


@quantity("tokens.model_image", "tokens")
def tokens_model_image(model: Model, width: int, height: int) -> int:
    """Return the tokens that a model's tower makes of an image, resized as the model does."""
    return _tower(model, "image").image(height, width).tokens


@quantity("tokens.model_video", "tokens")
def tokens_model_video(model: Model, frames: int, width: int, height: int) -> int:
    """Return the tokens that a model's tower makes of so many frames of a video."""
    return _tower(model, "image").video(frames, height, width).tokens


@quantity("tokens.model_audio", "tokens")
def tokens_model_audio(model: Model, seconds: Fraction) -> int:
    """Return the tokens that a model's tower makes of a recording."""
    return _tower(model, "audio").audio(seconds).tokens


def _tower(model: Model, modality: Modality) -> Tower:
    for tower in model.tower:
        if tower.modality == modality:
            return tower
    raise SpecError(f"{model.name} has no tower for {modality}")


# ---- scaling laws


@quantity("scaling.routed_cutoff", "parameters")
def scaling_routed_cutoff(law: str) -> float:
    """Return the size from which on routing does not help, by a law of routed models: s-base, rl-r, hash."""
    return _routed(law).cutoff


@quantity("scaling.routed_equal", "parameters")
def scaling_routed_equal(law: str, params: Fraction, n_experts: int) -> float:
    """Return the size of the dense model that is as good as one of so many parameters with experts, by such a law."""
    return float(_routed(law).dense_equal(float(params), n_experts))


def _routed(name: str) -> Routed:
    from calc.scaling.published import ROUTED  # loads what only these claims need

    if name not in ROUTED:
        raise UnknownName("law of routed models", name, ROUTED)
    return ROUTED[name]


# ---- arithmetic of stated numbers


@quantity("number.product", "")
def number_product(factors: list[Fraction]) -> Fraction:
    """Return the product of numbers."""
    product = Fraction(1)
    for factor in factors:
        product *= factor
    return product


@quantity("number.sum", "")
def number_sum(terms: list[Fraction]) -> Fraction:
    """Return the sum of numbers."""
    return sum(terms, Fraction(0))


@quantity("number.share", "percent")
def number_share(part: Range, whole: Range) -> Range:
    """Return one number as a share of another; of ranges, the least and the most that it may be."""
    if not all(whole):
        raise SpecError("whole = 0 has no shares")
    ends = [of / to for of in part for to in whole]
    return min(ends), max(ends)


@quantity("number.saving", "percent")
def number_saving(kept: Range, of: Range) -> Range:
    """Return by how much one number is smaller than another."""
    least, most = number_share(kept, of)
    return 1 - most, 1 - least


@quantity("number.difference", "percent")
def number_difference(of: Range, to: Range) -> Range:
    """Return by how much one number exceeds another."""
    least, most = number_share(of, to)
    return least - 1, most - 1

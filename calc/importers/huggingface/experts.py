"""What the families with experts share: the experts themselves, which layers have them, the decoder around them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from calc.attention.gqa import GQA
from calc.embedding import Embedding, Head, NormSpec
from calc.ffn.dense import DenseFFN
from calc.ffn.moe import MoE
from calc.importers.huggingface.blocks import RMS, activation, assemble, fold
from calc.importers.huggingface.decoder import depth, masks, width
from calc.importers.huggingface.reader import Config
from calc.masks import Mask
from calc.model import Layer, Model, Parallel, Placement
from calc.mtp import MTP
from calc.records import replace

EXPERTS: Final = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
CHOSEN: Final = ("num_experts_per_tok", "num_experts_per_token", "experts_per_token", "moe_k", "moe_topk")
EXPERT_WIDTH: Final = ("moe_intermediate_size", "expert_ffn_hidden_size")

SIGMOID: Final[dict[str, Any]] = {"scoring": "sigmoid", "correction_bias": True, "normalised": True}
"""DeepSeek-V3's router: sigmoid scores, a stored bias for the choice, weights divided by their sum."""


def one_size(config: Config, *keys: str) -> int:
    """Return a dimension under whichever of its names the file or the class knows.

    Raises:
        ConfigError: missing under all of them, or two of them disagree.
    """
    stated = [key for key in keys if config.data.get(key) is not None]
    usual = [key for key in keys if config.defaults.get(key) is not None]
    return config.size(*(stated or usual or [key for key in keys if key in config.defaults] or keys[:1]))


def experts(config: Config, *, d_expert: int | None = None, shared: int | None = None, **structure: Any) -> MoE:
    """Return the experts; ``shared`` is the width of all shared experts together, if there are any."""
    if "activation" not in structure:
        structure["activation"] = activation(config, "hidden_act")
    for field, keys in (("n_experts", EXPERTS), ("n_active_experts", CHOSEN)):
        if field not in structure:
            structure[field] = one_size(config, *keys)
    return MoE(d_expert=d_expert or one_size(config, *EXPERT_WIDTH), d_shared=shared or None, **structure)


def shared_width(config: Config, *keys: str) -> int:
    """Return the joint width of as many shared experts as the file says, each as wide as a routed one."""
    return config.count(*keys, default=0) * one_size(config, *EXPERT_WIDTH)


def groups(config: Config, n_group: str = "n_group") -> dict[str, Any]:
    """Return the groups that routing is limited to; one group is no limit."""
    total, chosen = config.count(n_group, default=1), config.count("topk_group", default=1)
    return {"router_groups": total, "router_topk_groups": chosen} if total > 1 else {}


def factor(config: Config, *keys: str) -> bool:
    """Tell whether a constant changes anything."""
    return config.number(*keys, default=1.0) != 1.0


def leading(config: Config, *keys: str, default: int = 0) -> Callable[[int], bool]:
    """Return the rule that the first few layers are dense."""
    first = config.count(*keys, default=default)
    return lambda index: index >= first


def sparse_layers(config: Config, rule: Callable[[int], bool]) -> list[bool]:
    """Return which layers have experts: by ``mlp_layer_types`` where the file has them, else by the family's rule."""
    n_layers = depth(config)
    stated = config.choices("mlp_layer_types", length=n_layers, known=("dense", "sparse"))
    return [kind == "sparse" for kind in stated] if stated else [rule(index) for index in range(n_layers)]


def network(config: Config, *keys: str, bias: bool = False) -> DenseFFN:
    """Return the gated network of the layers without experts."""
    act = activation(config, "hidden_act")
    return DenseFFN(d_ff=one_size(config, *(keys or ("intermediate_size",))), activation=act, gated=True, bias=bias)


def sparse_decoder(
    config: Config,
    mixer: GQA,
    moe: MoE,
    *,
    dense: Callable[[], DenseFFN] | None = None,
    sparse: Sequence[bool] | None = None,
    layer_masks: Sequence[Mask] | None = None,
    rotated: Sequence[bool] | None = None,
    change: Callable[[GQA, Mask], GQA] = lambda mixer, _: mixer,
    norm: NormSpec = RMS,
    placement: Placement = "pre",
    parallel: Parallel | None = None,
    residual_scaled: bool = False,
    embedding: Embedding | None = None,
    head: Head | None = None,
) -> Model:
    """Put a decoder together whose layers differ in mask, rotation and in having experts.

    ``dense`` makes the network of the layers without them; ``change`` adapts the attention to its mask.
    """
    n_layers = depth(config)
    with_experts = list(sparse) if sparse is not None else [True] * n_layers
    kinds = list(
        zip(
            layer_masks if layer_masks is not None else masks(config, n_layers, None),
            rotated if rotated is not None else [True] * n_layers,
            with_experts,
            strict=True,
        )
    )
    plain = dense() if dense and not all(with_experts) else None
    config.ignore("intermediate_size")  # which says nothing where every layer has experts

    def layer(kind: tuple[Mask, bool, bool]) -> Layer:
        mask, with_rotation, with_experts = kind
        attention = replace(mixer, mask=mask, rotary_dim=mixer.rotary_dim if with_rotation else None)
        return Layer(
            attention=change(attention, mask),
            ffn=moe if with_experts else plain,
            norm=norm,
            placement=placement,
            parallel=parallel,
            residual_scaled=residual_scaled,
        )

    return assemble(
        config,
        d_model=width(config),
        stack=fold(kinds, layer),
        embedding=embedding,
        final_norm=norm,
        head=head,
    )


PREDICTING: Final = ("num_nextn_predict_layers", "num_mtp_layers", "mtp_num_hidden_layers", "num_mtp_modules")
"""Keys of how many modules for multi-token prediction a checkpoint holds."""


def predicting(config: Config) -> int:
    """Return how many modules for multi-token prediction the file states; a class default says nothing of a file."""
    config.ignore(*PREDICTING)
    return max((config.count(key) for key in PREDICTING if config.states(key)), default=0)


def with_mtp(config: Config, model: Model, *, stored: bool, layer: Layer | None = None) -> Model:
    """Add the modules for multi-token prediction, where the file has any: the last layer's kind each, or ``layer``.

    ``stored``: whether checkpoints of this family repeat the vocabulary's tables in them, which no key says.
    """
    modules = predicting(config)
    if not modules:
        return model
    last = layer or model.stack[-1].layer[-1]
    return replace(model, mtp=MTP(modules=modules, layer=last, stores_embedding=stored, stores_head=stored))


def without_mtp(config: Config, why: str = "structure not known") -> None:
    """Say that modules for multi-token prediction are left out, where the file has any."""
    modules = predicting(config)
    if modules:
        are = "module for multi-token prediction is" if modules == 1 else "modules for multi-token prediction are"
        config.note(f"{modules} {are} not counted ({why})")

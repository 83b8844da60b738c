"""One layer: its parts, the norms and residual connections around them."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from calc import reference
from calc.model import Layer
from calc.reference.base import Cache, Tensors, Twin
from calc.reference.extras import Extras
from calc.reference.hyper import HyperTwin
from calc.reference.norms import norm

SCALE = 0.22
Caches = dict[str, Cache]
"""The caches of a layer's parts."""


class LayerTwin(Twin):
    """Attention, cross-attention and feed-forward in turn, or attention beside feed-forward.

    Pre-norm x + f(norm(x)) (``LlamaDecoderLayer``), post-norm x + norm(f(x)) (``Olmo2DecoderLayer``), the original
    Transformer's norm(x + f(x)) (``BertLayer``), norms before and after (``Gemma2DecoderLayer``), parallel with one
    norm (``GPTJBlock``) or two (``GPTNeoXLayer``), scaled residuals (``GraniteDecoderLayer``),
    hyper-connections (``DeepseekV4DecoderLayer``), a second mixer beside the attention (``FalconH1DecoderLayer``),
    experts beside the attention and the network after it (``ArcticDecoderLayer`` of Snowflake/snowflake-arctic-base),
    alternating updates, a low-rank residual, vectors of its own (``Gemma3nTextDecoderLayer``), a scale
    (``Gemma4TextDecoderLayer`` of transformers).
    """

    def __init__(self, spec: Layer, d_model: int, vocab_size: int, path: str) -> None:
        super().__init__()
        self.spec = spec
        self.path = f"{path}.residual"
        named = {name: getattr(spec, name) for name in ("attention", "beside", "cross", "ffn_beside", "ffn")}
        self.parts = [name for name, mechanism in named.items() if mechanism]
        for name in self.parts:
            twin = reference.build(named[name], d_model, vocab_size)
            twin.path = f"{path}.{name}"
            self.add_module(name, twin)
            if spec.hyper:
                hyper = HyperTwin(spec.hyper, d_model)
                hyper.path = f"{path}.{name}_hyper"
                self.add_module(f"{name}_hyper", hyper)
        for name in self.parts if spec.gate else ():
            self.add_module(f"{name}_gate", Tensors(factor=(1 if spec.gate == "scalar" else d_model,)))
        self.extras = Extras(spec.extra, d_model, f"{path}.")
        if spec.norm:
            for name in self._norms():
                self.add_module(name, norm(spec.norm, d_model))

    def _norms(self) -> list[str]:
        if self.spec.parallel == "one_norm":
            return ["input_norm"]
        names = []
        for name in self.parts:
            placement = self.spec.placement_of(name)
            if name != "beside":
                before = placement in ("pre", "both") and (self.spec.attention_norm or name != "attention")
                names += [f"{name}_norm"] if before else []
                names += [f"{name}_post_norm"] if placement != "pre" else []
        return names

    def run(
        self, x: Tensor, caches: Caches | None, source: Tensor | None, tokens: Tensor | None, fed: Tensor | None = None
    ) -> Tensor:
        """Pass x [b, t, d] (or streams [b, t, n, d]) through the layer; ``caches`` gets a cache for each part.

        ``fed``: the layer's own vector [b, t, d_π] of each token.
        """
        extras = self.extras
        predicted = extras.altup.predict(x) if extras.altup else None
        result = active = self._main(x if predicted is None else predicted[:, :, 0], caches, source, tokens)
        if extras.altup and predicted is not None:
            result = extras.altup.correct(predicted, result)
            active = extras.altup.first(result)
        if extras.per_layer_input and fed is not None:
            result = extras.per_layer_input.added(result, active, fed)
        return extras.layer_scale.scaled(result) if extras.layer_scale else result

    def _main(self, x: Tensor, caches: Caches | None, source: Tensor | None, tokens: Tensor | None) -> Tensor:
        """Pass x through the parts, with their norms and residual connections."""
        parallel = self.spec.parallel is not None
        shared = self._normed("input_norm", x) if self.spec.parallel == "one_norm" else None
        total, given = x, x
        for name in self.parts:
            cache = None if caches is None else caches.setdefault(name, Cache())
            part = partial(self._part, name, cache=cache, source=source, tokens=tokens)
            if self.spec.hyper:
                hyper = self.get_submodule(f"{name}_hyper")
                assert isinstance(hyper, HyperTwin)
                entry, after, between = hyper.enter(total)
                total = hyper.leave(total, part(self._normed(f"{name}_norm", entry)), after, between)
                continue
            if shared is not None:
                given = shared
            elif name != "beside":  # which reads what the attention read
                first = parallel or (name == "ffn" and self.spec.ffn_beside is not None)
                given = self._normed(f"{name}_norm", x if first else total)
            result = part(given)
            with self.operation(f"{name}_residual"):
                total = total + result
            if self.spec.placement_of(name) == "sum":
                total = self._normed(f"{name}_post_norm", total)
            if name == "attention" and self.extras.laurel:
                total = self.extras.laurel.joined(given, total)
        return total

    def _part(self, name: str, x: Tensor, **context: Tensor | Cache | None) -> Tensor:
        """Run one part and what stands between it and the residual connection."""
        result: Tensor = self.get_submodule(name)(x, **context)
        if self.spec.placement_of(name) != "sum":
            result = self._normed(f"{name}_post_norm", result)
        if self.spec.gate:
            factor = self.get_parameter(f"{name}_gate.factor")
            with self.operation(f"{name}_gate"):
                result = result * factor
        if self.spec.residual_scaled:
            with self.operation(f"{name}_scale"):
                result = result * SCALE
        return result

    def _normed(self, name: str, x: Tensor) -> Tensor:
        """Apply a norm where the layer has it."""
        if name not in self._modules:
            return x
        with self.operation(name):
            normed: Tensor = self.get_submodule(name)(x)
        return normed

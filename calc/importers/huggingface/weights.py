"""The formats in which a quantised checkpoint stores a model: by tensor and layer, as its lists of modules say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from calc.importers.huggingface.modules import Names
from calc.importers.huggingface.quantised import apart, is_mlx, left_out, scheme_of
from calc.importers.huggingface.roles import scheme_text, stored
from calc.layers import Block
from calc.model import Model
from calc.records import Record, record
from calc.schemes import Scheme, Tensor, weight_forms

_VECTOR = Tensor(part="norm", operation="norm", expert=False, vector=True, columns=1)
_MATRIX = Tensor(part="ffn", operation="up_proj", expert=False, vector=False, columns=1)


@record
class Weights(Record):
    """A scheme of formats, and what there is to say about it."""

    scheme: str
    notes: tuple[str, ...] = ()


def weights_of(quantised: Mapping[str, Any], expert_dtype: object, model: Model) -> Weights | None:
    """Return the scheme of a quantised checkpoint of this model, or None if it is unknown.

    A file's general format is that of all matrices of attention and feed-forward; modules that it names have a format
    of their own, or stay as they were.
    """
    named = apart(quantised)
    if named is None:
        return None
    # of FP8 checkpoints that were quantised once more, only what is named changed
    again = str(quantised.get("quant_method", "")).lower() == "fp8"
    base = scheme_of(quantised, expert_dtype) if again or not named or is_mlx(quantised) else "rest=bf16"
    if base is None:
        return None
    excluded = [] if named and again else left_out(quantised)
    whole_head = not named and _packs_head(quantised)
    if not (named or excluded or whole_head):
        return Weights(base)
    own = [(form, Names(names)) for form, names in named]
    left = Names(excluded)
    forms = weight_forms(base)
    if not isinstance(forms, Scheme):
        return Weights(base)
    rest = forms.choose(_VECTOR)

    def form(block: Block, tensor: Tensor) -> str:
        kept = left.hold(block, tensor)
        of_its_own = next((form for form, names in own if names.hold(block, tensor)), None)
        if tensor.vector:
            return forms.choose(tensor)
        if kept or tensor.operation.split("_")[0] == "conv":  # no quantiser packs convolutions
            return rest
        if of_its_own:
            return of_its_own
        return forms.choose(_MATRIX) if whole_head and tensor.part == "head" else forms.choose(tensor)

    found = stored(model.blocks(), form)
    missed = [entry for names in (left, *(names for _, names in own)) for entry in names.missed(model.n_layers)]
    notes = (_unmet(missed),) if missed else ()
    return Weights(scheme_text(found, base, rest), notes)


def _packs_head(quantised: Mapping[str, Any]) -> bool:
    """Tell whether the output projection is a matrix like others, unless it is named: GPTQ's files say so outright."""
    return quantised.get("lm_head") is True or (
        quantised.get("quant_method") == "compressed-tensors" and isinstance(quantised.get("ignore"), list)
    )


def _unmet(entries: list[str]) -> str:
    shown = ", ".join(entries[:5]) + (f" and {len(entries) - 5} more" if len(entries) > 5 else "")
    return f"modules with a format of their own that are not found in the model; weight bytes do not heed them: {shown}"

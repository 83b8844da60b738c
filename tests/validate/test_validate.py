"""The proof of every mechanism and preset, and that a wrong table does not pass."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from dataclasses import fields, replace
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import calc
from calc.algebra import minimum
from calc.attention import KINDS as MIXERS
from calc.attention.gqa import GQA
from calc.catalog import names
from calc.cli.validate_cmd import command
from calc.errors import MissingExtra, SpecError, UnknownName
from calc.ffn import KINDS as NETWORKS
from calc.fields import load_class
from calc.masks import Causal, Mask, Window
from calc.mechanism import Mechanism
from calc.operations import Einsum, Operation
from calc.reference import TWINS
from calc.schema import DOCUMENTS
from calc.validate.run import Check, _anonymous, prove
from calc.validate.samples import STRUCTURES, Sample, kinds, samples
from calc.validate.shrink import sample as shrunk_sample

ALL = [pytest.param(sample, id=f"{kind}-{sample.name}") for kind in kinds() for sample in samples(kind)]


def wrong(checks: list[Check]) -> list[Check]:
    return [check for check in checks if not check.holds]


@pytest.mark.parametrize("sample", ALL)
def test_every_sample_is_proven(sample: Sample) -> None:
    checks = prove(sample)
    assert wrong(checks) == []
    assert {"parameters", "forward", "backward"} <= {check.quantity for check in checks}


@cache
def mistakes(structure: Sample) -> list[Check]:
    """Return what differs; a third of the presets shrink to what another one shrinks to."""
    return wrong(prove(structure))


@pytest.mark.parametrize("name", names())
def test_every_preset_is_proven(name: str) -> None:
    assert mistakes(_anonymous(shrunk_sample(calc.load(name)))) == []


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("kind", kinds())
def test_every_mechanism_is_proven_on_a_gpu(kind: str) -> None:
    result = calc.prove([kind], device="cuda")
    assert result.data["differ"] == 0, result.data


class TestCoverage:
    def test_every_mechanism_has_a_twin(self) -> None:
        assert set(TWINS) == {*MIXERS, *NETWORKS, "attention_pool", "projector"}

    @pytest.mark.parametrize("kind", [*MIXERS, *NETWORKS])
    def test_samples_use_every_option(self, kind: str) -> None:
        """Each possible choice of each structural field stands in some sample of the mechanism, or of a layer."""
        target = load_class({**MIXERS, **NETWORKS}[kind])
        hints = get_type_hints(target)
        specs = list(_specs(kind, target))
        missing = []
        for field in fields(target):
            if field.name == "activation" and kind != "dense":
                continue  # one table of functions serves them all
            used = {getattr(spec, field.name) for spec in specs}
            missing += [
                (field.name, choice)
                for choice in _choices(hints[field.name])
                if not _covered(choice, used) and any(_possible(spec, field.name, choice) for spec in specs)
            ]
        assert missing == []


def _possible(spec: Mechanism, name: str, choice: Any) -> bool:
    """Tell whether a mechanism takes a choice: some options exclude each other."""
    try:
        replace(spec, **{name: None if choice is NoneType else 5 if choice is int else choice})
    except SpecError:
        return False
    return True


def _specs(kind: str, target: type[Mechanism]) -> Any:
    for home in (kind, *STRUCTURES):
        for sample in samples(home):
            if isinstance(sample.spec, target):
                yield sample.spec
            elif isinstance(sample.spec, calc.Model):
                for layer in sample.spec.layers():
                    for part in (layer.attention, layer.beside, layer.cross, layer.ffn):
                        if isinstance(part, target):
                            yield part


def _choices(hint: Any) -> list[Any]:
    """Return the structural choices that a field's type offers: truth values, words, there or not there."""
    if hint is bool:
        return [True, False]
    if get_origin(hint) is Literal:
        return list(get_args(hint))
    if get_origin(hint) in (Union, UnionType):
        return [choice for inner in get_args(hint) for choice in (_choices(inner) or [inner])]
    return []


def _covered(choice: Any, used: set[Any]) -> bool:
    if choice is NoneType:
        return None in used
    if isinstance(choice, type):
        return any(isinstance(value, choice) for value in used)
    return choice in used


@st.composite
def attentions(draw: st.DrawFn) -> GQA:
    heads = draw(st.integers(1, 3))
    width = 2 * draw(st.integers(1, 4))
    mask: Mask = draw(st.one_of(st.just(Causal()), st.builds(Window, window=st.integers(1, 12))))
    return GQA(
        n_heads=heads * draw(st.integers(1, 3)),
        n_kv_heads=heads,
        head_dim=width,
        v_head_dim=draw(st.sampled_from([None, 3, 5])),
        rotary_dim=draw(st.sampled_from([None, 2, width])),
        qkv_bias=draw(st.booleans()),
        o_bias=draw(st.booleans()),
        sinks=draw(st.booleans()),
        softcap=draw(st.booleans()),
        qk_norm=draw(st.sampled_from([None, "rms", "layer"])),
        qk_norm_over=draw(st.sampled_from(["head", "each_head", "all_heads"])),
        mask=mask,
    )


class TestProperties:
    @settings(max_examples=15, deadline=None)
    @given(spec=attentions(), batch=st.integers(1, 3), context=st.integers(1, 9), d_model=st.integers(1, 20))
    def test_any_attention_is_proven(self, spec: GQA, batch: int, context: int, d_model: int) -> None:
        sample = Sample("any", spec, d_model=d_model, batch=batch, context=context, steps=2)
        found = wrong(prove(sample))
        if batch == 1:  # then torch.einsum keeps a weight turned round, and keys that it need not repeat
            found = [check for check in found if not check.quantity.startswith("kept")]
        assert found == []

    def test_counts_add_up_over_layers_and_batches(self) -> None:
        def totals(**change: Any) -> dict[str, int]:
            found: dict[str, int] = {}
            for check in prove(replace(base, **change)):
                if check.path.startswith("layer"):
                    found[check.quantity] = found.get(check.quantity, 0) + (check.counted or 0)
            return found

        base = shrunk_sample(calc.load("llama-3-8b"))
        assert isinstance(base.spec, calc.Model)
        (stack,) = base.spec.stack
        six = replace(base.spec, stack=(replace(stack, repeat=3 * stack.repeat),))
        once, layers, sequences = totals(), totals(spec=six), totals(batch=6)
        for quantity in ("parameters", "forward", "backward", "decode", "cache"):
            assert layers[quantity] == 3 * once[quantity] > 0
            assert sequences[quantity] == (1 if quantity == "parameters" else 3) * once[quantity]

    def test_counts_grow_with_the_context(self) -> None:
        spec = GQA(n_heads=4, n_kv_heads=2, head_dim=6)
        found = [sum(c.counted or 0 for c in prove(Sample("x", spec, context=n))) for n in (2, 5, 9)]
        assert found == sorted(set(found))

    def test_equal_heads_make_gqa_multi_head(self) -> None:
        grouped, plain = (
            {(c.operation, c.quantity, c.context): c.counted for c in prove(Sample("x", spec))}
            for spec in (GQA(n_heads=4, n_kv_heads=2, head_dim=6), GQA(n_heads=4, n_kv_heads=4, head_dim=6))
        )
        assert "read" in {quantity for _, quantity, _ in plain}
        for key, count in plain.items():
            if key[1] == "read" or key[1].startswith("kept"):
                continue  # an operation reads, and keeps, its input once, however many heads it makes
            shared = key[0] in ("k", "v", "k_proj", "v_proj")
            assert count == (2 if shared else 1) * (grouped[key] or 0)


def _operations(change: Callable[[Operation], Operation | None]) -> Callable[[GQA], tuple[Operation, ...]]:
    true = GQA.operations

    def operations(self: GQA) -> tuple[Operation, ...]:
        return tuple(changed for op in true(self) if (changed := change(op)) is not None)

    return operations


def _equation(name: str, old: str, new: str) -> Callable[[GQA], tuple[Operation, ...]]:
    def change(op: Operation) -> Operation:
        if op.name != name or not isinstance(op, Einsum):
            return op
        return replace(op, equation=op.equation.replace(old, new), weight=op.weight.replace(old, new), bias="")

    return _operations(change)


def _kept(self: Window, s: Any, env: Any) -> Any:
    return minimum(s, env["w"] + 1)


def _pairs(self: Mask, t: Any, s: Any, env: Any) -> Any:
    return t * s - t * (t - 1) // 2 + 1


def _once(self: Operation, env: Any, *, causal: bool = True, counts: Any = "matmul") -> Any:
    return self.flops(env, causal=causal, counts=counts)


class TestWrongTables:
    """A proof that cannot fail proves nothing: each mistake is found, and where it is."""

    @pytest.mark.parametrize(
        ("owner", "attribute", "mistake", "operation", "quantities"),
        [
            (GQA, "operations", _equation("k_proj", "dkh", "dkgh"), "k_proj", {"parameters", "forward", "backward"}),
            (GQA, "operations", _operations(lambda op: None if op.name == "o_proj" else op), "o_proj", {"forward"}),
            (GQA, "operations", _equation("o_proj", "", ""), "o_proj", {"parameters"}),
            (Window, "kept", _kept, "k", {"cache"}),
            (Causal, "pairs", _pairs, "scores", {"visible", "decode"}),
            (Operation, "backward_flops", _once, "values", {"backward"}),
            (GQA, "state", lambda self: (), "v", {"cache"}),
        ],
    )
    def test_a_mistake_is_found(
        self,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        owner: type,
        attribute: str,
        mistake: Any,
        operation: str,
        quantities: set[str],
    ) -> None:
        monkeypatch.setattr(owner, attribute, mistake)
        with pytest.raises(SystemExit) as stop:
            command(["gqa"], format="json")
        assert stop.value.code == 1
        answer = json.loads(capsys.readouterr().out)
        assert answer["holds"] is False
        checks = [check for target in answer["targets"] for check in target["checks"]]
        found = {c["quantity"] for c in checks if c["counted"] != c["expected"] and c["operation"] == operation}
        assert quantities <= found
        assert answer["differ"] == sum(c["counted"] != c["expected"] for c in checks)

    def test_a_difference_is_shown_without_asking_for_details(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(Window, "kept", _kept)
        monkeypatch.setattr("calc.validate.run.kinds", lambda: ("cross", "gqa"))
        with pytest.raises(SystemExit):
            command()
        out = capsys.readouterr().out
        assert "Differences" in out
        assert "window, sinks, biases" in out

    def test_a_mask_that_the_twin_does_not_tell_is_a_difference(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from calc.reference.base import Twin

        monkeypatch.setattr(Twin, "applies", lambda self, mask, *operations: None)
        checks = prove(samples("gqa")[0])
        assert {check.quantity for check in wrong(checks)} == {"visible", "visible elements"}
        assert all(check.counted is None for check in wrong(checks))


class TestCommand:
    def test_a_proof_that_holds(self, capsys: pytest.CaptureFixture[str]) -> None:
        command(["cross", "llama-3-8b"])
        shown = capsys.readouterr()
        assert "q_proj" in shown.out
        assert "same integer everywhere" in shown.err
        assert "━" not in shown.err  # no progress bar where nobody watches

    def test_json_says_everything(self) -> None:
        result = calc.prove(["cross"])
        DOCUMENTS["validate"].model_validate_json(result.to_json())
        data = result.to_dict()
        assert (data["schema_version"], data["kind"], data["holds"], data["differ"]) == (1, "validate", True, 0)
        (target,) = data["targets"]
        assert data["figures"] == len(target["checks"])
        beyond = {"elements", "visible elements", "decode elements", "read", "written"}
        beyond |= {"kept", "kept, selective", "kept, flash"}
        counted = {"parameters", "forward", "backward", "decode", "cache"}
        assert counted < {c["quantity"] for c in target["checks"]} <= counted | beyond

    def test_progress_reaches_its_end(self) -> None:
        steps: list[tuple[str, int, int]] = []
        calc.prove(["cross", "dense"], progress=lambda *step: steps.append(step))
        assert steps == [("cross", 0, 2), ("dense", 1, 2), ("", 2, 2)]

    def test_unknown_targets_get_near_names(self) -> None:
        with pytest.raises(UnknownName, match="did you mean gqa"):
            calc.prove(["gqq"])
        with pytest.raises(UnknownName, match="did you mean gqa"):
            calc.prove("gqq")  # one name, not its letters

    def test_devices_that_are_not_there(self) -> None:
        with pytest.raises(SpecError, match="neither 'cpu' nor 'cuda'"):
            calc.prove(["cross"], device="tpu")

    def test_without_pytorch_it_says_how_to_get_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("calc.validate.find_spec", lambda name: None)
        with pytest.raises(MissingExtra, match=r"pip install 'transformer-calc\[torch\]'"):
            calc.prove(["cross"])
        assert importlib.util.find_spec("torch") is not None

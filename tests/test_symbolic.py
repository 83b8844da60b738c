"""Formulas: what they say, how they are written, and that they equal the integer reading."""

from __future__ import annotations

from dataclasses import replace

import pytest

import calc
from calc.errors import CalcError, SpecError
from calc.schema import DOCUMENTS
from calc.symbolic import crossover, explain, formula, formulas
from calc.symbolic.mechanisms import kinds
from calc.symbolic.quantities import QUANTITIES
from calc.symbolic.solve import solve
from tests.conftest import run_calc


@pytest.mark.parametrize(
    ("target", "quantity", "text"),
    [
        ("gqa", "cache", "2·n_kv_heads·head_dim·batch·context·bytes"),
        ("gqa", "params", "2·d_model·head_dim·(n_heads + n_kv_heads)"),
        ("gqa", "flops.decode", "4·head_dim·batch·(d_model·(n_heads + n_kv_heads) + n_heads·context)"),
        ("gqa", "pairs", "context·(context + 1)/2"),
        ("gqa", "complexity", "2·n_heads·head_dim·batch·context²"),
        ("cross", "cache", "2·n_kv_heads·head_dim·batch·source·bytes"),
        ("dense", "flops.train", "12·d_model·d_ff·batch·context"),
        ("dense", "cache", "0"),
        ("moe", "params.active", "d_model·(n_experts + 3·n_active_experts·d_expert)"),
        ("llama-3-8b", "cache", "2·n_layers·n_kv_heads·head_dim·batch·context·bytes"),
        ("llama-3-8b", "cache_per_token", "2·n_layers·n_kv_heads·head_dim·bytes"),
        (
            "llama-3-8b",
            "params",
            "d_model·(n_layers·(3·d_ff + 2·head_dim·(n_heads + n_kv_heads) + 2) + 2·vocab_size + 1)",
        ),
    ],
)
def test_formulas_are_written_as_people_write_them(target: str, quantity: str, text: str) -> None:
    assert str(formula(target, quantity)) == text


def test_structural_options_choose_the_table() -> None:
    assert str(formula("gqa", "cache", options="mask=window")) == (
        "2·n_kv_heads·head_dim·batch·min(context, window)·bytes"
    )
    assert str(formula("gqa", "params", options="qkv_bias=true")) == (
        "head_dim·(2·d_model·(n_heads + n_kv_heads) + n_heads + 2·n_kv_heads)"
    )
    assert str(formula("dense", "params", options="gated=true")) == "3·d_model·d_ff"


def test_a_window_at_one_step_is_written_plainly() -> None:
    text = str(formula("gqa", "flops.decode", options={"mask": "window"}))
    assert text == "4·head_dim·batch·(d_model·(n_heads + n_kv_heads) + n_heads·min(context, window))"


def test_latex_uses_the_symbols_of_the_legend() -> None:
    found = formula("llama-3-8b", "cache")
    assert found.latex == r"2\,n_{\text{layers}}\,h_\text{kv}\,d_h\,b\,n\,\beta"
    assert found._repr_latex_() == f"${found.latex}$"
    assert r"\frac{n\,\left(n + 1\right)}{2}" in formula("gqa", "pairs").latex


@pytest.mark.parametrize("kind", kinds())
def test_every_mechanism_has_its_formulas(kind: str) -> None:
    result = formulas(kind)
    names = [row.key for row in result.grids[0].rows]
    assert "params" in names
    assert "flops.prefill" in names
    for record in result.data["formulas"]:
        assert record["unicode"]
        assert record["latex"]


def test_every_quantity_has_a_formula_of_a_model() -> None:
    model = calc.load("llama-3-8b")
    assert formula(model, "params").at() == model.params().total
    assert formula(model, "weights").at() == model.weight_bytes()
    for name in QUANTITIES:
        assert str(formula(model, name))


def test_layers_that_differ_get_symbols_of_their_own() -> None:
    data = {
        "name": "two-kinds",
        "d_model": 64,
        "vocab_size": 100,
        "stack": [
            {
                "repeat": 3,
                "layer": [
                    {
                        "attention": {
                            "kind": "gqa",
                            "n_heads": 4,
                            "n_kv_heads": 2,
                            "head_dim": 16,
                            "mask": {"kind": "window", "window": 32},
                        },
                        "ffn": {"kind": "dense", "d_ff": 128},
                    },
                    {
                        "attention": {"kind": "gqa", "n_heads": 4, "n_kv_heads": 4, "head_dim": 16},
                        "ffn": {"kind": "dense", "d_ff": 128},
                    },
                ],
            }
        ],
    }
    model = calc.Model.build(data)
    found = formula(model, "cache")
    # the window stands in one kind of layer alone, so it needs no subscript
    assert str(found) == "2·head_dim·batch·(n_1·n_kv_heads_1·min(context, window) + n_2·n_kv_heads_2·context)·bytes"
    assert {entry.name: entry.value for entry in found.legend}["n_kv_heads_2"] == 4
    assert str(formula(model, "params.ffn")) == "2·n_layers·d_model·d_ff"
    assert found.at(context=100, batch=2) == model.cache(100, 2).bytes


def test_the_steps_from_the_formula_to_the_figure() -> None:
    result = explain("llama-3-8b", "cache", at="context=8192,batch=4")
    rows = {row.key: row.cells[1] for row in result.grids[0].rows}
    assert rows["numbers"] == "131,072·batch·context"
    assert rows["substituted"] == "131,072·4·8,192"
    assert rows["result"] == "4,294,967,296 bytes = 4 GiB"
    assert result.data["at"] == {
        "values": {"context": 8192, "batch": 4},
        "substituted": "131,072·4·8,192",
        "result": 4 * 8192 * 131072,
    }
    assert result.data["leading"]["order"] == "O(n)"


def test_the_latent_cache_against_the_heads_it_replaces() -> None:
    latent = explain("mla", "cache", at="kv_lora_rank=512,rotary_dim=64").data["at"]["result"]
    heads = explain("gqa", "cache", at="n_kv_heads=128,head_dim=128").data["at"]["result"]
    assert (latent, heads) == (1152, 65536)  # 98 % less


def test_the_leading_term_and_the_order() -> None:
    quadratic = formula("llama-3-8b", "flops.prefill")
    term, order = quadratic.leading()
    assert order == "O(n²)"
    assert quadratic.write(term) == "2·n_layers·n_heads·head_dim·batch·context²"
    windowed = formula("gqa", "complexity", options="mask=window")
    assert windowed.leading()[1] == "O(n)"
    assert str(windowed) == "4·head_dim·(d_model·(n_heads + n_kv_heads) + n_heads·window)·batch·context"
    assert formula("gqa", "cache", options="mask=window").leading()[1] == "O(1)"


@pytest.mark.parametrize(
    ("quantity", "variable", "budget", "at"),
    [
        ("cache", "context", "80GiB", "batch=4"),
        ("cache", "batch", "80GiB", "context=131072"),
        ("flops.prefill", "context", "2.5P", "batch=2"),
        ("flops.train", "batch", "1E", "context=4096"),
        ("traffic.decode", "context", "20GB", "batch=8"),
        ("flops.decode", "context", "100G", ""),
    ],
)
def test_the_largest_within_a_budget_is_exact(quantity: str, variable: str, budget: str, at: str) -> None:
    solved = explain("llama-3-8b", quantity, solve_for=variable, budget=budget, at=at).data["solve"]
    given = dict(term.split("=") for term in at.split(",") if term)
    read = formula("llama-3-8b", quantity)
    values = {name: int(value) for name, value in given.items()}
    assert solved["outcome"] == "largest"
    assert read.at(**values, **{variable: solved["value"]}) == solved["figure"] <= solved["budget"]
    assert read.at(**values, **{variable: solved["value"] + 1}) == solved["next"] > solved["budget"]
    assert solved["expression"]["unicode"]


def test_the_solution_in_symbols_is_the_number() -> None:
    found = formula("llama-3-8b", "flops.prefill")
    solution = solve(found, "context", 25 * 10**14, {"batch": 2})
    numbers = found.subject.values() | {"batch": 2, "budget": 25 * 10**14}
    at = {each: numbers.get(each, numbers.get(str(each))) for each in solution.expression.free_symbols}
    assert int(solution.expression.subs(at).evalf(30)) == solution.value


def test_budgets_that_never_or_always_suffice() -> None:
    never = explain("llama-3-8b", "cache", solve_for="context", budget="100kB")
    assert never.data["solve"]["outcome"] == "never"
    assert "one token already comes to 128 KiB" in never.grids[0].rows[-1].cells[1]
    always = explain("gqa", "cache", solve_for="context", budget="1GiB", options="mask=window,n_kv_heads=8",
                     at="window=4096,head_dim=128")  # fmt: skip
    assert always.data["solve"]["outcome"] == "always"
    assert always.data["solve"]["figure"] == 2 * 8 * 128 * 4096 * 2


def test_a_figure_that_falls_again_has_no_one_answer() -> None:
    sizes = "n_heads=8,n_kv_heads=8,head_dim=64,mask=chunk"
    with pytest.raises(SpecError, match=r"flops\.decode of gqa falls again"):
        explain("gqa", "flops.decode", options=sizes, at="window=256,d_model=512", solve_for="context", budget="1G")


REFUSED: list[tuple[tuple[str, ...], dict[str, str], list[str]]] = [
    (("llama-3-8b", "cach"), {}, ["no quantity named 'cach'", "cache"]),
    (("llama-3-8b", "zzz"), {}, ["no quantity named 'zzz'", "params, ", "pairs"]),
    (("gqaa", "cache"), {}, ["did you mean", "gqa"]),
    (("gqa", "cache"), {"options": "qkv_bia=true"}, ["qkv_bias"]),
    (("gqa", "cache"), {"options": "qkv_bias=perhaps"}, ["qkv_bias = 'perhaps'", "true or false"]),
    (("gqa", "cache"), {"options": "mask=widow"}, ["mask", "window"]),
    (("gqa", "cache"), {"at": "context=8192"}, ["n_kv_heads", "has no value"]),
    (("gqa", "params"), {"at": "n_heads=7,n_kv_heads=2,head_dim=8,d_model=64", "options": "qk_norm=nonsense"}, ["rms"]),
    (("llama-3-8b", "cache"), {"at": "context=8e3"}, ["context = '8e3'"]),
    (("llama-3-8b", "cache"), {"at": "context=0"}, ["context = '0'"]),
    (("llama-3-8b", "cache"), {"at": "context=__import__('os')"}, ["is not a whole number"]),
    (("llama-3-8b", "cache"), {"at": "head_dim=64"}, ["fixed by the model"]),
    (("llama-3-8b", "cache"), {"at": "contxt=64"}, ["no value named 'contxt'", "context"]),
    (("llama-3-8b", "cache"), {"at": "context"}, ["is not name=value"]),
    (("llama-3-8b", "cache"), {"at": "batch=1,batch=2"}, ["batch is given twice"]),
    (("llama-3-8b", "cache"), {"solve_for": "context"}, ["go together"]),
    (("llama-3-8b", "cache"), {"solve_for": "d_model", "budget": "1GB"}, ["variable to solve for"]),
    (("llama-3-8b", "cache"), {"solve_for": "batch", "budget": "1GB", "at": "batch=2"}, ["both given and asked"]),
    (("llama-3-8b", "cache"), {"solve_for": "context", "budget": "80 apples"}, ["80 apples"]),
    (("llama-3-8b", "flops.decode"), {"solve_for": "context", "budget": "x"}, ["'x'"]),
    (("llama-3-8b", "complexity"), {"solve_for": "context", "budget": "1P"}, ["leading term"]),
    (("llama-3-8b", ""), {"at": "context=8"}, ["need a quantity"]),
    (("llama-3-8b", "weights"), {"weights_dtype": "q4_k_m"}, ["format for each tensor"]),
    (("llama-3-8b", "flops.decode"), {"counts": "some"}, ["'some'"]),
]


@pytest.mark.parametrize(("target", "options", "words"), REFUSED, ids=lambda value: str(value)[:40])
def test_what_cannot_be_asked_is_named(target: tuple[str, str], options: dict[str, str], words: list[str]) -> None:
    with pytest.raises(CalcError) as refused:
        explain(*target, **options)  # type: ignore[arg-type]
    for word in words:
        assert word in str(refused.value)


def test_a_refusal_on_the_command_line_is_one_line() -> None:
    run = run_calc("formula", "llama-3-8b", "cach")
    assert (run.code, run.out) == (1, "")
    assert run.err == "error: no quantity named 'cach'; did you mean cache?\n"


@pytest.mark.parametrize("form", ["table", "json", "csv", "md"])
def test_the_command_prints_every_format(form: str) -> None:
    run = run_calc("formula", "llama-3-8b", "flops.prefill", "--at", "context=4096", "--format", form)
    assert run.code == 0, run.err
    assert "262,144·" in run.out


def test_the_json_keeps_its_contract() -> None:
    asked = {
        "at": "context=8192",
        "solve_for": "batch",
        "budget": "80GiB",
    }
    for answer in (
        explain("llama-3-8b", "cache", **asked),
        explain("llama-3-8b", "traffic.decode", at="context=8192"),
        explain("moe", "flops.decode"),
        formulas("deepseek-v3"),
        formulas("csa"),
        crossover("llama-3-8b", "mistral-7b-v0.1", "flops.prefill").result(),
    ):
        DOCUMENTS[answer.kind].model_validate_json(answer.to_json())


def test_latex_on_the_command_line() -> None:
    assert r"h_\text{kv}" in run_calc("formula", "llama-3-8b", "cache", "--latex").out


def test_a_scheme_of_formats_has_no_formula_with_numbers() -> None:
    model = replace(calc.load("llama-3-8b"), weights_dtype="int4-linear")
    for quantity in ("weights", "traffic.decode"):
        with pytest.raises(SpecError, match=r"several formats \(int4-linear\).*--weights-dtype"):
            explain(model, quantity)
        assert explain(model, quantity, weights_dtype="bf16").data["numbers"]
    with pytest.raises(SpecError, match="several formats"):
        calc.crossover("deepseek-v3", "llama-3.1-405b", "weights")
    [overview, _] = explain(model).grids
    assert "weights are published in several formats (int4-linear)" in overview.notes[0]
    assert explain(model, "cache", at="context=4096").data["at"]["result"] == 4096 * 131_072

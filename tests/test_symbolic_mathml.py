"""Formulas as MathML: what a browser sets without a script."""

from __future__ import annotations

import html
import re
from xml.etree import ElementTree

import pytest

import calc
from calc.dims import LEGEND, Dim
from calc.symbolic.legend import subscripted
from calc.symbolic.styles import symbol_mathml


@pytest.mark.parametrize("dim", LEGEND.values(), ids=lambda dim: dim.name)
def test_every_symbol_of_the_legend_is_mathml(dim: Dim) -> None:
    ElementTree.fromstring(symbol_mathml(dim.symbol))
    ElementTree.fromstring(symbol_mathml(subscripted(dim.symbol, "dec1_attention")))


@pytest.mark.parametrize(
    ("model", "quantity"),
    [
        ("llama-3-8b", "cache"),
        ("gemma-3-27b", "flops.prefill"),
        ("deepseek-v3.2", "flops.decode"),
        ("qwen3-next-80b-a3b", "flops.prefill"),
        ("t5-small", "flops.prefill"),
        ("switch-base-8", "flops.prefill"),
    ],
)
def test_a_formula_is_mathml_with_the_same_symbols_as_in_latex(model: str, quantity: str) -> None:
    found = calc.formula(model, quantity)
    root = ElementTree.fromstring(found.mathml)
    assert root.tag == "math"
    text = "".join(root.itertext())
    numbers = re.findall(r"\d[\d,]*", str(found))
    assert all(number in text for number in numbers)
    for entry in (found.entries[symbol] for symbol in found.shown.free_symbols):
        assert "".join(ElementTree.fromstring(symbol_mathml(entry.latex)).itertext()) in text
    assert text.count("+") == found.latex.count("+")


def test_the_cache_of_llama_in_mathml() -> None:
    times = "<mo>·</mo>"
    layers = "<msub><mi>n</mi><mtext>layers</mtext></msub>"
    heads = "<msub><mi>h</mi><mtext>kv</mtext></msub>"
    factors = ["<mn>2</mn>", layers, heads, "<msub><mi>d</mi><mi>h</mi></msub>", *(f"<mi>{x}</mi>" for x in "bnβ")]
    written = html.unescape(calc.formula("llama-3-8b", "cache").mathml)
    assert written == f'<math display="block">{times.join(factors)}</math>'


def test_a_symbol_of_unknown_latex_is_refused() -> None:
    for latex in ("", r"\nonsense", "a}"):
        with pytest.raises(ValueError, match="no symbol"):
            symbol_mathml(latex)

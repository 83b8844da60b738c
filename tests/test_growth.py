"""Formulas of a layer's parts: each, with the model's numbers put in, is what the tables count for long sequences."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import replace
from fractions import Fraction

import pytest

import calc
from calc import catalog
from calc.dims import LEGEND
from calc.growth import HUGE, formulas, symbol, used_symbols
from calc.model import Block, Model, Pass, running
from calc.operations import Einsum
from calc.report.layout import cells, lines

WORD = re.compile(r"[^\W\d][\w'^]*")


def numbers(block: Block) -> dict[str, int]:
    """Return what the symbols stand for in one table, read off its letters."""
    found = {symbol(letter): value for letter, value in block.letters.items() if letter not in ("g", "o", "δ")}
    if "k" in block.letters:
        found["h"] = block.letters["k"] * block.letters.get("g", 1)
    return found


def value(text: str, of: dict[str, int]) -> Fraction:
    """Evaluate a formula that the program itself wrote; n is the one huge length."""
    names = {**of, "n": HUGE}
    text = text.replace(",", "").replace("n²", "n*n").replace("·", "*")
    python = WORD.sub(lambda word: f"names[{word.group()!r}]", text.replace("n√n", "n**1.5"))
    return Fraction(eval(python.replace("/", "*one/"), {"names": names, "one": Fraction(1)}))


def by_table(model: Model) -> dict[str, list[Block]]:
    found = defaultdict(list)
    for block in model.blocks():
        if block.name in ("attention", "cross", "beside"):
            found["attention"].append(block)
            found["projections"].append(block)
        elif block.name == "ffn":
            found["ffn"].append(block)
    return found


def counted(block: Block, part: str) -> int:
    """Return the FLOPs of a prefill of the huge length, of the operations that belong to a part."""
    return sum(
        operation.matmul_flops(env, True)
        for _, operation, env in running([block], Pass.prefill(HUGE))
        if isinstance(operation, Einsum) and (part == "attention") != bool(operation.weight)
    )


@pytest.mark.parametrize("name", catalog.names())
def test_a_formula_is_what_the_table_counts(name: str) -> None:
    model = calc.load(name)
    written = formulas(model)
    for part, blocks in by_table(model).items():
        layers = 0
        for block in blocks:
            expected = counted(block, part)
            texts = [each.text for each in written[part]]
            if not expected:
                continue
            layers += block.repeat
            near = [text for text in texts if _equal(text, block, expected)]
            assert near, (part, block.path, texts, expected)
        assert layers == sum(each.layers for each in written[part])


def _equal(text: str, block: Block, expected: int) -> bool:
    try:
        ratio = value(text, {"d": block.letters["d"], **numbers(block)}) / expected
    except KeyError:  # another layer's formula
        return False
    return abs(ratio - 1) < Fraction(1, 10**6)


@pytest.mark.parametrize("name", ["gpt-3", "llama-3-8b", "deepseek-v3", "deepseek-v2-lite", "gpt-oss-120b", "t5-base"])
def test_the_cache_of_a_token(name: str) -> None:
    model = calc.load(name)
    written = formulas(model)["cache"]
    blocks = [block for block in model.blocks() if block.name == "attention" and block.states]
    per_token = sum(each.layers * value(each.text, numbers(blocks[0])) for each in written)
    assert per_token == model.cache(10**6, form="int8").bytes_per_token


@pytest.mark.parametrize(
    ("name", "part", "text"),
    [
        ("gpt-3", "attention", "2·n²·h·d_h"),
        ("deepseek-v3", "attention", "n²·h·(d_r + d_n + d_v)"),
        ("deepseek-v3", "cache", "d_c + d_r"),
        ("gemini-2.5-pro", "attention", "n²·h·d_h/32"),
        ("gemma-3-27b", "attention", "4,096·n·h·d_h"),
        ("mamba-2.8b", "attention", "2·n·N·d_i"),
        ("llama-3-8b", "projections", "4·n·d·d_h·(h + h_kv)"),
        ("mixtral-8x7b", "ffn", "2·n·d·(E + 3·k·d_x)"),
    ],
)
def test_a_formula_reads_as_papers_write_it(name: str, part: str, text: str) -> None:
    assert formulas(calc.load(name))[part][0].text == text


def test_every_symbol_is_explained() -> None:
    for name in catalog.names():
        texts = [each.text for found in formulas(calc.load(name)).values() for each in found]
        used = {word for text in texts for word in WORD.findall(text.replace("n²", ""))} - {"n"}
        assert used == {short for short, _ in used_symbols(texts)}, name
    assert "n" not in {symbol(letter) for letter in LEGEND}


def test_the_comparison_of_the_article() -> None:
    result = calc.compare(["gpt-3", "deepseek-v3", "gemini-2.5-pro"])
    facts = {each["model"]: each["parts"] for each in result.data["formulas"]}
    assert [part["layers"] for part in facts["deepseek-v3"] if part["part"] == "ffn"] == [58, 3]
    rows = {row.key: row.cells for row in result.grids[0].rows}
    share = rows["cache.multi_head_share"]
    assert (share[1].value, share[2].value) == (1, 576 / 32_768)
    train = rows["flops.train_per_token"]
    assert train[1].value == result.data["models"][0]["flops"]["train"] / 2_048
    training = {each["model"]: each for each in result.data["training"]}
    assert (training["deepseek-v3"]["tokens"], training["deepseek-v3"]["usd"]) == (14.8e12, 5.576e6)
    assert training["gpt-3"]["flops"] == pytest.approx(300e9 * train[1].value)
    assert training["gemini-2.5-pro"] == {"model": "gemini-2.5-pro", "tokens": None, "usd": None, "flops": None}
    for unknown in ("params.total", "params.active", "flops.decode", "flops.train_per_token", "cache.bytes_per_token"):
        cell = rows[unknown][3]
        assert cell.provenance == "estimate"
        assert cell.low < cell.high


def test_the_comparison_of_the_article_fits_a_terminal() -> None:
    result = calc.compare(["gpt-3", "deepseek-v3", "gemini-2.5-pro"])
    text = ["".join(piece for piece, _ in line) for grid in result.grids for line in lines(grid, 80)]
    assert max(map(cells, text)) <= 80
    assert sum(line.startswith("parameters") for line in text) == 1  # in one piece
    assert any("≈ 0.5 – 1 T ×2.9–5.7" in line for line in text)


def test_what_nobody_states_is_no_row() -> None:
    model = replace(calc.load("gpt2"), published={"training_tokens": "many"})
    assert not [row for row in calc.compare([model]).grids[0].rows if "training_" in row.key]


def test_many_models_are_rows_without_formulas() -> None:
    names = ["gpt-3", "llama-3-8b", "gpt2", "t5-base", "mamba-2.8b"]
    result = calc.compare(names)
    assert len(result.grids) == 1
    assert [each["model"] for each in result.data["formulas"]] == names

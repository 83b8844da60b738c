"""The HTML report: complete, self-contained, sound as HTML, and right in a browser."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

import calc
from calc.catalog import names
from calc.charts.style import DARK, LIGHT
from calc.report.markup import fragment
from tests.conftest import Run, refused

Cli = Callable[..., Run]
VOID = {"meta", "br", "hr", "img", "link", "input", "source"}


class Page(HTMLParser):
    """Collects what the tests ask about, and requires that elements are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.headings: list[tuple[int, str]] = []
        self.words: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if self.open and re.fullmatch(r"h[1-6]", self.open[-1]):
            self.headings.append((int(self.open[-1][1]), data))

    def attributes(self, name: str) -> list[str]:
        return [value for _, attrs in self.tags if (value := attrs.get(name)) is not None]


@pytest.fixture(scope="module")
def text() -> str:
    return calc.html_report(["deepseek-v3", "gemini-2.5-pro"], "h100-sxm", context=4096, batch=2)


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def test_the_page_loads_nothing_and_runs_nothing(text: str, page: Page) -> None:
    assert text.startswith("<!doctype html>")
    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "img", "iframe", "object")]
    assert all(value.startswith("#") for value in (*page.attributes("href"), *page.attributes("xlink:href")))
    assert not page.attributes("src")
    assert "@import" not in text
    assert set(re.findall(r"url\(([^)]*)\)", text)) <= {f"#{name}" for name in page.attributes("id")}


def test_the_page_is_accessible(page: Page) -> None:
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    for name in ("aria-labelledby", "aria-label"):
        assert all(value.strip() for value in page.attributes(name))
    for value in page.attributes("aria-labelledby"):
        assert set(value.split()) <= set(ids)
    assert {href[1:] for href in page.attributes("href")} <= set(ids)
    levels = [level for level, _ in page.headings]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    drawings = [attrs for tag, attrs in page.tags if tag == "svg"]
    assert drawings
    assert all(attrs["role"] == "img" and attrs["aria-labelledby"] for attrs in drawings)
    assert ("html", {"lang": "en"}) in page.tags
    for tag, attrs in page.tags:
        assert tag != "th" or attrs.get("scope") in ("col", "row", "rowgroup")


def test_the_page_has_every_part_and_its_figures(text: str, page: Page) -> None:
    names = [words for level, words in page.headings if level == 2]
    title = calc.load_accelerator("h100-sxm").title
    models = ["DeepSeek-V3", "Gemini 2.5 Pro (estimate)"]
    assert names == ["Summary", "Comparison", "Charts", *models, title, "Conventions", "Sources"]
    assert "671,026,419,200" in text
    assert html.escape(calc.load("deepseek-v3").source) in text
    cards = calc.show("deepseek-v3", context=4096, batch=2).grids[0]
    assert sum(tag == "math" for tag, _ in page.tags) > 20
    assert all(html.escape(row.cells[0].strip()) in text for row in cards.rows if isinstance(row.cells[0], str))
    assert "≈" in text
    used = set(re.findall(r"var\((--[\w-]+)\)", text))
    assert used <= set(re.findall(r"(--[\w-]+): #", text))
    assert f"--page: {LIGHT.page}" in text
    assert f"--page: {DARK.page}" in text


def test_every_command_of_the_page_runs(text: str, calc_cli: Cli, tmp_path: Path) -> None:
    commands = {html.unescape(found) for found in re.findall(r"<code>(calc [^<]*)</code>", text)}
    kinds = {command.split()[1] for command in commands}
    assert kinds == {"report", "compare", "show", "ops", "formula", "plot"}
    for kind in sorted(kinds - {"report"}):
        command = sorted(command for command in commands if command.split()[1] == kind)[0]
        run = calc_cli(*command.split()[1:], cwd=tmp_path)
        assert run.code == 0, (command, run.err)


def test_the_page_says_what_it_counts_and_its_commands_are_not_refused(calc_cli: Cli, tmp_path: Path) -> None:
    text = calc.html_report("gpt2", "h100-sxm", context=512, causal=False, counts="all", weights_dtype="fp8")
    lede = "1 × 512 tokens, weights in fp8, cache in bf16, all operations, all pairs of queries and keys."
    assert f'<p class="lede">{lede}</p>' in text
    ops = {html.unescape(found) for found in re.findall(r"<code>(calc ops [^<]*)</code>", text)}
    assert sorted("--counts" in command for command in ops) == [False, False, True, True]
    for command in sorted(ops):
        run = calc_cli(*command.split()[1:], cwd=tmp_path)
        assert run.code == 0, (command, run.err)


def test_names_from_files_cannot_write_markup(tmp_path: Path) -> None:
    preset = Path(calc.__file__).parent.parent / "presets" / "models" / "gpt2.toml"
    evil = preset.read_text("utf-8").replace('title = "', 'title = "<script>alert(1)</script>&amp; ')
    evil = evil.replace('source = "', 'source = "</style><img src=x onerror=alert(1)>')
    path = tmp_path / "evil.toml"
    path.write_text(evil, "utf-8")
    text = calc.html_report([path])
    tags = {tag for tag, _ in Page(text).tags}
    assert not tags & {"script", "img"}
    assert "&lt;script&gt;alert(1)&lt;/script&gt;&amp;amp; " in text


@pytest.mark.parametrize("model", ["t5-small", "qwen3-next-80b-a3b", "bert-base-uncased"])
def test_every_kind_of_model_has_a_report(model: str) -> None:
    text = calc.html_report(model)
    found = Page(text)
    assert found.headings[0][1].startswith("What does ")
    formulas = re.findall(r'<div class="math">(.*?)</div>', text, re.DOTALL)
    assert formulas
    for formula in formulas:
        outside = re.sub(r"<math.*?</math>", "", formula, flags=re.DOTALL)
        assert not outside.strip()


def test_the_command_writes_a_page(calc_cli: Cli, tmp_path: Path) -> None:
    run = calc_cli("report", "gpt2", "--context", "256", "-o", tmp_path / "gpt2.html")
    assert (run.code, run.out, run.err) == (0, "", f"wrote {tmp_path / 'gpt2.html'}\n")
    assert "1 × 256 tokens" in (tmp_path / "gpt2.html").read_text("utf-8")
    assert "no preset named 'gpt22'" in refused(calc_cli("report", "gpt22", cwd=tmp_path))
    assert "1 to 8 models, not 9" in refused(calc_cli("report", *names()[:9], cwd=tmp_path))
    assert "cannot write" in refused(calc_cli("report", "gpt2", "-o", "/nowhere/a.html", cwd=tmp_path))
    assert "h1000" in refused(calc_cli("report", "gpt2", "-a", "h1000", cwd=tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["gpt2.html"]


def test_results_show_themselves_in_notebooks() -> None:
    result = calc.compare(["gpt2", "gemini-2.5-pro"])
    shown = result._repr_html_()
    assert shown == fragment(result)
    tags = [tag for tag, _ in Page(shown).tags]
    assert tags.count("table") == len(result.grids)
    assert "124.4 M" in shown


# ---- in a browser

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine (apt-get install chromium)")
MEASURE = """<script>
addEventListener("load", () => {
  const seen = (element) => element.getClientRects().length > 0;
  const body = document.body, root = document.documentElement;
  const wide = [...document.querySelectorAll("figure .wide svg")].filter(seen).length;
  const narrow = [...document.querySelectorAll("figure .narrow svg")].filter(seen).length;
  const maths = [...document.querySelectorAll("math")].filter(seen);
  const flat = maths.filter((element) => element.getBoundingClientRect().height < 5).length;
  const colour = getComputedStyle(body).backgroundColor;
  const found = { scroll: root.scrollWidth, client: root.clientWidth, wide, narrow, maths: maths.length, flat, colour };
  parent.document.title = JSON.stringify(found);
});
</script>"""


def in_browser(text: str, folder: Path, width: int, *flags: str) -> dict[str, float | str]:
    """Lay a page out at a width without a network, and return what a script measures in it."""
    import json

    framed = html.escape(text.replace("</body>", f"{MEASURE}</body>"))
    frame = f'<body style="margin:0"><iframe width="{width}" height="900" style="border:0" srcdoc="{framed}"></iframe>'
    path = folder / "frame.html"
    path.write_text(f"<!doctype html><meta charset=utf-8><title>waiting</title>{frame}", "utf-8")
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND",
        f"--user-data-dir={folder / 'profile'}", *flags, "--virtual-time-budget=8000", "--dump-dom", path.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, timeout=120, check=False)
    title = re.search(r"<title>(.*?)</title>", done.stdout.decode())
    assert title, done.stderr.decode()[-500:]
    measured: dict[str, float | str] = json.loads(html.unescape(title[1]))
    return measured


@browser
@pytest.mark.parametrize(("width", "narrow"), [(1100, False), (390, True), (320, True)])
def test_the_page_fits_a_screen(text: str, tmp_path: Path, width: int, narrow: bool) -> None:
    found = in_browser(text, tmp_path, width)
    assert found["scroll"] == found["client"], "the page scrolls sideways"
    assert bool(found["narrow"]) is narrow
    assert bool(found["wide"]) is not narrow
    assert found["maths"]
    assert found["flat"] == 0, "formulas that are not laid out"
    assert found["colour"] == "rgb(255, 255, 255)"


@browser
def test_the_page_is_dark_where_that_is_preferred(text: str, tmp_path: Path) -> None:
    found = in_browser(text, tmp_path, 1100, "--blink-settings=preferredColorScheme=0")
    red, green, blue = (int(DARK.page[at : at + 2], 16) for at in (1, 3, 5))
    assert found["colour"] == f"rgb({red}, {green}, {blue})"


@browser
def test_the_page_prints(text: str, tmp_path: Path) -> None:
    path, target = tmp_path / "page.html", tmp_path / "page.pdf"
    path.write_text(text, "utf-8")
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    command += [f"--print-to-pdf={target}", path.as_uri()]
    subprocess.run(command, capture_output=True, timeout=120, check=True)
    assert target.read_bytes().startswith(b"%PDF")

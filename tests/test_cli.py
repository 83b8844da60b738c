"""The command line as a user meets it: answers, formats, refusals, pipes."""

from __future__ import annotations

import csv
import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from calc.cli import COMMANDS
from calc.cli.app import load
from calc.schema import DOCUMENTS
from tests.conftest import ROOT, Run, refused

Cli = Callable[..., Run]
CALLS = {
    "show": ["show", "llama-3-8b"],
    "compare": ["compare", "llama-3-8b", "gpt-3"],
    "ops": ["ops", "llama-3-8b", "--phase", "decode"],
    "list": ["list", "llama-3"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_its_line_in_the_list(name: str, calc_cli: Cli) -> None:
    run = calc_cli(name, "--help")
    assert run.code == 0
    assert load(name).__doc__.strip().splitlines()[0] in " ".join(run.out.split())
    assert COMMANDS[name] in calc_cli("--help").out


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("form", ["table", "json", "csv", "md"])
def test_every_answer_comes_in_four_formats(call: list[str], form: str, calc_cli: Cli) -> None:
    run = calc_cli(*call, "--format", form)
    assert run.code == 0
    assert all(line.startswith("note: ") for line in run.err.splitlines())
    if form == "json":
        DOCUMENTS[call[0]].model_validate_json(run.out)
    elif form == "csv":
        for table in run.out.split("\n\n"):
            assert len({len(line) for line in csv.reader(io.StringIO(table)) if line}) == 1
    elif form == "md":
        assert any(set(line) <= set("|-: ") for line in run.out.splitlines())
    else:
        assert "llama-3" in run.out.lower().replace(" ", "-")


@pytest.mark.parametrize(("what", "said"), [("", "model"), ("accelerators", "accelerator"), ("engines", "engine")])
def test_a_search_that_finds_nothing_says_so(what: str, said: str, calc_cli: Cli) -> None:
    run = calc_cli("list", *filter(None, [what]), "nosuchthing")
    assert run.code == 0
    assert f"note: no {said} matches 'nosuchthing'" in run.err


def test_the_card_of_llama_3_8b(calc_cli: Cli) -> None:
    data = calc_cli("show", "llama-3-8b", "--format", "json", "--context", "8192").json
    assert data["params"]["total"] == 8_030_261_248
    assert data["weights"] == {"dtype": "bf16", "bytes": 16_060_522_496}
    assert data["cache"]["bytes_per_token"] == 131_072
    assert data["cache"]["bytes"] == 2**30
    # two FLOPs for each multiplied parameter and each of 8,192 visible pairs, scores and values, in 32 layers
    assert data["flops"]["decode"] == 2 * 7_504_658_432 + 2 * 2 * 32 * 32 * 128 * 8192
    parts = ("embedding", "attention", "ffn", "router", "norm", "head", "other")
    assert sum(data["params"][part] for part in parts) == data["params"]["total"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show", "llama-3-8bb"], ["llama-3-8bb", "did you mean", "llama-3-8b"]),
        (["show", ""], ["no preset named ''"]),
        (["show", "a" * 5_000], ["no preset named"]),
        (["show", "a/" * 3_000], ["no such file"]),
        (["show", "~nobody/x"], ["no such file"]),
        (["show", "meta-llama/Llama-3-8B"], ["no such file", "did you mean the preset llama-3-8b?"]),
        (["show", "\x1b[31mred"], [r"\x1b[31mred"]),
        (["show", "llama-3-8b", "--weights-dtype", ""], ["weights_dtype = ''"]),
        (["show", "no/such/file.toml"], ["no such file"]),
        (["show", "llama-3-8b", "--source", "9"], ["source = 9", "no model here reads a source"]),
        (["show", "llama-3-8b", "--context", "0"], ["context = 0"]),
        (["show", "llama-3-8b", "--batch", "-3"], ["batch = -3"]),
        (["show", "llama-3-8b", "--context", "9" * 30], ["context = 9"]),
        (["show", "llama-3-8b", "--cache-dtype", "bf61"], ["bf61", "bf16"]),
        (["show", "llama-3-8b", "--weights-dtype", "x"], ["dtype"]),
        (["show", str(ROOT)], ["folder without a config.json"]),
        (["compare", "gpt2", "h100-sxm"], ["h100-sxm is an accelerator, not a model"]),
        (["ops", "gpt2", "-a", "llama-3-8b"], ["llama-3-8b is a model, not an accelerator"]),
        (["reason", "bert-base-uncased"], ["is an encoder: it writes no tokens"]),
        (["adapt", "bert-base-uncased", "--capacity", "0.5"], ["is an encoder: it writes no tokens"]),
        (["speculate", "gpt2", "bert-base-uncased", "--acceptance", "0.5"], ["is an encoder: it writes no tokens"]),
        (["routed", "1.3B", "--experts", "8,1.5"], ["experts = 1.5 is not a whole number"]),
        (["import", "/nowhere/config.json"], ["no such file", "config.json"]),
    ],
)
def test_bad_arguments_get_one_clear_line(arguments: list[str], words: list[str], calc_cli: Cli) -> None:
    line = refused(calc_cli(*arguments))
    assert all(word in line for word in words), line


@pytest.mark.parametrize(
    "arguments", [["shwo"], ["show"], ["show", "llama-3-8b", "--batch", "two"], ["show", "--nope"]]
)
def test_wrong_usage_exits_2(arguments: list[str], calc_cli: Cli) -> None:
    run = calc_cli(*arguments)
    assert run.code == 2
    assert "Traceback" not in run.err


PRESET = (ROOT / "presets" / "models" / "llama-3-8b.toml").read_text("utf-8")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("n_heads = 32", "n_heads = 30"), ["n_heads = 30", "n_kv_heads = 8"]),
        (("n_heads = 32", "n_heads = -32"), ["n_heads", "-32", "greater than or equal to 1"]),
        (("n_heads = 32", "n_heads = 0"), ["n_heads", "0"]),
        (("n_heads = 32", "n_heads = 32.0"), ["n_heads", "integer"]),
        (("n_heads = 32", 'n_heads = "32"'), ["n_heads", "integer"]),
        (("n_heads = 32", "n_heads = true"), ["n_heads", "integer"]),
        (("n_heads = 32", "n_heads = 99999999999999"), ["n_heads", "less than or equal"]),
        (("n_heads = 32, ", ""), ["n_heads is missing"]),
        (("n_heads = 32", "n_heads = 32, n_haeds = 1"), ["n_haeds is not a known field"]),
        (('kind = "gqa"', 'kind = "gqq"'), ["attention.kind", "gqq", "did you mean gqa"]),
        (('kind = "gqa"', 'kind = "\\u001b[2J"'), ["attention.kind", r"\x1b[2J"]),
        (('kind = "gqa", ', ""), ["attention.kind is missing"]),
        (
            ("repeat = 32", "repeat = 1\n" + "[[stack.layer]]\nffn = { kind = 'dense', d_ff = 1 }\n" * 600),
            ["601 layers", "512"],
        ),
        (("repeat = 32", "repeat = 0"), ["repeat", "0"]),
        (("d_model = 4_096", ""), ["d_model is missing"]),
        (("d_model = 4_096", "d_model = "), ["not valid TOML"]),
        (("d_model = 4_096", "d_model = inf"), ["d_model"]),
        (("rotary_dim = 128", "rotary_dim = 256"), ["rotary_dim = 256", "head_dim = 128"]),
    ],
)
def test_a_bad_preset_gets_one_clear_line(
    change: tuple[str, str], words: list[str], calc_cli: Cli, tmp_path: Path
) -> None:
    assert change[0] in PRESET
    path = tmp_path / "model.toml"
    path.write_text(PRESET.replace(*change, 1), "utf-8")
    line = refused(calc_cli("show", path))
    assert all(word in line for word in [*words, "model.toml"]), line


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty.toml", b"", ["empty"]),
        ("blank.json", b" \n", ["empty"]),
        ("latin.toml", "name = 'é'".encode("latin-1"), ["not UTF-8"]),
        ("list.json", b"[1, 2]", ["JSON list"]),
        ("deep.json", b"[" * 100_000, ["JSON"]),
        ("deep.toml", b"a = " + b"[" * 5_000, ["TOML"]),
        ("half.json", b'{"model_type": ', ["not valid JSON"]),
        ("twice.json", b'{"model_type": "llama", "model_type": "llama"}', ["model_type stands twice"]),
        ("dotted.toml", b"a" + b".a" * 100_000 + b" = 1", ["nested deeper"]),
        ("large.toml", b"#" * 2_000_000, ["longer"]),
        ("preset", b"name = 'x'", ["not valid JSON", "ends in .toml"]),
        ("number.toml", b"name = 'x'\nd_model = 1\nvocab_size = 1\nstack = 5", ["stack = 5", "array"]),
        ("infinite.json", b'{"model_type": "llama", "hidden_size": Infinity}', ["hidden_size", "Infinity"]),
        ("digits.json", b'{"model_type": "llama", "hidden_size": ' + b"9" * 5_000 + b"}", ["JSON"]),
        ("other.json", b'{"hello": 1}', ["model_type"]),
        ("unknown.json", b'{"model_type": "lama"}', ["lama", "llama"]),
    ],
)
def test_a_hostile_file_gets_one_clear_line(
    name: str, content: bytes, words: list[str], calc_cli: Cli, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    line = refused(calc_cli("show", path))
    assert all(word in line for word in [*words, name]), line


def test_an_unreadable_or_enormous_file_gets_one_clear_line(calc_cli: Cli, tmp_path: Path) -> None:
    large = tmp_path / "large.json"
    with large.open("wb") as file:
        file.truncate(10**9)
    assert "larger than" in refused(calc_cli("show", large))
    pipe = tmp_path / "pipe.toml"
    os.mkfifo(pipe)
    assert "not a regular file" in refused(calc_cli("show", pipe))


@pytest.mark.parametrize("arguments", [["ops", "llama-3-8b", "--format", "json"], ["list"], ["schema"]])
def test_a_reader_that_goes_away_is_no_error(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "calc", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 0


SHELL = {
    "full": (["show", "gpt2"], ">/dev/full", 1, "error: cannot write the answer: no space left on device"),
    "full, help": (["--help"], ">/dev/full", 1, "error: cannot write the answer: no space left on device"),
    "full, schema": (["schema"], ">/dev/full", 1, "error: cannot write the answer: no space left on device"),
    "closed": (["show", "gpt2"], ">&-", 1, "error: standard output is closed"),
    "no errors": (["show", "nope"], "2>&-", 1, ""),
    "errors full": (["show", "nope"], "2>/dev/full", 1, ""),
    "nothing open": (["show", "gpt2"], ">&- 2>&- <&-", 1, ""),
}


@pytest.mark.parametrize(("arguments", "streams", "code", "line"), SHELL.values(), ids=SHELL)
def test_a_stream_that_cannot_be_written_to_gets_one_line(
    arguments: list[str], streams: str, code: int, line: str
) -> None:
    words = " ".join([sys.executable, "-m", "calc", *arguments, streams])
    done = subprocess.run(["bash", "-c", words], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stdout, done.stderr.strip()) == (code, "", line)


def test_an_interrupt_ends_quietly() -> None:
    code = (
        "import sys, calc.views\n"
        "def stop(*_, **__): raise KeyboardInterrupt\n"
        "calc.views.show = stop\n"
        "sys.argv = ['calc', 'show', 'gpt2']\n"
        "from calc.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_a_fault_of_ours_is_one_line_that_says_so() -> None:
    code = (
        "import sys, calc.views\n"
        "def fail(*_, **__): raise KeyError('x\\n\\x1b[31m')\n"
        "calc.views.show = fail\n"
        "sys.argv = ['calc', 'show', 'gpt2']\n"
        "from calc.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: this is a bug in calc, please report it (KeyError")
    assert done.stderr.count("\n") == 1
    assert "\x1b" not in done.stderr


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
@pytest.mark.parametrize(
    "call", [*CALLS.values(), ["formula", "llama-3-8b", "flops.prefill"]], ids=lambda call: call[0]
)
def test_a_terminal_that_is_not_unicode_gets_substitutes(call: list[str], encoding: str) -> None:
    env = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONPATH": str(ROOT)}
    for form in ("table", "json"):
        command = [sys.executable, "-m", "calc", *call, "--format", form]
        done = subprocess.run(command, capture_output=True, cwd=ROOT, env=env, check=False)
        assert done.returncode == 0, done.stderr
        text = done.stdout.decode(encoding)
        assert "Traceback" not in done.stderr.decode(encoding)
        if form == "json":
            DOCUMENTS[call[0]].model_validate_json(text)


@pytest.mark.parametrize("columns", ["80", "40"])
def test_a_narrow_terminal_wraps_and_colour_can_be_off(columns: str, calc_cli: Cli) -> None:
    env = {"FORCE_COLOR": "1", "COLUMNS": columns}
    coloured = calc_cli("show", "llama-3-8b", env=env)
    assert coloured.code == 0
    assert "\x1b[" in coloured.out
    assert "\x1b[3" not in calc_cli("show", "llama-3-8b", env={**env, "NO_COLOR": "1"}).out
    assert "\x1b" not in calc_cli("show", "llama-3-8b").out


def test_an_existing_preset_is_not_replaced_unasked(calc_cli: Cli, tmp_path: Path) -> None:
    output = tmp_path / "mine.toml"
    output.write_text("precious", "utf-8")
    config = ROOT / "tests" / "data" / "configs" / "llama-3-8b.json"
    assert "exists" in refused(calc_cli("import", config, "-o", output))
    assert output.read_text("utf-8") == "precious"
    assert calc_cli("import", config, "-o", output, "--force").code == 0
    shown = calc_cli("show", output, "--format", "json").json
    assert shown["params"]["total"] == 8_030_261_248
    assert [path.name for path in tmp_path.iterdir()] == ["mine.toml"]


def test_only_a_file_is_replaced_and_never_the_one_that_is_read(calc_cli: Cli, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text((ROOT / "tests" / "data" / "configs" / "llama-3-8b.json").read_text("utf-8"), "utf-8")
    assert "is the file that is read" in refused(calc_cli("import", tmp_path, "-o", config, "--force"))
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for other in (tmp_path, pipe):
        assert "not a regular file" in refused(calc_cli("import", config, "-o", other, "--force"))
    link = tmp_path / "link.toml"
    link.symlink_to("target.toml")
    assert calc_cli("import", config, "-o", link).code == 0
    assert link.is_symlink()
    assert (tmp_path / "target.toml").read_text("utf-8").startswith("name")


def test_no_escape_of_a_file_reaches_the_terminal(calc_cli: Cli, tmp_path: Path) -> None:
    evil = r"\u001b]0;x\u0007\u009b\u202e\u0000"
    path = tmp_path / "model.toml"
    text = PRESET.replace('title = "Llama 3 8B"', f'title = "{evil}"').replace(
        'name = "llama-3-8b"', f'name = "{evil}"'
    )
    path.write_text(text.replace("source = ", f'notes = ["{evil}"]\nsource = '), "utf-8")
    for form in ("table", "json", "csv", "md"):
        for command in (["show", path], ["compare", path, "gpt2"]):
            run = calc_cli(*command, "--format", form)
            assert run.code == 0
            assert all(one.isprintable() or one == "\n" for one in run.out + run.err)
            assert form != "json" or "\x9b" in str(run.json["notes"]) or "\\x9b" in str(run.json["notes"])

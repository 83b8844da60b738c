"""The package as it is installed and imported."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import calc

ROOT = Path(__file__).parent.parent
HEAVY = ("numpy", "sympy", "torch", "matplotlib", "pandas", "transformers")


def modules_after(code: str) -> set[str]:
    """Return the modules that a fresh interpreter has loaded after running some code."""
    script = f"import sys\n{code}\nprint('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "code",
    [
        "import calc",
        "import calc; calc.load('llama-3-8b').params()",
        "import calc; calc.show('llama-3-8b').to_json()",
        "import calc; calc.compare(['llama-3-8b', 'gpt-3'])",
        "import calc; calc.show('h100-sxm'); calc.accelerators(); calc.find_accelerator('8x H100')",
    ],
)
def test_a_numeric_question_imports_nothing_heavy(code: str) -> None:
    assert not modules_after(code) & {*HEAVY, "pydantic"}


def test_every_public_name_exists() -> None:
    assert sorted(calc.__all__) == calc.__all__
    for name in calc.__all__:
        assert callable(getattr(calc, name)), name
        assert callable(getattr(calc, name)), f"{name} is hidden by a module of its name"
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        calc.nonsense  # noqa: B018


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_the_package_and_its_presets_only(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"calc"}
    shipped = {Path(name).name for name in names if name.startswith("calc/_presets/models/")}
    assert shipped == {path.name for path in (ROOT / "presets" / "models").glob("*.toml")}
    assert not [name for name in names if name.startswith("calc/_presets/") and name.endswith(".py")]
    assert {"calc/charts/house.mplstyle", "calc/report/templates/report.html"} <= set(names)


def test_the_wheel_works_away_from_the_source_tree(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r}); import calc; print(calc.__file__)"
    code += "; print(calc.load('llama-3-8b').params().total)"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    place, total = done.stdout.split()
    assert place.startswith(str(tmp_path))
    assert total == "8030261248"


def test_no_module_hides_a_public_function() -> None:
    """``calc.sweep`` must stay the function after every module has been imported."""
    code = "import calc, pkgutil, importlib\n"
    code += "for found in pkgutil.walk_packages(calc.__path__, 'calc.'):\n"
    code += "    'reference' in found.name or 'validate' in found.name or 'main' in found.name"
    code += " or importlib.import_module(found.name)\n"
    code += "assert all(callable(getattr(calc, name)) for name in calc.__all__)"
    modules_after(code)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: calc.load(None), "model = None is neither"),
        (lambda: calc.compare([]), "nothing to compare"),
        (lambda: calc.show("gpt2", context=True), "context = True"),
        (lambda: calc.show("gpt2", context=5.0), "context = 5.0"),
        (lambda: calc.show("gpt2", context="5"), "context = '5'"),
        (lambda: calc.show("gpt2", batch=None), "batch = None"),
        (lambda: calc.show("gpt2", causal="no"), "causal = 'no'"),
        (lambda: calc.show("gpt2", cache_dtype=None), "cache_dtype = None"),
        (lambda: calc.show("gpt2", weights_dtype=4), "weights_dtype = 4"),
        (lambda: calc.operation_table("gpt2", phase="train"), "phase = 'train'"),
        (lambda: calc.load("gpt2").cache(context=-5), "context = -5"),
    ],
)
def test_a_wrong_argument_is_named(call: Callable[[], object], words: str) -> None:
    with pytest.raises(calc.CalcError, match=re.escape(words)):
        call()


def test_the_api_takes_what_it_can_mean() -> None:
    exact = calc.show("gpt2", context=100, batch=2)
    assert calc.show("gpt2", context=np.int64(100), batch=np.uint8(2)).to_json() == exact.to_json()
    assert calc.compare("gpt2").data == calc.compare(["gpt2"]).data
    from calc.results import Figure

    with pytest.raises(TypeError, match="Figure is given value twice"):
        Figure(1, value=2)
    with pytest.raises(TypeError, match="nonsense"):
        calc.show("gpt2", nonsense=1)

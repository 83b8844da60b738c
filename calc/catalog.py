"""Models and accelerators by name or path: shipped presets, a user's preset file, or a model's config.json.

A shipped preset is trusted, because the tests have validated it, and loads without pydantic; a file from anywhere else
is validated first.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calc.errors import SpecError, UnknownName, near, shortened
from calc.model import Model

if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError

    from calc.hardware import Accelerator
    from calc.importers.huggingface import Imported

MAX_FILE_BYTES = 8 * 2**20
"""A specification is a few kilobytes; anything much larger is the wrong file."""
MAX_TOML = 2**20
MOST_LISTED = 512
"""Layers that a specification lists one by one; equal ones are repeated, not listed."""
VENDORS = ("nvidia", "amd", "google", "aws", "apple")


def presets_folder() -> Path:
    """Return where presets lie: inside the installed package, or beside it in a source tree."""
    inside = Path(__file__).parent / "_presets"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "presets"


def names(kind: str = "models") -> list[str]:
    """Return the names of all shipped presets of a kind, sorted."""
    return sorted(path.stem for path in (presets_folder() / kind).glob("*.toml"))


def load(model: str | Path | Model) -> Model:
    """Return a model from a preset's name, a preset file, a config.json or the folder that holds one.

    A tower of it is a model of its own: ``gemma-3-4b:image``, or ``qwen3-vl-8b:image@1024x768`` where the size of an
    image decides what it costs.

    Raises:
        UnknownName: neither a preset nor a path; near presets are suggested.
        SpecError: the file cannot be read, or describes a model that cannot be.
        ConfigError: the config.json needs something that the importer does not understand.

    >>> load("llama-3-8b").n_layers
    32
    """
    if isinstance(model, Model):
        return model
    if not isinstance(model, (str, Path)):
        raise SpecError(f"model = {shortened(repr(model))} is neither a name, a path nor a Model")
    if isinstance(model, str) and (preset := _preset(model)):
        return Model.build(tomllib.loads(preset.read_text("utf-8")))
    path = _existing(model)
    if path is None:
        if isinstance(model, str) and (tower := _tower(model)):
            return tower
        raise _missing(str(model))
    return from_file(path)


def _tower(text: str) -> Model | None:
    """Return the tower of a model, where a text names one: ``gemma-3-4b:image``."""
    if ":" not in text:
        return None
    from calc.towers import NAMED, alone

    named = NAMED.fullmatch(text)
    if named is None:
        return None
    size = (int(named["width"]), int(named["height"])) if named["width"] else None
    return alone(load(named["model"]), named["modality"], size)


def load_accelerator(accelerator: str | Path | Accelerator) -> Accelerator:
    """Return an accelerator from a preset's name, a preset file, or a file of ``calc calibrate``.

    Raises:
        UnknownName: neither a preset nor a path; near presets are suggested.
        SpecError: the file cannot be read, or describes an accelerator that cannot be.

    >>> load_accelerator("h100-sxm").memory_bytes // 2**30
    80
    """
    from calc.hardware import Accelerator

    if isinstance(accelerator, Accelerator):
        return accelerator
    if not isinstance(accelerator, (str, Path)):
        raise SpecError(f"accelerator = {shortened(repr(accelerator))} is neither a name, a path nor an Accelerator")
    if isinstance(accelerator, str) and (preset := _preset(accelerator, "accelerators")):
        return Accelerator.build(tomllib.loads(preset.read_text("utf-8")))
    path = _existing(accelerator)
    if path is None:
        raise _missing(str(accelerator), "accelerators")
    return _accelerator_file(path)


def _accelerator_file(path: Path) -> Accelerator:
    text = read_text(path)
    if path.suffix.lower() == ".json":
        return parse_calibration(parse_json(text, str(path)), str(path))
    return parse_accelerator(text, str(path))


def find(named: str | Path | Model | Accelerator) -> Model | Accelerator:
    """Return the model or the accelerator that a name, a file or the object itself means; a model's name goes first.

    Raises:
        UnknownName: neither a preset nor a path; near presets of both kinds are suggested.
        SpecError, ConfigError: the file cannot be read, or describes neither.
    """
    if isinstance(named, Model) or (isinstance(named, str) and _preset(named)):
        return load(named)
    from calc.hardware import Accelerator

    if isinstance(named, Accelerator) or (isinstance(named, str) and _preset(named, "accelerators")):
        return load_accelerator(named)
    if not isinstance(named, (str, Path)):
        return load(named)
    path = _existing(named)
    if path and path.is_file() and _describes_accelerator(path):
        return _accelerator_file(path)
    try:
        return load(named)
    except UnknownName:
        known = [*names(), *names("accelerators")]
        raise UnknownName("preset", str(named), known, "`calc list` and `calc list accelerators` show all") from None


def _describes_accelerator(path: Path) -> bool:
    """Tell whether a file is an accelerator's preset or a calibration, not a model's."""
    if path.suffix.lower() == ".json":
        return parse_json(read_text(path), str(path)).get("kind") == "calibration"
    if path.suffix.lower() != ".toml":
        return False
    table = toml_table(read_text(path), str(path))
    return "memory_bytes_per_s" in table and "stack" not in table


def _existing(text: str | Path) -> Path | None:
    """Return the path that a text names, if something is there."""
    try:
        path = Path(text).expanduser()
        return path if str(text) and path.exists() else None
    except (OSError, ValueError, RuntimeError):
        return None


def _preset(name: str, kind: str = "models") -> Path | None:
    """Return where a shipped preset lies, if there is one of this name."""
    if not name.isascii() or len(name) > 100 or not name.replace("-", "").replace(".", "").replace("_", "").isalnum():
        return None
    path = presets_folder() / kind / f"{name}.toml"
    return path if path.is_file() else None


def _missing(text: str, kind: str = "models") -> SpecError | UnknownName:
    """Say that there is no such file, or no such preset; a path may have been meant as a preset's name."""
    if not any(sign in text for sign in "/\\") and not text.endswith((".toml", ".json")):
        what, listing = ("preset", "calc list") if kind == "models" else ("accelerator", "calc list accelerators")
        other = "accelerators" if kind == "models" else "models"
        if text in names(other):
            return SpecError(
                f"{text} is {'an accelerator, not a model' if kind == 'models' else 'a model, not an accelerator'}"
            )
        first, _, rest = text.partition(" ")
        name = rest if rest and first.lower() in VENDORS else text  # as a driver names it
        return UnknownName(what, name, names(kind), f"`{listing}` shows all {what}s")
    found = near(text, names(kind))
    advice = f"; did you mean the preset {' or '.join(found)}?" if found else ""
    return SpecError(f"no such file: {shortened(text, 200)}{advice}")


def from_file(path: Path) -> Model:
    """Return the model that a preset file, a config.json or a folder with one describes, validated."""
    if path.is_dir():
        path = path / "config.json"
        if not path.is_file():
            raise SpecError(f"{path.parent} is a folder without a config.json")
    text = read_text(path)
    if path.suffix.lower() == ".toml":
        return parse_toml(text, str(path))
    return import_config(path).model


def import_config(path: Path, name: str | None = None) -> Imported:
    """Return the model that a config.json describes, and what there is to say about it.

    The importer reads keys one by one; that together they make a model that can be is checked as for a preset.

    Raises:
        SpecError: the file cannot be read or describes a model that cannot be.
        ConfigError: it needs something that the importer does not understand.
    """
    from calc.importers.huggingface import from_config
    from calc.importers.huggingface.neighbours import with_quantisation
    from calc.importers.preset import to_toml

    path = path / "config.json" if path.is_dir() else path
    data = parse_json(read_text(path), str(path))
    beside = ""
    if isinstance(data, dict):
        data, beside = with_quantisation(data, path, lambda file: parse_json(read_text(file), str(file)))
    try:
        imported = from_config(data, name=name or _config_name(path), origin=str(path))
        if beside:
            imported = imported.noting(f"{beside} beside it says how the weights are stored")
    except ArithmeticError as error:
        raise SpecError(f"{path} holds sizes that no model has: {error}") from None
    validate(tomllib.loads(to_toml(imported.model)), str(path))
    return imported


def save_preset(text: str, path: Path, *, replace: bool = False) -> None:
    """Write a file whole or not at all; an existing one is kept unless ``replace``, and only a file is replaced.

    Raises:
        SpecError: the file exists, is none, or cannot be written.
    """
    from calc.files import write_whole

    write_whole(path, text.encode(), replace=replace)


def _config_name(path: Path) -> str:
    return path.resolve().parent.name if path.name == "config.json" else path.stem


def read_text(path: Path) -> str:
    """Read a small text file.

    Raises:
        SpecError: it cannot be read, is too large, empty, or not UTF-8.
    """
    try:
        if not path.exists():
            raise SpecError(f"no such file: {path}")
        if not path.is_file():
            raise SpecError(f"{path} is not a regular file")
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise SpecError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from None
    if len(content) > MAX_FILE_BYTES:
        raise SpecError(f"{path} is larger than {MAX_FILE_BYTES >> 20} MiB: not a specification")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise SpecError(f"{path} is not UTF-8 text") from None
    if not text.strip():
        raise SpecError(f"{path} is empty")
    return text


def parse_json(text: str, origin: str) -> dict[str, Any]:
    """Parse a JSON object.

    Raises:
        SpecError: malformed, nested too deeply, or not an object.
    """
    try:
        data = json.loads(text, object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        hint = "" if origin.endswith(".json") else "; the name of a preset file ends in .toml"
        raise SpecError(f"{origin} is not valid JSON: {error.msg} at line {error.lineno}{hint}") from None
    except SpecError as error:
        raise SpecError(f"{error} ({origin})") from None
    except RecursionError:
        raise SpecError(f"{origin} is not usable JSON: nested too deeply") from None
    except ValueError as error:
        raise SpecError(f"{origin} is not usable JSON: {error}") from None
    if not isinstance(data, dict):
        raise SpecError(f"{origin} holds a JSON {type(data).__name__}, not an object")
    return data


def _deep_key(line: str) -> bool:
    """Tell whether a line of TOML may hold a dotted key of hundreds of parts, on which the parser takes minutes."""
    return line.count(".") > 200 and any(part.count(".") > 200 for part in line.replace("{", ",").split(","))


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object whose keys stand once: of two values either may have been meant."""
    found = dict(pairs)
    if len(found) < len(pairs):
        for key, _ in pairs:
            if key not in found:
                raise SpecError(f"{shortened(key)} stands twice")
            del found[key]
    return found


def parse_toml(text: str, origin: str) -> Model:
    """Parse and validate a preset.

    Raises:
        SpecError: malformed TOML, or a model that cannot be; names the field, the value and the file.
    """
    return validate(toml_table(text, origin), origin)


def toml_table(text: str, origin: str, parse_float: Callable[[str], Any] = float) -> dict[str, Any]:
    """Parse TOML from anywhere.

    Raises:
        SpecError: malformed, or longer or deeper than any preset.
    """
    try:
        if len(text) > MAX_TOML or any(map(_deep_key, text.splitlines())):
            raise SpecError(f"{origin} is not a preset: longer, or nested deeper, than any can be")
        return tomllib.loads(text, parse_float=parse_float)
    except tomllib.TOMLDecodeError as error:
        raise SpecError(f"{origin} is not valid TOML: {error}") from None
    except RecursionError:
        raise SpecError(f"{origin} is not usable TOML: nested too deeply") from None
    except SpecError:
        raise
    except (ArithmeticError, ValueError) as error:
        raise SpecError(f"{origin} is not usable TOML: {error}") from None


def parse_accelerator(text: str, origin: str) -> Accelerator:
    """Parse and validate an accelerator's preset.

    Raises:
        SpecError: malformed TOML, or an accelerator that cannot be; names the field, the value and the file.
    """
    return _accelerator(toml_table(text, origin), origin)


def parse_calibration(data: Mapping[str, Any], origin: str) -> Accelerator:
    """Return the accelerator that a file of ``calc calibrate`` describes, with its own constants.

    Raises:
        SpecError: no calibration, one of another version, or with a constant that is none.
    """
    from calc.constants import CALIBRATION_VERSION, Calibration

    if data.get("kind") != "calibration":
        raise SpecError(f"{origin} is no calibration: `calc calibrate -o FILE` writes one")
    if data.get("schema_version") != CALIBRATION_VERSION:
        found = shortened(repr(data.get("schema_version")))
        wanted = f"this program reads {CALIBRATION_VERSION}: calibrate again"
        raise SpecError(f"{origin}: schema_version = {found}, {wanted}")
    if not isinstance(data.get("accelerator"), dict):
        raise SpecError(f"accelerator is missing or no object ({origin})")
    own = {field.name: data[field.name] for field in fields(Calibration) if field.name in data}
    return _accelerator({**data["accelerator"], "calibration": own}, origin)


def _accelerator(data: Mapping[str, Any], origin: str) -> Accelerator:
    from pydantic import ValidationError

    try:
        found: Accelerator = accelerator_adapter().validate_json(json.dumps(data, default=str))
    except ValidationError as error:
        raise SpecError(f"{describe(error)} ({origin})") from None
    return found


@cache
def accelerator_adapter() -> TypeAdapter[Accelerator]:
    """Return pydantic's validator of the accelerator's specification, which also writes its JSON schema."""
    from pydantic import TypeAdapter

    from calc.hardware import Accelerator

    return TypeAdapter(Accelerator)


@cache
def adapter() -> TypeAdapter[Model]:
    """Return pydantic's validator of the model specification, which also writes its JSON schema."""
    from pydantic import TypeAdapter

    return TypeAdapter(Model)


def validate(data: dict[str, Any], origin: str) -> Model:
    """Check untrusted data against the specification classes and build the model.

    Raises:
        SpecError: the first thing that is wrong, in one line.
    """
    from pydantic import ValidationError

    data = dict(data)
    if (listed := _listed(data)) > MOST_LISTED:
        raise SpecError(f"{listed:,} layers are listed one by one, at most {MOST_LISTED}: use repeat ({origin})")
    if data.get("head") is False:
        data["head"] = None
    try:
        model: Model = adapter().validate_json(json.dumps(data, default=str))
        return model
    except ValidationError as error:
        raise SpecError(f"{describe(error)} ({origin})") from None
    except RecursionError:
        raise SpecError(f"{origin} is nested too deeply") from None


def _listed(data: dict[str, Any]) -> int:
    """Count the layers that the stacks of a model and its encoder list."""
    sides = [side for side in (data, data.get("encoder")) if isinstance(side, dict)]
    listed = [side["stack"] for side in sides if isinstance(side.get("stack"), list)]
    stacks = [stack["layer"] for stacks in listed for stack in stacks if isinstance(stack, dict) and "layer" in stack]
    return sum(len(layers) for layers in stacks if isinstance(layers, list))


def describe(error: ValidationError) -> str:
    """Say the first fault of a validation in one line: field, value, constraint."""
    first = error.errors(include_url=False)[0]
    kind, value, context = first["type"], first.get("input"), first.get("ctx", {})
    where = ".".join(str(step) for step in first["loc"])
    if kind == "missing":
        return f"{where} is missing"
    if kind == "union_tag_not_found":
        return f"{where}.kind is missing"
    if kind == "union_tag_invalid":
        known = [tag.strip("'") for tag in context["expected_tags"].split(", ")]
        return f"{where}.kind: {UnknownName('kind', context['tag'], known)}"
    if kind in ("unexpected_keyword_argument", "extra_forbidden"):
        return f"{where} is not a known field"
    message = first["msg"].removeprefix("Value error, ")
    shown = shortened(repr(value), 60) if isinstance(value, (str, int, float, bool)) or value is None else ""
    return f"{where} = {shown}: {message}" if shown else f"{where}: {message}" if where else message


def all_models() -> Iterator[Model]:
    """Yield every shipped model."""
    for name in names():
        yield load(name)


def all_accelerators() -> Iterator[Accelerator]:
    """Yield every shipped accelerator."""
    for name in names("accelerators"):
        yield load_accelerator(name)

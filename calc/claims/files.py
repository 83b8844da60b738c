"""Files of claims, by name or path: shipped ones are trusted, because the tests have validated them."""

from __future__ import annotations

import tomllib
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calc import catalog
from calc.claims.claim import Document
from calc.errors import SpecError, UnknownName, near, shortened

if TYPE_CHECKING:
    from pydantic import TypeAdapter

MOST_CLAIMS = 10_000


def load(name: str | Path) -> Document:
    """Return the claims of a shipped document or of a TOML file.

    Raises:
        UnknownName: no shipped document of this name; near ones are suggested.
        SpecError: the file cannot be read, or holds claims that cannot be; names the field, the value and the file.

    >>> load("seed").claim[0].id
    'heads-least'
    """
    text = str(name)
    if isinstance(name, str) and text in catalog.names("claims"):
        shipped = catalog.presets_folder() / "claims" / f"{text}.toml"
        return Document.build(tomllib.loads(shipped.read_text("utf-8"), parse_float=Decimal))
    try:
        path = Path(name).expanduser()
        exists = bool(text) and path.exists()
    except (OSError, ValueError, RuntimeError):
        exists = False
    if not exists:
        raise _missing(text)
    return parse(catalog.read_text(path), str(path))


def _missing(text: str) -> SpecError | UnknownName:
    known = catalog.names("claims")
    if not any(sign in text for sign in "/\\") and not text.endswith(".toml"):
        return UnknownName("document", text, known, f"known: {', '.join(known)}; or a path to a TOML file")
    found = near(text, known)
    advice = f"; did you mean the document {' or '.join(found)}?" if found else ""
    return SpecError(f"no such file: {shortened(text, 200)}{advice}")


def parse(text: str, origin: str) -> Document:
    """Parse and validate a file of claims.

    Raises:
        SpecError: the first thing that is wrong, in one line.
    """
    from pydantic import ValidationError

    data = catalog.toml_table(text, origin, Decimal)
    listed = data.get("claim")
    if isinstance(listed, list) and len(listed) > MOST_CLAIMS:
        raise SpecError(f"{len(listed):,} claims are more than {MOST_CLAIMS:,} ({origin})")
    try:
        found: Document = adapter().validate_python(data)
        return found
    except ValidationError as error:
        raise SpecError(f"{_which(listed, error)}{catalog.describe(error)} ({origin})") from None


def _which(listed: Any, error: Any) -> str:
    """Say which claim a fault is in: its id says more than its number in the list."""
    where = error.errors(include_url=False)[0]["loc"]
    if len(where) > 1 and where[0] == "claim" and isinstance(listed, list) and isinstance(listed[where[1]], dict):
        name = listed[where[1]].get("id")
        return f"claim {shortened(name)}: " if isinstance(name, str) and name else ""
    return ""


@cache
def adapter() -> TypeAdapter[Document]:
    """Return pydantic's validator of a file of claims, which also writes its JSON schema."""
    from pydantic import TypeAdapter

    return TypeAdapter(Document)


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of a file of claims, with the names of all quantities, units and models' arguments."""
    from calc.claims.quantities import names
    from calc.claims.stated import UNITS

    schema = adapter().json_schema()
    for definition in ("Claim", "Convention"):
        properties = schema["$defs"][definition]["properties"]
        properties["quantity"] = {"anyOf": [{"enum": names()}, {"type": "null"}], "default": None}
        if "unit" in properties:
            properties["unit"] = {"enum": list(UNITS), "default": ""}
    return schema

"""A config.json as something that answers questions: typed, checked, with an account of what was asked."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

from calc.errors import ConfigError
from calc.fields import LARGEST
from calc.importers.huggingface.harmless import is_harmless

MOST_LAYERS: Final = 10_000
"""No model has more layers; a larger number is a slip of the keyboard."""


@cache
def class_defaults() -> dict[str, dict[str, Any]]:
    """Return, by model type, the fields of transformers' config classes that may shape a model, at their defaults.

    Taken from transformers 5.24; a test compares them with the installed package.
    """
    loaded: dict[str, dict[str, Any]] = _packaged("defaults.json")
    return loaded


@cache
def aliases() -> dict[str, dict[str, str]]:
    """Return, by model type, further names under which transformers takes a key: its classes' ``attribute_map``.

    Taken from transformers 5.24; a test compares them with the installed package.
    """
    loaded: dict[str, dict[str, str]] = _packaged("aliases.json")
    return loaded


def _packaged(name: str) -> Any:
    return json.loads(Path(__file__).with_name(name).read_text("utf-8"))


class Config:
    """Reads keys of one JSON object; every accessor takes the key's names in order of preference.

    A key that is absent has the default of its class in transformers, as the real loader would take it; where that is
    a dimension, a note says so. A key that is null, or whose class default is null, has the ``default`` that the caller
    derives; without one it is an error.
    """

    def __init__(self, data: Mapping[str, Any], *, model_type: str, origin: str, path: str = "") -> None:
        self.aliases: Mapping[str, str] = {} if path.endswith("].") else aliases().get(model_type, {})
        self.data = _named(data, self.aliases)
        self.model_type = model_type
        self.origin = origin
        self.path = path
        self.notes: list[str] = []
        self.unquantised: list[str] = []
        """Modules that a family's checkpoints store whole, whatever their quantisation says."""
        self.used: set[str] = set()
        self.sections: list[Config] = []
        self._defaults: Mapping[str, Any] | None = None

    # ---- what is in the file

    def error(self, message: str) -> ConfigError:
        """Return an error about this file, for the caller to raise."""
        return ConfigError(f"{_one_line(message)} ({self.origin})")

    def note(self, text: str) -> None:
        """Remember something that the user should know, once."""
        text = _one_line(text)
        if text not in self.notes:
            self.notes.append(text)

    def states(self, *keys: str) -> bool:
        """Tell whether the file gives any of the keys a value."""
        self.used.update(keys)
        return any(self.data.get(key) is not None for key in keys)

    def rename(self, **keys: str) -> None:
        """Read keys under other names: those of a file written for the maker's own code.

        Raises:
            ConfigError: the file has both names with different values.
        """
        for key, name in keys.items():
            if self.data.get(key) is not None and self.data.get(name, self.data[key]) != self.data[key]:
                raise self.error(f"{self.path}{key} and {self.path}{name} contradict")
        self.data = {keys.get(key, key): value for key, value in self.data.items()}

    def assume(self, **values: Any) -> None:
        """Take values where the file has none: what a class says that transformers does not know."""
        self.data = {**values, **self.data}

    def ignore(self, *keys: str) -> None:
        """Pass over keys that change nothing in this family."""
        self.used.update(keys)

    def refuse(self, key: str, *allowed: Any) -> None:
        """Raise unless a key is absent, null, false or one of the values that change nothing.

        Raises:
            ConfigError: the key asks for something that is not supported.
        """
        self.used.add(key)
        value = self.data.get(key)
        if value not in (None, False, *allowed):
            raise self.error(f"{self.path}{key} = {shown(value)} is not supported for {self.model_type}")

    @property
    def defaults(self) -> Mapping[str, Any]:
        """The class defaults of this model type; empty for types that transformers does not know."""
        if self._defaults is None:
            self._defaults = {} if self.path.endswith("].") else class_defaults().get(self.model_type, {})
        return self._defaults

    def _find(self, keys: tuple[str, ...]) -> tuple[str, Any, bool]:
        """Return the name, the value and whether the file states it; the value is None where nobody has one."""
        self.used.update(keys)
        stated = {key: self.data[key] for key in keys if self.data.get(key) is not None}
        if stated:
            key, value = next(iter(stated.items()))
            other = next((name for name in stated if name != key and stated[name] != value), None)
            if other:
                raise self.error(
                    f"{self.path}{key} = {shown(value)} and {self.path}{other} = {shown(stated[other])} contradict"
                )
            return key, value, True
        if any(key in self.data for key in keys):
            return next(key for key in keys if key in self.data), None, True
        for key in keys:
            if self.defaults.get(key) is not None:
                return key, self.defaults[key], False
        return keys[0], None, False

    def _missing(self, key: str, stated: bool) -> ConfigError:
        return self.error(f"{self.path}{key} is {'null' if stated else 'missing'}")

    def _wrong(self, key: str, value: Any, wanted: str) -> ConfigError:
        return self.error(f"{self.path}{key} = {shown(value)}: expected {wanted}")

    # ---- typed values

    def size(self, *keys: str, default: int | None = None, least: int = 1, most: int = LARGEST) -> int:
        """Return a dimension.

        Raises:
            ConfigError: missing, not a whole number, or out of range.
        """
        key, value, stated = self._find(keys)
        if value is None:
            if default is None:
                raise self._missing(key, stated)
            return default
        if not stated:
            self.note(f"{self.path}{key} is not in the file: {value}, the default of {self.model_type}")
        return self.whole(key, value, least, most)

    def whole(self, key: str, value: Any, least: int = 1, most: int = LARGEST) -> int:
        """Check that a value is a whole number in a range.

        Raises:
            ConfigError: it is not.
        """
        if isinstance(value, bool) or not isinstance(value, int):
            raise self._wrong(key, value, "a whole number")
        if not least <= value <= most:
            raise self._wrong(key, value, f"a whole number from {least} to {most:,}")
        return value

    def optional_size(self, *keys: str) -> int | None:
        """Return a dimension that may be absent or null."""
        key, value, stated = self._find(keys)
        if value is None:
            return None
        if not stated:
            self.note(f"{self.path}{key} is not in the file: {value}, the default of {self.model_type}")
        return self.whole(key, value)

    def layers(self, *keys: str, default: int | None = None) -> int:
        """Return a number of layers."""
        return self.size(*keys, default=default, most=MOST_LAYERS)

    def count(self, *keys: str, default: int | None = None) -> int:
        """Return a number that may be zero."""
        return self.size(*keys, default=default, least=0)

    def divided(self, whole: int, of: str, parts: int, by: str) -> int:
        """Return whole / parts, which must be a whole number.

        Raises:
            ConfigError: there is a remainder.
        """
        if whole % parts:
            raise self.error(f"{of} = {whole} is not divisible by {by} = {parts}")
        return whole // parts

    def flag(self, *keys: str, default: bool | None = None) -> bool:
        """Return true or false.

        Raises:
            ConfigError: missing without a default, or neither.
        """
        key, value, stated = self._find(keys)
        value = default if value is None else value
        if value is None:
            raise self._missing(key, stated)
        if not isinstance(value, bool):
            raise self._wrong(key, value, "true or false")
        return value

    def text(self, *keys: str, default: str | None = None) -> str:
        """Return a text.

        Raises:
            ConfigError: missing without a default, or not a text.
        """
        key, value, stated = self._find(keys)
        value = default if value is None else value
        if value is None:
            raise self._missing(key, stated)
        if not isinstance(value, str):
            raise self._wrong(key, value, "a text")
        return value

    def number(self, *keys: str, default: float | None = None) -> float:
        """Return a finite number.

        Raises:
            ConfigError: missing without a default, or not a finite number.
        """
        key, value, stated = self._find(keys)
        value = default if value is None else value
        if value is None:
            raise self._missing(key, stated)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise self._wrong(key, value, "a number")
        return value

    def items(self, *keys: str, length: int | None = None) -> list[Any] | None:
        """Return a list, or None where it is absent or null.

        Raises:
            ConfigError: not a list, or not of this length.
        """
        key, value, _ = self._find(keys)
        if value is None:
            return None
        if not isinstance(value, list) or len(value) > MOST_LAYERS:
            raise self._wrong(key, value, "a list")
        if length is not None and len(value) != length:
            raise self.error(f"{self.path}{key} has {len(value)} entries for {length} layers")
        return value

    def positions(self, *keys: str) -> set[int]:
        """Return a list of layer numbers as a set; empty where it is absent or null.

        Raises:
            ConfigError: not a list of whole numbers.
        """
        found = self.items(*keys) or []
        if not all(isinstance(one, int) and not isinstance(one, bool) for one in found):
            raise self._wrong(keys[0], found, "a list of layer numbers")
        return set(found)

    def choices(self, *keys: str, length: int, known: tuple[str, ...]) -> list[str] | None:
        """Return a list of words, one a layer, or None where it is absent or null.

        Raises:
            ConfigError: a word that is not known.
        """
        found = self.items(*keys, length=length)
        for word in found or ():
            if word not in known:
                raise self.error(
                    f"{self.path}{keys[0]} holds {shown(word)}, which is not supported for {self.model_type}"
                )
        return found

    def section(self, key: str, defaults: Mapping[str, Any] | None = None) -> Config:
        """Return an object inside this one as a reader of its own; empty where it is absent or null.

        ``defaults`` are those of the object's class.

        Raises:
            ConfigError: not an object.
        """
        self.used.add(key)
        value = self.data.get(key)
        if value is None:
            value = {}
        if not isinstance(value, dict):
            raise self._wrong(key, value, "an object")
        inner = Config(value, model_type=self.model_type, origin=self.origin, path=f"{self.path}{key}.")
        inner.data, inner.aliases, inner._defaults = value, {}, defaults or {}
        inner.notes = self.notes
        self.sections.append(inner)
        return inner

    # ---- the account

    def unread(self) -> list[str]:
        """Return the keys that nobody asked for, that are not known to be harmless, and that say something.

        A key at the default of its class says nothing: the adapter is written against the class.
        """
        own = [
            f"{self.path}{key}"
            for key, value in self.data.items()
            if key not in self.used
            and not self._said(key, value)
            and not is_harmless(key, value)
            and value is not None
            and not (key in self.defaults and self.defaults[key] == value)
        ]
        return own + [key for section in self.sections for key in section.unread()]

    def _said(self, key: str, value: Any) -> bool:
        """Tell whether a key is another name of one that was read, with the same value."""
        name = self.aliases.get(key)
        return name in self.used and self.data.get(name) == value


def _named(data: Mapping[str, Any], aliases: Mapping[str, str]) -> Mapping[str, Any]:
    """Return the keys, also under the names of the class where the file has another name only."""
    meant = {name: data[key] for key, name in aliases.items() if data.get(name) is None and data.get(key) is not None}
    return {**data, **meant} if meant else data


def shown(value: Any) -> str:
    """Return a value of the file as a few plain characters on one line."""
    try:
        text = json.dumps(value, ensure_ascii=True, default=str)
    except (ValueError, RecursionError):
        text = type(value).__name__
    return text if len(text) <= 60 else text[:57] + "..."


def _one_line(text: str) -> str:
    """Write out what a terminal could not print, so that keys of a hostile file stay on their line."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)

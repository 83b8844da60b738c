"""What can go wrong, as a small tree.

CalcError
├── SpecError      a model, preset or option that cannot be: says field, value, constraint and file
├── ConfigError    a config.json that cannot be understood: names the key or the model type
├── UnknownName    a preset, mechanism, quantity or dtype that does not exist: suggests near ones
└── MissingExtra   an optional package is needed and absent: says how to install it

The command line prints the message of any of them on one line of standard error and exits 1.
"""

from __future__ import annotations

from collections.abc import Iterable

LONGEST_MESSAGE = 600


def printable(text: str) -> str:
    r"""Return a text that is safe on a terminal: control, invisible and half characters as escapes.

    >>> print(printable("\x1b[31m 7 × 7"))
    \x1b[31m 7 × 7
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


class CalcError(Exception):
    """Base of every error this package raises on purpose; its text is one line, fit for a user."""

    def __init__(self, message: str) -> None:
        line = printable(" ".join(message.split()))
        if len(line) > LONGEST_MESSAGE:
            line = f"{line[: LONGEST_MESSAGE // 2]} … {line[-LONGEST_MESSAGE // 2 :]}"
        super().__init__(line)


class SpecError(CalcError, ValueError):
    """A specification that cannot be: a missing, impossible or inconsistent field."""


class ConfigError(CalcError):
    """A config.json that the importer cannot turn into a model without guessing."""


class UnknownName(CalcError):  # noqa: N818 - reads as the message it carries
    """A name that is not in a catalogue. ``UnknownName("preset", "lama", known)`` suggests near ones."""

    def __init__(self, what: str, name: str, known: Iterable[str], hint: str = "") -> None:
        choices, name = sorted(set(known)), str(name)
        found = near(name, choices)
        advice = f"did you mean {_either(found)}?" if found else hint or f"known: {_listed(choices)}"
        super().__init__(f"no {what} named {shortened(name)!r}; {advice}")


def _either(names: list[str]) -> str:
    return " or ".join(filter(None, (", ".join(names[:-1]), names[-1])))


MOST_LISTED = 40
"""Names that a message lists; of more the first, and how many there are besides."""
LISTED_CHARACTERS = LONGEST_MESSAGE - 160
"""Room for them: a message that is cut would show halves of names."""


def _listed(names: list[str]) -> str:
    named = names[:MOST_LISTED]
    while len(named) > 1 and len(", ".join(named)) > LISTED_CHARACTERS:
        named.pop()
    others = len(names) - len(named)
    return ", ".join(named) + (f" and {others} more" if others > 0 else "")


def shortened(text: str, length: int = 80) -> str:
    """Return a text cut to a length that a message can carry."""
    return text if len(text) <= length else text[: length - 1] + "…"


def near(name: str, known: Iterable[str], most: int = 3) -> list[str]:
    """Return the names that somebody may have meant, the nearest first.

    Case, separators, a repository's owner and a file's ending do not count; names that begin with the same words come
    before names that merely look alike. Names that all begin with the whole of it may each be meant: of these twice as
    many.

    >>> near("meta-llama/Llama3-8B", ["gpt-3", "llama-3-70b", "llama-3-8b"])
    ['llama-3-8b']
    >>> near("gpt3", ["gpt-2", "gpt-3-xl", "gpt-j"])
    ['gpt-3-xl', 'gpt-2', 'gpt-j']
    >>> near("h100", ["h100-nvl", "h100-pcie", "h100-sxm", "h100-sxm-96gb", "h200"])
    ['h100-nvl', 'h100-sxm', 'h100-pcie', 'h100-sxm-96gb']
    """
    from difflib import SequenceMatcher

    words = _words(name)
    if not words or len(name) > 200:
        return []
    choices = {choice: _words(choice) for choice in known}
    same = [choice for choice, theirs in choices.items() if theirs == words]
    if same:
        return same[:most]
    matcher = SequenceMatcher(b="".join(words))
    ranked = []
    for choice, theirs in choices.items():
        matcher.set_seq1("".join(theirs))
        begins = _shared(words, theirs)
        likeness = matcher.ratio()
        if begins or likeness >= 0.6:
            ranked.append((-begins, -likeness, choice))
    begun = sum(-begins == len(words) for begins, _, _ in ranked)
    return [choice for _, _, choice in sorted(ranked)[: max(most, min(begun, 2 * most))]]


def _words(name: str) -> list[str]:
    """Split a name into words and numbers: ``Llama3.1-8B`` is llama, 3.1, 8b."""
    import re

    plain = re.split(r"[/\\\\]", name.lower())[-1]
    plain = re.sub(r"\.(toml|json)$", "", plain)
    return re.findall(r"\d+(?:\.\d+)?(?:[bmk](?![a-z]))?|[^\W\d_]+", plain)


def _shared(one: list[str], other: list[str]) -> int:
    count = 0
    for mine, theirs in zip(one, other, strict=False):
        if mine != theirs:
            break
        count += 1
    return count


class MissingExtra(CalcError):  # noqa: N818
    """An optional dependency is not installed."""

"""Which accelerator a text means: the hardware strings of papers, logs and benchmark tables.

``8x B200-SXM (1 node)``, ``A100-80GB, 8/node, JeanZay (Omni-Path)``, ``1xA10G``, ``h200_sxm``: the presets carry, as
data, the words by which each is named (``aliases``). The preset that matches the most words is meant; two that match
equally well, or a memory size that contradicts, are refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Final

from calc import checks
from calc.catalog import all_accelerators
from calc.constants import SCALE_UP, LinkKind
from calc.errors import SpecError, shortened
from calc.hardware import Accelerator, Link
from calc.records import replace
from calc.units import GIB

_GBIT: Final = 10**9 / 8
_UNSAID: Final = re.compile(r"not (named|stated)|unknown", re.I)
_WATTS: Final = re.compile(r"\b(\d{2,4})\s*W\b(?!h)")
_SPEED: Final = re.compile(r"\b(\d+)\s*[Gg]b(?:ps|/s|it/s)\b")
_FABRICS: Final[tuple[tuple[str, LinkKind], ...]] = (
    ("omni-path", "omnipath"),
    ("infiniband", "infiniband"),
    ("roce", "roce"),
    ("efa", "efa"),
)
_ASIDE: Final = re.compile(r"\b[\d.]+\s*[GT]i?B(?:/s|ps|\s*(?:CPU|RAM|system))\b", re.I)
"""Bandwidths, and memory that is not the accelerator's."""
_SITES: Final[dict[str, tuple[LinkKind, float]]] = {
    # Le Scao et al. 2022, BLOOM, arXiv:2211.05100 §3.4.1: nodes of eight A100, four Omni-Path links of 100 Gb/s
    "jeanzay": ("omnipath", 4 * 100 * _GBIT / 8),
}
"""Systems that papers name instead of their network: its kind, and bytes/s for each GPU."""


def find_accelerator(text: str) -> Accelerator:
    """Return the accelerator that a free text names; what it says of power limit and network replaces the preset's.

    ``330W cap`` or ``1000W`` is the limit the board runs at (``tdp_watts``); ``400Gb/s RDMA per GPU`` and ``1600 Gbps
    node-node interconnect`` are the network between hosts, shared by the GPUs of one.

    Raises:
        SpecError: no accelerator is named, several are, or the memory size is another one's.

    >>> find_accelerator("8x B200-SXM (1 node)").name, find_accelerator("1xA10G").name
    ('b200', 'a10g')
    >>> find_accelerator("A100-80GB, 330W cap, hybrid cube mesh NVLink").tdp_watts
    330.0
    """
    checks.text("text", text)
    found = _named(text)
    if watts := _WATTS.search(text):
        found = replace(found, tdp_watts=float(watts[1]))
    network = _network(text, found)
    if network:
        inner = tuple(link for link in found.links if link.kind in SCALE_UP)
        found = replace(found, links=(*inner, network))
    return found


def _named(text: str) -> Accelerator:
    plain = _ASIDE.sub(" ", text)
    said = set(_words(plain))
    best: dict[str, int] = {}
    for alias, name in _aliases():
        if alias <= said:
            best[name] = max(best.get(name, 0), len(alias))
    most = max(best.values(), default=0)
    names = sorted(name for name, score in best.items() if score == most)
    if not names or _UNSAID.search(text):
        raise SpecError(f"{shortened(repr(text), 100)} names no accelerator that `calc list accelerators` shows")
    if len(names) > 1:
        raise SpecError(f"{shortened(repr(text), 100)} may be {' or '.join(names)}")
    return _checked(text, said, _accelerators()[names[0]])


def _checked(text: str, said: set[str], found: Accelerator) -> Accelerator:
    """Refuse a memory size or a number of cores that it does not come with; a smaller configuration replaces its own.

    Only computers come in configurations: an Apple chip with fewer GPU cores (``aliases`` name those of the same
    bandwidth) has so much less of the peak.
    """
    words = {word for alias in found.aliases for word in alias.split()}
    sizes, cores = _numbers(said, "gb"), _numbers(said, "-core")
    own = {found.memory_bytes // GIB} | _numbers(words, "gb")
    shared = found.vendor == "Apple"
    if cores and shared and found.n_cores:
        count = max(cores)
        if count not in _numbers(words, "-core"):
            raise SpecError(f"{shortened(repr(text), 100)}: {found.name} has {found.n_cores} GPU cores, not {count}")
        flops = {form: peak * count / found.n_cores for form, peak in found.flops.items()}
        found = replace(found, n_cores=count, flops=flops) if count != found.n_cores else found
    if not sizes or sizes & own:
        return found
    size = max(sizes)
    if shared and size * GIB < found.memory_bytes:
        return replace(found, memory_bytes=size * GIB)
    raise SpecError(f"{shortened(repr(text), 100)}: {found.name} has {found.memory_bytes // GIB} GB, not {size}")


def _numbers(words: set[str], unit: str) -> set[int]:
    """Return the numbers that stand before a unit: ``80gb``, ``32-core``."""
    return {int(word.removesuffix(unit)) for word in words if re.fullmatch(rf"\d+{unit}", word)}


def _network(text: str, found: Accelerator) -> Link | None:
    """Return the network between hosts that a text describes, or None where it says nothing of it."""
    lower = text.lower()
    typical = next((link for link in found.links if link.kind not in SCALE_UP), None)
    if typical is None:
        return None
    kind = next((kind for word, kind in _FABRICS if word in lower), typical.kind)
    if speed := _SPEED.search(text):
        rate = int(speed[1]) * _GBIT
        per_host = bool(re.search(r"node|host|server", lower[speed.end() : speed.end() + 12]))
        bytes_per_s = rate / found.node_size if per_host else rate
    elif site := next((site for name, site in _SITES.items() if name in lower.replace(" ", "")), None):
        kind, bytes_per_s = site
    else:
        return None
    return replace(
        typical, kind=kind, bytes_per_s=bytes_per_s, typical=False, source=f"as described: {shortened(text)}"
    )


@cache
def _accelerators() -> dict[str, Accelerator]:
    return {found.name: found for found in all_accelerators()}


@cache
def _aliases() -> tuple[tuple[frozenset[str], str], ...]:
    """Return every set of words that names an accelerator: its aliases and its own name."""
    pairs = []
    for found in _accelerators().values():
        pairs += [(frozenset(_words(alias)), found.name) for alias in (*found.aliases, found.name)]
    return tuple(pairs)


def _words(text: str) -> Iterator[str]:
    """Yield the words of a text, in one spelling: no counts (``8x``), ``sxm5`` as sxm, ``80 GiB`` as 80gb."""
    plain = text.lower().replace("_", " ")
    plain = re.sub(r"\b\d+\s*x\s*(?=[a-z0-9])|(?<=[a-z0-9])x\d+\b", " ", plain)
    plain = re.sub(r"\b(\d+)\s*g(?:i?b)?\b", r"\1gb", plain)
    plain = re.sub(r"sxm\d?", "sxm", plain)
    plain = re.sub(r"nvl\d+", "nvl72", plain) if "gb" in plain and "nvl" in plain else plain
    plain = re.sub(r"\btpu[- ]?(?=v?\d)", "tpu ", plain)
    yield from re.findall(r"[a-z0-9.]+(?:-core)?", re.sub(r"-(?!core)", " ", plain))

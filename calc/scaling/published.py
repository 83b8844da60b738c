"""The published coefficients, each with the table that states it."""

from __future__ import annotations

from math import log
from typing import Final

from calc.errors import UnknownName
from calc.scaling.laws import Frontier, Granular, Joint, Kaplan, Law, Routed, Sum

HOFFMANN: Final = "Hoffmann et al. 2022, arXiv:2203.15556"
_FITTED: Final = "70 M to 16 B parameters, 5 to 500 B tokens"


def _through(first: tuple[float, float], last: tuple[float, float]) -> dict[str, float]:
    """Return k and a of the power law through two (size, compute) rows of a published table."""
    power = log(last[0] / first[0]) / log(last[1] / first[1])
    return {"a": power, "k": last[0] / last[1] ** power}


LAWS: Final[dict[str, Law]] = {
    law.name: law
    for law in (
        Kaplan(
            name="kaplan",
            title="Kaplan et al.",
            counted="non_embedding",
            source="Kaplan et al. 2020, arXiv:2001.08361 Table 2 (L(N, D)), Table 6 (optimum), eq. 1.3 (loss at it)",
            fitted="768 to 1.5 B parameters, 22 M to 23 B tokens",
            n_c=6.4e13,
            d_c=1.8e13,
            alpha_n=0.076,
            alpha_d=0.103,
            best_size=1.3e9,
            best_power=0.73,
            c_c=3.1e8,
            alpha_c=0.050,
        ),
        Frontier(
            name="chinchilla-1",
            title="Chinchilla, approach 1",
            counted="total",
            source=f"{HOFFMANN} §3.1 (training curves): the power law through the first and last row of Table 3",
            fitted=_FITTED,
            **_through((400e6, 1.92e19), (10e12, 1.30e28)),
        ),
        Frontier(
            name="chinchilla-2",
            title="Chinchilla, approach 2",
            counted="total",
            source=f"{HOFFMANN} §3.2 (IsoFLOP profiles): the power law through the first and last row of Table A3",
            fitted=_FITTED,
            **_through((400e6, 1.84e19), (10e12, 1.75e28)),
        ),
        Sum(
            name="chinchilla-3",
            title="Chinchilla, approach 3",
            counted="total",
            source=f"{HOFFMANN} §3.3, eq. 10; exponents unrounded, from its TeX source (Besiroglu et al., Table 1)",
            fitted=_FITTED,
            e=1.6934,
            a=406.4,
            b=410.7,
            alpha=0.3392,
            beta=0.2849,
        ),
        Sum(
            name="besiroglu",
            title="Chinchilla 3, refitted",
            counted="total",
            source="Besiroglu et al. 2024, arXiv:2404.10102 Table 1",
            fitted=_FITTED + " (240 points read off the figures)",
            e=1.8172,
            a=482.01,
            b=2085.43,
            alpha=0.3478,
            beta=0.3658,
        ),
    )
}

ROUTED: Final[dict[str, Routed]] = {
    law.name: law
    for law in (
        Routed(name="s-base", a=-0.082, b=-0.108, c=0.009, d=1.104, start=1.847, most=314.478),
        Routed(name="rl-r", a=-0.083, b=-0.126, c=0.012, d=1.111, start=1.880, most=469.982),
        Routed(name="hash", a=-0.087, b=-0.136, c=0.012, d=1.157, start=4.175, most=477.741),
    )
}

JOINT: Final = Joint(
    a=35.91,
    alpha=-0.1889,
    delta=-0.2285,
    gamma=0.0098,
    b=35.98,
    beta=-0.1775,
    omega=0.5529,
    zeta=-0.0259,
    start=2.0732,
    most=290.4521,
    c=1.3637,
)

GRANULAR: Final = Granular(c=0.47, g=2.1, gamma=0.58, a=18.1, alpha=0.115, b=30.8, beta=0.147)


def law(name: str) -> Law:
    """Return a law by name.

    Raises:
        UnknownName: no such law; near ones are suggested.

    >>> f"{law('besiroglu').optimum(5.76e23).size / 1e9:.0f} B"
    '72 B'
    """
    if name not in LAWS:
        raise UnknownName("scaling law", name, LAWS)
    return LAWS[name]

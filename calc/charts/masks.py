"""Attention masks as pictures."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from calc.charts.chart import Asked, Chart, several, sources
from calc.charts.data import Axis, Cells, ChartData, Panel
from calc.charts.drawing.cells import draw_squares, size_of_squares
from calc.errors import SpecError
from calc.grid_masks import Windows
from calc.masks import Budget, Causal, Chunk, Full, Mask, Window
from calc.model import Model
from calc.records import replace
from calc.sparse_masks import BigBird, Compressed, Entries, Local, Strided, TopK, TopKBlocks, TopKCompressed

SIDE = 48
"""Positions in a picture."""

SHOWN: tuple[Mask, ...] = (
    Causal(),
    Window(window=10),
    Chunk(window=12),
    Strided(window=5, stride=5),
    Budget(n_sinks=2, n_heavy=4, window=6),
    TopK(n_selected=8),
    TopKBlocks(block_size=4, n_selected=3),
    Compressed(compress_stride=4),
    TopKCompressed(compress_stride=4, n_selected=5),
    Full(),
    Local(window=5, n_global=3),
    BigBird(block_size=4, n_random=1),
    Windows(window_side=3, grid_width=8),
)
"""What is drawn without a model: every pattern, small enough to see."""

Rows = list[list[bool]]


def _where(n: int, sees: Callable[[int, int], bool]) -> Rows:
    return [[sees(query, key) for key in range(n)] for query in range(n)]


def _selected(n: int, count: int, random: Random) -> Rows:
    chosen = [set(random.sample(range(query + 1), min(count, query + 1))) for query in range(n)]
    return _where(n, lambda query, key: key in chosen[query])


def _budget(mask: Budget, n: int, random: Random) -> Rows:
    """Sinks, the window, and heavy positions: once heavy, a position stays until another takes its place."""
    heavy: list[int] = []
    rows = []
    for query in range(n):
        leaving = query - mask.window
        if leaving >= mask.n_sinks and mask.n_heavy:
            heavy.append(leaving)
            if len(heavy) > mask.n_heavy:
                heavy.pop(random.randrange(len(heavy)))
        kept = {*range(mask.n_sinks), *heavy, *range(max(leaving + 1, 0), query + 1)}
        rows.append([key <= query and key in kept for key in range(n)])
    return rows


def _blocks(mask: TopKBlocks, n: int, random: Random) -> Rows:
    rows = []
    for query in range(n):
        own = query // mask.block_size
        others = random.sample(range(own), min(mask.n_selected - 1, own))
        seen = {own, *others}
        rows.append([key <= query and key // mask.block_size in seen for key in range(n)])
    return rows


def _bigbird(mask: BigBird, n: int, random: Random) -> Rows:
    size, last = mask.block_size, (n - 1) // mask.block_size
    if n <= (5 + 2 * mask.n_random) * size:
        return _where(n, lambda query, key: True)
    seen: list[set[int]] = []
    for row in range(last + 1):
        near = {row - 1, row, row + 1} & set(range(last + 1))
        others = [block for block in range(1, last) if block not in near]
        every = set(range(last + 1))
        seen.append(every if row in (0, last) else near | {0, last} | set(random.sample(others, mask.n_random)))
    return _where(n, lambda query, key: key // size in seen[query // size])


def _windows(mask: Windows, n: int, random: Random) -> Rows:
    """Patches row by row in a grid; those that fill no whole row see nothing."""
    width = mask.grid_width or n
    whole, side = n // width * width, mask.window_side

    def sees(query: int, key: int) -> bool:
        same = query // width // side == key // width // side and query % width // side == key % width // side
        return same and query < whole and key < whole

    return _where(n, sees)


def _entries(mask: Entries, n: int) -> Rows:
    """Return which entries are complete: rows are positions, columns entries."""
    block = mask.compress_block or mask.compress_stride
    count = max(0, (n - block) // mask.compress_stride + 1)
    return [[entry * mask.compress_stride + block <= query + 1 for entry in range(count)] for query in range(n)]


def _chosen_entries(mask: TopKCompressed, n: int, random: Random) -> Rows:
    rows = _entries(mask, n)
    for row in rows:
        complete = [entry for entry, seen in enumerate(row) if seen]
        for entry in random.sample(complete, max(0, len(complete) - mask.n_selected)):
            row[entry] = False
    return rows


_PICTURES: dict[type[Mask], Callable[[Any, int, Random], Rows]] = {
    Causal: lambda mask, n, random: _where(n, lambda query, key: key <= query),
    Full: lambda mask, n, random: _where(n, lambda query, key: True),
    Window: lambda mask, n, random: _where(n, lambda query, key: 0 <= query - key < mask.window),
    Chunk: lambda mask, n, random: _where(
        n, lambda query, key: key <= query and key // mask.window == query // mask.window
    ),
    Strided: lambda mask, n, random: _where(
        n, lambda query, key: key <= query and (query - key < mask.window or key % mask.stride == 0)
    ),
    Local: lambda mask, n, random: _where(
        n, lambda query, key: abs(query - key) <= mask.window or min(query, key) < mask.n_global
    ),
    TopK: lambda mask, n, random: _selected(n, mask.n_selected, random),
    Budget: _budget,
    TopKBlocks: _blocks,
    BigBird: _bigbird,
    Windows: _windows,
    Compressed: lambda mask, n, random: _entries(mask, n),
    TopKCompressed: _chosen_entries,
}
"""One picture for each pattern, written from its definition and not from its counts; the tests compare the two."""


def picture(mask: Mask, n: int) -> Rows:
    """Return which keys each of n queries sees; what depends on the data (a selection) is an example.

    Raises:
        SpecError: a mask that has no picture.
    """
    if type(mask) not in _PICTURES:
        raise SpecError(f"the mask {mask.kind} has no picture")
    return _PICTURES[type(mask)](mask, n, Random(0))


def data(asked: Asked) -> ChartData:
    """Return a picture of every pattern, or of those of some models in proportion to a context."""
    if not asked.models:
        panels = tuple(_panel(mask, SIDE, mask, SIDE, "") for mask in SHOWN)
        counts = [mask.pairs(SIDE, SIDE, mask.bind()) for mask in SHOWN if not mask.both_ways and mask != Causal()]
        causal = _causal(SIDE)
        conventions = f"Rows are queries, columns keys, {SIDE} positions. What depends on the data is an example."
        found = f"{SIDE} tokens make {causal:,} causal pairs; sparse patterns compute {min(counts) / causal:.0%} to "
        found += f"{max(counts) / causal:.0%} of as many"
        return _chart(panels, found, conventions, "")
    context = asked.context or min(model.max_context or 8192 for model in asked.models)
    named = _of_models(asked.models)
    shown = tuple(
        _panel(_in_proportion(mask, context), SIDE, mask, context, several(names, 2)) for mask, names in named.items()
    )
    conventions = (
        f"Rows are queries, columns keys; {context:,} positions drawn as {SIDE}, sizes in proportion and at least 1. "
        "Counts are those of the full size. What depends on the data is an example."
    )
    return _chart(shown, _finding(named, context), conventions, sources(asked.models))


def _chart(panels: tuple[Panel, ...], finding: str, conventions: str, source: str) -> ChartData:
    return ChartData(chart="masks", finding=finding, panels=panels, conventions=conventions, source=source)


def _causal(n: int) -> int:
    pairs: int = Causal().pairs(n, n, {})
    return pairs


NAMES = {
    "causal": "causal", "full": "full (both ways)", "window": "sliding window", "chunk": "chunks", "budget":
    "a cache budget", "strided": "strided", "topk": "selected positions", "local": "local and global",
    "bigbird": "BigBird blocks", "compressed": "compressed entries", "topk_compressed": "selected entries",
    "topk_blocks": "selected blocks",
    "windows": "squares of an image",
}  # fmt: skip


def _panel(drawn: Mask, side: int, mask: Mask, n: int, who: str) -> Panel:
    """Return a picture of one mask and the counts of another, of which the first is a small version."""
    rows = picture(drawn, side)
    pairs = mask.pairs(n, n, mask.bind())
    sizes = ", ".join(f"{name} {value:,}" for name, value in _sizes(mask).items())
    share = "" if mask == Causal() else f"{pairs / _causal(n):.0%} of causal"
    note = "\n".join(filter(None, (f"{pairs:,} pairs", share, sizes, who)))
    entries = isinstance(drawn, Entries)
    label = "entries" if entries else "keys"
    values = tuple(tuple(float(seen) for seen in _wide(row, side, drawn)) for row in rows)
    return Panel(
        title=NAMES[mask.kind],
        note=note,
        x=Axis(label=label),
        y=Axis(label="queries"),
        cells=Cells(values=values),
    )


def _wide(row: list[bool], side: int, mask: Mask) -> list[bool]:
    """Draw an entry as wide as its stride, so that columns stand under the positions they are made of."""
    if not isinstance(mask, Entries):
        return row
    wide = [seen for seen in row for _ in range(mask.compress_stride)]
    return [*wide, *[False] * (side - len(wide))][:side]


def _sizes(mask: Mask) -> dict[str, int]:
    hidden = ("kind",)
    fields = {name: value for name, value in vars(mask).items() if name not in hidden and value}
    return {name.removeprefix("n_").replace("_", " "): value for name, value in fields.items()}


def _in_proportion(mask: Mask, context: int) -> Mask:
    """Return a mask for ``SIDE`` positions that looks like this one does for ``context``."""
    scale = SIDE / context
    if scale >= 1:
        return mask
    if isinstance(mask, Windows):  # both sides of the grid shrink
        scale **= 0.5

    kept = ("n_random",) if isinstance(mask, BigBird) else ("n_selected",) if isinstance(mask, TopKBlocks) else ()
    sizes: dict[str, Any] = {name: value for name, value in vars(mask).items() if name not in ("kind", *kept) and value}
    return replace(mask, **{name: max(round(value * scale), 1) for name, value in sizes.items()})


def _of_models(models: tuple[Model, ...]) -> dict[Mask, list[str]]:
    """Return every mask that some layers use and that has a picture, with the models that use it."""
    found: dict[Mask, list[str]] = {}
    for model in models:
        masks = [
            mask for layer in model.kinds_of_layer() for mixer in (layer.attention,) if mixer for mask in mixer.masks()
        ]
        if not masks:
            raise SpecError(f"{model.heading} has no attention over positions, hence no mask")
        for mask in dict.fromkeys(masks):
            names = found.setdefault(mask, [])
            names += [] if model.heading in names else [model.heading]
    drawable = {mask: names for mask, names in found.items() if type(mask) in _PICTURES}
    if not drawable:
        kinds = several(mask.kind for mask in found)
        raise SpecError(f"{several(each.heading for each in models)}: the masks {kinds} have no picture")
    return drawable


def _finding(named: dict[Mask, list[str]], context: int) -> str:
    if all(mask == Causal() for mask in named):
        who = several(dict.fromkeys(name for names in named.values() for name in names))
        return f"Every query of {who} sees all tokens before it: {_causal(context):,} pairs of {context:,} tokens"
    least = min(named, key=lambda mask: mask.pairs(context, context, mask.bind()))
    share = least.pairs(context, context, least.bind()) / _causal(context)
    who = several(named[least], 2)
    return f"{NAMES[least.kind].capitalize()} of {who}: {share:.1%} of the causal pairs of {context:,} tokens"


CHART = Chart(
    about="Attention masks as pictures, with their pair counts",
    data=data,
    draw=draw_squares,
    least=0,
    most=8,
    takes=("context",),
    size=size_of_squares,
)

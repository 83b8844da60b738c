"""How an image of any size becomes images that a tower can read: fixed, dynamic, cropped or tiled.

Every scheme is plain data, whose numbers its maker publishes in a preprocessor_config.json. The arithmetic is that of
the released processors, floating-point rounding included: the tests compare thousands of sizes with them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from calc.errors import SpecError
from calc.fields import Natural, Positive, load_class, union_schema
from calc.records import Record, named_record, record

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler
    from pydantic_core import CoreSchema

KINDS: dict[str, str] = {
    "fixed": "calc.modality.resize:Fixed",
    "pan_and_scan": "calc.modality.resize:PanAndScan",
    "dynamic": "calc.modality.resize:Dynamic",
    "budget": "calc.modality.resize:Budget",
    "longest": "calc.modality.resize:Longest",
    "canvas": "calc.modality.resize:Canvas",
    "anyres": "calc.modality.resize:AnyRes",
    "aspect_tiles": "calc.modality.resize:AspectTiles",
}

MOST_UNEQUAL = 200
"""Qwen's processors refuse images whose sides differ by more than this factor."""


@record
class Grid(Record):
    """What a tower reads of one image or clip: ``tiles`` images of ``height`` × ``width`` patches each.

    ``markers`` are the special tokens that stand around and between its tokens in the text. ``tokens`` are those that
    it becomes where they do not follow from the grid alone.
    """

    tiles: int
    height: int
    width: int
    markers: int = 0
    tokens: int | None = None


@named_record
class Resize(Record):
    """The family of schemes. ``markers``: special tokens around each image."""

    kinds: ClassVar[Mapping[str, str]] = KINDS
    kind: str
    markers: Natural = 0

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return union_schema(KINDS, handler) if cls is Resize else handler(source)

    @classmethod
    def build(cls, data: Mapping[str, Any]) -> Resize:
        """Build from trusted data."""
        pairs = {"resolutions": tuple(map(tuple, data["resolutions"]))} if "resolutions" in data else {}
        scheme: Resize = load_class(KINDS[data["kind"]])(**{**data, **pairs})
        return scheme

    def image(self, height: int, width: int, patch: int) -> Grid:
        """Return what becomes of an image of height × width pixels, for patches of ``patch`` pixels."""
        raise NotImplementedError(type(self).__name__)

    def frames(self, wanted: int) -> int:
        """Return how many frames of a clip are taken where ``wanted`` are asked for."""
        return wanted

    def video(self, frames: int, height: int, width: int, patch: int) -> Grid:
        """Return what becomes of a clip: each frame is an image, unless the scheme knows videos."""
        one = self.image(height, width, patch)
        tokens = None if one.tokens is None else frames * one.tokens
        return Grid(frames * one.tiles, one.height, one.width, frames * one.markers, tokens)


@named_record
class Fixed(Resize):
    """Every image becomes image_size × image_size pixels (ViT, CLIP, SigLIP, PaliGemma, LLaVA-1.5).

    >>> Fixed(image_size=224).image(1080, 1920, 14)
    Grid(tiles=1, height=16, width=16, markers=0, tokens=None)
    """

    kind: Literal["fixed"] = "fixed"
    image_size: Positive

    def image(self, height: int, width: int, patch: int) -> Grid:
        """Return one tile."""
        side = self.image_size // patch
        return Grid(1, side, side, self.markers)


@named_record
class PanAndScan(Fixed):
    """Where it is ``active``, crops along an elongated image's longer side beside the whole one (Gemma 3).

    round(long/short) crops, at most long/min_crop_size and max_crops and at least 2; none where the image is not as
    elongated as min_ratio, or crops would be smaller than min_crop_size. Each is resized to the fixed size.

    Source: arXiv:2503.19786 §2.1; ``Gemma3ImageProcessor`` of transformers, where it is off unless asked for.

    >>> PanAndScan(image_size=896, active=True).image(768, 2048, 14).tiles
    4
    """

    kind: Literal["pan_and_scan"] = "pan_and_scan"  # type: ignore[assignment]
    active: bool = False
    min_crop_size: Positive = 256
    max_crops: Positive = 4
    min_ratio: float = 1.2

    def image(self, height: int, width: int, patch: int) -> Grid:
        """Return the whole image and its crops."""
        side = self.image_size // patch
        tiles = 1 + self._crops(max(height, width), min(height, width))
        return Grid(tiles, side, side, tiles * self.markers)

    def _crops(self, long: int, short: int) -> int:
        if not self.active or long / short < self.min_ratio:
            return 0
        crops = min(math.floor(long / self.min_crop_size), math.floor(long / short + 0.5))
        crops = min(self.max_crops, max(2, crops))
        return 0 if min(math.ceil(long / crops), short) < self.min_crop_size else crops


@named_record
class Dynamic(Resize):
    """Both sides are rounded to multiples of merge_side patches, the area is kept within bounds (Qwen2-VL onwards).

    A clip's frames are taken ``frames_per_patch`` at a time; its bounds are those of a frame (Qwen2-VL, Qwen2.5-VL), or
    with ``whole_clip`` those of all its pixels together (Qwen3-VL).

    Source: Qwen2-VL, arXiv:2409.12191 §2.1; ``smart_resize`` of transformers.

    Raises:
        SpecError: an image whose sides differ by more than a factor of 200.

    >>> Dynamic(min_pixels=56 * 56, max_pixels=12_845_056).image(768, 1024, 14)
    Grid(tiles=1, height=54, width=74, markers=0, tokens=None)
    """

    kind: Literal["dynamic"] = "dynamic"
    merge_side: Positive = 2
    min_pixels: Positive
    max_pixels: Positive
    frames_per_patch: Positive = 2
    video_min_pixels: Positive | None = None
    video_max_pixels: Positive | None = None
    whole_clip: bool = False
    min_frames: Positive = 4
    max_frames: Positive = 768

    def image(self, height: int, width: int, patch: int) -> Grid:
        """Return one image of its own size."""
        rows, columns = self._resized(height, width, self.merge_side * patch, self.min_pixels, self.max_pixels)
        return Grid(1, rows // patch, columns // patch, self.markers)

    def frames(self, wanted: int) -> int:
        """Return the frames within bounds; a whole number of patches, unless the clip is padded to one."""
        taken = min(max(wanted, self.min_frames), self.max_frames)
        return taken if self.whole_clip else taken // self.frames_per_patch * self.frames_per_patch

    def video(self, frames: int, height: int, width: int, patch: int) -> Grid:
        """Return an image for every ``frames_per_patch`` frames."""
        factor = self.merge_side * patch
        least, most = self.video_min_pixels or self.min_pixels, self.video_max_pixels or self.max_pixels
        if self.whole_clip and min(height, width) < factor:
            scale = max(factor / height, factor / width)
            height, width = int(height * scale), int(width * scale)
        clip = frames if self.whole_clip else 1
        rows, columns = self._resized(height, width, factor, least, most, clip)
        times = math.ceil(frames / self.frames_per_patch)
        markers = self.markers * (times if self.whole_clip else 1)
        return Grid(times, rows // patch, columns // patch, markers)

    def _resized(self, height: int, width: int, factor: int, least: int, most: int, frames: int = 1) -> tuple[int, int]:
        """Return both sides in pixels; ``frames`` of them share the bounds."""
        if max(height, width) / min(height, width) > MOST_UNEQUAL:
            raise SpecError(f"an image of {width}x{height} is refused: one side is over {MOST_UNEQUAL} times the other")
        rows, columns = round(height / factor) * factor, round(width / factor) * factor
        # a clip is rounded to whole patches in time, too; one image is not
        depth = 1 if frames == 1 else round(frames / self.frames_per_patch) * self.frames_per_patch
        if depth * rows * columns > most:
            scale = math.sqrt((frames * height * width) / most)
            rows, columns = (max(factor, math.floor(side / scale / factor) * factor) for side in (height, width))
        elif depth * rows * columns < least:
            scale = math.sqrt(least / (frames * height * width))
            rows, columns = (math.ceil(side * scale / factor) * factor for side in (height, width))
        return rows, columns


@named_record
class Budget(Resize):
    """As many patches as a budget of tokens allows, at the image's own proportions (Gemma 4).

    Both sides are multiples of merge_side patches: the largest below √(budget) of the proportions. A frame of a clip
    has a budget of its own. The processor fills the rest of the budget with padding, which is masked and not counted.

    Source: ``Gemma4ImageProcessor`` of transformers; vision_soft_tokens_per_image of config.json.

    Raises:
        SpecError: an image so small or so narrow that nothing of it is left.

    >>> Budget(merge_side=3, max_tokens=280, video_tokens=70).image(768, 1024, 16)
    Grid(tiles=1, height=42, width=57, markers=0, tokens=None)
    """

    kind: Literal["budget"] = "budget"
    merge_side: Positive
    max_tokens: Positive
    video_tokens: Positive

    def image(self, height: int, width: int, patch: int) -> Grid:
        """Return one image of its own proportions."""
        return self._fitted(height, width, patch, self.max_tokens)

    def video(self, frames: int, height: int, width: int, patch: int) -> Grid:
        """Return an image for every frame."""
        one = self._fitted(height, width, patch, self.video_tokens)
        return Grid(frames, one.height, one.width, frames * one.markers)

    def _fitted(self, height: int, width: int, patch: int, tokens: int) -> Grid:
        unit = self.merge_side * patch
        scale = math.sqrt(tokens * self.merge_side**2 * patch**2 / (height * width))
        rows, columns = math.floor(scale * height / unit), math.floor(scale * width / unit)
        if not rows and not columns:
            raise SpecError(f"an image of {width}x{height} is too small for {tokens} tokens")
        rows, columns = rows or 1, columns or 1
        if math.floor(scale * height / unit) == 0:
            columns = min(math.floor(width / height), tokens)
        elif math.floor(scale * width / unit) == 0:
            rows = min(math.floor(height / width), tokens)
        return Grid(1, rows * self.merge_side, columns * self.merge_side, self.markers)


@named_record
class Longest(Resize):
    """An image keeps its size up to a longest side, in whole tokens; a special token ends each row (Pixtral).

    Source: Pixtral, arXiv:2410.07073 §2.1; ``PixtralImageProcessor`` and ``PixtralProcessor`` of transformers.

    >>> Longest(longest_side=1540, merge_side=2).image(768, 1024, 14)
    Grid(tiles=1, height=56, width=74, markers=28, tokens=None)
    """

    kind: Literal["longest"] = "longest"
    longest_side: Positive
    merge_side: Positive = 1

    def image(self, height: int, width: int, patch: int) -> Grid:
        """Return one image of its own size."""
        unit = self.merge_side * patch
        ratio = max(height / self.longest_side, width / self.longest_side)
        if ratio > 1:
            height, width = math.floor(height / ratio), math.floor(width / ratio)
        rows, columns = ((side - 1) // unit + 1 for side in (height, width))
        if not rows or not columns:
            raise SpecError(f"an image of these proportions is refused: nothing of {width}x{height} pixels is left")
        return Grid(1, rows * self.merge_side, columns * self.merge_side, self.markers + rows)


@named_record
class Canvas(Fixed):
    """The best canvas of at most max_tiles squares, cut into them, and the whole image once more (Llama 4).

    The canvas is the one that needs the least enlarging, or where none is large enough the least shrinking; among
    equals the smallest. Separators stand after each tile but the last of a row, and after each row.

    Source: ``Llama4ImageProcessor`` and ``Llama4Processor`` of transformers.

    >>> Canvas(image_size=336, max_tiles=16).image(768, 1024, 14).tiles
    13
    """

    kind: Literal["canvas"] = "canvas"  # type: ignore[assignment]
    max_tiles: Positive

    def image(self, height: int, width: int, patch: int) -> Grid:
        """Return the tiles of the canvas, and one for the whole where there are several."""
        rows, columns = self._best(height, width)
        side, tiles = self.image_size // patch, rows * columns
        if tiles == 1:
            return Grid(1, side, side, self.markers)
        return Grid(tiles + 1, side, side, self.markers + tiles)

    def _best(self, height: int, width: int) -> tuple[int, int]:
        # in single precision, as the processor computes, where equal scales must compare equal
        scales = {
            (rows, columns): min(_single(self.image_size * rows / height), _single(self.image_size * columns / width))
            for rows, columns in self._canvases()
        }
        enlarging = [scale for scale in scales.values() if scale >= 1]
        wanted = min(enlarging) if enlarging else max(scales.values())
        chosen = [canvas for canvas, scale in scales.items() if scale == wanted]
        return min(chosen, key=lambda canvas: canvas[0] * canvas[1])

    def _canvases(self) -> Iterator[tuple[int, int]]:
        """Yield the canvases, grouped by aspect ratio, as the processor lists them: the first of equals is taken."""
        by_ratio: dict[float, list[tuple[int, int]]] = {}
        for tiles in range(self.max_tiles, 0, -1):
            for rows in range(1, tiles + 1):
                if tiles % rows == 0:
                    by_ratio.setdefault(rows / (tiles // rows), []).append((rows, tiles // rows))
        for canvases in by_ratio.values():
            yield from canvases


def _single(value: float) -> float:
    """Round to single precision."""
    from struct import pack, unpack

    rounded: float = unpack("f", pack("f", value))[0]
    return rounded


@named_record
class AnyRes(Fixed):
    """The resolution of a list that fits best, in squares, and the whole image once more (LLaVA-NeXT).

    The tokens of padding are dropped, and one token ends each row of patches.

    Source: LLaVA-NeXT (LLaVA-1.6, January 2024); ``LlavaNextProcessor`` of transformers.

    >>> AnyRes(image_size=336, resolutions=((336, 672), (672, 336), (672, 672))).image(768, 1024, 14).tokens
    2340
    """

    kind: Literal["anyres"] = "anyres"  # type: ignore[assignment]
    resolutions: tuple[tuple[Positive, Positive], ...]
    """Height and width in pixels."""

    def image(self, height: int, width: int, patch: int) -> Grid:
        """Return the squares and the whole, and the tokens that are left of them."""
        best = self._best(height, width)
        rows, columns = best[0] // self.image_size, best[1] // self.image_size
        side = self.image_size // patch
        kept_rows, kept_columns = _unpadded(height, width, rows * side, columns * side)
        tokens = side * side + kept_rows * kept_columns + kept_rows
        return Grid(1 + rows * columns, side, side, self.markers, tokens)

    def _best(self, height: int, width: int) -> tuple[int, int]:
        """Return the resolution that keeps the most pixels, and wastes the fewest."""

        def value(resolution: tuple[int, int]) -> tuple[int, int]:
            scale = min(resolution[1] / width, resolution[0] / height)
            kept = min(int(width * scale) * int(height * scale), width * height)
            return kept, kept - resolution[0] * resolution[1]

        return max(self.resolutions, key=value)


def _unpadded(height: int, width: int, rows: int, columns: int) -> tuple[int, int]:
    """Return the rows and columns of a grid that an image of these proportions covers, in the middle."""
    if width / height > columns / rows:
        covered = int(round(height * (columns / width), 7))
        return rows - (rows - covered) // 2 * 2, columns
    covered = int(round(width * (rows / height), 7))
    return rows, columns - (columns - covered) // 2 * 2


@named_record
class AspectTiles(Fixed):
    """As many squares as the proportions ask for, and the whole image once more (InternVL).

    Of all grids of min_tiles to max_tiles squares the one whose proportions are nearest; of equals the one with more
    squares, while they cover less than twice the image.

    Source: InternVL 1.5, arXiv:2404.16821 §3.2; ``GotOcr2ImageProcessor`` of transformers.

    >>> AspectTiles(image_size=448, max_tiles=12).image(768, 1024, 14).tiles
    13
    """

    kind: Literal["aspect_tiles"] = "aspect_tiles"  # type: ignore[assignment]
    min_tiles: Positive = 1
    max_tiles: Positive

    def image(self, height: int, width: int, patch: int) -> Grid:
        """Return the squares, and one for the whole where there are several."""
        best, least = (1, 1), math.inf
        for columns, rows in self._grids():
            differs = abs(width / height - columns / rows)
            covers = width * height > 0.5 * self.image_size * self.image_size * columns * rows
            if differs < least or (differs == least and covers):
                best, least = (columns, rows), differs
        side, tiles = self.image_size // patch, best[0] * best[1]
        return Grid(tiles + (tiles > 1), side, side, self.markers)

    def video(self, frames: int, height: int, width: int, patch: int) -> Grid:
        """Return one square for each frame."""
        side = self.image_size // patch
        return Grid(frames, side, side, frames * self.markers)

    def _grids(self) -> list[tuple[int, int]]:
        sides = range(1, self.max_tiles + 1)
        grids = [(columns, rows) for columns in sides for rows in sides]
        return sorted(
            (grid for grid in grids if self.min_tiles <= grid[0] * grid[1] <= self.max_tiles),
            key=lambda grid: grid[0] * grid[1],
        )

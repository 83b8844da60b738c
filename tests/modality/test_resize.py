"""Schemes that resize images against the released processors, for many sizes: the grids and the tokens are the same.

The processors of transformers need packages for images that are not installed here, but their arithmetic does not: the
functions are taken from the installed source, each by its name.
"""

from __future__ import annotations

import ast
import math
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calc.errors import SpecError
from calc.modality.resize import AnyRes, AspectTiles, Budget, Canvas, Dynamic, Fixed, Longest, PanAndScan

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.oracle

MODELS = Path(transformers.__file__).parent
SIDE = st.one_of(
    st.integers(1, 6000), st.integers(1, 12).map(lambda n: 336 * n), st.integers(1, 60).map(lambda n: 28 * n)
)


def taken(path: str, *names: str, method_of: str = "", **known: Any) -> SimpleNamespace:
    """Return functions (or methods of a class) of a module of transformers, without importing it."""
    body = ast.parse((MODELS / path).read_text("utf-8")).body
    if method_of:
        body = next(node.body for node in body if isinstance(node, ast.ClassDef) and node.name == method_of)
    found = [node for node in body if isinstance(node, ast.FunctionDef) and node.name in names]
    assert {node.name for node in found} == set(names)
    for node in found:
        node.decorator_list = []
    future = ast.parse("from __future__ import annotations").body
    space: dict[str, Any] = {"math": math, **known}
    exec(compile(ast.Module(body=[*future, *found], type_ignores=[]), path, "exec"), space)
    return SimpleNamespace(**{name: space[name] for name in names})


QWEN2 = taken("models/qwen2_vl/image_processing_qwen2_vl.py", "smart_resize")
QWEN2_VIDEO = taken("models/qwen2_vl/video_processing_qwen2_vl.py", "smart_resize")
QWEN3_VIDEO = taken("models/qwen3_vl/video_processing_qwen3_vl.py", "smart_resize")
GEMMA3 = taken(
    "models/gemma3/image_processing_gemma3.py",
    "pan_and_scan_batched",
    method_of="Gemma3ImageProcessor",
    itertools=__import__("itertools"),
)
LLAMA4 = taken(
    "models/llama4/image_processing_llama4.py",
    *("get_factors", "find_supported_resolutions", "get_best_fit"),
    torch=torch,
    defaultdict=defaultdict,
)
LLAMA4_TEXT = taken("models/llama4/processing_llama4.py", "_prompt_split_image", method_of="Llama4Processor")
BEST = taken("image_processing_utils.py", "select_best_resolution")
LLAVA = taken(
    "models/llava_next/processing_llava_next.py",
    *("_get_number_of_features", "_get_unpadded_features"),
    method_of="LlavaNextProcessor",
    select_best_resolution=BEST.select_best_resolution,
)
INTERNVL = taken(
    "models/got_ocr2/image_processing_pil_got_ocr2.py", "get_all_supported_aspect_ratios", "get_optimal_tiled_canvas"
)

IMAGES = Dynamic(min_pixels=3136, max_pixels=12_845_056)
CLIPS = Dynamic(
    min_pixels=65_536, max_pixels=16_777_216, video_min_pixels=4_096, video_max_pixels=25_165_824, whole_clip=True
)


@settings(max_examples=500, deadline=None)
@given(height=SIDE, width=SIDE)
def test_dynamic_sizes_are_those_of_qwen(height: int, width: int) -> None:
    if max(height, width) / min(height, width) > 200:
        with pytest.raises(SpecError, match="over 200 times"):
            IMAGES.image(height, width, 14)
        return
    grid = IMAGES.image(height, width, 14)
    assert (14 * grid.height, 14 * grid.width) == QWEN2.smart_resize(height, width, 28, 3136, 12_845_056)
    framed = Dynamic(min_pixels=100_352, max_pixels=602_112).video(7, height, width, 14)
    assert (14 * framed.height, 14 * framed.width) == QWEN2_VIDEO.smart_resize(height, width, 28, 100_352, 602_112)
    assert framed.tiles == 4


@settings(max_examples=500, deadline=None)
@given(frames=st.integers(2, 768), height=SIDE, width=SIDE)
def test_clips_are_resized_as_a_whole_by_qwen3(frames: int, height: int, width: int) -> None:
    try:
        theirs = QWEN3_VIDEO.smart_resize(frames, height, width, 2, 32, 4_096, 25_165_824)
    except ValueError:
        with pytest.raises(SpecError, match="over 200 times"):
            CLIPS.video(frames, height, width, 16)
        return
    grid = CLIPS.video(frames, height, width, 16)
    assert (16 * grid.height, 16 * grid.width) == theirs
    assert grid.tiles == math.ceil(frames / 2)


@pytest.mark.parametrize(
    ("wanted", "taken_by_2", "taken_by_3"), [(1, 4, 4), (60, 60, 60), (61, 60, 61), (9999, 768, 768)]
)
def test_frames_within_bounds(wanted: int, taken_by_2: int, taken_by_3: int) -> None:
    assert IMAGES.frames(wanted) == taken_by_2
    assert CLIPS.frames(wanted) == taken_by_3


@settings(max_examples=500, deadline=None)
@given(height=SIDE, width=SIDE)
def test_crops_are_those_of_gemma_3(height: int, width: int) -> None:
    image = torch.empty(3, height, width, device="meta")
    crops = GEMMA3.pan_and_scan_batched(None, image, 256, 4, 1.2)
    scheme = PanAndScan(image_size=896, active=True, markers=2)
    grid = scheme.image(height, width, 14)
    assert (grid.tiles, grid.markers) == (1 + len(crops), 2 * (1 + len(crops)))
    assert PanAndScan(image_size=896).image(height, width, 14).tiles == 1


RESOLUTIONS = torch.tensor(LLAMA4.find_supported_resolutions(16, SimpleNamespace(height=336, width=336)))


@settings(max_examples=500, deadline=None)
@given(height=SIDE, width=SIDE)
def test_canvases_are_those_of_llama_4(height: int, width: int) -> None:
    best = LLAMA4.get_best_fit((height, width), RESOLUTIONS)
    rows, columns = (int(side) // 336 for side in best)
    grid = Canvas(image_size=336, max_tiles=16, markers=3).image(height, width, 14)
    assert grid.tiles == rows * columns + (rows * columns > 1)
    text = LLAMA4_TEXT._prompt_split_image(None, (rows, columns), 144)
    assert text.count("<|patch|>") == 144 * grid.tiles
    assert text.count("<|") - text.count("<|patch|>") == grid.markers


GEMMA4 = taken("models/gemma4/image_processing_pil_gemma4.py", "get_aspect_ratio_preserving_size")


@settings(max_examples=500, deadline=None)
@given(height=SIDE, width=SIDE, tokens=st.sampled_from([70, 140, 280, 560, 1120]))
def test_budgets_are_those_of_gemma_4(height: int, width: int, tokens: int) -> None:
    scheme = Budget(merge_side=3, max_tokens=tokens, video_tokens=tokens)
    grid = scheme.image(height, width, 16)
    theirs = GEMMA4.get_aspect_ratio_preserving_size(height, width, 16, 9 * tokens, 3)
    assert (16 * grid.height, 16 * grid.width) == theirs
    assert grid.height * grid.width <= 9 * tokens
    assert scheme.video(7, height, width, 16).tiles == 7


PIXTRAL = taken(
    "models/pixtral/image_processing_pil_pixtral.py",
    *("_num_image_tokens", "get_resize_output_image_size"),
    get_image_size=lambda image, _: image,
)


@settings(max_examples=500, deadline=None)
@given(height=SIDE, width=SIDE)
def test_sizes_are_those_of_pixtral(height: int, width: int) -> None:
    theirs = PIXTRAL.get_resize_output_image_size((height, width), 1540, 28, None)
    scheme = Longest(longest_side=1540, merge_side=2)
    if 0 in theirs:
        with pytest.raises(SpecError, match="nothing of"):
            scheme.image(height, width, 14)
        return
    grid = scheme.image(height, width, 14)
    assert (14 * grid.height, 14 * grid.width) == theirs
    assert grid.markers == grid.height // 2


PINPOINTS = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]


@settings(max_examples=500, deadline=None)
@given(height=SIDE, width=SIDE)
def test_tokens_are_those_of_llava_next(height: int, width: int) -> None:
    owner = SimpleNamespace(
        image_processor=SimpleNamespace(image_grid_pinpoints=PINPOINTS),
        patch_size=14,
        num_additional_image_tokens=1,
        _get_unpadded_features=lambda *sizes: LLAVA._get_unpadded_features(None, *sizes),
    )
    scheme = AnyRes(image_size=336, resolutions=tuple(map(tuple, PINPOINTS)))
    try:
        theirs = LLAVA._get_number_of_features(owner, height, width, 336, 336) - 1
    except (TypeError, ZeroDivisionError):  # an image of no width left: they find no resolution
        return
    assert scheme.image(height, width, 14).tokens == theirs


@settings(max_examples=500, deadline=None)
@given(height=SIDE, width=SIDE)
def test_squares_are_those_of_internvl(height: int, width: int) -> None:
    columns, rows = _canvas(height, width)
    grid = AspectTiles(image_size=448, max_tiles=12).image(height, width, 14)
    assert grid.tiles == rows * columns + (rows * columns > 1)
    assert AspectTiles(image_size=448, max_tiles=12).video(9, height, width, 14).tiles == 9


def _canvas(height: int, width: int) -> tuple[int, int]:
    space = INTERNVL.get_optimal_tiled_canvas.__globals__
    space["get_all_supported_aspect_ratios"] = INTERNVL.get_all_supported_aspect_ratios
    columns, rows = INTERNVL.get_optimal_tiled_canvas((height, width), (448, 448), 1, 12)
    return columns, rows


def test_the_image_of_the_article() -> None:
    """224 × 224 pixels in patches of 14: 256 tokens, and a minute at a frame a second 15,360."""
    grid = Fixed(image_size=224).image(224, 224, 14)
    assert grid.height * grid.width == 256
    clip = Fixed(image_size=224).video(60, 224, 224, 14)
    assert clip.tiles * clip.height * clip.width == 15_360

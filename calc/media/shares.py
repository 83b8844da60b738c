"""A prompt with images, sound and clips: tokens, what the towers do for them, and their share of the language model.

The prompt is laid out as chat templates do it: images, sound, clips, then the text. What a part costs in a prefill is
what its own queries cost: the FLOPs of the prompt up to its end less those up to its start, and where the model lets
an image's tokens (or the whole prompt) see each other both ways, the pairs that this adds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, TypeAlias

from calc.algebra import triangle
from calc.costs import Setting
from calc.errors import SpecError
from calc.masks import KINDS, Mask, Window
from calc.media.asked import Asked, Clip, Picture, Recording
from calc.media.pairs import block as block_pairs
from calc.media.pairs import keeps_the_last, located
from calc.modality.rates import Rates
from calc.modality.resize import PanAndScan
from calc.modality.tower import Encoding, Sound, Tower
from calc.model import Block, Model, Pass, environment, flops_by_operation, running
from calc.operations import Counts, Operation
from calc.records import Record, named_record, replace
from calc.units import dtype

Kind: TypeAlias = Literal["image", "audio", "video", "text"]

DEFAULT_TEXT = 256
"""Tokens of text beside images and sound where nobody says how many."""


@named_record
class Input(Record):
    """One entry of what is asked for: ``count`` equal inputs, and what each becomes."""

    kind: Kind
    text: str
    count: int
    each: Encoding
    joins: bool
    """Its tokens stand in the text; otherwise they are compared with it, or attended to from beside it."""
    encoder_flops: int | None
    """None where its maker publishes the tokens and no encoder."""
    projector_flops: int | None
    tower: Tower | None = None
    """What reads it; None where its maker publishes no encoder, or the model's own encoder does."""

    @property
    def tokens(self) -> int:
        """Tokens that it adds to the text, special ones around them included."""
        return self.count * (self.each.tokens + self.each.markers) if self.joins else 0


@named_record
class Part(Record):
    """The share of one kind of input. Units: tokens, FLOP, bytes; of all sequences of the batch."""

    kind: Kind
    span: range
    """Where it stands in a sequence."""
    encoder_flops: int | None = 0
    prefill_flops: int
    cache_bytes: int

    @property
    def tokens(self) -> int:
        """Tokens in a sequence."""
        return len(self.span)


@named_record
class Between(Record):
    """The block of attention between the queries of one part and the keys of another.

    ``pairs``: of one layer, by the mask of the layer; None where it depends on the data which keys are seen. ``flops``:
    of scores and values in all layers whose pairs are known.
    """

    query: Kind
    key: Kind
    pairs: Mapping[str, int | None]
    flops: int


@named_record
class Media(Record):
    """A prompt, and what its parts cost."""

    inputs: tuple[Input, ...]
    parts: tuple[Part, ...]
    between: tuple[Between, ...]
    notes: tuple[str, ...] = ()

    @property
    def tokens(self) -> int:
        """Tokens of one sequence."""
        return sum(part.tokens for part in self.parts)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON contract."""
        return {
            "tokens": self.tokens,
            "inputs": [
                {
                    "kind": one.kind,
                    "asked": one.text,
                    "count": one.count,
                    "tiles": one.count * one.each.tiles,
                    "positions": one.each.positions,
                    "tokens": one.tokens,
                    "markers": one.count * one.each.markers if one.joins else 0,
                    "encoder_flops": one.encoder_flops,
                    "projector_flops": one.projector_flops,
                }
                for one in self.inputs
            ],
            "parts": [
                {
                    "kind": part.kind,
                    "tokens": part.tokens,
                    "encoder_flops": part.encoder_flops,
                    "prefill_flops": part.prefill_flops,
                    "cache_bytes": part.cache_bytes,
                }
                for part in self.parts
            ],
            "attention": [
                {"query": one.query, "key": one.key, "pairs": dict(one.pairs), "flops": one.flops}
                for one in self.between
            ],
        }


def media(
    model: Model, asked: Asked, context: int | None = None, *, crops: bool = False, **setting: Any
) -> tuple[Media, Setting]:
    """Return what a prompt costs, and the setting whose context it fills; takes what ``Setting`` takes.

    Without a context the text has ``asked.text`` tokens (256 if nobody says, or as many as a model takes at most); with
    one, the text is what is left of it.

    Raises:
        SpecError: the model reads no such inputs, or they leave nothing of the context.
    """
    plain = Setting.of([model], 1 if context is None else context, **setting)
    inputs = tuple(_inputs(model, asked, plain, crops))
    taken = sum(one.tokens for one in inputs)
    filled = replace(plain, context=_length(model, asked, context, taken))
    if model.encoder and filled.source is None:
        filled = replace(filled, source=max(one.each.positions or 1 for one in inputs))
    counts: dict[Kind, int] = {}
    for one in inputs:
        counts[one.kind] = counts.get(one.kind, 0) + one.tokens
    counts["text"] = filled.context - taken
    spans = dict(_spans(counts))
    blocks = model.blocks()
    ways = _Ways(model, blocks, spans, inputs, filled)
    parts = tuple(
        Part(
            kind=kind,
            span=span,
            encoder_flops=_in_towers(one for one in inputs if one.kind == kind),
            prefill_flops=ways.prefill(kind),
            cache_bytes=_cached(blocks, filled, span) + (_beside(blocks, filled) if kind == inputs[0].kind else 0),
        )
        for kind, span in spans.items()
    )
    notes = tuple(_notes(model, inputs, asked))
    return Media(inputs=inputs, parts=parts, between=tuple(ways.between()), notes=notes), filled


def inputs_of(model: Model, asked: Asked, *, crops: bool = False) -> tuple[Input, ...]:
    """Return what stands in one prompt beside its text, and what becomes of it.

    Raises:
        SpecError: the model reads no such inputs.
    """
    return tuple(_inputs(model, asked, Setting.of([model], 1), crops)) if asked.anything else ()


def _in_towers(inputs: Iterable[Input]) -> int | None:
    """Return what towers do for some inputs; None where that is not known of one of them."""
    total = 0
    for one in inputs:
        if one.encoder_flops is None or one.projector_flops is None:
            return None
        total += one.encoder_flops + one.projector_flops
    return total


def _length(model: Model, asked: Asked, context: int | None, taken: int) -> int:
    """Return the positions of a sequence: those asked for, or what stands in it.

    Raises:
        SpecError: images and sound do not fit.
    """
    if context is None:
        text = min(DEFAULT_TEXT, model.max_context or DEFAULT_TEXT) if asked.text is None else asked.text
        if not taken + text:
            raise SpecError("text = 0 leaves no tokens at all")
        return taken + text
    if asked.text is not None:
        raise SpecError("text and context both say how long the prompt is: give one of them")
    if taken >= context:
        raise SpecError(f"images and sound take {taken:,} tokens: that leaves nothing of a context of {context:,}")
    return context


def _spans(counts: Mapping[Kind, int]) -> Iterator[tuple[Kind, range]]:
    start = 0
    for kind, tokens in counts.items():
        yield kind, range(start, start + tokens)
        start += tokens


_BOTH_WAYS = {
    "media": "the tokens of an image",
    "media_in_windows": "in layers with a window the tokens of an image",
    "prompt": "all tokens of a prompt",
}


def _notes(model: Model, inputs: Iterable[Input], asked: Asked) -> Iterator[str]:
    if any(not one.joins for one in inputs) and model.encoder is None:
        yield f"{model.name}: images and texts are compared, so no image tokens stand in the text"
    if model.rates and not model.tower:
        yield f"{model.name}: tokens as its maker counts them ({model.rates.source}); its encoders are not published"
    if model.bounds():
        yield f"{model.name}: the parts are those of the middle of an estimate"
    if model.encoder is not None:
        yield f"{model.name}: sound is read in chunks, each with a text of its own; the text's figures are for one"
    for sound in (tower.sound for tower in model.tower if tower.sound):
        if any(sound.heard(recording.seconds) < recording.seconds for recording in asked.audio):
            yield f"{model.name}: the first {sound.chunk_seconds} s of a sound are heard, the rest is cut off"
    if model.sees != "causal" and any(one.joins for one in inputs):
        yield f"{model.name}: {_BOTH_WAYS[model.sees]} see each other both ways; the card's own prefill is causal"
    video = [one for one in inputs if one.kind == "video"]
    towers = [tower for tower in model.tower if tower.modality == "image"]
    if video and towers and not getattr(towers[0].resize, "frames_per_patch", None):
        yield f"{model.name}: each frame of a clip is read as an image"


# ---- what the towers do


def _inputs(model: Model, asked: Asked, setting: Setting, crops: bool) -> Iterator[Input]:
    if model.patches:
        raise SpecError(
            f"{model.name} reads images alone: its context of {model.max_context:,} is one image, its batch several"
        )
    if model.rates and not model.tower:
        yield from _counted(model.name, model.rates, asked)
        return
    for picture in asked.images:
        tower = _tower(model, "image", "images")
        yield _priced(tower, "image", picture, _seen(model, tower, picture, crops), setting)
    for recording in asked.audio:
        yield _heard(model, recording, setting)
    for clip in asked.video:
        tower = _tower(model, "image", "video")
        yield _priced(tower, "video", clip, _watched(model, tower, clip), setting)


def _counted(name: str, rates: Rates, asked: Asked) -> Iterator[Input]:
    """Count tokens by the rates that a maker publishes; what its encoders do is not known."""

    def entry(kind: Kind, one: Picture | Recording | Clip, tiles: int, tokens: int) -> Input:
        each = Encoding(tiles=tiles, positions=None, width=None, tokens=tokens)
        unknown = {"encoder_flops": None, "projector_flops": None}
        return Input(kind=kind, text=one.text, count=one.count, each=each, joins=True, **unknown)

    for picture in asked.images:
        if not (picture.width and picture.height):
            raise SpecError(f"images = {picture.text!r}: {name} reads any size, write it as 3@1024x768")
        size = (picture.height, picture.width)
        yield entry("image", picture, rates.tiles(*size), rates.image(*size))
    for recording in asked.audio:
        yield entry("audio", recording, 1, rates.audio(recording.seconds))
    for clip in asked.video:
        yield entry("video", clip, _frames(clip), rates.video(_frames(clip)))


def _frames(clip: Clip) -> int:
    frames = int(clip.seconds * clip.fps)
    if not frames:
        raise SpecError(f"video = {clip.text!r}: not a single frame is taken")
    return frames


def _tower(model: Model, modality: str, what: str) -> Tower:
    for tower in model.tower:
        if tower.modality == modality:
            return tower
    has = ", ".join(tower.modality for tower in model.tower)
    raise SpecError(f"{model.name} reads no {what}: it has {f'a tower of {has} only' if has else 'no towers'}")


def _seen(model: Model, tower: Tower, picture: Picture, crops: bool) -> Encoding:
    if crops:
        if not isinstance(tower.resize, PanAndScan):
            raise SpecError(f"{model.name} does not cut crops out of images")
        tower = replace(tower, resize=replace(tower.resize, active=True))
    width, height = _size(model, picture, "images", "3@1024x768", needed=crops or _any_size(tower))
    return tower.image(height, width)


def _watched(model: Model, tower: Tower, clip: Clip) -> Encoding:
    needed = _any_size(tower) and getattr(tower.resize, "kind", "") != "aspect_tiles"
    width, height = _size(model, clip, "video", "60s@1fps@1280x720", needed=needed)
    return tower.video(_frames(clip), height, width)


def _any_size(tower: Tower) -> bool:
    """Tell whether the size of an image decides what becomes of it."""
    return getattr(tower.resize, "kind", "") not in ("fixed", "pan_and_scan")


def _size(model: Model, asked: Picture | Clip, what: str, how: str, *, needed: bool) -> tuple[int, int]:
    if asked.width and asked.height:
        return asked.width, asked.height
    if needed:
        raise SpecError(f"{what} = {asked.text!r}: {model.name} reads any size, write it as {how}")
    return 1, 1  # resized to the tower's own size, whatever it is


def _priced(tower: Tower, kind: Kind, asked: Picture | Recording | Clip, each: Encoding, setting: Setting) -> Input:
    """Count what a tower does for the inputs of all sequences of the batch."""
    found = flops_by_operation(tower.blocks(), each.pass_(setting.batch * asked.count), setting.counts)
    projecting = sum(flops for (path, _), flops in found.items() if ".projector" in path)
    return Input(
        kind=kind,
        text=asked.text,
        count=asked.count,
        each=each,
        joins=tower.joins,
        encoder_flops=sum(found.values()) - projecting,
        projector_flops=projecting,
        tower=tower,
    )


def _heard(model: Model, recording: Recording, setting: Setting) -> Input:
    """Count a recording, in an audio tower or in the encoder of a model that transcribes."""
    if model.encoder is None or not model.encoder.embedding.n_mels:
        tower = _tower(model, "audio", "audio")
        return _priced(tower, "audio", recording, tower.audio(recording.seconds), setting)
    embedding = model.encoder.embedding
    positions = embedding.max_positions or 0
    sound = Sound(chunk_seconds=positions * embedding.frames_per_position // Sound().frames_per_second)
    chunks = sound.chunks(recording.seconds)
    pass_ = replace(Pass.prefill(1, setting.batch * recording.count * chunks, source=positions))
    encoder = [block for block in model.blocks() if block.encoder]
    return Input(
        kind="audio",
        text=recording.text,
        count=recording.count,
        each=Encoding(tiles=chunks, positions=positions, width=None, tokens=chunks * positions),
        joins=False,
        encoder_flops=sum(flops_by_operation(encoder, pass_, setting.counts).values()),
        projector_flops=0,
    )


# ---- what is theirs of the language model


class _Ways:
    """The language model's prefill and its attention, cut into the parts of a prompt."""

    def __init__(
        self,
        model: Model,
        blocks: list[Block],
        spans: Mapping[Kind, range],
        inputs: tuple[Input, ...],
        setting: Setting,
    ) -> None:
        self.sees, self.spans, self.inputs, self.setting = model.sees, spans, inputs, setting
        self.decoder = [block for block in blocks if not block.encoder]
        self.attending = list(_attending(self.decoder, setting.counts))

    def prefill(self, kind: Kind) -> int:
        """Return the FLOPs of a part's queries, in all sequences."""
        span = self.spans[kind]
        added = sum(self._added(mask, kind, other) * each for mask, _, each in self.attending for other in self.spans)
        return self._up_to(span.stop) - self._up_to(span.start) + self.setting.batch * added

    def _up_to(self, context: int) -> int:
        if not context:
            return 0
        pass_ = replace(self.setting, context=context).phase("prefill")
        return sum(flops_by_operation(self.decoder, pass_, self.setting.counts).values())

    def between(self) -> Iterator[Between]:
        """Yield every block of the attention: what each part's queries see of each part's keys."""
        for query in self.spans:
            for key in self.spans:
                if self.spans[query] and self.spans[key]:
                    yield self._block(query, key)

    def _block(self, query: Kind, key: Kind) -> Between:
        pairs: dict[str, int | None] = {}
        flops = 0
        for mask, label, each in self.attending:
            if located(mask):
                found = self._pairs(mask, query, key)
                pairs[label] = found
                flops += self.setting.batch * found * each
            else:
                pairs[label] = None
        return Between(query=query, key=key, pairs=pairs, flops=flops)

    def _pairs(self, mask: Mask, query: Kind, key: Kind) -> int:
        if not self.setting.causal:
            return len(self.spans[query]) * len(self.spans[key])
        let = int(block_pairs(mask, self.spans[query], self.spans[key]))
        return let + self._added(mask, query, key)

    def _added(self, mask: Mask, query: Kind, key: Kind) -> int:
        """Return the pairs that are seen although they do not lie in the past: of an image, or of the prompt."""
        if self.sees == "causal" or not self.setting.causal or not located(mask):
            return 0
        queries, keys = self.spans[query], self.spans[key]
        if self.sees == "prompt":
            return len(queries) * len(keys) - int(block_pairs(mask, queries, keys))
        windowed = isinstance(mask, Window)
        if query != key or query == "text" or (self.sees == "media_in_windows" and not windowed):
            return 0
        if self.sees == "media_in_windows":  # what follows in the same image, and nothing beyond the window before
            return sum(times * triangle(length - 1) for _, length, times in self._images(query))
        return sum(times * _both_ways(mask, start, length) for start, length, times in self._images(query))

    def _images(self, kind: Kind) -> Iterator[tuple[int, int, int]]:
        """Yield (start, length, how often) of the stretches of tokens that see each other."""
        start = self.spans[kind].start
        for one in self.inputs:
            if one.kind == kind and one.joins:
                tiles = one.count * one.each.tiles
                yield start, one.each.tokens // one.each.tiles, tiles
                start += one.tokens


def _both_ways(mask: Mask, start: int, length: int) -> int:
    """Return the pairs of a stretch that a mask leaves out."""
    span = range(start, start + length)
    return length * length - int(block_pairs(mask, span, span))


def _attending(blocks: Iterable[Block], counts: Counts) -> Iterator[tuple[Mask, str, int]]:
    """Yield (mask, label, FLOPs of one pair in all its layers) of every attention over pairs of positions.

    Recurrences that are computed in chunks have pairs inside a chunk only, by masks of their own, which no layer has.
    """
    one = Pass.prefill(1)
    for block in blocks:
        masks: dict[Mask, int] = {}
        for _, operation, env in running([block], one):
            if operation.over is not None and operation.over.kind in KINDS and _over_pairs(operation):
                flops = operation.flops(env, counts=counts)
                masks[operation.over] = masks.get(operation.over, 0) + int(block.repeat * flops)
        for mask, flops in masks.items():
            if flops:
                yield mask, f"{block.repeat} × {block.label}", flops


def _over_pairs(operation: Operation) -> bool:
    letters = getattr(operation, "equation", operation.output)
    return "t" in letters and "s" in letters


def _cached(blocks: Iterable[Block], setting: Setting, span: range) -> int:
    """Return the bytes that a part's positions hold of the cache: a window keeps the last ones."""
    form = dtype(setting.cache_dtype)
    now = setting.phase("decode")
    total = 0
    for block in blocks:
        env = environment(block, now)
        for state in block.states:
            if "s" in state.dims and not state.tied:
                own = state.stored_in(form)
                rows, width = state.shape(env)
                kept = max(1, _kept(state.over, env, setting.context, setting.context))
                ends = [_kept(state.over, env, setting.context, end) for end in (span.start, span.stop)]
                first, last = (own.stored(rows * end // kept, width) for end in ends)
                total += block.repeat * (last - first)
    return setting.batch * int(total)


def _beside(blocks: Iterable[Block], setting: Setting) -> int:
    """Return the bytes of keys and values of an encoder's states, which stand beside the text (one chunk of sound)."""
    form, now = dtype(setting.cache_dtype), setting.phase("decode")
    held = [
        block.repeat * state.stored_in(form).stored(*state.shape(environment(block, now)))
        for block in blocks
        for state in block.states
        if "m" in state.dims
    ]
    return setting.batch * int(sum(held))


def _kept(over: Mask | None, env: Mapping[str, Any], context: int, end: int) -> int:
    """Return how many of the first ``end`` positions are kept; in proportion where it depends on the data which."""
    kept = context if over is None else int(over.kept(context, env))
    if over is None or keeps_the_last(over):
        return max(0, end - (context - kept))
    return kept * end // context

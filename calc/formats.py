"""Number formats with their exact bits: elements, and the scales and zero points that stand beside them."""

from __future__ import annotations

from collections.abc import Iterator
from math import gcd
from typing import TYPE_CHECKING, Final

from calc.algebra import Number, ceil_div
from calc.checks import text
from calc.errors import SpecError, UnknownName
from calc.records import Record, record, replace

if TYPE_CHECKING:
    from fractions import Fraction

OCP_MX = "OCP Microscaling Formats (MX) v1.0 §5.2"
GGML = "ggml-common.h of llama.cpp, the block's struct"


@record
class Format(Record):
    """How numbers are stored: ``bits`` per element, and what a block of elements keeps beside them.

    A block is ``group`` elements of a row (its input features; 0 is the whole row) times ``rows`` rows; it keeps
    ``overhead_bits``: scale, zero point. ``outer`` blocks share ``outer_bits`` more (double quantisation), a tensor
    ``tensor_bits``. ``flat`` blocks run on over the ends of rows. ``source`` says where the layout is defined.
    """

    name: str
    bits: int
    group: int = 1
    overhead_bits: int = 0
    source: str = "IEEE 754 / the type's definition"
    rows: int = 1
    outer: int = 1
    outer_bits: int = 0
    tensor_bits: int = 0
    flat: bool = False

    @property
    def bits_per_element(self) -> Fraction:
        """Bits per element with the overhead of full blocks shared out, exactly; what a row or tensor shares apart.

        >>> dtype("bf16").bits_per_element, dtype("mxfp4").bits_per_element
        (Fraction(16, 1), Fraction(17, 4))
        """
        from fractions import Fraction

        if not self.group:
            return Fraction(self.bits)
        per_block = self.overhead_bits + Fraction(self.outer_bits, self.outer)
        return Fraction(self.bits) + per_block / (self.group * self.rows)

    @property
    def plain(self) -> bool:
        """Whether nothing is kept beside the elements."""
        return not (self.overhead_bits or self.outer_bits or self.tensor_bits)

    def bytes(self, elements: Number) -> Number:
        """Bytes of ``elements`` elements in full blocks, rounded up; int, numpy or sympy like its argument.

        >>> dtype("bf16").bytes(10), dtype("int4").bytes(3)
        (20, 2)
        """
        if self.plain:
            return _bytes(elements, self.bits)
        per_element = self.bits_per_element
        return _bytes(elements, per_element.numerator, per_element.denominator)

    def stored(self, rows: Number, columns: Number, matrices: Number = 1) -> Number:
        """Bytes of ``matrices`` matrices of rows × columns, blocks rounded up to whole ones.

        >>> dtype("fp8-block128").stored(576, 7168)
        4129888
        """
        elements = matrices * rows * columns
        if self.plain:
            return _bytes(elements, self.bits)
        blocks = self._blocks(rows, columns)
        outer = ceil_div(blocks, self.outer) * self.outer_bits
        beside = matrices * (blocks * self.overhead_bits + outer + self.tensor_bits)
        return _bytes(elements * self.bits + beside, 1)

    def _blocks(self, rows: Number, columns: Number) -> Number:
        """Return the blocks of one matrix, begun ones included."""
        if not self.group:
            return ceil_div(rows, self.rows)
        if self.flat:
            return ceil_div(rows * columns, self.group)
        return ceil_div(rows, self.rows) * ceil_div(columns, self.group)

    def of_state(self, name: str, letters: str) -> Format:
        """Return the format of a cached tensor, told by its name and the letters of a position's share.

        A scale per tensor is a constant of the model there, not part of what a sequence keeps.
        """
        return replace(self, tensor_bits=0) if self.tensor_bits else self


def _bytes(elements: Number, bits: int, shared_by: int = 1) -> Number:
    """Return ``elements`` × ``bits`` / ``shared_by`` / 8 rounded up, without a rounding where none can be needed."""
    divisor = gcd(bits, 8 * shared_by)
    whole, parts = bits // divisor, 8 * shared_by // divisor
    return elements * whole if parts == 1 else ceil_div(elements * whole, parts)


@record
class PackedLatent(Format):
    """A latent cache entry with a format for each of its parts (DeepSeek's ``fp8_ds_mla``).

    The latent (512 wide) in fp8 with one fp32 scale per 128 elements, the rotated key (64 wide) left in bf16:
    512 + 4·4 + 64·2 = 656 bytes per token and layer.
    """

    def of_state(self, name: str, letters: str) -> Format:
        """Return fp8 with scales for the latent and an indexer's key, bf16 for the rotated key.

        Raises:
            SpecError: any other tensor: the layout is that of a latent cache.
        """
        if "c" in letters or "z" in letters:
            return FORMATS["fp8-g128"]
        if "r" in letters:
            return FORMATS["bf16"]
        raise SpecError(f"cache dtype {self.name} is the layout of a latent and a rotated key; {name!r} is neither")


def _ggml() -> Iterator[Format]:
    """Yield ggml's block types: (name, bits of an element, elements of a block, bytes of a block)."""
    types = (
        ("q4_0", 4, 32, 18),  # fp16 scale
        ("q4_1", 4, 32, 20),  # fp16 scale and minimum
        ("q5_0", 5, 32, 22),
        ("q5_1", 5, 32, 24),
        ("q8_0", 8, 32, 34),
        ("q2_k", 2, 256, 84),  # 16 4-bit scales and minima, fp16 scale of each
        ("q3_k", 3, 256, 110),  # 16 6-bit scales, fp16 scale
        ("q4_k", 4, 256, 144),  # 8 6-bit scales and minima, fp16 scale of each
        ("q5_k", 5, 256, 176),
        ("q6_k", 6, 256, 210),  # 16 8-bit scales, fp16 scale
        ("iq4_nl", 4, 32, 18),
        ("iq4_xs", 4, 256, 136),  # 8 6-bit scales, fp16 scale
        ("iq3_s", 3, 256, 110),
        ("iq3_xxs", 3, 256, 98),
        ("iq2_s", 2, 256, 82),
        ("iq2_xs", 2, 256, 74),
        ("iq2_xxs", 2, 256, 66),
        ("iq1_m", 1, 256, 56),
        ("iq1_s", 1, 256, 50),
    )
    for name, bits, group, size in types:
        yield Format(name, bits, group, 8 * size - bits * group, GGML)


def _mlx() -> Iterator[Format]:
    """Yield MLX's affine formats: a 16-bit scale and a 16-bit bias for each group."""
    for bits in (2, 3, 4, 5, 6, 8):
        for group in (32, 64, 128):
            yield Format(f"mlx{bits}-g{group}", bits, group, 16 + 16, "mlx.core.quantize of MLX, affine mode")


FORMATS: Final[dict[str, Format]] = {
    form.name: form
    for form in (
        Format("fp32", 32),
        Format("tf32", 32, source="stored as fp32; NVIDIA A100 whitepaper"),
        Format("bf16", 16),
        Format("fp16", 16),
        Format("fp8", 8, source="OCP 8-bit floating point (OFP8) v1.0, E4M3/E5M2; scales not counted"),
        Format("int64", 64, source="the type's definition; tables of indices"),
        Format("int8", 8, source="scales not counted (see int8-channel)"),
        Format("int4", 4, source="packed two a byte; scales not counted (see int4-g128)"),
        Format("fp8-tensor", 8, tensor_bits=32, source="Micikevicius et al. 2022, arXiv:2209.05433 §3; fp32 scale"),
        Format("fp8-block128", 8, 128, 32, "DeepSeek-V3, arXiv:2412.19437 §3.3.2: 128 × 128 blocks, fp32", rows=128),
        Format("fp8-block128-e8m0", 8, 128, 8, "DeepSeek-V4: 128 × 128 blocks, scale E8M0 of OCP MX v1.0", rows=128),
        Format("fp8-g128", 8, 128, 32, "DeepSeek-V3, arXiv:2412.19437 §3.3.2: tiles of 1 × 128, fp32 scale"),
        Format(
            "fp8-channel", 8, 0, 32, source="compressed-tensors float-quantized, strategy channel; fp32 scale per row"
        ),
        Format("int8-channel", 8, 0, 32, "LLM.int8(), arXiv:2208.07339 §2.1: fp32 scale per row"),
        Format("int4-g128", 4, 128, 16 + 4, "GPTQ, arXiv:2210.17323; AWQ, arXiv:2306.00978: fp16 scale, 4-bit zero"),
        Format("int4-g64", 4, 64, 16 + 4, "as int4-g128 in groups of 64"),
        Format("int4-g32", 4, 32, 16 + 16, "KIVI, arXiv:2402.02750 §4.1: groups of 32, fp16 scale and zero point"),
        Format("int4-g32-sym", 4, 32, 16, "compressed-tensors pack-quantized, symmetric: groups of 32, bf16 scale"),
        Format("int4-g32-packed", 4, 32, 16 + 4, "as int4-g128 in groups of 32"),
        Format("int4-g64-sym", 4, 64, 16, "as int4-g32-sym in groups of 64"),
        Format("int4-g128-sym", 4, 128, 16, "as int4-g32-sym in groups of 128"),
        Format("int4-channel", 4, 0, 16, "compressed-tensors pack-quantized, strategy channel; 16-bit scale per row"),
        Format("int4-channel-zero", 4, 0, 16 + 4, "as int4-g128 with one group a row"),
        Format("int3-g128", 3, 128, 16 + 3, "as int4-g128 with 3 bits"),
        Format("int8-channel-zero", 8, 0, 16 + 8, "as int8-g128 with one group a row"),
        Format("int8-g32", 8, 32, 16 + 8, "as int8-g128 in groups of 32"),
        Format("int8-g64", 8, 64, 16 + 8, "as int8-g128 in groups of 64"),
        Format("int8-g128", 8, 128, 16 + 8, "GPTQ, arXiv:2210.17323, with 8 bits: fp16 scale, 8-bit zero"),
        Format("int8-g32-sym", 8, 32, 16, "as int4-g32-sym with 8 bits"),
        Format("int8-g128-sym", 8, 128, 16, "as int4-g128-sym with 8 bits"),
        Format(
            "int2-tensor", 2, tensor_bits=16, source="BitNet b1.58, arXiv:2504.12285: four a byte, a scale a matrix"
        ),
        Format("int2-g32", 2, 32, 16 + 16, "KIVI, arXiv:2402.02750 §4.1"),
        # 4 + 8/64 + 32/(64 · 256) = 4.127 bits
        Format("nf4", 4, 64, 8, "QLoRA, arXiv:2305.14314 §3, double quantisation", outer=256, outer_bits=32, flat=True),
        Format("nf4-single", 4, 64, 32, "QLoRA, arXiv:2305.14314 §3, without double quantisation", flat=True),
        Format("mxfp8", 8, 32, 8, OCP_MX),
        Format("mxfp6", 6, 32, 8, OCP_MX),
        Format("mxfp4", 4, 32, 8, OCP_MX),
        Format("nvfp4", 4, 16, 8, "NVIDIA, NVFP4: 16 elements, E4M3 scale, one fp32 per tensor", tensor_bits=32),
        *_ggml(),
        *_mlx(),
        PackedLatent(
            "fp8-ds-mla", 8, 128, 32, "FlashMLA README, FP8 KV cache format; DeepSeek-V3.2-Exp: 656 bytes per token"
        ),
    )
}

_MULTIPLIED: Final = (
    *((name, name) for name in ("fp32", "tf32", "bf16", "fp16")), ("fp8", "fp8"), ("mxfp8", "fp8"), ("mxfp6", "fp6"),
    ("nvfp4", "fp4"), ("mxfp4", "fp4"), ("int8", "int8"),
)  # fmt: skip
"""How the names of formats begin whose elements matrix units multiply as they are, and the peak's name."""


def multiplied_as(name: str) -> str:
    """Return the format that matrix units multiply what is stored so in; empty where it is unpacked to another first.

    Integers of fewer than 8 bits are for weights alone: they are widened to the activations' format.

    >>> multiplied_as("fp8-block128"), multiplied_as("int4-g128")
    ('fp8', '')
    """
    return next((form for start, form in _MULTIPLIED if name.startswith(start)), "")


ALIASES: Final = {
    "float32": "fp32",
    "float": "fp32",
    "bfloat16": "bf16",
    "float16": "fp16",
    "half": "fp16",
    "float8_e4m3fn": "fp8",
    "float8_e4m3": "fp8",
    "float8_e5m2": "fp8",
    "fp8_e4m3": "fp8",
    "fp8_e5m2": "fp8",
    "gptq": "int4-g128",
    "awq": "int4-g128",
    "fp8_ds_mla": "fp8-ds-mla",
}


def dtype(name: str) -> Format:
    """Find a number format by name or by PyTorch's name for it.

    Raises:
        UnknownName: no such format; near ones are suggested.
        SpecError: not a text.

    >>> dtype("bfloat16").name
    'bf16'
    """
    key = text("dtype", name).strip().lower().removeprefix("torch.")
    key = ALIASES.get(key, key)
    try:
        return FORMATS[key]
    except KeyError:
        raise UnknownName("dtype", name, FORMATS) from None

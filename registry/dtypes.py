"""Dtypes of weights: how wide each is and what kind of number it holds.

Codes are those of the safetensors format ("BF16", "F8_E4M3"), and those of GGUF for the blocks that only GGUF has ("Q4_K").
The dtypes of torch are known to the engine alone.
"""

from dataclasses import dataclass
from typing import Literal

Family = Literal["float", "int", "bool", "complex", "other"]


@dataclass(frozen=True, slots=True)
class Dtype:
    """One dtype of the format.

    Attributes:
        code: as written in headers.
        bits: per element; 4 and 6 for the packed dtypes, else a multiple of 8.
        family: "float" for signed floating point numbers, "other" for bare exponents (F8_E8M0).
    """

    code: str
    bits: int
    family: Family

    def n_bytes(self, n_params: int) -> int | None:
        """Bytes of ``n_params`` elements; None when they do not fill whole bytes."""
        whole, rest = divmod(n_params * self.bits, 8)
        return None if rest else whole


DTYPES: dict[str, Dtype] = {
    dtype.code: dtype
    for dtype in (
        Dtype("F64", 64, "float"),
        Dtype("F32", 32, "float"),
        Dtype("F16", 16, "float"),
        Dtype("BF16", 16, "float"),
        Dtype("F8_E4M3", 8, "float"),
        Dtype("F8_E5M2", 8, "float"),
        Dtype("F8_E4M3FNUZ", 8, "float"),
        Dtype("F8_E5M2FNUZ", 8, "float"),
        Dtype("F6_E2M3", 6, "float"),
        Dtype("F6_E3M2", 6, "float"),
        Dtype("F4", 4, "float"),
        Dtype("F8_E8M0", 8, "other"),  # scales of block formats: an exponent without sign
        Dtype("I64", 64, "int"),
        Dtype("I32", 32, "int"),
        Dtype("I16", 16, "int"),
        Dtype("I8", 8, "int"),
        Dtype("U64", 64, "int"),
        Dtype("U32", 32, "int"),
        Dtype("U16", 16, "int"),
        Dtype("U8", 8, "int"),
        Dtype("BOOL", 8, "bool"),
        Dtype("C64", 64, "complex"),
    )
}
"""Every dtype that a header of safetensors may name, by code."""


@dataclass(frozen=True, slots=True)
class Block:
    """A dtype of GGUF: a fixed number of elements of one row share a fixed number of bytes, often with a scale.

    Attributes:
        code: "Q4_K", or as safetensors calls it where both have it.
        n_params: elements of a block; 1 for plain numbers.
        block_bytes: of a block.
    """

    code: str
    n_params: int
    block_bytes: int


GGUF_DTYPES: dict[int, Block] = {
    number: Block(code, n_params, block_bytes)
    for number, code, n_params, block_bytes in (
        (0, "F32", 1, 4), (1, "F16", 1, 2), (30, "BF16", 1, 2), (28, "F64", 1, 8),
        (24, "I8", 1, 1), (25, "I16", 1, 2), (26, "I32", 1, 4), (27, "I64", 1, 8),
        (2, "Q4_0", 32, 18), (3, "Q4_1", 32, 20), (6, "Q5_0", 32, 22), (7, "Q5_1", 32, 24),
        (8, "Q8_0", 32, 34), (10, "Q2_K", 256, 84), (11, "Q3_K", 256, 110), (12, "Q4_K", 256, 144),
        (13, "Q5_K", 256, 176), (14, "Q6_K", 256, 210), (15, "Q8_K", 256, 292),
        (16, "IQ2_XXS", 256, 66), (17, "IQ2_XS", 256, 74), (18, "IQ3_XXS", 256, 98),
        (19, "IQ1_S", 256, 50), (20, "IQ4_NL", 32, 18), (21, "IQ3_S", 256, 110),
        (22, "IQ2_S", 256, 82), (23, "IQ4_XS", 256, 136), (29, "IQ1_M", 256, 56),
        (34, "TQ1_0", 256, 54), (35, "TQ2_0", 256, 66), (39, "MXFP4", 32, 17), (40, "NVFP4", 64, 36),
        (41, "Q1_0", 128, 18),
    )
}  # fmt: skip
"""Every dtype that a header of GGUF may name, by the number it has there."""

QUANTS = frozenset(block.code for block in GGUF_DTYPES.values() if block.n_params > 1)
"""Codes of the dtypes that hold fewer bits than the weights they stand for had."""

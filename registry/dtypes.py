"""The dtypes of the safetensors format: how wide each is and what kind of number it holds.

Codes are those of the format ("BF16", "F8_E4M3"). The dtypes of torch are known to the engine alone.
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
"""Every dtype a header may name, by code."""

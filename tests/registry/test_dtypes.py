"""Dtypes: widths and families, judged by torch."""

import pytest
import torch

from registry.dtypes import DTYPES

NAMES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2", "F8_E4M3FNUZ": "float8_e4m3fnuz", "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U64": "uint64", "U32": "uint32",
    "U16": "uint16", "U8": "uint8", "BOOL": "bool", "C64": "complex64",
}  # fmt: skip


@pytest.mark.parametrize("code", NAMES)
def test_width_and_family_are_those_of_torch(code):
    judge: torch.dtype = getattr(torch, NAMES[code])
    family = "float" if judge.is_floating_point else "complex" if judge.is_complex else "int"
    assert DTYPES[code].bits == judge.itemsize * 8
    assert DTYPES[code].family == ("bool" if judge is torch.bool else family)


def test_packed_elements_must_fill_whole_bytes():
    assert DTYPES["F4"].n_bytes(6) == 3
    assert DTYPES["F4"].n_bytes(5) is None
    assert DTYPES["F6_E2M3"].n_bytes(4) == 3
    assert DTYPES["F6_E3M2"].n_bytes(3) is None
    assert DTYPES["BF16"].n_bytes(0) == 0


def test_each_dtype_is_filed_under_its_own_code():
    assert all(code == dtype.code for code, dtype in DTYPES.items())

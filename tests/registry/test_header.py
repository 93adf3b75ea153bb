"""Headers: what the reference library writes we read, and what we take for valid it reads."""

import json
import math
import os
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import deserialize, safe_open
from safetensors.torch import save_file

from registry.dtypes import DTYPES
from registry.errors import TruncatedFile, Unreadable
from registry.header import Header, TensorRef, parse_header, read_header

TORCH = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E4M3FNUZ": torch.float8_e4m3fnuz,
    "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
    "F8_E8M0": torch.float8_e8m0fnu,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "C64": torch.complex64,
}

NAMES = st.text(
    st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs"]), min_size=1
).filter(
    lambda name: not name.startswith(("/", "\\")) and ".." not in name and name != "__metadata__"
)


def build(layout, metadata=None, padding=0):
    """The bytes of a file: ``layout`` is [(name, dtype, shape)], in the order of the tensors' bytes."""
    header, place = {}, 0
    for name, dtype, shape in layout:
        end = place + DTYPES[dtype].bits * math.prod(shape) // 8
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [place, end]}
        place = end
    if metadata is not None:
        header["__metadata__"] = metadata
    raw = json.dumps(header).encode() + b" " * padding
    return len(raw).to_bytes(8, "little") + raw + bytes(i % 251 for i in range(place))


def parsed(content: bytes) -> Header:
    length = int.from_bytes(content[:8], "little")
    return parse_header(content[8 : 8 + length], Path("model.safetensors"), len(content))


def test_every_dtype_the_library_writes_is_read_with_its_bytes(tmp_path):
    file = tmp_path / "model.safetensors"
    tensors = {
        code: torch.arange(12)
        .to(torch.uint8)
        .repeat(8)[: 12 * DTYPES[code].bits // 8]
        .view(dtype)
        .view(3, 4)
        if dtype is not torch.bool
        else torch.tensor([[True, False]])
        for code, dtype in TORCH.items()
    }
    save_file(tensors, file)
    header = read_header(file)
    assert {ref.name for ref in header.tensors} == set(TORCH)
    content = file.read_bytes()
    for ref in header.tensors:
        expected = tensors[ref.name]
        assert ref.dtype == ref.name
        assert ref.shape == tuple(expected.shape)
        stored = torch.frombuffer(
            bytearray(content[ref.start : ref.start + ref.n_bytes]), dtype=torch.uint8
        )
        assert torch.equal(stored, expected.contiguous().view(-1).view(torch.uint8))


def test_every_dtype_of_the_format_is_known_and_no_other():
    for code, dtype in DTYPES.items():
        content = build([("t", code, (8,))])
        assert deserialize(content)[0][1]["dtype"] == code
        assert parsed(content).tensors[0].n_bytes == dtype.bits


def test_scalars_and_empty_tensors_are_allowed(tmp_path):
    file = tmp_path / "model.safetensors"
    save_file(
        {"scalar": torch.tensor(1.5), "empty": torch.zeros(0, 7), "none": torch.zeros(3, 0)}, file
    )
    refs = {ref.name: ref for ref in read_header(file).tensors}
    assert refs["scalar"].shape == ()
    assert (refs["scalar"].n_params, refs["scalar"].n_bytes) == (1, 4)
    assert (refs["empty"].n_params, refs["empty"].n_bytes) == (0, 0)
    assert refs["none"].shape == (3, 0)


def test_a_header_without_tensors_is_allowed():
    header = parsed(build([], metadata={"format": "pt"}))
    assert header.tensors == ()
    assert header.metadata == {"format": "pt"}


def test_metadata_are_those_of_the_library(tmp_path):
    file = tmp_path / "model.safetensors"
    save_file({"t": torch.zeros(2)}, file, metadata={"format": "pt", "recipe": "τ₁ of θ"})
    with safe_open(file, "pt") as judge:
        assert read_header(file).metadata == judge.metadata()


def test_tensors_come_in_the_order_of_their_bytes():
    content = build([("z", "F32", (2,)), ("a", "F32", (1,)), ("m", "F32", (3,))])
    assert [ref.name for ref in parsed(content).tensors] == ["z", "a", "m"]


@settings(max_examples=100)
@given(
    st.lists(
        st.tuples(NAMES, st.sampled_from(sorted(DTYPES)), st.lists(st.integers(0, 4), max_size=3)),
        max_size=6,
        unique_by=lambda entry: entry[0],
    ),
    st.none() | st.dictionaries(st.text(), st.text(), max_size=3),
    st.integers(0, 100),
)
def test_law_what_is_written_is_read_and_the_library_agrees(layout, metadata, padding):
    layout = [(n, d, (*shape, 4)) for n, d, shape in layout]  # packed dtypes must fill whole bytes
    metadata = metadata and {
        k: v for k, v in metadata.items() if v.isprintable() and k.isprintable()
    }
    content = build(layout, metadata, padding)
    header = parsed(content)
    assert sorted((r.name, r.dtype, r.shape) for r in header.tensors) == sorted(layout)
    assert header.metadata == (metadata or {})
    for name, judged in deserialize(content):
        ref = next(r for r in header.tensors if r.name == name)
        assert (ref.dtype, list(ref.shape)) == (judged["dtype"], judged["shape"])
        assert content[ref.start : ref.start + ref.n_bytes] == bytes(judged["data"])


def test_reading_a_header_reads_no_tensor_byte(tmp_path):
    file = tmp_path / "model.safetensors"
    n_bytes = 1 << 36  # would take minutes to read
    header = json.dumps(
        {"t": {"dtype": "U8", "shape": [n_bytes], "data_offsets": [0, n_bytes]}}
    ).encode()
    with file.open("wb") as out:
        out.write(len(header).to_bytes(8, "little") + header)
        out.truncate(8 + len(header) + n_bytes)
    assert read_header(file).tensors == (
        TensorRef("t", "U8", (n_bytes,), file, 8 + len(header), n_bytes),
    )


def test_a_missing_file_is_unreadable(tmp_path):
    with pytest.raises(Unreadable, match="No such file"):
        read_header(tmp_path / "model.safetensors")


def test_a_pipe_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "model.safetensors")
    with pytest.raises(Unreadable, match="not a regular file"):
        read_header(tmp_path / "model.safetensors")


def test_an_empty_file_is_truncated(tmp_path):
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(TruncatedFile, match="has 0 bytes"):
        read_header(tmp_path / "model.safetensors")

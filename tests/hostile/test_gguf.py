"""GGUF made to harm: each has its error, none is believed, none costs much."""

import struct
import time
from pathlib import Path

import pytest
from ggufs import save_gguf
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.checkpoint import read_checkpoint
from registry.errors import (
    BadHeader,
    CorruptCheckpoint,
    DuplicateTensor,
    HeaderTooLarge,
    HoleInFile,
    OverlappingTensors,
    TruncatedFile,
)
from registry.gguf import parse_gguf, read_gguf

FILE = Path("evil.gguf")
U32, TEXT, LIST = 4, 8, 9


def text(value):
    raw = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<Q", len(raw)) + raw


def key(name, kind, value):
    return text(name) + struct.pack("<I", kind) + value


def tensor(name="a", shape=(8,), dtype=0, offset=0):
    dims = struct.pack(f"<I{len(shape)}Q", len(shape), *shape[::-1])
    return text(name) + dims + struct.pack("<IQ", dtype, offset)


def file(tensors=(), keys=(), n_tensors=None, n_keys=None, version=3, n_bytes=32):
    n = len(tensors) if n_tensors is None else n_tensors, len(keys) if n_keys is None else n_keys
    head = b"GGUF" + struct.pack("<IQQ", version, *n) + b"".join(keys) + b"".join(tensors)
    return head + bytes(-len(head) % 32) + bytes(n_bytes)


def check(raw):
    return parse_gguf(lambda start, stop: raw[start:stop], FILE, len(raw))


def of_list(kind, n, content=b""):
    return struct.pack("<IQ", kind, n) + content


REFUSED = {
    "nothing": (b"", TruncatedFile, "has 0 bytes"),
    "another format": (b"GGML" + bytes(60), BadHeader, "begins with b'GGML'"),
    "a pointer": (b"version https://git-lfs", BadHeader, "begins with"),
    "the first version": (file(version=1), BadHeader, "version 1"),
    "a version to come": (file(version=4), BadHeader, "version 4"),
    "2**64 tensors": (file(n_tensors=2**64 - 1), HeaderTooLarge, "18446744073709551615 tensors"),
    "2**64 keys": (file(n_keys=2**64 - 1), HeaderTooLarge, "18446744073709551615 keys"),
    "a thousand tensors in no bytes": (file(n_tensors=1000), BadHeader, "is empty"),
    "a thousand keys in no bytes": (file(n_keys=1000), BadHeader, "the key ''"),
    "an endless name": (file(keys=[struct.pack("<Q", 2**63)]), BadHeader, "a name of 9223372036854775808 bytes"),
    "a name that is not UTF-8": (file(keys=[key(b"\xff", U32, bytes(4))]), BadHeader, "not UTF-8"),
    "a name that steers": (file(keys=[key("a\x1b[2J", U32, bytes(4))]), BadHeader, "without control"),
    "one key twice": (file(keys=[key("a", U32, bytes(4))] * 2), BadHeader, "'a' comes twice"),
    "an unknown type": (file(keys=[key("a", 13, bytes(4))]), BadHeader, "of type 13"),
    "a bool of two": (file(keys=[key("a", 7, b"\x02")]), BadHeader, "neither true nor false"),
    "an endless text": (file(keys=[key("a", TEXT, struct.pack("<Q", 2**64 - 1))]), TruncatedFile, "goes on"),
    "an endless list": (file(keys=[key("a", LIST, of_list(U32, 2**64 - 1))]), TruncatedFile, "goes on"),
    "endless texts": (file(keys=[key("a", LIST, of_list(TEXT, 2**64 - 1))]), TruncatedFile, "goes on"),
    "a text that goes round": (
        file(keys=[key("a", LIST, of_list(TEXT, 2, struct.pack("<Q", 2**64 - 8)))]), TruncatedFile, "goes on"),
    "lists without end": (file(keys=[key("a", LIST, of_list(LIST, 1) * 99)]), BadHeader, "4 deep"),
    "a list of what is unknown": (file(keys=[key("a", LIST, of_list(99, 1))]), BadHeader, "list of type 99"),
    "no alignment": (file(keys=[key("general.alignment", U32, bytes(4))]), BadHeader, "power of two"),
    "a crooked alignment": (file(keys=[key("general.alignment", U32, b"\x21\0\0\0")]), BadHeader, "is 33"),
    "an alignment in words": (file(keys=[key("general.alignment", TEXT, text("32"))]), BadHeader, "power of two"),
    "a huge alignment": (file(keys=[key("general.alignment", U32, b"\0\0\0\x80")]), BadHeader, "power of two"),
    "a true alignment": (file(keys=[key("general.alignment", 7, b"\x01")]), BadHeader, "is True"),
    "a tensor without name": (file([tensor("")]), BadHeader, "is empty"),
    "a tensor that leads out": (file([tensor("../a")]), BadHeader, "leads out"),
    "a tensor that steers": (file([tensor("a\n")]), BadHeader, "control characters"),
    "one tensor twice": (file([tensor(), tensor(offset=32)], n_bytes=64), DuplicateTensor, "'a' twice"),
    "many dimensions": (file([tensor(shape=(1,) * 5)]), BadHeader, "of 5 dimensions"),
    "2**32 dimensions": (file([text("a") + b"\xff" * 4]), BadHeader, "of 4294967295 dimensions"),
    "a shape that overflows": (file([tensor(shape=(2**32, 2**32))]), BadHeader, "at most"),
    "overflow beside nothing": (file([tensor(shape=(0, 2**32, 2**32))]), BadHeader, "at most"),
    "an unknown dtype": (file([tensor(dtype=4)]), BadHeader, "of dtype 4"),
    "half a block": (file([tensor(shape=(2, 16), dtype=2)]), BadHeader, "whole blocks of 32"),
    "a crooked offset": (file([tensor(offset=8)]), BadHeader, "a multiple of 32"),
    "beyond the end": (file([tensor(offset=2**63)]), HoleInFile, "belong to no tensor"),
    "too long for the file": (file([tensor(shape=(9,))]), TruncatedFile, "tensor a ends at byte"),
    "two in one place": (file([tensor(), tensor("b")]), OverlappingTensors, "shares 32 bytes"),
    "one inside another": (
        file([tensor(shape=(32,)), tensor("b", offset=32)], n_bytes=128), OverlappingTensors, "tensor b shares 96"),
    "a hole": (file([tensor(offset=32)], n_bytes=64), HoleInFile, "32 bytes before tensor a"),
    "a stowaway": (file([tensor()], n_bytes=64), HoleInFile, "before the end of the file"),
}  # fmt: skip


@pytest.mark.parametrize(("raw", "error", "words"), REFUSED.values(), ids=REFUSED)
def test_it_is_refused_by_name_and_at_once(raw, error, words):
    begun = time.monotonic()
    with pytest.raises(CorruptCheckpoint) as caught:
        check(raw)
    assert type(caught.value) is error
    assert words in caught.value.message
    assert "evil.gguf" in caught.value.message
    assert time.monotonic() - begun < 1.0


def test_what_is_just_right_is_read():
    header = check(
        file([tensor(), tensor("b", (), offset=32), tensor("c", (0, 3), offset=64)], n_bytes=64)
    )
    assert [(t.name, t.shape, t.n_bytes) for t in header.tensors] == [
        ("a", (8,), 32), ("b", (), 4), ("c", (0, 3), 0),
    ]  # fmt: skip
    nested = key("a", LIST, of_list(LIST, 2, of_list(U32, 1, bytes(4)) * 2))
    assert check(file([tensor()], [nested])).lengths == {"a": 2}
    assert check(file(version=2, n_bytes=0)).tensors == ()


def test_cut_short_at_any_byte_it_is_refused(tmp_path):
    whole = save_gguf(tmp_path / "x.gguf", n_tokens=3).read_bytes()
    for n in range(len(whole)):
        with pytest.raises(TruncatedFile):
            check(whole[:n])
    assert check(whole).tensors


@settings(max_examples=200)
@given(st.data())
def test_changed_bytes_are_refused_by_name_or_read(data):
    keys = [
        key("a", LIST, of_list(TEXT, 2, text("x") * 2)),
        key("general.alignment", U32, b"\x20\0\0\0"),
    ]
    raw = bytearray(file([tensor(), tensor("b", offset=32)], keys, n_bytes=64))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = check(bytes(raw))
    except CorruptCheckpoint:
        return
    assert all(t.start + t.n_bytes <= len(raw) for t in found.tensors)


def test_a_sparse_giant_is_refused_quickly(tmp_path):
    path = tmp_path / "giant.gguf"
    with path.open("wb") as out:
        out.write(file(keys=[key("a", LIST, of_list(TEXT, 2**40))]))
        out.truncate(1 << 40)
    begun = time.monotonic()
    with pytest.raises(HeaderTooLarge, match="at most 50000000 bytes"):
        read_gguf(path)
    assert time.monotonic() - begun < 20.0


def test_a_link_that_leads_out_is_not_followed(tmp_path):
    save_gguf(tmp_path / "out" / "x.gguf")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x.gguf").symlink_to(tmp_path / "out" / "x.gguf")
    with pytest.raises(CorruptCheckpoint, match="leaves the folder"):
        read_checkpoint(tmp_path / "in" / "x.gguf")

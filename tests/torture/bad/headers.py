"""Headers of safetensors files."""

import json

from torture.bad_input import GOOD, Bad, safetensors, weights

KIND = "safetensors headers"

_ONE = GOOD["w"]
_PAIR = {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, "b": {"dtype": "F32", "shape": [2], "data_offsets": [8, 16]}}  # fmt: skip


def _tensor(**changed: object) -> bytes:
    """A file of one tensor, of which something is otherwise."""
    return safetensors({"w": {**_ONE, **changed}})


def _named(name: str) -> bytes:
    """A file of one tensor of this name."""
    return safetensors({name: _ONE})


def _second(start: int, stop: int, n_bytes: int) -> bytes:
    """A file of two tensors, the second of which claims this place."""
    second = {"dtype": "F32", "shape": [2], "data_offsets": [start, stop]}
    return safetensors({**_PAIR, "b": second}, data=bytes(n_bytes))


CASES = [
    Bad(KIND, what, error, weights(content))
    for what, error, content in (
        ("an empty file", "TruncatedFile", b""),
        ("seven bytes", "TruncatedFile", bytes(7)),
        ("a length of 2^64 − 1", "HeaderTooLarge", safetensors(length=2**64 - 1)),
        ("a length of 2^63", "HeaderTooLarge", safetensors(length=2**63)),
        ("a length one beyond the file", "HeaderTooLarge", safetensors(raw=b"{}", length=3, data=None)),
        ("a length written big-endian", "HeaderTooLarge", (60).to_bytes(8, "big") + safetensors()[8:]),
        ("a length of 0", "BadHeader", safetensors(raw=b"", length=0)),
        ("zeros in the place of JSON", "BadHeader", safetensors(raw=bytes(60))),
        ("JSON cut in the middle", "BadHeader", safetensors(raw=json.dumps(GOOD).encode()[:-5])),
        ("a JSON array", "BadHeader", safetensors([])),
        ("Latin-1 in a name", "BadHeader", safetensors(raw=json.dumps(GOOD).encode().replace(b'"w"', b'"\xe4"'))),
        ("half a surrogate pair in a name", "BadHeader", safetensors(raw=json.dumps(GOOD).encode().replace(b'"w"', b'"\\ud800"'))),
        ("JSON nested 100,000 deep", "BadHeader", safetensors(raw=b'{"w": ' + b"[" * 100_000)),
        ("NaN as an offset", "BadHeader", safetensors(raw=json.dumps(GOOD).encode().replace(b"[0, 8]", b"[NaN, 8]"))),
        ("one tensor twice", "DuplicateTensor", safetensors(raw=b"{%s, %s}" % ((json.dumps(GOOD).encode()[1:-1],) * 2))),
        ("one key of a tensor twice", "BadHeader", safetensors(raw=json.dumps(GOOD).encode().replace(b'"shape": [2]', b'"shape": [2], "shape": [3]'))),
        ("no tensor at all", "EmptyCheckpoint", safetensors({}, data=None)),
        ("metadata of numbers", "BadHeader", safetensors({"__metadata__": {"a": 1}, **GOOD})),
        ("metadata that is a list", "BadHeader", safetensors({"__metadata__": [], **GOOD})),
        ("a tensor that is a list", "BadHeader", safetensors({"w": ["F32", [2], [0, 8]]})),
        ("an unknown dtype", "BadHeader", _tensor(dtype="F33")),
        ("a dtype that is a number", "BadHeader", _tensor(dtype=7)),
        ("no dtype", "BadHeader", safetensors({"w": {"shape": [2], "data_offsets": [0, 8]}})),
        ("a negative dimension", "BadHeader", _tensor(shape=[-2])),
        ("a dimension of 2.0", "BadHeader", _tensor(shape=[2.0])),
        ("a dimension that is true", "BadHeader", _tensor(shape=[True, 2])),
        ("a dimension of 10^30", "BadHeader", _tensor(shape=[10**30])),
        ("dimensions whose product overflows 64 bits", "BadHeader", _tensor(shape=[2**32, 2**32])),
        ("a product that overflows beside a dimension of 0", "BadHeader", _tensor(shape=[2**62, 4, 0], data_offsets=[0, 0])),
        ("65 dimensions", "BadHeader", _tensor(shape=[1] * 64 + [2])),
        ("a shape that is a text", "BadHeader", _tensor(shape="2")),
        ("three offsets", "BadHeader", _tensor(data_offsets=[0, 8, 16])),
        ("offsets turned round", "BadHeader", _tensor(data_offsets=[8, 0])),
        ("a negative offset", "BadHeader", _tensor(data_offsets=[-8, 0])),
        ("an offset of 2^64", "HoleInFile", _tensor(data_offsets=[2**64, 2**64 + 8])),
        ("more bytes than the shape has", "BadHeader", _tensor(data_offsets=[0, 4])),
        ("half a byte: F4 of one element", "BadHeader", _tensor(dtype="F4", shape=[1], data_offsets=[0, 1])),
        ("two tensors on the same bytes", "OverlappingTensors", _second(0, 8, 8)),
        ("two tensors that share four bytes", "OverlappingTensors", _second(4, 12, 12)),
        ("a hole between two tensors", "HoleInFile", _second(12, 20, 20)),
        ("a hole before the first", "HoleInFile", safetensors({"w": {**_ONE, "data_offsets": [8, 16]}}, data=bytes(16))),
        ("bytes behind the last", "TruncatedFile", safetensors(data=bytes(9))),
        ("the last byte missing", "TruncatedFile", safetensors(data=bytes(7))),
        ("no byte of data", "TruncatedFile", safetensors(data=None)),
        ("an empty name", "BadHeader", _named("")),
        ("a name that is an absolute path", "BadHeader", _named("/etc/passwd")),
        ("a name that leads out", "BadHeader", _named("a/../../b")),
        ("a name that leads out, backwards slashes", "BadHeader", _named("..\\b")),
        ("a name that clears the screen", "BadHeader", _named("\x1b[2Jw")),
        ("a name with a line end", "BadHeader", _named("a\nb")),
        ("a name with a NUL", "BadHeader", _named("a\0b")),
        ("a name with U+2028, a line end of Unicode", "BadHeader", _named("a\u2028b")),
        ("a name that is written from right to left", "", _named("\u202ethgiew")),
        ("a name of 10,000 characters", "", _named("w" * 10_000)),
        ("a pickle of PyTorch", "HeaderTooLarge", b"PK\x03\x04" + bytes(100)),
        ("a pointer of Git LFS", "HeaderTooLarge", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n"),
        ("a page of HTML", "HeaderTooLarge", b"<!DOCTYPE html><html><body>404</body></html>"),
    )
]  # fmt: skip


def _huge(folder, values, of):  # type: ignore[no-untyped-def]
    """A header of many values, written without holding it."""
    text = b'{"w": [' + of * values + b"0]}"
    (folder / "model.safetensors").write_bytes(safetensors(raw=text))


CASES += [
    Bad(KIND, "a header of 99 MB of empty lists", "HeaderTooLarge", lambda folder: _huge(folder, 33_000_000, b"[],")),
    Bad(KIND, "a header of 100,000,001 bytes", "HeaderTooLarge", weights(safetensors(raw=b"{}" + b" " * 99_999_999))),
    Bad(KIND, "a header of 90 MB of blanks", "EmptyCheckpoint", weights(safetensors(raw=b"{}" + b" " * 90_000_000, data=None))),
    Bad(KIND, "1,000,001 tensors", "HeaderTooLarge", weights(safetensors(raw=b"{" + b",".join(b'"%d":0' % i for i in range(1_000_001)) + b"}"))),
]  # fmt: skip

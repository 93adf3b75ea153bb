"""The header of a GGUF file: its keys and where its tensors lie, checked before anything is believed.

A file is, one after the other: the letters `GGUF`; a version; how many tensors and how many keys there are; the keys, each a
name, a type and a value; the tensors, each a name, its dimensions with the innermost first, a dtype and where it begins in the data;
padding up to the alignment; the data, every tensor padded likewise. Texts and arrays begin with their length. All numbers
have the byte order of the version, mostly little-endian.

We read versions 2 and 3 and refuse what the format's own reader refuses, and more: names that are equal, empty or hold
control characters, gaps between tensors, bytes behind the last. Lists, such as vocabularies of a quarter of a million
tokens, are passed over and only counted.
"""

import math
import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from registry.documents import open_file
from registry.dtypes import GGUF_DTYPES
from registry.errors import (
    BadHeader,
    DuplicateTensor,
    HeaderTooLarge,
    HoleInFile,
    OverlappingTensors,
    TruncatedFile,
)
from registry.header import MAX_PARAMS, MAX_TENSORS, TensorRef, check_name

MAGIC = b"GGUF"
"""How every file begins."""

MAX_HEADER_BYTES = 50_000_000
"""Of one file; the largest vocabularies in use take 15 MB."""

FIRST_BYTES = 64 << 10
"""Of a file that are read at once; then as many again as there are already, or 2 MB."""

BIG_ENDIAN = "_BE"
"""How dtypes of big-endian files end."""

Scalar = int | float | bool | str
"""What a key may hold, beside lists."""

_VERSIONS = (2, 3)
_MOST_AT_ONCE = 2 << 20
_ALIGNMENT = 32  # where `general.alignment` says nothing
_MOST_ALIGNMENT = 1 << 20
_MAX_KEYS = 100_000
_MAX_NAME_BYTES = 65_535  # of the format, for keys
_MAX_TEXT_BYTES = 65_536  # of a value that is kept; the longest in use are templates of 20 KB
_MAX_RANK = 4  # of the format
_MAX_NESTING = 4  # lists in lists; nobody writes even one
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "B", 10: "Q", 11: "q", 12: "d"}  # fmt: skip
_UNSIGNED = (0, 2, 4, 10)
_BOOL, _TEXT, _LIST = 7, 8, 9

Read = Callable[[int, int], bytes]
"""Gives the bytes [start, stop) of a file; fewer only where it ends."""


@dataclass(frozen=True)
class GgufHeader:
    """The checked header of one file.

    Attributes:
        file: the file.
        keys: name → value of all that are no lists and no texts of more than 64 KB.
        lengths: name → number of items of those that are lists.
        tensors: in the order of their bytes; shapes with the innermost dimension last, as everywhere here. In files that
            are big-endian every dtype ends in `_BE`, since their bytes mean something else.
        data_start: offset of the data, in bytes.
        file_bytes: length of the file.
    """

    file: Path
    keys: dict[str, Scalar]
    lengths: dict[str, int]
    tensors: tuple[TensorRef, ...]
    data_start: int
    file_bytes: int


def read_gguf(file: Path) -> GgufHeader:
    """Read and check the header of ``file``; of the tensors' bytes at most as many as the header has.

    Raises:
        Unreadable: when the file cannot be opened.
        CorruptCheckpoint: as `parse_gguf`.
    """
    with open_file(file) as (descriptor, status):
        return parse_gguf(
            lambda start, stop: os.pread(descriptor, stop - start, start), file, status.st_size
        )


def parse_gguf(
    read: Read, file: Path, file_bytes: int, most_bytes: int = MAX_HEADER_BYTES
) -> GgufHeader:
    """Check a header against the length of its file.

    Args:
        read: asked for the file's beginning, piece after piece without a gap.
        file: named in messages and in every `TensorRef`.
        file_bytes: length of the whole file.
        most_bytes: of the header.

    Raises:
        BadHeader: it is no GGUF of a version that is read; keys, dtypes, shapes, names or offsets that are not allowed.
        HeaderTooLarge: for more than ``most_bytes``, `MAX_TENSORS` tensors or 100,000 keys.
        DuplicateTensor: for one tensor name twice.
        TruncatedFile: for a file that ends inside its header or its tensors.
        HoleInFile: for bytes that belong to no tensor and are no padding.
        OverlappingTensors: for bytes that belong to two tensors.
    """
    source = _Cursor(read, file, file_bytes, most_bytes)
    n_tensors, n_keys = _counts(source)
    keys, lengths = _keys(source, n_keys)
    alignment = keys.get("general.alignment", _ALIGNMENT)
    if type(alignment) is not int or not _is_alignment(alignment):
        message = f"{file}: general.alignment is {alignment!r:.40}; it must be a power of two up to {_MOST_ALIGNMENT}"
        raise BadHeader(message)
    entries = [_entry(source, alignment) for _ in range(n_tensors)]
    data_start = source.place + -source.place % alignment
    suffix = BIG_ENDIAN if source.order == ">" else ""
    tensors = [
        TensorRef(e.name, e.dtype + suffix, e.shape, file, data_start + e.offset, e.n_bytes)
        for e in entries
    ]
    tensors.sort(key=lambda tensor: (tensor.start, tensor.n_bytes))
    _check_names(tensors, file)
    _check_cover(tensors, file, data_start, file_bytes, alignment)
    return GgufHeader(file, keys, lengths, tuple(tensors), data_start, file_bytes)


class _Cursor:
    """A place in the beginning of a file, of which there is as much as was needed so far.

    Attributes:
        file: named in messages.
        place: offset of what is read next.
        order: of the bytes, as `struct` writes it.
    """

    def __init__(self, read: Read, file: Path, file_bytes: int, most_bytes: int) -> None:
        self.file, self.place, self.order = file, 0, "<"
        self._read, self._file_bytes, self._most_bytes = read, file_bytes, most_bytes
        self._buffer = bytearray()

    def need(self, n_bytes: int) -> None:
        """See to it that there are ``n_bytes`` from here on."""
        end, have = self.place + n_bytes, len(self._buffer)
        if end <= have:
            return
        if end > self._file_bytes:
            message = f"{self.file}: has {self._file_bytes} bytes; its header goes on to byte {end}"
            raise TruncatedFile(message, hint="fetch the file again")
        if end > self._most_bytes:
            message = f"{self.file}: the header goes on to byte {end}; at most {self._most_bytes} bytes are read"
            raise HeaderTooLarge(message)
        more = max(FIRST_BYTES, have + min(have, _MOST_AT_ONCE))
        stop = min(max(end, more), self._file_bytes, self._most_bytes)
        while len(self._buffer) < stop:
            part = self._read(len(self._buffer), stop)
            if not part:
                message = f"{self.file}: ends at byte {len(self._buffer)} while it is read"
                raise TruncatedFile(message, hint="fetch the file again")
            self._buffer += part

    def raw(self, n_bytes: int) -> bytes:
        """The next bytes."""
        self.need(n_bytes)
        self.place += n_bytes
        return bytes(self._buffer[self.place - n_bytes : self.place])

    def number(self, code: str) -> int | float:
        """The next number, of the code that `struct` has for its type."""
        found: int | float = struct.unpack(
            self.order + code, self.raw(struct.calcsize("<" + code))
        )[0]
        return found

    def count(self, code: str = "Q") -> int:
        """The next whole number that is no less than 0."""
        return int(self.number(code))

    def name(self) -> str:
        """The next text, which names something."""
        n_bytes = self.count()
        if n_bytes > _MAX_NAME_BYTES:
            self.refuse(f"a name of {n_bytes} bytes", f"of at most {_MAX_NAME_BYTES}")
        try:
            return self.raw(n_bytes).decode()
        except UnicodeDecodeError:
            self.refuse("a name that is not UTF-8", "UTF-8")

    def pass_texts(self, n: int) -> None:
        """Pass over so many texts; quick, since vocabularies have hundreds of thousands."""
        buffer, place = self._buffer, self.place
        length = struct.Struct(self.order + "Q").unpack_from
        for _ in range(n):
            if place + 8 > len(buffer):
                self.place = place
                self.need(8)
            place += 8 + length(buffer, place)[0]
        self.place = place
        self.need(0)

    def refuse(self, wrong: str, right: str) -> NoReturn:
        """Refuse what stands before this place."""
        message = f"{self.file}: {wrong} before byte {self.place}; it must be {right}"
        raise BadHeader(message)


def _counts(source: _Cursor) -> tuple[int, int]:
    """How many tensors and keys there are; finds the byte order."""
    magic = source.raw(len(MAGIC))
    if magic != MAGIC:
        message = f"{source.file}: begins with {magic!r}; a GGUF file begins with {MAGIC!r}"
        raise BadHeader(message, hint="if it is a pointer of Git LFS: git lfs pull")
    version = source.count("I")
    if not version & 0xFFFF:
        source.order = ">"
        version = int.from_bytes(version.to_bytes(4, "little"), "big")
    if version not in _VERSIONS:
        message = f"{source.file}: is GGUF of version {version}; versions 2 and 3 are read"
        raise BadHeader(message, hint="convert it again with today's llama.cpp")
    n_tensors, n_keys = source.count(), source.count()
    for n, most, what in ((n_tensors, MAX_TENSORS, "tensors"), (n_keys, _MAX_KEYS, "keys")):
        if n > most:
            message = f"{source.file}: the header claims {n} {what}; at most {most} are read"
            raise HeaderTooLarge(message)
    return n_tensors, n_keys


def _keys(source: _Cursor, n_keys: int) -> tuple[dict[str, Scalar], dict[str, int]]:
    """All keys: values of those that are kept, and lengths of lists."""
    keys: dict[str, Scalar] = {}
    lengths: dict[str, int] = {}
    seen = set()
    for _ in range(n_keys):
        name = source.name()
        if not name or not name.isprintable():
            source.refuse(f"the key {name!r:.80}", "a name without control characters")
        if name in seen:
            message = f"{source.file}: the key {name!r:.80} comes twice"
            raise BadHeader(message)
        seen.add(name)
        kind = source.count("I")
        if kind == _LIST:
            lengths[name] = _pass_list(source, name)
        elif (value := _value(source, name, kind)) is not None:
            keys[name] = value
    return keys, lengths


def _value(source: _Cursor, name: str, kind: int) -> Scalar | None:
    """A value that is no list; None for a text that is too long to be kept."""
    if kind == _TEXT:
        n_bytes = source.count()
        if n_bytes > _MAX_TEXT_BYTES:
            source.place += n_bytes
            source.need(0)
            return None
        return source.raw(n_bytes).decode(errors="replace")
    if kind not in _NUMBERS:
        source.refuse(f"the key {name!r:.80} of type {kind}", "of a type from 0 to 12")
    value = source.number(_NUMBERS[kind])
    if kind != _BOOL:
        return value
    if value not in (0, 1):
        source.refuse(f"the key {name!r:.80} is {value}, neither true nor false", "0 or 1")
    return bool(value)


def _pass_list(source: _Cursor, name: str, depth: int = 1) -> int:
    """Pass over a list; its length."""
    kind, n = source.count("I"), source.count()
    if kind == _TEXT:
        source.pass_texts(n)
    elif kind in _NUMBERS:
        source.place += n * struct.calcsize("<" + _NUMBERS[kind])
        source.need(0)
    elif kind == _LIST and depth < _MAX_NESTING:
        for _ in range(n):
            _pass_list(source, name, depth + 1)
    else:
        wrong = f"the key {name!r:.80} with a list of type {kind}, {depth} deep"
        source.refuse(wrong, f"of a type from 0 to 12, lists at most {_MAX_NESTING} deep")
    return n


@dataclass(frozen=True, slots=True)
class _Entry:
    """One tensor as the header has it: ``offset`` and ``n_bytes`` are bytes of the data."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    n_bytes: int


def _entry(source: _Cursor, alignment: int) -> _Entry:
    """The next tensor, checked by itself."""
    name = source.name()
    check_name(name, source.file)
    rank = source.count("I")
    if rank > _MAX_RANK:
        source.refuse(f"tensor {name} of {rank} dimensions", f"of at most {_MAX_RANK}")
    shape = tuple(source.count() for _ in range(rank))[::-1]
    number, offset = source.count("I"), source.count()
    block = GGUF_DTYPES.get(number)
    if block is None:
        source.refuse(f"tensor {name} of dtype {number}", "a dtype that is known here")
    if math.prod(size or 1 for size in shape) > MAX_PARAMS:
        source.refuse(f"tensor {name} of shape {shape}", f"of at most {MAX_PARAMS} elements")
    if (shape[-1] if shape else 1) % block.n_params:
        right = f"whole blocks of {block.n_params} in every row"
        source.refuse(f"tensor {name} of shape {shape} in {block.code}", right)
    if offset % alignment:
        source.refuse(f"tensor {name} at offset {offset}", f"a multiple of {alignment}")
    n_bytes = math.prod(shape) // block.n_params * block.block_bytes
    return _Entry(name, block.code, shape, offset, n_bytes)


def _check_names(tensors: list[TensorRef], file: Path) -> None:
    """Every name must be there once."""
    seen: set[str] = set()
    for tensor in tensors:
        if tensor.name in seen:
            message = f"{file}: the header names tensor {tensor.name!r} twice"
            raise DuplicateTensor(message)
        seen.add(tensor.name)


def _check_cover(
    tensors: list[TensorRef], file: Path, data_start: int, file_bytes: int, alignment: int
) -> None:
    """Every byte of the data must belong to one tensor or pad it; ``tensors`` in the order of their bytes."""
    place = data_start
    for start, stop, what in _spans(tensors, file_bytes):
        if start < place and stop > start:
            message = f"{file}: {what} shares {place - start} bytes with the one before"
            raise OverlappingTensors(message)
        if start - place >= alignment:
            message = f"{file}: the {start - place} bytes before {what} belong to no tensor"
            raise HoleInFile(message)
        place = max(place, stop)
        if place > file_bytes and tensors:
            message = f"{file}: has {file_bytes} bytes; {what} ends at byte {place}"
            raise TruncatedFile(message, hint="fetch the file again")


def _spans(tensors: list[TensorRef], file_bytes: int) -> Iterator[tuple[int, int, str]]:
    """What must follow each other: the tensors, then the end of the file."""
    for tensor in tensors:
        yield tensor.start, tensor.start + tensor.n_bytes, f"tensor {tensor.name}"
    yield file_bytes, file_bytes, "the end of the file"


def _is_alignment(value: int) -> bool:
    """Whether it is a power of two of a size that somebody might want."""
    return 0 < value <= _MOST_ALIGNMENT and not value & (value - 1)

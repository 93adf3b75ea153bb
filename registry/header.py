"""The header of a safetensors file: what tensors it holds and where, checked before anything is believed.

A file is 8 bytes of little-endian length, a JSON object of that length, and the tensors' bytes without a gap.
We accept what the reference reader accepts, less the following, which it lets pass: two equal keys in one object,
tensor names that are empty, hold control characters or look like paths out of a folder, tensors given as JSON arrays
instead of objects, more than 64 dimensions, dimensions
that overflow 63 bits beside one that is 0, more than `MAX_TENSORS` tensors.
"""

import json
import math
import os
import re
from collections import Counter
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, NoReturn, TypeGuard

from registry.documents import count_values, open_file
from registry.dtypes import DTYPES
from registry.errors import (
    BadHeader,
    DuplicateTensor,
    HeaderTooLarge,
    HoleInFile,
    OverlappingTensors,
    TruncatedFile,
)

MAX_HEADER_BYTES = 100_000_000
"""The limit of the format."""

MAX_TENSORS = 1_000_000
"""Far above any real shard; keeps a hostile header from filling the memory."""

MAX_PARAMS = 2**63 - 1
"""Elements of one tensor."""

_MAX_VALUES = 20 * MAX_TENSORS  # of the JSON; a tensor of four dimensions has ten
_METADATA = "__metadata__"
_FIELDS = 3  # of a tensor's entry
_LENGTH_BYTES = 8
_MAX_RANK = 64  # of the libraries that would hold the tensor
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]*")  # most of them, and quick to tell
# empty; control characters and halves of surrogate pairs; absolute; with a `..` segment
_BAD_NAME = re.compile(
    r"\A\Z|[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]|\A[/\\]|(?:\A|[/\\])\.\.(?:[/\\]|\Z)"
)


@dataclass(frozen=True, slots=True)
class TensorRef:
    """Where one tensor lies; never its data.

    Attributes:
        name: as stored.
        dtype: a code of `registry.dtypes.DTYPES`.
        shape: as stored; () for a scalar; a dimension may be 0.
        file: the shard.
        start: offset of its first byte in the file, in bytes.
        n_bytes: its length, exactly that of ``shape`` in ``dtype``.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    start: int
    n_bytes: int

    @property
    def n_params(self) -> int:
        """Number of elements; 1 for a scalar."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Header:
    """The checked header of one file.

    Attributes:
        file: the file.
        tensors: in the order of their bytes.
        metadata: the header's `__metadata__`.
        data_start: offset of the first tensor's byte, in bytes.
        file_bytes: length of the file.
    """

    file: Path
    tensors: tuple[TensorRef, ...]
    metadata: dict[str, str]
    data_start: int
    file_bytes: int


def read_header(file: Path) -> Header:
    """Read and check the header of ``file``: one open, two reads, no tensor byte.

    Raises:
        Unreadable: when the file cannot be opened.
        TruncatedFile: when it is shorter than 8 bytes, or shorter or longer than its header says.
        HeaderTooLarge: when the header is longer than the file or than `MAX_HEADER_BYTES`.
        CorruptCheckpoint: as `parse_header`.
    """
    with open_file(file) as (descriptor, status):
        length = os.pread(descriptor, _LENGTH_BYTES, 0)
        if len(length) < _LENGTH_BYTES:
            message = f"{file}: has {len(length)} bytes; a safetensors file begins with {_LENGTH_BYTES} of length"
            raise TruncatedFile(message, hint="fetch the file again")
        n_bytes = int.from_bytes(length, "little")
        limit = min(MAX_HEADER_BYTES, status.st_size - _LENGTH_BYTES)
        if n_bytes > limit:
            message = f"{file}: the header claims {n_bytes} bytes; at most {limit} are possible"
            raise HeaderTooLarge(
                message,
                hint="it is no safetensors file; if it is a pointer of Git LFS: git lfs pull",
            )
        raw = os.pread(descriptor, n_bytes, _LENGTH_BYTES)
    return parse_header(raw, file, status.st_size)


def parse_header(raw: bytes, file: Path, file_bytes: int) -> Header:
    """Check the JSON of a header against the length of its file.

    Args:
        raw: the header without its 8 bytes of length.
        file: named in messages and in every `TensorRef`.
        file_bytes: length of the whole file.

    Raises:
        BadHeader: for JSON that is malformed or not of the format; for dtypes, shapes and names that are not allowed.
        HeaderTooLarge: for more than `MAX_TENSORS` tensors, or JSON of far more values than they would need.
        DuplicateTensor: for one tensor name twice.
        TruncatedFile: for a file shorter or longer than its tensors.
        HoleInFile: for bytes that belong to no tensor.
        OverlappingTensors: for bytes that belong to two tensors.
    """
    document = _parse(raw, file)
    metadata = _metadata(document.pop(_METADATA, None), file)
    if len(document) > MAX_TENSORS:
        message = (
            f"{file}: the header names {len(document)} tensors; at most {MAX_TENSORS} are read"
        )
        raise HeaderTooLarge(message)
    data_start = _LENGTH_BYTES + len(raw)
    found = [_tensor(name, entry, file, data_start) for name, entry in document.items()]
    found.sort(key=attrgetter("start", "n_bytes"))
    _check_cover(found, file, data_start, file_bytes)
    return Header(file, tuple(found), metadata, data_start, file_bytes)


def check_name(name: str, file: Path) -> None:
    """Refuse a tensor's name that could do harm.

    Raises:
        BadHeader: it is empty, holds control characters or leads out of a folder.
    """
    if not _PLAIN_NAME.fullmatch(name) and _BAD_NAME.search(name):
        message = f"{file}: the tensor name {name!r} is empty, holds control characters or leads out of a folder"
        raise BadHeader(message)


def _parse(raw: bytes, file: Path) -> dict[str, Any]:
    """The header's JSON object, each of its keys once."""
    try:
        text = raw.decode()
        n_values = count_values(text)
        if n_values > _MAX_VALUES:
            message = (
                f"{file}: the header holds about {n_values} values; at most {_MAX_VALUES} are read"
            )
            raise HeaderTooLarge(message)
        document = json.loads(
            text, object_pairs_hook=_unique, parse_constant=_refuse, parse_float=_number,
            parse_int=_integer if "-0" in text else None,
        )  # fmt: skip
        if _says_more(
            document
        ):  # others look at no number there; json's own integers are several times as fast
            json.loads(text, parse_int=_integer)
        if "\\u" in text:
            json.dumps(document, ensure_ascii=False).encode()
    except UnicodeError as error:
        message = f"{file}: the header is not UTF-8: {error}"
        raise BadHeader(message) from error
    except ValueError as error:
        message = f"{file}: the header is not valid JSON: {error}"
        raise BadHeader(message) from error
    except RecursionError as error:
        message = f"{file}: the header is nested too deeply"
        raise BadHeader(message) from error
    except DuplicateTensor as error:
        message = f"{file}: {error}"
        raise DuplicateTensor(message) from error
    if not isinstance(document, dict):
        message = f"{file}: the header is {_kind(document)}; it must be an object"
        raise BadHeader(message)
    return document


def _says_more(document: Any) -> bool:
    """Tell whether a tensor's entry has more than dtype, shape and offsets."""
    return isinstance(document, dict) and any(
        isinstance(entry, dict) and len(entry) > _FIELDS and name != _METADATA
        for name, entry in document.items()
    )


def _metadata(value: object, file: Path) -> dict[str, str]:
    """The header's `__metadata__`; {} when there is none."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        message = f"{file}: __metadata__ is {_kind(value)}; it must be an object"
        raise BadHeader(message)
    for key, text in value.items():
        if not isinstance(text, str):
            message = f"{file}: __metadata__ {key!r} is {_kind(text)}; it must be a string"
            raise BadHeader(message)
    return value


def _tensor(name: str, entry: object, file: Path, data_start: int) -> TensorRef:
    """One entry of the header, checked by itself."""
    check_name(name, file)
    if not isinstance(entry, dict):
        raise _bad(file, name, f"the entry is {_kind(entry)}", "an object")
    code, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    dtype = DTYPES.get(code) if isinstance(code, str) else None
    if dtype is None:
        raise _bad(file, name, f"the dtype is {code!r:.80}", "one of " + " ".join(DTYPES))
    if not _sizes(shape) or len(shape) > _MAX_RANK:
        right = f"a list of at most {_MAX_RANK} integers of at least 0"
        raise _bad(file, name, f"the shape is {shape!r:.80}", right)
    n_params = math.prod(shape)
    if (n_params or math.prod(size or 1 for size in shape)) > MAX_PARAMS:
        raise _bad(file, name, f"the shape is {shape!r:.80}", f"of at most {MAX_PARAMS} elements")
    if not _sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:  # noqa: PLR2004 (a pair)
        raise _bad(file, name, f"data_offsets is {offsets!r:.80}", "[begin, end], begin <= end")
    begin, end = offsets
    n_bytes = dtype.n_bytes(n_params)
    if end - begin != n_bytes:
        right = "whole bytes" if n_bytes is None else str(n_bytes)
        raise _bad(file, name, f"{dtype.code} {shape!r:.80} in {end - begin} bytes", right)
    return TensorRef(name, dtype.code, tuple(shape), file, data_start + begin, end - begin)


def _check_cover(tensors: list[TensorRef], file: Path, data_start: int, file_bytes: int) -> None:
    """Every byte after the header must belong to exactly one tensor; ``tensors`` in the order of their bytes."""
    place = data_start
    for tensor in tensors:
        if tensor.start > place:
            message = f"{file}: the {tensor.start - place} bytes before tensor {tensor.name} belong to no tensor"
            raise HoleInFile(message)
        if tensor.start < place:
            message = f"{file}: tensor {tensor.name} shares {place - tensor.start} bytes with the one before"
            raise OverlappingTensors(message)
        place += tensor.n_bytes
    if place != file_bytes:
        message = f"{file}: has {file_bytes} bytes; its header describes {place}"
        raise TruncatedFile(message, hint="fetch the file again")


def _sizes(value: object) -> TypeGuard[list[int]]:
    """A list of integers of at least 0; JSON's true is no integer."""
    return isinstance(value, list) and {*map(type, value)} <= {int} and min(value, default=0) >= 0


def _bad(file: Path, name: str, wrong: str, right: str) -> BadHeader:
    """The error for one entry."""
    return BadHeader(f"{file}: tensor {name}: {wrong}; it must be {right}")


def _kind(value: object) -> str:
    """What a JSON value is, in words."""
    names = {
        dict: "an object",
        list: "a list",
        str: "a string",
        bool: "a boolean",
        type(None): "null",
    }
    return names.get(type(value), "a number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object, refusing a key that comes twice."""
    built = dict(pairs)
    if len(built) == len(pairs):
        return built
    twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
    # only the outermost object has objects as values
    if any(isinstance(value, dict) for value in built.values()):
        message = f"the header names tensor {twice!r} twice"
        raise DuplicateTensor(message)
    message = f"the key {twice!r} comes twice in one object"
    raise ValueError(message)


def _integer(text: str) -> int:
    """An integer of float64's range; negative zero is none."""
    _number(text)
    return int(text) if text != "-0" else _refuse(text)


def _number(text: str) -> float:
    """A number of float64's range."""
    value = float(text)
    return value if math.isfinite(value) else _refuse(f"{text[:20]}… of {len(text)} characters")


def _refuse(text: str) -> NoReturn:
    """Refuse a number that the format does not have."""
    message = f"{text} is no number of the format"
    raise ValueError(message)

"""A repository of the Hub as a folder on disk, for reading its headers: small files whole, of weights only the headers.

The files are as long as they are on the Hub, but take no more room than what was fetched: weights have nothing behind
their headers, and what nobody reads (pickles, and GGUF unless it is asked for) has nothing at all.
"""

import json
import os
from collections.abc import Collection, Sequence
from pathlib import Path

from registry.documents import MAX_YAML_BYTES
from registry.errors import (
    BadIndex,
    CorruptCheckpoint,
    DamagedDownload,
    HeaderTooLarge,
    PathEscapes,
)
from registry.file_ref import Format, format_of
from registry.gguf import parse_gguf
from registry.hub import Hub, HubFile, Listed
from registry.names import printable

MAX_HEADER_BYTES = 25_000_000
"""Of a header that is fetched; the largest in use have about 5 MB."""

_WHOLE: dict[Format, int] = {
    "index": 25_000_000, "config": 4_000_000, "adapter_config": 4_000_000, "sidecar": 4_000_000,
    "card": MAX_YAML_BYTES, "recipe": MAX_YAML_BYTES, "eval": MAX_YAML_BYTES, "tokenizer": 64_000_000,
}  # fmt: skip
"""What is fetched whole, unless it is larger than this, bytes."""

_WEIGHTS: tuple[Format, ...] = ("safetensors", "gguf", "pickle")
_LENGTH_BYTES = 8
_FIRST_BYTES = 32 << 10
_LEAST_BYTES = 4 << 10
_MOST_FIRST_BYTES = 1 << 20
_BYTES_PER_TENSOR = 160  # of a header; names of mixtures of experts are long
_MOST_FILES = 100_000


def stage(
    hub: Hub,
    repository: Listed,
    files: Sequence[HubFile],
    folder: Path,
    *,
    without: Collection[str] = (),
    with_gguf: bool = False,
) -> int:
    """Fetch what `registry.checkpoint` and the readers of claims and scores read of a repository.

    Args:
        hub: to ask.
        repository: which.
        files: of it.
        folder: to put it; exists and is empty.
        without: paths of files that need not be fetched; they are left empty.
        with_gguf: fetch headers of GGUF, which hold the vocabulary and have several megabytes each.

    Returns:
        Bytes fetched.

    Raises:
        PathEscapes: a file's name leads out of the repository.
        HeaderTooLarge: a header has more than `MAX_HEADER_BYTES`.
        HubMissing, HubRefused, HubBusy, RequestsSpent, DamagedDownload: as those of `Hub`.
        OSError: the folder cannot hold it.
    """
    if len(files) > _MOST_FILES:
        message = f"{repository.uri}: has {len(files)} files; at most {_MOST_FILES} are read"
        raise BadIndex(message)
    kinds = {file.path: format_of(file.path) for file in files}
    n_tensors: dict[str, int] = {}
    n_bytes = 0
    for file in sorted(files, key=lambda file: (kinds[file.path] != "index", file.path)):
        kind = kinds[file.path]
        if kind not in _WHOLE and kind not in _WEIGHTS:
            continue
        path = inside(repository, folder, file.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = b""
        if kind == "safetensors":
            content = _header(hub, repository, file, n_tensors.get(file.path))
        elif kind == "gguf" and with_gguf:
            content = _gguf_header(hub, repository, file)
        elif not (kind in _WEIGHTS or file.path in without or file.size_bytes > _WHOLE[kind]):
            content = hub.read(repository, file)
            if kind == "index":
                n_tensors |= _counted(file.path, content)
        _put(path, file, content)
        n_bytes += len(content)
    return n_bytes


def inside(repository: Listed, folder: Path, name: str) -> Path:
    """Where a file of a repository lies in the folder that it is staged in.

    Raises:
        PathEscapes: its name leads out.
    """
    parts = name.split("/")
    if {"", ".", ".."} & set(parts) or "\0" in name or "\\" in name:
        message = f"{repository.uri}: {printable(name)!r} is not the name of a file of a repository"
        raise PathEscapes(message)
    return folder.joinpath(*parts)


def said_there(text: str, folder: Path, repository: Listed) -> str:
    """A sentence that says where on the Hub something is, in the place of the folder that it is staged in."""
    return text.replace(str(folder), repository.uri)


def _put(path: Path, file: HubFile, content: bytes) -> None:
    """Write what there is of a file, which gets its full length."""
    with path.open("xb") as out:
        out.write(content)
        os.truncate(out.fileno(), file.size_bytes)


def _header(hub: Hub, repository: Listed, file: HubFile, n_tensors: int | None) -> bytes:
    """The beginning of a shard up to the end of its header: one request if it is about as long as expected."""
    expected = _FIRST_BYTES if n_tensors is None else _LEAST_BYTES + _BYTES_PER_TENSOR * n_tensors
    stop = min(file.size_bytes, expected, _MOST_FIRST_BYTES)
    first = hub.part(repository, file, 0, stop) if stop else b""
    n_bytes = _LENGTH_BYTES + int.from_bytes(first[:_LENGTH_BYTES], "little")
    if n_bytes > file.size_bytes or len(first) < _LENGTH_BYTES:
        return first  # no header; its reader says what is wrong
    if n_bytes > MAX_HEADER_BYTES:
        message = (
            f"{repository.uri}: the header of {file.path} has {n_bytes} bytes; of the Hub at most "
            f"{MAX_HEADER_BYTES} are read"
        )
        raise HeaderTooLarge(message, hint=f"hf download {repository.name}")
    return first + hub.part(repository, file, stop, n_bytes) if n_bytes > stop else first


def _gguf_header(hub: Hub, repository: Listed, file: HubFile) -> bytes:
    """The beginning of a GGUF file up to the end of its header or, in one that is damaged, up to what is wrong."""
    content = bytearray()

    def read(start: int, stop: int) -> bytes:
        part = hub.part(repository, file, start, stop)
        content.extend(part)
        return part

    where = Path(f"{repository.uri}/{file.path}")
    try:
        parse_gguf(read, where, file.size_bytes, MAX_HEADER_BYTES)
    except HeaderTooLarge as error:
        raise HeaderTooLarge(error.message, hint=f"hf download {repository.name}") from error
    except DamagedDownload:
        raise
    except CorruptCheckpoint:
        pass  # whoever reads the file finds it too, and says so of this file alone
    return bytes(content)


def _counted(path: str, content: bytes) -> dict[str, int]:
    """How many tensors an index puts into each shard; nothing of an index that makes no sense."""
    try:
        shards = list(json.loads(content)["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}
    folder = path.rpartition("/")[0]
    counts: dict[str, int] = {}
    for shard in shards:
        if isinstance(shard, str):
            name = f"{folder}/{shard}" if folder else shard
            counts[name] = counts.get(name, 0) + 1
    return counts

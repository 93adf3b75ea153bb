"""From tensors to files: every offset is known before the first byte.

The header of each shard is written first, the file is given its full length at once (so a full disk is found
before any work is done), and any thread writes any slice where it belongs. Nothing appears under its final name
before `finish`.
"""

import errno
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from registry.errors import NotEnoughDisk, RunFailed
from registry.tensor_name import layer_of

SHARD_BYTES = 5_000_000_000
"""Largest shard by default, bytes of tensors; the Hub's own habit."""

_ALIGNMENT = {
    "F64": 8,
    "I64": 8,
    "U64": 8,
    "F32": 4,
    "I32": 4,
    "U32": 4,
    "F16": 2,
    "BF16": 2,
    "I16": 2,
    "U16": 2,
}


@dataclass(frozen=True)
class OutputTensor:
    """A tensor to be written.

    Attributes:
        name: in the output.
        dtype: as safetensors spells it.
        shape: of the tensor.
        n_bytes: size, bytes.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    n_bytes: int


@dataclass(frozen=True)
class Shard:
    """One file of the output: its tensors in file order."""

    file: str
    tensors: tuple[OutputTensor, ...]

    def header(self, metadata: Mapping[str, str]) -> bytes:
        """Length and JSON, padded with spaces to a multiple of 8 bytes."""
        entries: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))}
        offset = 0
        for t in self.tensors:
            end = offset + t.n_bytes
            entries[t.name] = {"dtype": t.dtype, "shape": t.shape, "data_offsets": [offset, end]}
            offset = end
        text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
        text += b" " * (-len(text) % 8)
        return len(text).to_bytes(8, "little") + text


def shards_of(tensors: Sequence[OutputTensor], shard_bytes: int = SHARD_BYTES) -> tuple[Shard, ...]:
    """Divide tensors into shards: in order of layers, each at most ``shard_bytes`` or a single tensor.

    Inside a shard, wider dtypes come first, then names, so that every tensor is aligned.
    """
    order = sorted(tensors, key=lambda t: (-1 if (n := layer_of(t.name)) is None else n, t.name))
    groups: list[list[OutputTensor]] = [[]]
    size = 0
    for tensor in order:
        if groups[-1] and size + tensor.n_bytes > shard_bytes:
            groups.append([])
            size = 0
        groups[-1].append(tensor)
        size += tensor.n_bytes
    n = len(groups)
    return tuple(
        Shard(
            "model.safetensors" if n == 1 else f"model-{i:05d}-of-{n:05d}.safetensors",
            tuple(sorted(group, key=lambda t: (-_ALIGNMENT.get(t.dtype, 1), t.name))),
        )
        for i, group in enumerate(groups, 1)
    )


class Writer:
    """Writes shards into a folder; a context manager that closes every file it opened."""

    def __init__(self, folder: Path, shards: Sequence[Shard], metadata: Mapping[str, str]) -> None:
        self._folder = folder
        self._handles: dict[str, int] = {}
        self._places: dict[str, tuple[int, int]] = {}
        self._shards = tuple(shards)
        self._metadata = metadata

    def __enter__(self) -> "Writer":
        """Create every shard with its header and its full length.

        Raises:
            NotEnoughDisk: the output does not fit.
        """
        for shard in self._shards:
            header = shard.header(self._metadata)
            total = len(header) + sum(t.n_bytes for t in shard.tensors)
            path = self._folder / shard.file
            handle = os.open(
                path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o644
            )
            self._handles[shard.file] = handle
            try:
                _reserve(handle, total)
                os.pwrite(handle, header, 0)
            except OSError as error:
                raise _translated(error, path, total) from error
            offset = len(header)
            for tensor in shard.tensors:
                self._places[tensor.name] = (handle, offset)
                offset += tensor.n_bytes
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for handle in self._handles.values():
            os.close(handle)
        self._handles.clear()

    def write(self, name: str, start: int, data: memoryview) -> None:
        """Write bytes of tensor ``name`` from its byte ``start`` on; safe from any thread.

        Raises:
            NotEnoughDisk: the disk is full.
            RunFailed: the operating system refuses.
        """
        handle, offset = self._places[name]
        done = 0
        try:
            while done < len(data):
                done += os.pwrite(handle, data[done:], offset + start + done)
        except OSError as error:
            raise _translated(error, self._folder / name, len(data)) from error

    def finish(self) -> None:
        """Put every byte on the disk and write the index, where there is more than one shard."""
        try:
            for handle in self._handles.values():
                os.fsync(handle)
        except OSError as error:
            raise _translated(error, self._folder, 0) from error
        if len(self._shards) > 1:
            total = sum(t.n_bytes for s in self._shards for t in s.tensors)
            weights = {t.name: s.file for s in self._shards for t in s.tensors}
            index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weights.items()))}
            text = json.dumps(index, indent=2) + "\n"
            (self._folder / "model.safetensors.index.json").write_text(text, encoding="utf-8")


def _reserve(handle: int, n_bytes: int) -> None:
    """Give a file its full length, with room on the disk where the system can promise it."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(handle, 0, n_bytes)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise
        else:
            return
    os.ftruncate(handle, n_bytes)


def _translated(error: OSError, path: Path, n_bytes: int) -> NotEnoughDisk | RunFailed:
    """The error of ours that says what the system said."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        message = f"no space left while writing {n_bytes:,} bytes to {path}"
        return NotEnoughDisk(message, hint="free some space, or choose another -o")
    return RunFailed(f"cannot write {path}: {error.strerror}")

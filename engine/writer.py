"""From tensors to files: every offset is known before the first byte.

The header of each shard is written first, the file is given its full length at once (so a full disk is found
before any work is done), and any thread writes any slice where it belongs. A writer that ends with an error takes
its files away again, unless its run is one that can be resumed.
"""

import errno
import json
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from engine.direct import Direct, write_all
from engine.flush import Flush
from registry.dtypes import DTYPES
from registry.errors import NotEnoughDisk, RunFailed
from registry.header import TensorRef
from registry.tensor_name import layer_of

SHARD_BYTES = 5_000_000_000
"""Largest shard by default, bytes of tensors; the Hub's own habit."""

PAGE = 4096
"""Tensors of whole pages begin with one in large shards: who maps or reads them, or writes them, touches no other."""

INDEX = "model.safetensors.index.json"
"""Name of the file that says which shard holds which tensor."""

_LARGE_BYTES = 1 << 20

_TOO_LARGE = {
    errno.ENOSPC: "no space is left",
    errno.EDQUOT: "the quota is used up",
    errno.EFBIG: "a file this long is not allowed",
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

    @property
    def n_bytes(self) -> int:
        """Bytes of its tensors."""
        return sum(t.n_bytes for t in self.tensors)

    def header(self, metadata: Mapping[str, str]) -> bytes:
        """Length and JSON, padded with spaces to a multiple of 8 bytes; of a large shard both to whole pages."""
        entries: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))}
        offset = 0
        for t in self.tensors:
            end = offset + t.n_bytes
            entries[t.name] = {"dtype": t.dtype, "shape": t.shape, "data_offsets": [offset, end]}
            offset = end
        text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
        text += b" " * (-(8 + len(text)) % (PAGE if self.n_bytes >= _LARGE_BYTES else 8))
        return len(text).to_bytes(8, "little") + text


def shards_of(tensors: Sequence[OutputTensor], shard_bytes: int = SHARD_BYTES) -> tuple[Shard, ...]:
    """Divide tensors into shards: in order of layers, each at most ``shard_bytes`` or a single tensor.

    Inside a shard, wider dtypes come first, then tensors of whole pages, then names, so that every tensor is aligned.
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
            tuple(sorted(group, key=_place_in_file)),
        )
        for i, group in enumerate(groups, 1)
    )


def _place_in_file(tensor: OutputTensor) -> tuple[int, bool, str]:
    """What decides where in its shard a tensor stands."""
    return -DTYPES[tensor.dtype].bits, tensor.n_bytes % PAGE > 0, tensor.name


class Writer:
    """Writes shards into a folder; a context manager that closes every file it opened.

    Attributes:
        resumed: whether it goes on with the shards of an earlier writer, whose bytes are still in them.
    """

    def __init__(
        self,
        folder: Path,
        shards: Sequence[Shard],
        metadata: Mapping[str, str],
        *,
        resumable: bool = False,
        memory_bytes: int = 0,
    ) -> None:
        """Prepare to write.

        Args:
            folder: where the shards go.
            shards: all of them.
            metadata: of every shard.
            resumable: go on with shards that are there already, if they are the same ones; an error leaves them to
                the owner of the folder.
            memory_bytes: for buffers of what is written past the page cache; without, nothing is.
        """
        self.resumed = False
        self._resumable = resumable
        self._folder = folder
        self._handles: dict[Path, int] = {}
        self._places: dict[str, tuple[Path, int]] = {}
        self._shards = tuple(shards)
        self._metadata = metadata
        self._flush = Flush()
        self._direct = Direct(memory_bytes)

    def __enter__(self) -> Self:
        """Create every shard with its header and its full length, or open those of an earlier writer.

        Raises:
            NotEnoughDisk: the output does not fit; nothing of it is left.
            RunFailed: the operating system refuses.
        """
        try:
            self.resumed = self._resumable and self._reopen()
            if not self.resumed:
                for shard in self._shards:
                    self._create(shard)
        except BaseException:
            self._give_up()
            raise
        for path, handle in self._handles.items():
            self._direct.open(path, os.fstat(handle).st_size)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._flush.close()
        self._direct.close()
        if kind is not None and not self._resumable:
            self._give_up()
        for handle in self._handles.values():
            os.close(handle)
        self._handles.clear()

    @property
    def refs(self) -> dict[str, TensorRef]:
        """Where each tensor lies, by name."""
        return {
            t.name: TensorRef(t.name, t.dtype, t.shape, *self._places[t.name], t.n_bytes)
            for shard in self._shards
            for t in shard.tensors
        }

    def write(self, name: str, start: int, data: memoryview) -> None:
        """Write bytes of tensor ``name`` from its byte ``start`` on; safe from any thread.

        What goes past the page cache is copied, and in its file some time before `land` or `finish` returns.

        Raises:
            NotEnoughDisk: the disk is full; so it was for what an earlier call took.
            RunFailed: the operating system refuses.
        """
        path, offset = self._places[name]
        handle = self._handles[path]
        if self._direct.write(path, handle, data, offset + start):
            self._refuse_failure()
            return
        _write(handle, path, data, offset + start)
        self._flush.wrote(handle, len(data))

    def land(self) -> None:
        """Have all that was written so far in the files, where others can read it.

        Raises:
            NotEnoughDisk, RunFailed: as `write`.
        """
        self._direct.finish()
        self._refuse_failure()

    def finish(self) -> None:
        """Put every byte on the disk and write the index, where there is more than one shard.

        Raises:
            NotEnoughDisk, RunFailed: as `write`.
        """
        self.land()
        try:
            self._flush.finish()
        except OSError as error:
            raise _translated(error, self._folder) from error
        for path, handle in self._handles.items():
            try:
                os.fsync(handle)
            except OSError as error:
                raise _translated(error, path) from error
        if len(self._shards) == 1:
            return
        weights = {t.name: s.file for s in self._shards for t in s.tensors}
        size = {"total_size": sum(s.n_bytes for s in self._shards)}
        index = {"metadata": size, "weight_map": dict(sorted(weights.items()))}
        path = self._folder / INDEX
        try:
            path.write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise _translated(error, path) from error

    def _create(self, shard: Shard) -> None:
        """Create one shard with its header and its full length."""
        header = shard.header(self._metadata)
        path = self._folder / shard.file
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self._handles[path] = handle = os.open(path, flags, 0o644)
            _reserve(handle, len(header) + shard.n_bytes)
        except OSError as error:
            raise _translated(error, path) from error
        _write(handle, path, memoryview(header), 0)
        self._place(shard, path, len(header))

    def _reopen(self) -> bool:
        """Open the shards of an earlier writer if they are this one's, all of them; else remove what there is."""
        found = {path.name for path in self._folder.glob("*.safetensors")}
        same = found == {shard.file for shard in self._shards}
        if same and all(self._open(shard) for shard in self._shards):
            return True
        for handle in self._handles.values():
            os.close(handle)
        self._handles.clear()
        for name in sorted(found):
            try:
                (self._folder / name).unlink()
            except OSError as error:
                raise _translated(error, self._folder / name) from error
        return False

    def _open(self, shard: Shard) -> bool:
        """Open a shard that is there; tell whether it has the header and the length that it must have."""
        header = shard.header(self._metadata)
        path = self._folder / shard.file
        try:
            flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            self._handles[path] = handle = os.open(path, flags)
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode) or status.st_size != len(header) + shard.n_bytes:
                return False
            same = os.pread(handle, len(header), 0) == header
        except OSError:
            return False
        self._place(shard, path, len(header))
        return same

    def _place(self, shard: Shard, path: Path, offset: int) -> None:
        """Remember where the tensors of a shard lie, the first of them at byte ``offset``."""
        for tensor in shard.tensors:
            self._places[tensor.name] = (path, offset)
            offset += tensor.n_bytes

    def _refuse_failure(self) -> None:
        """Raise what went wrong in the background."""
        if self._direct.failed:
            path, error = self._direct.failed
            if isinstance(error, OSError):
                raise _translated(error, path) from error
            raise error

    def _give_up(self) -> None:
        """Close and remove the files that were created."""
        for path, handle in self._handles.items():
            os.close(handle)
            path.unlink(missing_ok=True)
        self._handles.clear()


def _write(handle: int, path: Path, data: memoryview, offset: int) -> None:
    """Write all of ``data`` at an offset of a file."""
    try:
        write_all(handle, data, offset)
    except OSError as error:
        raise _translated(error, path) from error


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


def _translated(error: OSError, path: Path) -> NotEnoughDisk | RunFailed:
    """The error of ours that says what the system said."""
    why = _TOO_LARGE.get(error.errno or 0)
    if why is None:
        return RunFailed(f"cannot write {path}: {error.strerror}")
    hint = "free some space, or choose another -o"
    if error.errno == errno.EFBIG:
        hint = "write smaller files with --shard-size, or choose another -o"
    return NotEnoughDisk(f"cannot write {path}: {why}", hint=hint)

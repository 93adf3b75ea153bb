"""What is at an address: its files, its tensors, its config. No tensor byte is read.

A folder is read by the first rule that fits:
    an index (`model.safetensors.index.json`, `adapter_model.…`, or the only `*.safetensors.index.json`): its shards;
    `model.safetensors`, else `adapter_model.safetensors`: that file;
    a `config.json` or `adapter_config.json`: all `*.safetensors` together.
A bare `.safetensors` file is a checkpoint without config; a `.gguf` file is one whose keys are its config, and the parts of a
split one are one. Pickles and others are listed, never opened.
What makes the tensors doubtful is an error; what makes the rest doubtful is a `Problem` beside the tensors.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from registry.documents import read_json
from registry.errors import (
    BadDocument,
    BadIndex,
    DuplicateTensor,
    EmptyCheckpoint,
    MissingShard,
    PathEscapes,
    RegError,
    UnknownTensor,
    Unreadable,
    UnsafeFormat,
)
from registry.file_ref import FileRef, list_files, resolve_inside, split_of
from registry.gguf import GgufHeader, Scalar, read_gguf
from registry.gguf_keys import facts
from registry.header import Header, TensorRef, read_header

__all__ = ["Checkpoint", "FileRef", "Problem", "list_files", "read_checkpoint"]

_MODEL, _ADAPTER = "model.safetensors", "adapter_model.safetensors"


@dataclass(frozen=True)
class Problem:
    """What is wrong with one file of a checkpoint that could be read nevertheless.

    Attributes:
        address: the checkpoint's.
        file: relative to the checkpoint's folder.
        error: the class in `registry.errors` that names it.
        detail: the sentence.
    """

    address: str
    file: str
    error: str
    detail: str


@dataclass(frozen=True)
class Checkpoint:
    """The files, tensors and config at one address.

    Attributes:
        root: the folder, or the bare file.
        layout: which of the two.
        kind: "adapter" when the tensors are those of an adapter.
        files: by path.
        tensors: sorted by name, at least one, unless they were not looked for.
        metadata: of all shards together; the first shard by name that has a key decides.
        config: `config.json`, {} when there is none or it cannot be read; of GGUF what its keys say.
        adapter_config: `adapter_config.json`, likewise.
        problems: by file.
        format: of the files that hold the tensors.
        keys: of GGUF, without lists and long texts; else {}.
    """

    root: Path
    layout: Literal["folder", "file"]
    kind: Literal["model", "adapter"]
    files: tuple[FileRef, ...]
    tensors: tuple[TensorRef, ...]
    metadata: dict[str, str]
    config: dict[str, Any]
    adapter_config: dict[str, Any]
    problems: tuple[Problem, ...]
    format: Literal["safetensors", "gguf"] = "safetensors"
    keys: dict[str, Scalar] = field(default_factory=dict)

    @cached_property
    def _by_name(self) -> dict[str, TensorRef]:
        return {tensor.name: tensor for tensor in self.tensors}

    def tensor(self, name: str) -> TensorRef:
        """The tensor of this name.

        Raises:
            UnknownTensor: when there is none.
        """
        if name not in self._by_name:
            message = f"{self.root}: has no tensor {name}"
            raise UnknownTensor(message, hint=f"reg show {self.root} lists its tensors")
        return self._by_name[name]

    @property
    def folder(self) -> Path:
        """Where its files lie."""
        return self.root if self.layout == "folder" else self.root.parent

    @property
    def n_params(self) -> int:
        """Number of elements of all tensors."""
        return sum(tensor.n_params for tensor in self.tensors)

    @property
    def n_bytes(self) -> int:
        """Length of all tensors in bytes."""
        return sum(tensor.n_bytes for tensor in self.tensors)

    @property
    def tied(self) -> bool:
        """Whether an output head that equals the input embedding is a mere copy of it.

        False only where the config says so (`tie_word_embeddings`, also that of a `text_config`): the library that
        writes these configs leaves out what is true by default.
        """
        inner = self.config.get("text_config")
        for config in (self.config, inner if isinstance(inner, dict) else {}):
            if isinstance(config.get("tie_word_embeddings"), bool):
                return bool(config["tie_word_embeddings"])
        return True


def read_checkpoint(
    root: Path, files: tuple[FileRef, ...] | None = None, *, with_gguf: bool = True
) -> Checkpoint:
    """Read the checkpoint at ``root``, a folder or a file.

    Args:
        root: where.
        files: those of `list_files`, if known.
        with_gguf: open GGUF; else such a checkpoint has neither tensors nor keys.

    Raises:
        EmptyCheckpoint: when there is no tensor.
        UnsafeFormat: when there are only pickles.
        BadIndex: for an index that is malformed, ambiguous or disagrees with its shards.
        MissingShard: for a shard that is not there, or is a link that leads nowhere.
        PathEscapes: for a shard out of the folder.
        DuplicateTensor: for one tensor name in two files.
        Unreadable: when the operating system refuses.
        CorruptCheckpoint: as `read_header`.
    """
    bare = not os.path.isdir(root)  # noqa: PTH112 (unlike Path.is_dir, never raises)
    folder = root.parent if bare else root
    files = files or list_files(root)
    if bare and any(ref.format == "gguf" and ref.path == root.name for ref in files):
        return _read_gguf(root, files, with_gguf=with_gguf)
    weights = _choose(root, files, bare=bare)
    headers = [read_header(_shard(folder, name, weights, files)) for name in weights.shards]
    tensors = _union(headers)
    if weights.index is not None:
        _check_index(folder / weights.source, weights.index, tensors)
    if not tensors:
        message = f"{root}: {weights.source} holds no tensor"
        raise EmptyCheckpoint(message)
    problems = {ref.path: p for ref in files if (p := _check_file(root, folder, ref, weights))}
    config = _config(root, "config.json", files, problems)
    adapter_config = _config(root, "adapter_config.json", files, problems)
    adapter = any(ref.format == "adapter_config" for ref in files)
    return Checkpoint(
        root=root,
        layout="file" if bare else "folder",
        kind="adapter" if adapter and not weights.source.startswith("model.") else "model",
        files=files,
        tensors=tensors,
        metadata={k: v for header in reversed(headers) for k, v in header.metadata.items()},
        config=config,
        adapter_config=adapter_config,
        problems=tuple(problems[path] for path in sorted(problems)),
    )


def _read_gguf(root: Path, files: tuple[FileRef, ...], *, with_gguf: bool) -> Checkpoint:
    """Read one GGUF file, or all parts of a split one."""
    parts = tuple(ref.path for ref in files if ref.format == "gguf")
    weights = _Weights(root.name, parts)
    paths = [_shard(root.parent, name, weights, files) for name in parts]
    headers = [read_gguf(path) for path in paths] if with_gguf else []
    tensors = _union(headers)
    if headers:
        _check_split(root, headers, len(tensors))
    keys = headers[0].keys if headers else {}
    config = facts(keys, headers[0].lengths) if headers else {}
    is_adapter = keys.get("general.type") == "adapter"
    return Checkpoint(
        root=root, layout="file", kind="adapter" if is_adapter else "model", files=files,
        tensors=tensors, metadata={}, config=config, adapter_config=config if is_adapter else {},
        problems=(), format="gguf", keys=keys,
    )  # fmt: skip


def _check_split(root: Path, headers: Sequence[GgufHeader], n_tensors: int) -> None:
    """The parts must be all there are, in their order, and hold something."""
    named = split_of(root.name)
    n_parts = int(named[2]) if named else 1
    if n_parts != len(headers):
        message = f"{root}: {len(headers)} of its {n_parts} parts are there"
        raise MissingShard(message, hint="fetch the checkpoint again")
    for i, header in enumerate(headers):
        said = header.keys.get("split.no", 0), header.keys.get("split.count", 0) or 1
        if said != (i, n_parts):
            message = f"{header.file}: says it is part {said[0]} (from 0) of {said[1]}, and is part {i} of {n_parts}"
            raise BadIndex(message, hint="join the parts as whoever split them says")
    expected = headers[0].keys.get("split.tensors.count", n_tensors)
    if n_parts > 1 and expected != n_tensors:
        message = f"{root}: its parts hold {n_tensors} tensors; they should hold {expected}"
        raise BadIndex(message)
    if not n_tensors:
        message = f"{root}: holds no tensor"
        raise EmptyCheckpoint(message)


@dataclass(frozen=True)
class _Weights:
    """Which files hold the tensors: the file that says so, the shards by name, and the index's map."""

    source: str
    shards: tuple[str, ...]
    index: dict[str, str] | None = None


def _choose(root: Path, files: tuple[FileRef, ...], *, bare: bool) -> _Weights:
    """Apply the module's rules."""
    if bare:  # also a blob, which has no suffix
        readable = files[0].format in ("safetensors", "other")
        if readable:
            return _Weights(root.name, (root.name,))
        raise _nothing(root, files, [])
    indexes = [ref.path for ref in files if ref.format == "index"]
    shards = [ref.path for ref in files if ref.format == "safetensors"]
    usual = [f"{name}.index.json" for name in (_MODEL, _ADAPTER) if f"{name}.index.json" in indexes]
    if usual or len(indexes) == 1:
        return _read_index(root, (usual or indexes)[0])
    if indexes:
        message = f"{root}: holds {len(indexes)} indexes ({', '.join(indexes)}), none of them {_MODEL}.index.json"
        raise BadIndex(message)
    for name in (_MODEL, _ADAPTER):
        if name in shards:
            return _Weights(name, (name,))
    if shards and any(ref.format in ("config", "adapter_config") for ref in files):
        return _Weights(shards[0], tuple(shards))
    raise _nothing(root, files, shards)


def _nothing(root: Path, files: tuple[FileRef, ...], shards: list[str]) -> RegError:
    """The error for a folder or file without readable weights."""
    pickles = [ref.path for ref in files if ref.unsafe_weights]
    gguf = [ref.path for ref in files if ref.format == "gguf"]
    if shards:
        message = f"{root}: holds {len(shards)} safetensors files, but no config.json or index that makes them one model"
        return EmptyCheckpoint(message, hint=f"scan them one by one: reg scan {root / shards[0]}")
    if pickles:
        message = (
            f"{root}: {pickles[0]} is a pickle, which can run code when opened; it is not read"
        )
        hint = "convert it: load it in a sandbox and save it with save_pretrained(safe_serialization=True)"
        return UnsafeFormat(message, hint=hint)
    if gguf:
        message = f"{root}: holds {len(gguf)} GGUF files, each of which is a checkpoint"
        return EmptyCheckpoint(message, hint=f"scan them one by one: reg scan {root / gguf[0]}")
    message = f"{root}: holds no safetensors file ({len(files)} files in all)"
    return EmptyCheckpoint(message, hint="give a folder that holds model.safetensors or an index")


def _read_index(root: Path, name: str) -> _Weights:
    """Read an index: which shard holds which tensor."""
    try:
        document = read_json(resolve_inside(root, name))
    except BadDocument as error:
        raise BadIndex(error.message) from error
    found = document.get("weight_map") if isinstance(document, dict) else None
    if not isinstance(found, dict) or not all(isinstance(shard, str) for shard in found.values()):
        message = f"{root / name}: has no weight_map of tensor names to file names"
        raise BadIndex(message)
    if not found:
        message = f"{root / name}: its weight_map is empty"
        raise EmptyCheckpoint(message)
    return _Weights(name, tuple(sorted(set(found.values()))), found)


def _shard(folder: Path, name: str, weights: _Weights, files: tuple[FileRef, ...]) -> Path:
    """The path of one shard, known to be there and inside the folder."""
    path = resolve_inside(folder, name)
    ref = next((ref for ref in files if ref.path == name), None)
    if ref is None:
        message = f"{folder}: {weights.source} names the shard {name!r}, which is not there"
        raise MissingShard(message, hint="fetch the checkpoint again")
    if ref.dangling:
        message = f"{folder}: {name} is a link that leads nowhere, or may not be read"
        raise MissingShard(message, hint="fetch the checkpoint again")
    if ref.format not in ("safetensors", "other", "gguf") or (
        ref.format == "gguf" and weights.index
    ):
        message = f"{folder}: {weights.source} names {name!r}, which is no safetensors file"
        raise BadIndex(message)
    return path


def _union(headers: Sequence[Header | GgufHeader]) -> tuple[TensorRef, ...]:
    """The tensors of all shards, by name."""
    tensors = sorted((t for header in headers for t in header.tensors), key=lambda t: t.name)
    for one, other in pairwise(tensors):
        if one.name == other.name:
            message = f"{one.file.parent}: tensor {one.name} is both in {one.file.name} and in {other.file.name}"
            raise DuplicateTensor(message)
    return tuple(tensors)


def _check_index(file: Path, index: dict[str, str], tensors: tuple[TensorRef, ...]) -> None:
    """The index must name every tensor of its shards, in the right shard, and no other."""
    stored = {tensor.name: tensor.file.name for tensor in tensors}
    wrong = sorted(name for name in {**index, **stored} if index.get(name) != stored.get(name))
    if wrong:
        name = wrong[0]
        message = (
            f"{file}: disagrees with its shards on {len(wrong)} tensors; {name!r} is by the index in "
            f"{index.get(name, 'no shard')!r} and in truth in {stored.get(name, 'no shard')!r}"
        )
        raise BadIndex(message)


def _check_file(root: Path, folder: Path, ref: FileRef, weights: _Weights) -> Problem | None:
    """What is wrong with a file that is not one of the shards."""
    error: RegError
    if ref.dangling:
        error = Unreadable(f"{folder}: {ref.path} is a link that leads nowhere, or may not be read")
    elif weights.index and ref.format == "safetensors" and ref.path not in weights.shards:
        error = BadIndex(f"{folder}: {ref.path} is not named by {weights.source}; it is ignored")
    else:
        try:
            resolve_inside(folder, ref.path)
        except PathEscapes as escape:
            error = escape
        else:
            return None
    return Problem(str(root), ref.path, error.kind, error.message)


def _config(
    root: Path, name: str, files: tuple[FileRef, ...], problems: dict[str, Problem]
) -> dict[str, Any]:
    """Read a config; what is wrong with it is added to ``problems`` and leaves {}."""
    if name in problems or all(ref.path != name for ref in files):
        return {}
    try:
        document = read_json(root / name)
        if isinstance(document, dict):
            return document
        detail = f"{root / name}: is not a JSON object"
    except BadDocument as error:
        detail = error.message
    problems[name] = Problem(str(root), name, BadDocument.__name__, detail)
    return {}

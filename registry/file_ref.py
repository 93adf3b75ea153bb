"""One file of a checkpoint's folder: what it is by its name, and whether it lies in the folder at all.

Files are listed without being opened. Whoever opens one goes through `resolve_inside`, since folders are downloaded and
their links may point anywhere.
"""

import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from registry.errors import PathEscapes, Unreadable

Format = Literal[
    "safetensors", "index", "config", "adapter_config", "generation_config", "tokenizer", "card",
    "recipe", "sidecar", "eval", "pickle", "gguf", "other",
]  # fmt: skip

_NAMES: dict[Format, tuple[str, ...]] = {
    "config": ("config.json",),
    "adapter_config": ("adapter_config.json",),
    "generation_config": ("generation_config.json",),
    "card": ("README.md",),
    "sidecar": ("homolog.json",),
    "recipe": ("mergekit_config.yml", "mergekit_config.yaml", "recipe.yml", "recipe.yaml"),
    "tokenizer": (
        "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "special_tokens_map.json",
        "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt", "spiece.model",
        "sentencepiece.bpe.model", "chat_template.jinja", "chat_template.json",
    ),
}  # fmt: skip
_BY_NAME = {name: kind for kind, names in _NAMES.items() for name in names}
_SUFFIXES: dict[Format, tuple[str, ...]] = {
    "index": (".safetensors.index.json",),
    "safetensors": (".safetensors",),
    "gguf": (".gguf",),
    "pickle": (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"),
}

_ETAG = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")
_EVAL_FOLDER = ".eval_results"
_LATEST = 2**63 - 1
_SPLIT = re.compile(r"(.+)-([0-9]{5})-of-([0-9]{5})\.gguf", re.IGNORECASE)
_HOLDERS = ("safetensors", "index", "adapter_config")
_TRAINER_STATE = ("training_args", "optimizer", "scheduler", "rng_state", "scaler")


@dataclass(frozen=True, slots=True)
class FileRef:
    """One file of a checkpoint, as it was when listed.

    Attributes:
        path: relative to the checkpoint's folder, with forward slashes; a name that is not UTF-8 is shown with
            escapes and has the format "other".
        size_bytes: of the file behind a link; 0 for a link that leads nowhere.
        mtime_ns: time of the last change, nanoseconds since 1970; 0 for a link that leads nowhere.
        inode: of the file behind a link; 0 for a link that leads nowhere.
        format: what the name says it is.
        etag: what the Hub calls its content: the SHA-256 of a large file, git's blob id of a small one, hex; None
            for a file that was not listed by the Hub.
        xet: what its storage calls the content, where it says so.
        ctime_ns: time at which anything of it last changed, its owner or its times too; for as long as it is read.
    """

    path: str
    size_bytes: int
    mtime_ns: int
    inode: int
    format: Format
    etag: str | None = None
    xet: str | None = None
    ctime_ns: int = 0

    @property
    def dangling(self) -> bool:
        """Whether this is a link that leads nowhere."""
        return self.inode == 0

    @property
    def unsafe_weights(self) -> bool:
        """Whether this is a pickle of weights, and not of a trainer's state."""
        return self.format == "pickle" and not self.path.startswith(_TRAINER_STATE)


def format_of(path: str) -> Format:
    """What a file's name says it is, in a checkpoint's folder or in its `.eval_results`; hidden files are nothing we know."""
    folder, _, name = path.rpartition("/")
    if folder.rpartition("/")[2] == _EVAL_FOLDER:
        return "eval" if name.endswith((".yaml", ".yml")) else "other"
    if name.startswith("."):
        return "other"
    for kind, suffixes in _SUFFIXES.items():
        if name.lower().endswith(suffixes):
            return kind
    return _BY_NAME.get(name, "other")


def list_files(root: Path) -> tuple[FileRef, ...]:
    """List the files of a checkpoint's folder as `list_folder` does; a bare file lists itself, GGUF as `gguf_groups` does.

    Raises:
        Unreadable: when there is no such file or folder, or it cannot be listed.
    """
    if os.path.isdir(root):  # noqa: PTH112 (unlike Path.is_dir, never raises)
        return list_folder(root)[0]
    beside = list_folder(root.parent)[0]
    files = tuple(ref for ref in beside if ref.path == root.name)
    if files and files[0].format == "gguf":
        return next(group for group in gguf_groups(beside) if files[0] in group)
    if not files:
        message = f"{root}: there is no such file or folder"
        raise Unreadable(message)
    return files


def list_folder(folder: Path) -> tuple[tuple[FileRef, ...], tuple[str, ...]]:
    """List the files of a folder and of its `.eval_results`, and the names of its subfolders, both sorted.

    Links to folders are left out.

    Raises:
        Unreadable: when the folder cannot be listed.
    """
    try:
        files, folders = _list(folder)
        if _EVAL_FOLDER in folders:
            files += _list(folder / _EVAL_FOLDER, f"{_EVAL_FOLDER}/")[0]
    except OSError as error:
        message = f"{folder}: cannot be listed: {error.strerror}"
        raise Unreadable(message) from error
    return tuple(sorted(files, key=lambda ref: ref.path)), tuple(sorted(folders))


def gguf_groups(files: Sequence[FileRef]) -> list[tuple[FileRef, ...]]:
    """The checkpoints in GGUF among the files of a folder: each file by itself, the parts of a split one together.

    Where nothing else in the folder holds weights, its card is theirs, and comes last in each group.
    """
    groups: dict[tuple[str, str], list[FileRef]] = {}
    found = sorted((ref for ref in files if ref.format == "gguf"), key=lambda ref: ref.path)
    for ref in found:
        part = split_of(ref.path)
        groups.setdefault((part[0], part[2]) if part else (ref.path, ""), []).append(ref)
    if not groups:
        return []
    others = any(ref.format in _HOLDERS or ref.unsafe_weights for ref in files)
    cards = [ref for ref in files if ref.format == "card" and not others]
    return [(*group, *cards) for group in groups.values()]


def split_of(path: str) -> tuple[str, int, str] | None:
    """What the name of a part of a split GGUF says: the name of the whole, number from 1, and how many there are."""
    found = _SPLIT.fullmatch(path)
    return (found[1], int(found[2]), found[3]) if found else None


def _list(folder: Path, prefix: str = "") -> tuple[list[FileRef], list[str]]:
    """The files of one folder, ``prefix`` before their names, and its subfolders."""
    files, folders = [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.name)
            elif ref := _file_ref(entry, prefix):
                files.append(ref)
    return files, folders


def _file_ref(entry: "os.DirEntry[str]", prefix: str) -> FileRef | None:
    """Describe one entry of a listing, ``prefix`` before its name; None for a link to a folder."""
    name = entry.name.encode(errors="backslashreplace").decode()
    kind = format_of(prefix + name) if name == entry.name else "other"
    try:
        status = entry.stat()
    except OSError as error:  # a link that leads nowhere or in a circle, a file deleted meanwhile
        if isinstance(error, PermissionError) and not entry.is_symlink():
            raise  # names may be read in this folder, and nothing else
        return FileRef(prefix + name, 0, 0, 0, kind)
    if stat.S_ISDIR(status.st_mode):
        return None
    etag = _blob_name(entry) if entry.is_symlink() else None
    size, mtime_ns, inode, ctime_ns = state_of(status)
    return FileRef(prefix + name, size, mtime_ns, inode, kind, etag, ctime_ns=ctime_ns)


def state_of(status: os.stat_result) -> tuple[int, int, int, int]:
    """Size, times of change in nanoseconds, the inode between them: as `FileRef` and the catalog hold them, in 64 bits.

    A file system may know years that no column does; those after 2262 are all one.
    """
    return (
        status.st_size, min(status.st_mtime_ns, _LATEST), status.st_ino & _LATEST,
        min(status.st_ctime_ns, _LATEST),
    )  # fmt: skip


def _blob_name(entry: "os.DirEntry[str]") -> str | None:
    """What the Hub calls the content of a file of its cache: the name of the blob that it links to."""
    try:
        target = os.readlink(entry.path)  # noqa: PTH115 (a name, not a path)
    except OSError:  # deleted meanwhile
        return None
    folder, _, name = target.rpartition("/")
    return name if folder.endswith("blobs") and _ETAG.fullmatch(name) else None


def resolve_inside(folder: Path, name: str) -> Path:
    """The path of the file ``name`` of a checkpoint's folder, once it is sure that it lies there.

    A link may point to another file of the folder and, in a Hugging Face cache, from a snapshot to the blobs of
    that cache (its repositories share blobs).

    Raises:
        PathEscapes: for a name, or a link, that leads out.
    """
    path = folder / name
    inner = name.removeprefix(_EVAL_FOLDER + "/")
    if inner in ("", ".", "..") or any(char in inner for char in "/\\\0"):
        message = f"{folder}: {name!r} is not the name of a file of the folder"
        raise PathEscapes(message, hint="a checkpoint's files lie in its own folder")
    if inner != name or os.path.islink(path):  # noqa: PTH114 (never raises)
        home, target = Path(os.path.realpath(folder)), Path(os.path.realpath(path))
        if not target.is_relative_to(home) and not _is_blob(target, home):
            message = f"{folder}: {name} is a link that leaves the folder, to {target}"
            raise PathEscapes(
                message, hint="scan the folder it points to, or put a copy in its place"
            )
    return path


def _is_blob(target: Path, home: Path) -> bool:
    """Whether ``target`` is a blob of the Hugging Face cache of which ``home`` is (in) a snapshot; both are real."""
    for folder in home.parents:
        if folder.name == "snapshots" and folder.parent.name.startswith("models--"):
            cache = folder.parent.parent
            parts = target.relative_to(cache).parts if target.is_relative_to(cache) else ()
            own = len(parts) == 3 and parts[0].startswith("models--") and parts[1] == "blobs"  # noqa: PLR2004 (repository, blobs, name)
            return own or (len(parts) == 3 and parts[0] == "blobs")  # noqa: PLR2004 (blobs, prefix, name)
    return False

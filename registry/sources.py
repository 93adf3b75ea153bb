"""Finding checkpoints: in a file, in a tree of folders, in the Hugging Face cache.

Finding lists and opens nothing. In a tree, these are checkpoints:
    a folder with an index, a `model.safetensors`, an `adapter_model.safetensors`, an `adapter_config.json`, or a
    `config.json` beside safetensors files;
    a folder whose only weights are pickles, so that it is reported and not passed in silence;
    each other safetensors file, by itself;
    each GGUF file, wherever it lies, by itself; the parts of a split one together;
    a folder without any entry, likewise so that it is reported.
Folders inside checkpoints are walked too (`checkpoint-500/`). Links to folders are not followed, hidden folders and
unfinished outputs (`*.partial`) not entered.
"""

import difflib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from registry import hub_cache
from registry.errors import BadAddress, Offline, Unreadable
from registry.file_ref import FileRef, gguf_groups, list_files, list_folder, split_of
from registry.names import CACHE, HUB, Address, printable

UNFINISHED = ".partial"
"""How the name of an output ends while it is being written."""

JOURNAL = "journal.jsonl"
"""File in an unfinished output that says what of it is finished, so that a merge goes on from there."""

_COMPLETE = ("model.safetensors", "adapter_model.safetensors", "adapter_config.json")


@dataclass(frozen=True)
class Found:
    """One place that should hold a checkpoint; reading it may still fail.

    Attributes:
        uri: what the catalog stores: an absolute path, "hf-cache:org/name@commit", or, of the Hub,
            "hf://org/name@commit", with the folder or file in it if it is not its root.
        root: the folder, or the bare file; of the Hub, the address once more.
        name: for people: the folder's name, the file's without suffix, or "org/name".
        files: as listed; () for a folder that could not be listed.
    """

    uri: str
    root: Path
    name: str
    files: tuple[FileRef, ...]

    @property
    def source(self) -> str:
        """What keeps it: "local", "hf-cache" or "hub"."""
        if self.uri.startswith(HUB):
            return "hub"
        return "hf-cache" if self.uri.startswith(CACHE) else "local"

    @property
    def weights(self) -> tuple[FileRef, ...]:
        """The files that hold its tensors, as far as their names tell."""
        formats = {ref.format for ref in self.files}
        kind = "safetensors" if "safetensors" in formats else "gguf"
        return tuple(ref for ref in self.files if ref.format == kind)


def find(address: Address) -> Iterator[Found]:
    """Find the checkpoints at an address, in a fixed order.

    What the user names is always found, so that reading it says what is wrong with it.

    Raises:
        BadAddress: for a path or a cached repository that does not exist.
        Offline: for a repository of the Hub that is not in the cache.
    """
    if address.kind == "path":
        yield from _find_path(Path(address.name))
    elif address.kind not in ("hub", "cache"):
        message = f"{address}: HF_HUB_OFFLINE is set, and only the Hub knows what that is"
        raise Offline(message, hint=f"reg scan {CACHE} for what is in the cache")
    else:
        yield from _find_cached(address)


def is_checkpoint(path: Path) -> bool:
    """Tell whether a walk that comes by finds a checkpoint at this very path now; nothing below it is looked at."""
    folder = path if os.path.isdir(path) else path.parent  # noqa: PTH112 (unlike Path.is_dir, never raises)
    if not os.path.lexists(path):
        return False
    try:
        files, inner = list_folder(folder)
    except Unreadable:
        return path == folder
    return any(found.root == path for found in _checkpoints(folder, files, empty=not inner))


def _find_path(path: Path) -> Iterator[Found]:
    """Walk a tree, or name a file."""
    if os.path.isdir(path):  # noqa: PTH112 (unlike Path.is_dir, never raises)
        root = path.resolve()
        nothing = True
        for found in _walk(root):
            nothing = False
            yield found
        if nothing:
            yield _folder(root, ())
    elif os.path.lexists(path):
        root = path.parent.resolve() / path.name
        yield _file(root, list_files(root))
    else:
        raise _missing(path)


def _walk(root: Path) -> Iterator[Found]:
    """The checkpoints of a tree, each folder before its subfolders, by name."""
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        try:
            files, inner = list_folder(folder)
        except Unreadable:
            yield _folder(folder, ())
            continue
        yield from _checkpoints(folder, files, empty=not inner)
        if hub_cache.repository_name(folder.name) and "snapshots" in inner:
            inner = ("snapshots",)  # the blobs are reached through it
        waiting += [folder / name for name in reversed(inner) if _entered(name)]


def _entered(name: str) -> bool:
    """Whether a folder of this name is walked."""
    return not name.startswith(".") and not name.endswith(UNFINISHED)


def _checkpoints(folder: Path, files: tuple[FileRef, ...], *, empty: bool) -> Iterator[Found]:
    """The checkpoints that lie directly in a folder; ``empty`` when it has no subfolder."""
    shards = [ref for ref in files if ref.format == "safetensors"]
    if _whole(files) or (not files and empty):
        yield _folder(folder, files)
    else:
        for ref in shards:
            yield _file(folder / ref.path, (ref,))
    for group in gguf_groups(files):
        yield _file(folder / group[0].path, group)


def _whole(files: Iterable[FileRef]) -> bool:
    """Whether the files of a folder are meant as one checkpoint, be it readable or not."""
    files = list(files)
    formats = {ref.format for ref in files}
    if "safetensors" in formats and "config" in formats:
        return True
    if "index" in formats or any(ref.path in _COMPLETE for ref in files):
        return True
    return any(ref.unsafe_weights for ref in files) and "safetensors" not in formats


def _folder(root: Path, files: tuple[FileRef, ...]) -> Found:
    """A folder, under the name of its repository if it is a snapshot of a cache."""
    return Found(_storable(root), root, printable(_repository(root) or root.name), files)


def _file(root: Path, files: tuple[FileRef, ...]) -> Found:
    """A bare file; GGUF in a snapshot of a cache is called as on the Hub, a split one as its whole."""
    name, part = root.stem, split_of(root.name)
    if files and files[0].format == "gguf":
        root = root.parent / files[0].path
        repository = _repository(root.parent)
        name = f"{repository}/{root.name}" if repository else part[0] if part else name
    return Found(_storable(root), root, printable(name), files)


def _repository(root: Path) -> str | None:
    """The repository of which a folder is a snapshot in a cache; None for any other folder."""
    folder = root.parent.parent.name if root.parent.name == "snapshots" else ""
    return hub_cache.repository_name(folder)


def _storable(path: Path) -> str:
    """The path as text; bytes that are not UTF-8 are escaped, since no database takes them."""
    return str(path).encode(errors="backslashreplace").decode()


def _find_cached(address: Address) -> Iterator[Found]:
    """The snapshots of the cache at an address; of the whole cache only those that hold weights."""
    nothing = True
    for snapshot in hub_cache.snapshots(address.name, address.revision):
        try:
            files = list_folder(snapshot.root)[0]
        except Unreadable:
            files = ()
        uri = f"{CACHE}{snapshot.name}@{snapshot.commit}"
        groups = gguf_groups(files)
        if _whole(files) or (address.name and not groups):
            nothing = False
            yield Found(uri, snapshot.root, snapshot.name, files)
        for group in groups:
            nothing = False
            path = group[0].path
            at = f"{uri}/{path}"
            yield Found(at, snapshot.root / path, printable(f"{snapshot.name}/{path}"), group)
    if nothing and address.kind == "hub":
        message = (
            f"{address}: is not in the cache ({hub_cache.location()}), and HF_HUB_OFFLINE is set"
        )
        raise Offline(message, hint=f"HF_HUB_OFFLINE=0 reg scan {address}")
    if nothing and address.name:
        message = f"{address}: is not in the cache ({hub_cache.location()})"
        raise BadAddress(message, hint=f"hf download {address.name}")


def _missing(path: Path) -> BadAddress:
    """The error for a path that does not exist, with the nearest name that does."""
    message = f"{printable(str(path))}: there is no such folder or file"
    parent = path.parent
    try:
        names = sorted(os.listdir(parent))  # noqa: PTH208 (names, not paths)
    except OSError:
        names = []
    near = difflib.get_close_matches(path.name, names, n=1)
    hint = f"did you mean {printable(str(parent / near[0]))}?" if near else None
    return BadAddress(message, hint=hint or "give hf-cache:org/name for a repository of the cache")

"""The local Hugging Face cache: which repositories and snapshots it holds. A door to huggingface_hub.

    models--org--name/refs/<branch>            the commit of a branch or tag
    models--org--name/snapshots/<commit>/…     links to …/blobs/<hash>

The library's own listing drops a whole repository for one broken link; here a link is a matter of its checkpoint.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from registry.documents import open_file
from registry.errors import Unreadable

_MAX_COMMIT_BYTES = 200

PREFIX = "models--"
"""How the folder of a model's repository begins; the rest is its name, with `--` for `/`."""


@dataclass(frozen=True)
class Snapshot:
    """One cached revision of one repository.

    Attributes:
        name: "org/name".
        commit: the name of the snapshot's folder.
        root: that folder.
    """

    name: str
    commit: str
    root: Path


def location() -> Path:
    """The folder of the cache, from HF_HUB_CACHE or HF_HOME as they are now, else where the library puts it."""
    for variable, inner in (
        ("HF_HUB_CACHE", ""),
        ("HUGGINGFACE_HUB_CACHE", ""),
        ("HF_HOME", "hub"),
    ):
        if folder := os.environ.get(variable):
            return Path(os.path.expandvars(folder)).expanduser() / inner
    from huggingface_hub import constants  # noqa: PLC0415 (needed only here, and read when asked)

    return Path(constants.HF_HUB_CACHE)


def repository_name(folder: str) -> str | None:
    """The repository ("org/name") of a folder of the cache; None for a folder that is not a model's.

    Law: ``repository_name(repository_folder(name)) == name``.
    """
    return folder.removeprefix(PREFIX).replace("--", "/") if folder.startswith(PREFIX) else None


def repository_folder(name: str) -> str:
    """The name of the folder of a repository ("org/name")."""
    return PREFIX + name.replace("/", "--")


def snapshots(name: str = "", revision: str | None = None) -> Iterator[Snapshot]:
    """The snapshots of one repository, or of all, by name and commit; nothing where the cache has none.

    Args:
        name: "org/name"; "" for all repositories.
        revision: branch, tag, commit or the beginning of a commit; None for all.
    """
    cache = location()
    for folder in [repository_folder(name)] if name else _folders(cache):
        repository = repository_name(folder)
        if repository is None:
            continue
        commit = _commit(cache / folder, revision) if revision else ""
        for found in _folders(cache / folder / "snapshots"):
            if found.startswith(commit):
                yield Snapshot(repository, found, cache / folder / "snapshots" / found)


def _commit(repository: Path, revision: str) -> str:
    """The commit of a branch or tag; anything else is taken for a commit."""
    try:
        with open_file(repository / "refs" / revision) as (descriptor, _):
            return os.read(descriptor, _MAX_COMMIT_BYTES).decode(errors="replace").strip()
    except Unreadable:
        return revision


def _folders(parent: Path) -> list[str]:
    """The names of the folders in a folder, sorted; none when there is no such folder."""
    try:
        with os.scandir(parent) as entries:
            return sorted(e.name for e in entries if e.is_dir(follow_symlinks=False))
    except OSError:
        return []

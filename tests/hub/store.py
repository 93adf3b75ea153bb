"""All repositories of the hub."""

import itertools
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hub.commit import Commit, Entry
from hub.objects import Objects
from hub.repo import Repo

Files = Path | Mapping[str, bytes | Path]
"""A folder, or path in the repository → file or its bytes."""

BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)

LARGE_KINDS = (".safetensors", ".bin", ".gguf", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".onnx")
"""Ends of names of files that git should not hold."""


class StaleParentError(Exception):
    """A commit was meant to follow another than the newest."""


@dataclass
class Collection:
    """A named list of repositories.

    Attributes:
        slug: its address, with its owner: ``org/name-0123``.
        title: for people.
        items: ids of repositories, in order.
        description: for people.
    """

    slug: str
    title: str
    items: tuple[str, ...]
    description: str = ""


@dataclass
class Store:
    """All repositories, in the order in which they came.

    Attributes:
        objects: the contents of all files.
        large_bytes: files of `LARGE_KINDS` above this size are LFS.
        text_bytes: all files above this size are LFS.
        collections: slug → collection.
    """

    objects: Objects
    large_bytes: int = 10 * 1024
    text_bytes: int = 10 * 1024 * 1024
    collections: dict[str, Collection] = field(default_factory=dict)
    _repos: dict[str, Repo] = field(default_factory=dict)
    _renamed: dict[str, str] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _minutes: Iterator[int] = field(default_factory=itertools.count)

    def __iter__(self) -> Iterator[Repo]:
        with self._lock:
            return iter(list(self._repos.values()))

    def get(self, repo_id: str) -> Repo | None:
        """The repository of that name, of a name that differs in case only, or that was called so before."""
        with self._lock:
            key, seen = repo_id.lower(), set[str]()
            while key not in self._repos and key in self._renamed and key not in seen:
                seen.add(key)
                key = self._renamed[key]
            return self._repos.get(key)

    def create(
        self, repo_id: str, entries: Iterable[Entry], *, title: str, date: datetime | None = None
    ) -> Repo:
        """A new repository with its first commit; a former name of another is free to be taken.

        Raises:
            FileExistsError: there is one of that name, but for case.
        """
        with self._lock:
            self._check_free(repo_id)
            date = date or self._now()
            repo = Repo(repo_id, date)
            self.commit(repo, entries, title=title, date=date)
            self._repos[repo_id.lower()] = repo
            return repo

    def rename(self, old: str, new: str) -> None:
        """Let ``old`` be called ``new``; the old name leads to the new one until somebody takes it.

        Raises:
            FileExistsError: the new name is taken.
            KeyError: no such repository.
        """
        with self._lock:
            repo = self._repos[old.lower()]
            if new.lower() != old.lower():
                self._check_free(new)
                del self._repos[old.lower()]
                self._renamed[old.lower()] = new.lower()
            repo.id = new
            self._repos[new.lower()] = repo

    def _check_free(self, repo_id: str) -> None:
        if repo_id.lower() in self._repos:
            raise FileExistsError(repo_id)

    def remove(self, repo_id: str) -> None:
        """Forget a repository.

        Raises:
            KeyError: no such repository.
        """
        with self._lock:
            del self._repos[repo_id.lower()]

    def is_large(self, path: str, size: int) -> bool:
        """Whether a file of that name and size is LFS."""
        limit = self.large_bytes if path.lower().endswith(LARGE_KINDS) else self.text_bytes
        return size > limit

    def entries(self, files: Files, *, link: bool = False) -> list[Entry]:
        """All files below a folder, or all that are named; kept from now on.

        Links to files are followed, as an upload does; folders called .git and .cache are left out.
        """
        named = _below(files) if isinstance(files, Path) else files
        kept = {path: self.objects.keep(file, link=link) for path, file in named.items()}
        return [Entry(p, content, self.is_large(p, content.size)) for p, content in kept.items()]

    def commit(
        self,
        repo: Repo,
        entries: Iterable[Entry],
        *,
        branch: str = "main",
        title: str,
        description: str = "",
        after: str | None = None,
        date: datetime | None = None,
    ) -> Commit:
        """Let ``branch`` hold exactly ``entries``.

        Args:
            repo: the repository.
            entries: all that the commit holds.
            branch: must exist, or be the first.
            title: first line of the message.
            description: the rest of it.
            after: sha that must be the newest.
            date: of the commit; by default, a minute after the last one of the hub.

        Raises:
            StaleParentError: another commit is the newest.
        """
        with self._lock:
            parent = repo.branches.get(branch, "")
            if after is not None and after != parent:
                raise StaleParentError(parent)
            commit = Commit.make(
                self.objects,
                entries,
                parent=parent,
                root=repo.id,
                title=title,
                description=description,
                date=date or self._now(),
            )
            repo.commits[commit.sha] = commit
            repo.branches[branch] = commit.sha
            return commit

    def _now(self) -> datetime:
        return BEGINNING + timedelta(minutes=next(self._minutes))


def _below(folder: Path) -> dict[str, Path]:
    """Path in the repository → file, of all files below ``folder``."""
    found = {}
    for at, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(set(folders) - {".git", ".cache"})
        for name in names:
            file = Path(at) / name
            if file.is_file():
                found[file.relative_to(folder).as_posix()] = file
    return found

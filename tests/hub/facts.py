"""What the Hub tells of a repository."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import yaml
from hub.answer import RefusalError
from hub.commit import Commit, Entry
from hub.objects import git_oid
from hub.repo import Repo
from hub.store import Store

Facts = dict[str, Any]


def moment(date: datetime) -> str:
    """A time as the Hub writes it."""
    return date.strftime("%Y-%m-%dT%H:%M:%S.000Z")


def large(entry: Entry, name: str) -> Facts:
    """What is told of a large file beside its name; empty for others.

    Args:
        entry: the file.
        name: under which its sha256 goes: "oid" in trees, "sha256" among siblings.
    """
    if not entry.lfs:
        return {}
    size = entry.content.size
    return {"lfs": {name: entry.content.sha256, "size": size, "pointerSize": len(entry.pointer)}}


def sibling(entry: Entry, *, blobs: bool) -> Facts:
    """A file in the list of a repository."""
    told: Facts = {"rfilename": entry.path}
    if blobs:
        told |= {"size": entry.content.size, "blobId": entry.oid} | large(entry, "sha256")
    return told


@dataclass(frozen=True)
class Shown:
    """A repository at a commit, and all others."""

    repo: Repo
    commit: Commit
    store: Store


def _safetensors(of: Shown) -> Any:
    parameters = of.commit.n_parameters
    return {"parameters": parameters, "total": sum(parameters.values())} if parameters else None


def _base_models(of: Shown) -> Any:
    if not of.commit.base_models:
        return None
    models = [{"_id": name, "id": name} for name in of.commit.base_models]
    return {"relation": of.commit.relation, "models": models}


def _n_children(of: Shown) -> int:
    return sum(of.repo.id in other.head.base_models for other in of.store)


def _eval_results(of: Shown) -> list[Any]:
    found = []
    for path in of.commit.entries:
        if path.startswith(".eval_results/") and path.endswith((".yaml", ".yml")):
            try:
                entries = yaml.safe_load(of.commit.read(path))
            except yaml.YAMLError as error:
                found.append({"filename": path, "error": str(error)})
            else:
                entries = entries if isinstance(entries, list) else [entries]
                found += [{"filename": path, "data": entry} for entry in entries]
    return found


_TOLD: dict[str, Callable[[Shown], Any]] = {
    "author": lambda of: of.repo.owner,
    "baseModels": _base_models,
    "cardData": lambda of: of.commit.card or None,
    "childrenModelCount": _n_children,
    "config": lambda of: of.commit.config,
    "createdAt": lambda of: moment(of.repo.created),
    "downloads": lambda of: of.repo.downloads,
    "downloadsAllTime": lambda of: of.repo.downloads,
    "evalResults": _eval_results,
    "gated": lambda of: of.repo.gated,
    "lastModified": lambda of: moment(of.repo.head.date),
    "library_name": lambda of: of.commit.library,
    "likes": lambda of: of.repo.likes,
    "model-index": lambda of: of.commit.card.get("model-index"),
    "pipeline_tag": lambda of: of.commit.card.get("pipeline_tag"),
    "private": lambda of: of.repo.private,
    "safetensors": _safetensors,
    "sha": lambda of: of.commit.sha,
    "siblings": lambda of: [sibling(e, blobs=False) for e in of.commit.entries.values()],
    "tags": lambda of: of.repo.all_tags(of.commit),
    "trendingScore": lambda of: of.repo.likes,
    "usedStorage": lambda of: sum(e.content.size for e in of.commit.entries.values()),
}

_FIXED: Facts = {
    "disabled": False,
    "gguf": None,
    "inference": None,
    "inferenceProviderMapping": [],
    "mask_token": None,
    "resourceGroup": None,
    "spaces": [],
    "transformersInfo": None,
    "widgetData": None,
}

_LISTED = (
    "likes", "trendingScore", "private", "downloads", "tags", "pipeline_tag", "library_name", "createdAt",
)  # fmt: skip
_LISTED_IN_FULL = (*_LISTED, "author", "gated", "sha", "lastModified", "siblings")
_SHOWN = (
    *_LISTED_IN_FULL, "disabled", "config", "cardData", "model-index", "safetensors", "spaces", "usedStorage",
)  # fmt: skip
_LEFT_OUT_WHEN_EMPTY = {"pipeline_tag", "library_name", "safetensors", "baseModels"}


def told(repo: Repo, commit: Commit, store: Store, names: Iterable[str]) -> Facts:
    """These facts of a repository, and its name.

    Raises:
        RefusalError: one of the names is unknown.
    """
    found: Facts = {"_id": git_oid(repo.id.encode())[:24], "id": repo.id}
    known, of = sorted({*_TOLD, *_FIXED}), Shown(repo, commit, store)
    for name in names:
        if name not in known:
            raise RefusalError(400, f'"expand" must be one of [{", ".join(known)}], not {name}')
        value = _TOLD[name](of) if name in _TOLD else _FIXED[name]
        if value is not None or name not in _LEFT_OUT_WHEN_EMPTY:
            found[name] = value
    return found


def shown(repo: Repo, commit: Commit, store: Store, expand: list[str], *, blobs: bool) -> Facts:
    """A repository on its own page."""
    if expand:
        return told(repo, commit, store, expand)
    facts = told(repo, commit, store, _SHOWN) | {"modelId": repo.id}
    facts["siblings"] = [sibling(entry, blobs=blobs) for entry in commit.entries.values()]
    return facts


def listed(repo: Repo, store: Store, expand: list[str], *, full: bool, more: list[str]) -> Facts:
    """A repository in a list."""
    names = [*(_LISTED_IN_FULL if full else _LISTED), *more]
    facts = told(repo, repo.head, store, expand or names)
    return facts if expand else facts | {"modelId": repo.id}


def in_tree(entry: Entry, repo: Repo, commit: Commit, *, expand: bool) -> Facts:
    """A file in a tree."""
    facts: Facts = {"type": "file", "oid": entry.oid, "size": entry.content.size}
    facts |= large(entry, "oid") | {"path": entry.path}
    if expand:
        scanned = {"status": "safe", "avScan": None, "pickleImportScan": None}
        facts |= {"lastCommit": _last(repo, commit, entry.path), "securityFileStatus": scanned}
    return facts


def folder_in_tree(path: str, repo: Repo, commit: Commit, *, expand: bool) -> Facts:
    """A folder in a tree."""
    held = "\n".join(f"{e.oid} {p}" for p, e in commit.entries.items() if p.startswith(f"{path}/"))
    facts: Facts = {"type": "directory", "oid": git_oid(held.encode()), "size": 0, "path": path}
    return facts | ({"lastCommit": _last(repo, commit, path)} if expand else {})


def _last(repo: Repo, commit: Commit, path: str) -> Facts:
    """The last commit that changed what lies at ``path``."""

    def held(at: Commit) -> list[str]:
        return [e.oid for p, e in at.entries.items() if p == path or p.startswith(f"{path}/")]

    line = repo.line(commit)
    found = line[0]
    for before in line[1:]:
        if held(before) != held(commit):
            break
        found = before
    return {"id": found.sha, "title": found.title, "date": moment(found.date)}

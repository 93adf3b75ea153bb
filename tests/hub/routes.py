"""Which path asks for what."""

from typing import TYPE_CHECKING
from urllib.parse import quote

from hub import reads, search, uploads
from hub.answer import Answer, Call, RefusalError

if TYPE_CHECKING:
    from hub.server import LocalHub

_ALONE = {
    ("GET", "models"): search.models,
    ("GET", "collections"): search.collections,
    ("GET", "whoami-v2"): uploads.whoami,
    ("POST", "repos/create"): uploads.create,
    ("DELETE", "repos/delete"): uploads.delete,
    ("POST", "repos/move"): uploads.move,
    ("POST", "validate-yaml"): uploads.validate_yaml,
}
"""Method and path below /api/ → who answers."""

_OF_A_MODEL = {
    ("GET", ""): reads.info,
    ("GET", "revision"): reads.info,
    ("GET", "tree"): reads.tree,
    ("POST", "paths-info"): reads.paths_info,
    ("GET", "refs"): reads.refs,
    ("GET", "commits"): reads.commits,
    ("GET", "safetensors-metadata"): reads.safetensors_metadata,
    ("GET", "auth-check"): reads.auth_check,
    ("PUT", "settings"): uploads.settings,
    ("POST", "branch"): uploads.create_branch,
    ("DELETE", "branch"): uploads.delete_branch,
    ("POST", "tag"): uploads.create_tag,
    ("DELETE", "tag"): uploads.delete_tag,
    ("POST", "preupload"): uploads.preupload,
    ("POST", "commit"): uploads.commit,
}
"""Method and first part after the repository's name → who answers."""

_OF_FILES = {"resolve": reads.resolve, "raw": reads.raw}

_WORDS = {word for _, word in _OF_A_MODEL} | set(_OF_FILES)


def route(hub: "LocalHub", call: Call) -> Answer:
    """Answer a request to the hub.

    Raises:
        RefusalError: it is not granted, or nobody knows what it asks.
    """
    hub.access.identify(call)
    parts = call.parts
    if parts[:1] == ("api",):
        if found := _ALONE.get((call.method, "/".join(parts[1:]))):
            return found(hub, call)
        if parts[1:2] == ("collections",) and call.method == "GET":
            return search.collection(hub, call, "/".join(parts[2:]))
        if parts[1:2] == ("models",):
            return _of_a_model(hub, call)
    if any(part.endswith(".git") for part in parts[:2]):
        return _of_git(hub, call)
    for n in (1, 2):
        if parts[n : n + 1] and parts[n] in _OF_FILES and len(parts) > n + 2:
            return _of_files(hub, call, n)
    raise RefusalError(404, f"Sorry, we can't find the page {call.target}")


def _of_a_model(hub: "LocalHub", call: Call) -> Answer:
    parts = call.parts[2:]
    both = "/".join(parts[:2])
    n = 1 if parts[1:2] and parts[1] in _WORDS and hub.store.get(both) is None else 2
    word = "".join(parts[n : n + 1])
    found = _OF_A_MODEL.get((call.method, word))
    if found is None:
        raise RefusalError(404, f"Sorry, we can't find the page {call.target}")
    repo = hub.access.find(hub.store, "/".join(parts[:n]), call)
    if repo.id != "/".join(parts[:n]):
        return _moved(call, 2, n, repo.id)
    return found(hub, call, repo, parts[n + 1 :])


def _of_files(hub: "LocalHub", call: Call, n: int) -> Answer:
    repo = hub.access.find(hub.store, "/".join(call.parts[:n]), call)
    if call.method not in {"GET", "HEAD"}:
        raise RefusalError(405, f"{call.method} is not allowed here")
    if repo.id != "/".join(call.parts[:n]):
        return _moved(call, 0, n, repo.id)
    return _OF_FILES[call.parts[n]](hub, call, repo, call.parts[n + 1 :])


def _of_git(hub: "LocalHub", call: Call) -> Answer:
    n = 1 + next(i for i, part in enumerate(call.parts) if part.endswith(".git"))
    name, asked = "/".join(call.parts[:n]).removesuffix(".git"), call.parts[n:]
    repo = hub.access.find(hub.store, name, call)
    hub.access.may_write(call)
    if repo.id != name:
        return _moved(call, 0, n, f"{repo.id}.git")
    if call.method == "POST" and asked == ("info", "lfs", "objects", "batch"):
        return uploads.batch(hub, call, repo)
    if call.method == "POST" and asked == ("info", "lfs", "objects", "verify"):
        return uploads.verify(hub, call, repo)
    raise RefusalError(404, f"Sorry, we can't find the page {call.target}")


def _moved(call: Call, start: int, n: int, name: str) -> Answer:
    """Where a renamed repository answers; clients keep method and body.

    Args:
        call: what was asked.
        start: first part of its path that names the repository.
        n: parts that name it.
        name: of today.
    """
    parts = [*call.parts[:start], *name.split("/"), *call.parts[start + n :]]
    path, query = "/".join(quote(part, safe="") for part in parts), call.target.partition("?")[2]
    return Answer(307, b"", {"Location": f"/{path}?{query}" if query else f"/{path}"})

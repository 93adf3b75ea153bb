"""What changes repositories."""

import base64
import binascii
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import yaml
from hub.answer import Answer, Call, RefusalError
from hub.commit import FRONT_MATTER, Entry
from hub.reads import commit_at
from hub.repo import Repo
from hub.store import LARGE_KINDS, StaleParentError

if TYPE_CHECKING:
    from hub.server import LocalHub

OWNER = "owner"
"""Name of the one who has the token."""

ATTRIBUTES = "".join(f"*{kind} filter=lfs diff=lfs merge=lfs -text\n" for kind in LARGE_KINDS)


def whoami(hub: "LocalHub", call: Call) -> Answer:
    """Who has the token."""
    name = hub.access.identify(call)
    if name is None:
        raise RefusalError(401, "Invalid username or password.")
    role = "write" if name == OWNER else "read"
    told = {"type": "access_token", "accessToken": {"displayName": "local", "role": role}}
    return Answer.json({"type": "user", "name": name, "fullname": name, "orgs": [], "auth": told})


def create(hub: "LocalHub", call: Call) -> Answer:
    """A new repository, with the commit that the Hub begins with."""
    hub.access.may_write(call)
    asked = call.json()
    if asked.get("type", "model") != "model":
        raise RefusalError(400, "This hub has models only")
    repo_id = _repo_id(asked)
    url = {"url": f"{hub.endpoint}/{repo_id}", "name": repo_id}
    first = hub.store.entries({".gitattributes": ATTRIBUTES.encode()})
    try:
        repo = hub.store.create(repo_id, first, title="initial commit")
    except FileExistsError:
        message = "You already created this model repo"
        return Answer.json({"error": message} | url, 409, X_Error_Message=message)
    repo.private = asked.get("visibility") == "private" or asked.get("private") is True
    return Answer.json(url | {"id": repo.head.sha[:24]})


def delete(hub: "LocalHub", call: Call) -> Answer:
    """Remove a repository."""
    hub.access.may_write(call)
    repo = hub.access.find(hub.store, _repo_id(call.json()), call)
    hub.store.remove(repo.id)
    return Answer.json({})


def move(hub: "LocalHub", call: Call) -> Answer:
    """Rename a repository."""
    hub.access.may_write(call)
    asked = call.json()
    repo = hub.access.find(hub.store, asked["fromRepo"], call)
    try:
        hub.store.rename(repo.id, asked["toRepo"])
    except FileExistsError as error:
        raise RefusalError(409, f"A repo called {error} exists") from error
    return Answer.json({})


def _repo_id(asked: dict[str, Any]) -> str:
    return f"{asked.get('organization') or OWNER}/{asked['name']}"


def settings(hub: "LocalHub", call: Call, repo: Repo, rest: Sequence[str]) -> Answer:
    """Who may see and read a repository."""
    hub.access.may_write(call)
    asked = call.json()
    repo.gated = asked.get("gated", repo.gated)
    if "visibility" in asked:
        repo.private = asked["visibility"] == "private"
    return Answer.json({"gated": repo.gated, "private": repo.private})


def validate_yaml(hub: "LocalHub", call: Call) -> Answer:
    """Whether the front matter of a card can be read."""
    found = FRONT_MATTER.match(call.json()["content"])
    if found is None:
        message = "empty or missing yaml metadata in repo card"
        return Answer.json({"errors": [], "warnings": [{"message": message}]})
    try:
        card = yaml.safe_load(found[1])
    except yaml.YAMLError as error:
        return Answer.json({"errors": [{"message": str(error)}], "warnings": []}, 400)
    if not isinstance(card, dict | None):
        return Answer.json({"errors": [{"message": "must be an object"}], "warnings": []}, 400)
    return Answer.json({"errors": [], "warnings": []})


def create_branch(hub: "LocalHub", call: Call, repo: Repo, rest: Sequence[str]) -> Answer:
    """A new branch."""
    hub.access.may_write(call)
    if rest[0] in repo.branches:
        raise RefusalError(409, f"Reference already exists: refs/heads/{rest[0]}")
    start = (call.json() if call.body else {}).get("startingPoint") or "main"
    repo.branches[rest[0]] = commit_at(repo, start).sha
    return Answer.json({}, 201)


def delete_branch(hub: "LocalHub", call: Call, repo: Repo, rest: Sequence[str]) -> Answer:
    """No such branch any more."""
    hub.access.may_write(call)
    if rest[0] == "main":
        raise RefusalError(403, "Cannot delete the default branch")
    if repo.branches.pop(rest[0], None) is None:
        raise RefusalError(404, f"Invalid rev id: {rest[0]}", "RevisionNotFound")
    return Answer.json({})


def create_tag(hub: "LocalHub", call: Call, repo: Repo, rest: Sequence[str]) -> Answer:
    """A new tag on a revision."""
    hub.access.may_write(call)
    tag = call.json()["tag"]
    commit = commit_at(repo, rest[0])
    if tag in repo.tags:
        raise RefusalError(409, f"Tag reference exists already: {tag}")
    repo.tags[tag] = commit.sha
    return Answer.json({}, 201)


def delete_tag(hub: "LocalHub", call: Call, repo: Repo, rest: Sequence[str]) -> Answer:
    """No such tag any more."""
    hub.access.may_write(call)
    if repo.tags.pop(rest[0], None) is None:
        raise RefusalError(404, f"Invalid rev id: {rest[0]}", "RevisionNotFound")
    return Answer.json({})


def preupload(hub: "LocalHub", call: Call, repo: Repo, rest: Sequence[str]) -> Answer:
    """How each file is to be uploaded."""
    hub.access.may_write(call)
    held = commit_at(repo, rest[0]).entries
    told = []
    for file in call.json()["files"]:
        path, size = file["path"], file["size"]
        old = held[path].etag if path in held else None
        mode = "lfs" if hub.store.is_large(path, size) else "regular"
        told.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": old})
    return Answer.json({"files": told})


def batch(hub: "LocalHub", call: Call, repo: Repo) -> Answer:
    """Where each large file is to be put; nothing is said of those that are there."""
    told = []
    for asked in call.json()["objects"]:
        one = {"oid": asked["oid"], "size": asked["size"]}
        if hub.store.objects.get(asked["oid"]) is None:
            href = f"{hub.endpoint}/{repo.id}.git/info/lfs/objects/verify"
            put = {"href": hub.signed("uploads", asked["oid"]), "header": {}}
            one |= {"actions": {"upload": put, "verify": {"href": href, "header": {}}}}
        told.append(one)
    return Answer.json({"transfer": "basic", "objects": told})


def verify(hub: "LocalHub", call: Call, repo: Repo) -> Answer:
    """Whether a large file has come."""
    asked = call.json()
    found = hub.store.objects.get(asked["oid"])
    if found is None or found.size != asked["size"]:
        raise RefusalError(404, f"LFS object {asked['oid']} is not there")
    return Answer.json({})


def commit(hub: "LocalHub", call: Call, repo: Repo, rest: Sequence[str]) -> Answer:
    """A new commit on a branch, or on one of its own that is proposed for it; all of it or nothing."""
    hub.access.may_write(call)
    branch = rest[0]
    before = commit_at(repo, branch)
    if branch not in repo.branches:
        raise RefusalError(400, f"{branch} is not a branch")
    entries, header = dict(before.entries), {}
    for line in call.body.splitlines():
        try:
            operation = json.loads(line)
            key, value = operation["key"], operation["value"]
        except (ValueError, KeyError, TypeError) as error:
            raise RefusalError(400, f"Invalid line of a commit: {line[:80]!r}") from error
        if key == "header":
            header = value
        elif key in _OPERATIONS:
            _OPERATIONS[key](hub, entries, value)
        else:
            raise RefusalError(400, f"Unknown operation: {key}")
    if not header.get("summary"):
        raise RefusalError(400, "A commit needs a header with a summary")
    if proposed := call.flag("create_pr"):
        branch = f"refs/pr/{1 + sum(name.startswith('refs/pr/') for name in repo.branches)}"
        repo.branches[branch] = before.sha
    try:
        made = hub.store.commit(
            repo,
            entries.values(),
            branch=branch,
            title=header["summary"],
            description=header.get("description", ""),
            after=header.get("parentCommit") or before.sha,
        )
    except StaleParentError as error:
        message = "A commit has happened since. Please refresh and try again."
        raise RefusalError(412, message) from error
    url = f"{hub.endpoint}/{repo.id}"
    told = {"success": True, "commitOid": made.sha, "commitUrl": f"{url}/commit/{made.sha}"}
    if proposed:
        told["pullRequestUrl"] = f"{url}/discussions/{branch.rpartition('/')[2]}"
    return Answer.json(told | {"hookOutput": ""})


def _path(value: dict[str, Any]) -> str:
    path = value.get("path")
    if not isinstance(path, str) or not all(
        part not in {"", ".", ".."} for part in path.split("/")
    ):
        raise RefusalError(400, f"Invalid path: {path!r}")
    return path


def _add_file(hub: "LocalHub", entries: dict[str, Entry], value: dict[str, Any]) -> None:
    path = _path(value)
    try:
        data = base64.b64decode(value["content"], validate=True)
    except (KeyError, TypeError, binascii.Error) as error:
        raise RefusalError(400, f"{path}: the content is not base64") from error
    if hub.store.is_large(path, len(data)):
        raise RefusalError(400, f"{path}: files of this kind and size must go through LFS")
    entries[path] = Entry(path, hub.store.objects.keep(data), lfs=False)


def _add_large(hub: "LocalHub", entries: dict[str, Entry], value: dict[str, Any]) -> None:
    path = _path(value)
    content = hub.store.objects.get(str(value.get("oid")))
    if content is None or value.get("size", content.size) != content.size:
        raise RefusalError(400, f"{path}: LFS object {value.get('oid')} has not been uploaded")
    entries[path] = Entry(path, content, lfs=True)


def _delete_file(hub: "LocalHub", entries: dict[str, Entry], value: dict[str, Any]) -> None:
    if entries.pop(_path(value), None) is None:
        message = f"A file with this name doesn't exist: {value['path']}"
        raise RefusalError(404, message, "EntryNotFound")


def _delete_folder(hub: "LocalHub", entries: dict[str, Entry], value: dict[str, Any]) -> None:
    path = _path({"path": str(value.get("path")).rstrip("/")})
    below = [name for name in entries if name.startswith(f"{path}/")]
    if not below:
        raise RefusalError(404, f"A file with this name doesn't exist: {path}/", "EntryNotFound")
    for name in below:
        del entries[name]


_OPERATIONS = {
    "file": _add_file,
    "lfsFile": _add_large,
    "deletedFile": _delete_file,
    "deletedFolder": _delete_folder,
}

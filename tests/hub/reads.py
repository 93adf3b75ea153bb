"""Questions about one repository."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from hub.answer import Answer, Call, Part, RefusalError
from hub.commit import Commit, Entry
from hub.facts import Facts, folder_in_tree, in_tree, moment, shown
from hub.pages import page
from hub.repo import Repo

if TYPE_CHECKING:
    from hub.server import LocalHub

LARGEST_DETAILED_PAGE = 50


def commit_at(repo: Repo, revision: str) -> Commit:
    """The commit of ``revision``.

    Raises:
        RefusalError: there is none.
    """
    commit = repo.at(revision)
    if commit is None:
        raise RefusalError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
    return commit


def info(hub: "LocalHub", call: Call, repo: Repo, rest: Sequence[str]) -> Answer:
    """All about a repository at a revision, files included."""
    commit = commit_at(repo, rest[0] if rest else "main")
    expand = call.query.get("expand", [])
    facts = shown(repo, commit, hub.store, expand, blobs=call.flag("blobs"))
    if call.flag("securityStatus"):
        facts["securityRepoStatus"] = {"scansDone": True, "filesWithIssues": []}
    return Answer.json(facts)


def tree(hub: "LocalHub", call: Call, repo: Repo, rest: Sequence[str]) -> Answer:
    """What lies in a folder, or anywhere below it."""
    commit = commit_at(repo, rest[0] if rest else "main")
    folder = "/".join(rest[1:]).strip("/")
    prefix = f"{folder}/" if folder else ""
    below = [entry for path, entry in commit.entries.items() if path.startswith(prefix)]
    if folder and not below:
        raise RefusalError(404, f"{folder} does not exist on {rest[0]}", "EntryNotFound")
    expand, recursive = call.flag("expand"), call.flag("recursive")
    found: dict[str, Facts] = {}
    for entry in below:
        names = entry.path[len(prefix) :].split("/")[:-1]
        for depth in range(1, 1 + (len(names) if recursive else min(len(names), 1))):
            path = prefix + "/".join(names[:depth])
            if path not in found:
                found[path] = folder_in_tree(path, repo, commit, expand=expand)
        if recursive or not names:
            found[entry.path] = in_tree(entry, repo, commit, expand=expand)
    most = min(hub.page_size, LARGEST_DETAILED_PAGE) if expand else hub.page_size
    return page(hub.endpoint, call, list(found.values()), most)


def paths_info(hub: "LocalHub", call: Call, repo: Repo, rest: Sequence[str]) -> Answer:
    """What lies at some paths; nothing is said of those where nothing lies."""
    commit = commit_at(repo, rest[0] if rest else "main")
    if "json" in call.headers.get("Content-Type", ""):
        asked = call.json()
        paths, expand = asked.get("paths", []), bool(asked.get("expand"))
    else:
        form = parse_qs(call.body.decode())
        paths, expand = form.get("paths", []), form.get("expand", [""])[-1].lower() == "true"
    found = []
    for path in paths:
        if path in commit.entries:
            found.append(in_tree(commit.entries[path], repo, commit, expand=expand))
        elif any(other.startswith(f"{path}/") for other in commit.entries):
            found.append(folder_in_tree(path, repo, commit, expand=expand))
    return Answer.json(found)


def refs(hub: "LocalHub", call: Call, repo: Repo, rest: Sequence[str]) -> Answer:
    """Branches and tags."""

    def told(kind: str, named: dict[str, str]) -> list[Facts]:
        return [
            {"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": sha}
            for name, sha in sorted(named.items())
        ]

    found: Facts = {
        "branches": told("heads", repo.branches),
        "tags": told("tags", repo.tags),
        "converts": [],
    }
    return Answer.json(found | ({"pullRequests": []} if call.flag("include_prs") else {}))


def commits(hub: "LocalHub", call: Call, repo: Repo, rest: Sequence[str]) -> Answer:
    """A revision and all before it, newest first."""
    line = repo.line(commit_at(repo, rest[0] if rest else "main"))
    told = [
        {
            "id": commit.sha,
            "title": commit.title,
            "message": commit.description,
            "authors": [{"user": repo.owner or "owner"}],
            "date": moment(commit.date),
        }
        for commit in line
    ]
    return page(hub.endpoint, call, told, min(hub.page_size, LARGEST_DETAILED_PAGE))


def safetensors_metadata(hub: "LocalHub", call: Call, repo: Repo, rest: Sequence[str]) -> Answer:
    """The headers of all shards that an index on ``main`` names."""
    hub.access.pass_gate(repo, call)
    commit, path = repo.head, "/".join(rest)
    index = commit.index(path)
    shards = sorted(set(index.get("weight_map", {}).values()))
    headers = {shard: commit.header(shard) for shard in shards}
    unread = [shard for shard, header in headers.items() if header is None]
    if path not in commit.entries or not headers or unread:
        raise RefusalError(404, f"No safetensors index {path}", "EntryNotFound")
    return Answer.json({"index": {"metadata": index.get("metadata", {})}, "headers": headers})


def auth_check(hub: "LocalHub", call: Call, repo: Repo, rest: Sequence[str]) -> Answer:
    """Whether the one who asks may read, or write, the files."""
    if "write" in rest:
        hub.access.may_write(call)
    hub.access.pass_gate(repo, call)
    return Answer.json({})


def entry_at(commit: Commit, path: str, revision: str) -> Entry:
    """The file at ``path``.

    Raises:
        RefusalError: there is none.
    """
    entry = commit.entries.get(path)
    if entry is None:
        message = f"{path} does not exist on {revision}"
        raise RefusalError(404, message, "EntryNotFound", X_Repo_Commit=commit.sha)
    return entry


def resolve(hub: "LocalHub", call: Call, repo: Repo, rest: Sequence[str]) -> Answer:
    """The bytes of a file, or for large files where they are."""
    hub.access.pass_gate(repo, call)
    revision, path = rest[0], "/".join(rest[1:])
    commit = commit_at(repo, revision)
    entry = entry_at(commit, path, revision)
    said = {"X-Repo-Commit": commit.sha, "ETag": f'"{entry.etag}"', "Accept-Ranges": "bytes"}
    if entry.lfs:
        said |= {
            "X-Linked-Etag": f'"{entry.etag}"',
            "X-Linked-Size": str(entry.content.size),
            "Location": hub.signed("repos", entry.content.sha256, path.rpartition("/")[2]),
        }
        return Answer(302, b"", said)
    said |= {"Content-Type": "text/plain; charset=utf-8"}
    return ranged(hub, entry.content.sha256, entry.content.size, call, said)


def raw(hub: "LocalHub", call: Call, repo: Repo, rest: Sequence[str]) -> Answer:
    """What git holds of a file: its bytes, or of large files a pointer."""
    hub.access.pass_gate(repo, call)
    commit = commit_at(repo, rest[0])
    entry = entry_at(commit, "/".join(rest[1:]), rest[0])
    data = entry.pointer if entry.lfs else commit.read(entry.path)
    return Answer(200, data, {"X-Repo-Commit": commit.sha, "ETag": f'"{entry.oid}"'})


def ranged(hub: "LocalHub", sha256: str, size: int, call: Call, said: dict[str, Any]) -> Answer:
    """A file, or the one range of it that is asked for; what cannot be read as a range is ignored."""
    path = hub.store.objects.path(sha256)
    unit, _, asked = call.headers.get("Range", "").partition("=")
    first, dash, last = asked.strip().partition("-")
    if unit.strip() != "bytes" or not dash or not (first + last).isdecimal():
        return Answer(200, Part(path, 0, size), said)
    if first and last and int(first) > int(last):
        return Answer(200, Part(path, 0, size), said)
    start = int(first) if first else max(size - int(last), 0)
    stop = min(int(last) + 1, size) if first and last else size
    if start >= stop:
        return Answer(416, b"", said | {"Content-Range": f"bytes */{size}"})
    said = said | {"Content-Range": f"bytes {start}-{stop - 1}/{size}"}
    return Answer(206, Part(path, start, stop - start), said)

"""A small Hugging Face Hub on the loopback interface, for tests that go through the real client.

    with LocalHub(tmp_path / "hub") as hub:
        sha = hub.add("org/model", folder)
        HfApi(endpoint=hub.endpoint).model_info("org/model")
        assert hub.log.find("GET /api/models/org/model")

It speaks what `huggingface_hub` asks for models: lists, trees, downloads by ranges, uploads through LFS, errors with their
codes. Large files come from another origin, as from the Hub's CDN. Everything that was asked is in `LocalHub.log`, and
`LocalHub.fault` lets things go wrong.
"""

import hashlib
import secrets
import threading
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, urlencode

from hub.access import Access
from hub.answer import Answer, Call, RefusalError
from hub.faults import Fault, Faults
from hub.listener import Listener
from hub.log import Log, Origin, Request
from hub.objects import Objects
from hub.reads import commit_at, ranged
from hub.repo import Gate, Repo
from hub.routes import route
from hub.store import BEGINNING, Collection, Files, Store

LARGEST_PAGE = 1000


class LocalHub:
    """A hub that lives as long as its ``with`` block.

    Attributes:
        endpoint: its address, without a slash at the end.
        cdn: the address from which large files come: another origin.
        log: all requests.
        store: all repositories.
        access: the tokens.
        page_size: entries of a page of any list.
        started: a time before all others.
    """

    def __init__(self, root: Path, *, port: int = 0):
        self.log = Log()
        self.store = Store(Objects(root))
        self.access = Access()
        self.page_size = LARGEST_PAGE
        self.started = BEGINNING
        self._faults = Faults()
        self._key = secrets.token_hex(8)
        self.closed = threading.Event()
        self._listeners = [Listener(self, "api", port), Listener(self, "cdn", 0)]
        self.endpoint, self.cdn = (listener.address for listener in self._listeners)

    def __enter__(self) -> Self:
        for listener in self._listeners:
            listener.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all connections; nothing is answered any more."""
        self.closed.set()
        for listener in self._listeners:
            listener.stop()

    @property
    def token(self) -> str:
        """Opens everything."""
        return self.access.token

    @token.setter
    def token(self, token: str) -> None:
        self.access.token = token

    @property
    def outsider_token(self) -> str:
        """Of somebody who is known, but let in nowhere."""
        return self.access.outsider

    def add(
        self,
        repo_id: str,
        files: Files,
        *,
        gated: Gate | bool | None = None,
        private: bool | None = None,
        tags: Sequence[str] = (),
        downloads: int | None = None,
        likes: int | None = None,
        message: str = "Upload model",
        branch: str = "main",
        date: datetime | None = None,
        link: bool = False,
    ) -> str:
        """A commit that holds exactly ``files``, in a repository that is made when there is none.

        Args:
            repo_id: its name.
            files: a folder, or path in the repository → bytes or a file.
            gated: "auto" or "manual", True for "auto"; None leaves it as it is.
            private: None leaves it as it is.
            tags: beside those of the card, for good.
            downloads: None leaves them as they are.
            likes: None leaves them as they are.
            message: of the commit; its first line is the title.
            branch: must exist unless the repository is new, and is "main" then.
            date: of the commit; by default, a minute after the last one of the hub.
            link: keep hard links instead of copies; nobody may write into the files then.

        Returns:
            The sha of the commit. It follows from the name, the files and all commits before.
        """
        entries = self.store.entries(files, link=link)
        repo = self.store.get(repo_id)
        title, _, description = message.partition("\n")
        if repo is None or repo.id != repo_id:
            repo = self.store.create(repo_id, entries, title=title, date=date)
        else:
            commit_at(repo, branch)
            self.store.commit(
                repo,
                entries,
                branch=branch,
                title=title,
                description=description.strip(),
                date=date,
            )
        if gated is not None:
            repo.gated = "auto" if gated is True else gated
        repo.private = repo.private if private is None else private
        repo.extra_tags = (*repo.extra_tags, *tags)
        repo.downloads = repo.downloads if downloads is None else downloads
        repo.likes = repo.likes if likes is None else likes
        return repo.branches[branch]

    def repo(self, repo_id: str) -> Repo:
        """A repository.

        Raises:
            KeyError: there is none.
        """
        repo = self.store.get(repo_id)
        if repo is None:
            raise KeyError(repo_id)
        return repo

    def branch(self, repo_id: str, name: str, revision: str = "main") -> None:
        """A new branch, or an old one that leads elsewhere now."""
        repo = self.repo(repo_id)
        repo.branches[name] = commit_at(repo, revision).sha

    def tag(self, repo_id: str, name: str, revision: str = "main") -> None:
        """A new tag, or an old one that leads elsewhere now."""
        repo = self.repo(repo_id)
        repo.tags[name] = commit_at(repo, revision).sha

    def rename(self, old: str, new: str) -> None:
        """Let a repository have another name; the old one leads to it with status 307."""
        self.store.rename(old, new)

    def remove(self, repo_id: str) -> None:
        """Let there be no such repository any more."""
        self.store.remove(repo_id)

    def collect(
        self, slug: str, items: Sequence[str], *, title: str = "", description: str = ""
    ) -> None:
        """A collection of repositories; its slug begins with its owner."""
        title = title or slug.rpartition("/")[2]
        self.store.collections[slug] = Collection(slug, title, tuple(items), description)

    def fault(self, pattern: str, **what: Any) -> Fault:
        """Let something go wrong with requests that match ``pattern``; see `Fault` for what.

        It strikes once unless ``times`` says otherwise. Faults are tried in the order in which they were asked for.
        """
        fault = Fault(pattern, **what)
        self._faults.append(fault)
        return fault

    def clear_faults(self) -> None:
        """Let nothing go wrong any more."""
        self._faults.clear()

    def strike(self, request: Request) -> Fault | None:
        """The fault that strikes ``request``, counted."""
        return self._faults.strike(request)

    def expire_urls(self) -> None:
        """Let all addresses of the CDN that were given out be refused with 403 from now on."""
        self._key = secrets.token_hex(8)

    def signed(self, kind: str, sha256: str, name: str = "") -> str:
        """An address of the CDN that is good until `expire_urls`.

        Args:
            kind: "repos" to get a file, "uploads" to put one.
            sha256: of the file.
            name: under which it is to be saved.
        """
        query = {"Signature": self._signature(kind, sha256)}
        if name:
            shown = f"inline; filename*=UTF-8''{quote(name)}; filename=\"{name}\";"
            query = {"response-content-disposition": shown} | query
        return f"{self.cdn}/{kind}/{sha256}?{urlencode(query)}"

    def _signature(self, kind: str, sha256: str) -> str:
        return hashlib.sha256(f"{self._key} {kind} {sha256}".encode()).hexdigest()[:32]

    def answer(self, origin: Origin, call: Call) -> Answer:
        """Answer a request; what is refused is an answer too."""
        try:
            return route(self, call) if origin == "api" else self._deliver(call)
        except RefusalError as refusal:
            return refusal.answer
        except (KeyError, TypeError, IndexError) as error:
            return RefusalError(400, f"Malformed request: {error!r}").answer

    def _deliver(self, call: Call) -> Answer:
        """A large file, to whom has an address that is good."""
        kind, sha256 = call.parts if len(call.parts) == 2 else ("", "")
        if call.one("Signature") != self._signature(kind, sha256):
            denied = b"<Error><Code>AccessDenied</Code><Message>Access denied</Message></Error>"
            return Answer(403, denied, {"Content-Type": "application/xml"})
        content = self.store.objects.get(sha256)
        if call.method == "PUT" and kind == "uploads":
            said = {"ETag": f'"{sha256}"'}
            return Answer(200, b"", said) if content else Answer(400, b"not what was announced")
        if content is None or call.method not in {"GET", "HEAD"}:
            return Answer(404, b"not found")
        said = {"ETag": f'"{sha256}"', "Accept-Ranges": "bytes"}
        return ranged(self, sha256, content.size, call, said | _disposition(call))


def _disposition(call: Call) -> dict[str, str]:
    shown = call.one("response-content-disposition")
    return {"Content-Disposition": shown} if shown else {}

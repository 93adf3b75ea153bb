"""The Hugging Face Hub: what is there, small files whole, large ones in parts. A door to huggingface_hub.

Where a large file lies is asked once; its parts are then read from there. Every answer is checked against what was listed.
"""

import hashlib
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Any
from urllib.parse import quote, urlencode

from registry.documents import decoded, parse_json
from registry.errors import BadDocument, DamagedDownload, HubBusy
from registry.hub_requests import PART, WHOLE, Answer, Requests, refuse, strange
from registry.names import HUB, Address, printable
from registry.version import VERSION

_EXPIRED = (401, 403, 404, 410)  # of the place of a large file, which is signed for a time
_PAGE = 1000
_MOST_PLACES = 4096  # that are remembered: a signed one has a kilobyte or two
_MAX_ANSWER_BYTES = 50_000_000
_SHA256_DIGITS = 64

_COMMIT = re.compile("[0-9a-f]{40}")
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


@dataclass(frozen=True)
class Listed:
    """A repository as the Hub names it.

    Attributes:
        name: "org/name", the one it has now.
        commit: of the revision that was asked for, 40 hex digits.
        asked: the name it was asked by.
    """

    name: str
    commit: str
    asked: str

    @property
    def uri(self) -> str:
        """Its address at this commit; without one while none is known."""
        return HUB + self.name + (f"@{self.commit}" if self.commit else "")


@dataclass(frozen=True)
class HubFile:
    """One file of a repository as its tree lists it; attributes as those of `registry.file_ref.FileRef`."""

    path: str
    size_bytes: int
    etag: str
    xet: str | None


class Hub:
    """One Hub; safe to use from several threads.

    Every method may raise HubMissing, HubRefused, HubBusy and RequestsSpent as `registry.hub_requests` does.

    Attributes:
        requests: through which it is asked.
    """

    def __init__(self, requests: Requests) -> None:
        self.requests = requests
        self._places: dict[str, str] = {}
        self._lock = Lock()

    def listed(self, address: Address) -> Iterator[Listed]:
        """The repositories that an address of kind "owner", "search" or "collection" means, in the Hub's order.

        Raises:
            HubMissing: there is no such collection.
            HubBusy, RequestsSpent: as every request.
        """
        if address.kind == "collection":
            yield from self._collected(address)
            return
        query = [("author", address.name)] if address.kind == "owner" else address.asked
        limit = next((int(value) for key, value in query if key == "limit"), None)
        asked = [("filter", f"base_model:{v}") if k == "base_model" else (k, v)
                 for k, v in query if k != "limit"]  # fmt: skip
        asked += [("expand", "sha"), ("limit", str(min(_PAGE, limit or _PAGE)))]
        for n, item in enumerate(self._pages(str(address), "/api/models", asked)):
            if limit is not None and n >= limit:
                return
            name, commit = item.get("id"), item.get("sha")
            if isinstance(name, str):
                is_told = isinstance(commit, str) and _is_commit(commit)
                yield Listed(name, str(commit) if is_told else "", name)

    def pin(self, name: str, revision: str | None = None) -> Listed:
        """Ask which commit a branch or tag of a repository is, the main one without ``revision``, and what it is called now.

        Raises:
            HubMissing: no such repository or revision, or it is private.
            HubRefused, HubBusy, RequestsSpent: as every request.
        """
        what = HUB + name + (f"@{revision}" if revision else "")
        path = f"/api/models/{name}" + (f"/revision/{quote(revision, safe='')}" if revision else "")
        found = self._document(what, path, [("expand", "sha")])
        now, commit = found.get("id"), found.get("sha")
        if not isinstance(now, str) or not isinstance(commit, str) or not _is_commit(commit):
            message = f"{what}: the Hub names no commit ({printable(str(commit))[:80]})"
            raise HubBusy(message, hint=f"reg scan {what} later")
        return Listed(now, commit, name)

    def is_private(self, name: str) -> bool:
        """Whether only its owners see a repository.

        Raises:
            HubMissing: there is none that we may see.
            HubRefused, HubBusy, RequestsSpent: as every request.
        """
        found = self._document(HUB + name, f"/api/models/{name}", [("expand", "private")])
        return found.get("private") is True

    def files(self, repository: Listed) -> tuple[HubFile, ...]:
        """Every file of a repository at its commit, in the Hub's order."""
        path = f"/api/models/{repository.name}/tree/{repository.commit}"
        found = self._pages(repository.uri, path, [("recursive", "true"), ("limit", str(_PAGE))])
        return tuple(file for item in found if (file := _file(item)))

    def read(self, repository: Listed, file: HubFile) -> bytes:
        """All bytes of a file that is as small as its listing says.

        Raises:
            DamagedDownload: what came is not what is listed.
        """
        content = self.part(repository, file, 0, file.size_bytes) if file.size_bytes else b""
        if len(file.etag) == _SHA256_DIGITS:
            found = hashlib.sha256(content).hexdigest()
        else:
            blob = b"blob %d\0" % len(content) + content
            found = hashlib.sha1(blob, usedforsecurity=False).hexdigest()
        if found != file.etag:
            message = f"{repository.uri}: {file.path} has the digest {found}; it is listed with {file.etag}"
            raise DamagedDownload(message, hint=f"reg scan {repository.uri} later")
        return content

    def part(self, repository: Listed, file: HubFile, start: int, stop: int) -> bytes:
        """The bytes [start, stop) of a file: one request, and one more the first time a large file is read.

        Raises:
            DamagedDownload: other or fewer bytes came.
        """
        what = f"{repository.uri}/{file.path}"
        asked = {"Range": f"bytes={start}-{stop - 1}", "Accept-Encoding": "identity"}
        first = f"{self.requests.endpoint}/{repository.name}/resolve/{repository.commit}/{quote(file.path)}"
        known = self._places.get(first)
        answer = self.requests.get(what, known or first, asked, stop - start)
        if known and answer.status in _EXPIRED:
            answer = self.requests.get(what, first, asked, stop - start)
        refuse(what, answer)
        with self._lock:
            self._places.pop(first, None)
            if not self.requests.is_ours(answer.url) and answer.status in (WHOLE, PART):
                self._places[first] = answer.url
            if len(self._places) > _MOST_PLACES:
                del self._places[next(iter(self._places))]
        return _checked(what, answer, file.size_bytes, start, stop)

    def download(self, repository: Listed, paths: list[str]) -> str:
        """Fetch files through the library's cache: the snapshot's folder; those that are there are not fetched again.

        Args:
            repository: at its commit.
            paths: patterns of paths in it.

        Raises:
            HubBusy: it could not be fetched.
        """
        from huggingface_hub import snapshot_download  # noqa: PLC0415 (as above)
        from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined] # noqa: PLC0415

        if not sys.stderr.isatty():
            disable_progress_bars()
        try:
            return snapshot_download(
                repository.name, revision=repository.commit, allow_patterns=paths,
                endpoint=self.requests.endpoint, library_name="homolog", library_version=VERSION,
            )  # fmt: skip
        except (OSError, ValueError) as error:  # all errors of the library are one of both
            message = f"{repository.uri}: could not be fetched: {type(error).__name__}"
            raise HubBusy(message, hint=f"hf download {repository.name}") from error

    def _collected(self, address: Address) -> Iterator[Listed]:
        """The models of a collection, each asked for its commit."""
        found = self._document(str(address), f"/api/collections/{address.name}", [])
        items = found.get("items")
        for item in items if isinstance(items, list) else []:
            if (
                isinstance(item, dict)
                and item.get("type") == "model"
                and isinstance(item.get("id"), str)
            ):
                yield Listed(item["id"], "", item["id"])

    def _pages(
        self, what: str, path: str, query: list[tuple[str, str]]
    ) -> Iterator[dict[str, Any]]:
        """The objects of a list that comes in pages.

        Raises:
            HubBusy: the list does not end at its end: who took its beginning for all of it would forget the rest.
        """
        url: str | None = f"{self.requests.endpoint}{path}?{urlencode(query)}"
        seen: set[str] = set()
        while url is not None:
            if url in seen or not self.requests.is_ours(url):
                raise strange(
                    what, f"a next page that is none of its own ({printable(url)[:80]!r})"
                )
            seen.add(url)
            answer = self.requests.get(what, url, {}, _MAX_ANSWER_BYTES)
            refuse(what, answer)
            items = _parsed(what, answer)
            yield from (item for item in items if isinstance(item, dict))
            url = answer.next_page

    def _document(self, what: str, path: str, query: list[tuple[str, str]]) -> dict[str, Any]:
        """The object at a path of the Hub."""
        asked = f"?{urlencode(query)}" if query else ""
        answer = self.requests.get(
            what, f"{self.requests.endpoint}{path}{asked}", {}, _MAX_ANSWER_BYTES
        )
        refuse(what, answer)
        found = _parsed(what, answer)
        if isinstance(found, dict):
            return found
        raise strange(what, "a list in the place of an object")


def _checked(what: str, answer: Answer, size: int, start: int, stop: int) -> bytes:
    """The bytes [start, stop) of an answer, once it is sure that it is them."""
    if answer.status == WHOLE and (start, stop) == (0, size):
        span = answer.content
    elif answer.status == PART:
        said = _CONTENT_RANGE.fullmatch(answer.headers.get("content-range", "").strip())
        if (
            not said
            or (int(said[1]), int(said[2]) + 1) != (start, stop)
            or said[3] not in ("*", str(size))
        ):
            message = f"{what}: asked for bytes {start} to {stop} of {size}, got {said[0] if said else 'others'}"
            raise DamagedDownload(message, hint="scan the repository again")
        span = answer.content
    else:
        message = f"{what}: the server gives no parts of files (status {answer.status})"
        raise DamagedDownload(message, hint="hf download the repository and scan hf-cache:")
    if len(span) != stop - start:
        message = f"{what}: got {len(span)} of the {stop - start} bytes asked for"
        raise DamagedDownload(message, hint="scan the repository again")
    return span


def _parsed(what: str, answer: Answer) -> Any:
    """The JSON of an answer."""
    if len(answer.content) > _MAX_ANSWER_BYTES:
        raise strange(what, f"more than {_MAX_ANSWER_BYTES} bytes")
    try:
        return parse_json(decoded(answer.content, where=what), where=what)
    except BadDocument as error:
        raise strange(what, "no JSON") from error


def _file(item: Mapping[str, Any]) -> HubFile | None:
    """One line of a tree; None for a folder."""
    lfs = item.get("lfs")
    large = lfs if isinstance(lfs, dict) else {}
    path, size = item.get("path"), item.get("size")
    etag = large.get("oid") or large.get("sha256") or item.get("oid")
    if item.get("type") != "file" or not isinstance(path, str) or not isinstance(etag, str):
        return None
    xet = item.get("xetHash")
    known = size if isinstance(size, int) and size >= 0 else 0
    return HubFile(path, known, etag.lower(), xet if isinstance(xet, str) else None)


def _is_commit(text: str) -> bool:
    """Whether it is a commit in full."""
    return _COMMIT.fullmatch(text) is not None

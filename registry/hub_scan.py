"""Scanning the Hub: which repositories there are, which of them the catalog does not know yet, and what is in those.

A repository is known at a commit; one that has not moved costs no request beyond the list that names it. What was read
is written every few seconds, so that a scan that is stopped, by whomever, goes on where it was.
"""

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace

from registry.catalog import Catalog
from registry.entry import Entry, forget, store
from registry.errors import HubBusy, RegError, RequestsSpent
from registry.hub import Hub, Listed
from registry.hub_requests import Requests
from registry.hub_source import Tokenizers, read_repository, unreadable
from registry.names import HUB, Address
from registry.progress import SILENT, Progress
from registry.resolve import mark_unresolved

JOBS = 8
"""Repositories that are read at once, unless the user says otherwise."""

_LATER = "run the same command again later; what is done is kept"
_SECONDS = 2.0  # after which what was read is written
_BATCH = 256
_MOST_BUSY = 16  # repositories one after the other that the Hub has no time for
_AGAIN = ("HubBusy", "HubRefused", "HubMissing", "OSError")
"""Errors that may pass; of repositories that nobody named, only the first is tried again."""

_UNREAD = "GGUF without its header"


@dataclass
class HubScan:
    """What a scan of the Hub did.

    Attributes:
        uris: of the places that the addresses mean, as they are now, in order.
        n_new: of them that the catalog did not know.
        n_updated: whose repository moved.
        gone: places that are there no longer, or at another commit now.
        n_requests: that were made.
        n_bytes: of answers.
        stopped: why it ended early.
    """

    uris: list[str] = field(default_factory=list)
    n_new: int = 0
    n_updated: int = 0
    gone: list[str] = field(default_factory=list)
    n_requests: int = 0
    n_bytes: int = 0
    stopped: RegError | None = None


@dataclass(frozen=True)
class _Target:
    """A repository that is meant: by what the user typed, and what is known of it so far."""

    address: Address
    name: str
    commit: str

    @property
    def is_named(self) -> bool:
        """Whether the user named this very repository."""
        return self.address.kind == "hub"


def scan_hub(
    catalog: Catalog, addresses: Sequence[Address], *, jobs: int | None = None,
    most_requests: int | None = None, progress: Progress = SILENT, with_gguf: bool = False,
) -> HubScan:  # fmt: skip
    """Index every repository that ``addresses`` mean, by its headers; claims are left to be resolved.

    Args:
        catalog: where the rows go.
        addresses: of the Hub.
        jobs: repositories at once; default: `JOBS`.
        most_requests: after so many the scan ends, and keeps what it has.
        progress: told of every repository.
        with_gguf: read headers of GGUF, also in repositories that are known without them.

    Raises:
        Offline: HF_HUB_OFFLINE is set.
        HubMissing, HubRefused, HubBusy: a list of repositories cannot be had.
    """
    done = HubScan()
    with Requests(most_requests=most_requests) as requests:
        hub = Hub(requests)
        try:
            targets = list(_targets(hub, addresses))
            known = _remembered(catalog, with_gguf=with_gguf)
            todo = []
            for target in targets:
                if _is_known(target, known):
                    done.uris += known[target.name].at(target.commit)
                else:
                    todo.append(target)
            done.gone = _left(addresses, targets, known)
            progress.start("index", len(todo))
            tokenizers = _tokenizers(catalog) if todo else {}
            scan = _Scan(catalog, hub, known, tokenizers, done, with_gguf)
            catalog.database.let_go()
            _read_all(scan, todo, jobs or JOBS, progress)
        except RequestsSpent as error:
            done.stopped = error
        finally:
            done.n_requests, done.n_bytes = requests.n_requests, requests.n_bytes
    return done


def _targets(hub: Hub, addresses: Iterable[Address]) -> Iterator[_Target]:
    """The repositories that are meant, each once."""
    seen = set()
    for address in addresses:
        if address.kind == "hub":
            is_commit = address.revision is not None and len(address.revision) == 40  # noqa: PLR2004
            commit = address.revision or "" if is_commit else ""
            found = iter([_Target(address, address.name, commit)])
        else:
            found = (_Target(address, one.name, one.commit) for one in hub.listed(address))
        for target in found:
            key = (target.name, target.address.revision)
            if key not in seen:
                seen.add(key)
                yield target


@dataclass(frozen=True)
class _Repository:
    """What the catalog holds of a repository: uri → (the name of the place, reasons for which it is read again).

    Reasons are errors of a place that is bad and, where headers of GGUF are wanted, `_UNREAD`.
    """

    places: dict[str, tuple[str, tuple[str, ...]]] = field(default_factory=dict)

    def at(self, commit: str) -> list[str]:
        """Its places at a commit."""
        return [uri for uri in self.places if _commit_of(uri) == commit]


def _remembered(catalog: Catalog, *, with_gguf: bool) -> dict[str, _Repository]:
    """What the catalog holds of the Hub, by name of the repository."""
    found: dict[str, _Repository] = defaultdict(_Repository)
    if catalog.is_made:
        rows = catalog.rows(
            "select uri, coalesce(any_value(a.name), '') as name, "
            "list(p.error order by p.error) filter (p.error is not null and a.name is null) as errors, "
            "bool_or(m.status = 'header' and m.n_tensors is null) as unread "
            "from store.address a full join store.problem p using (uri) "
            "left join store.model m on m.id = a.model_id "
            "where starts_with(uri, ?) and a.source is distinct from 'listing' group by uri order by uri",
            [HUB],
        )
        for row in rows:
            name = row["uri"].removeprefix(HUB).partition("@")[0]
            unread = (_UNREAD,) if with_gguf and row["unread"] else ()
            found[name].places[row["uri"]] = (row["name"], (*(row["errors"] or ()), *unread))
    return found


def _is_known(target: _Target, known: Mapping[str, _Repository]) -> bool:
    """Whether the catalog holds a repository as it is now."""
    if not target.commit or target.name not in known:
        return False
    repository = known[target.name]
    again = (*(_AGAIN if target.is_named else _AGAIN[:1]), _UNREAD)
    there = repository.at(target.commit)
    return bool(there) and not any(e in again for uri in there for e in repository.places[uri][1])


def _left(
    addresses: Sequence[Address], targets: Sequence[_Target], known: Mapping[str, _Repository]
) -> list[str]:
    """The known places of owners that were listed whole and have those repositories no longer."""
    names = {target.name for target in targets}
    owners = {f"{address.name}/" for address in addresses if address.kind == "owner"}
    return [
        uri
        for name, repository in known.items()
        if name not in names and any(name.startswith(owner) for owner in owners)
        for uri, (called, _) in repository.places.items()
        if "@" not in called
    ]


def _commit_of(uri: str) -> str:
    """The commit in the address of a place; "" where none is known."""
    return uri.partition("@")[2].partition("/")[0]


def _tokenizers(catalog: Catalog) -> Tokenizers:
    """Fingerprints of the tokenizers of places that the Hub listed."""
    if not catalog.is_made:
        return {}
    rows = catalog.rows(
        "select a.tokenizer, list([f.path, f.etag] order by f.path) as files from store.file f "
        "join store.address a using (uri) where f.format = 'tokenizer' and a.tokenizer is not null "
        "group by uri, a.tokenizer having count(*) = count(f.etag)"
    )
    return {frozenset((p, e) for p, e in row["files"]): row["tokenizer"] for row in rows}


@dataclass(frozen=True)
class _Scan:
    """What the parts of one scan share: where rows go, who is asked, what is known, what is done and how."""

    catalog: Catalog
    hub: Hub
    known: Mapping[str, _Repository]
    tokenizers: Tokenizers
    done: HubScan
    with_gguf: bool


def _read_all(scan: _Scan, todo: Sequence[_Target], jobs: int, progress: Progress) -> None:
    """Read repositories, several at once, and write them as they come."""
    pool = ThreadPoolExecutor(jobs, thread_name_prefix="hub")
    futures = [pool.submit(_read, scan, target) for target in todo]
    waiting: list[_Read] = []
    since = time.monotonic()
    n_busy = 0
    try:
        for future in as_completed(futures):
            one = future.result()
            waiting.append(one)
            progress.advance(1)
            n_busy = n_busy + 1 if one.is_busy else 0
            if n_busy >= _MOST_BUSY:
                raise HubBusy(one.entries[0].problems[0].detail, hint=_LATER)
            if len(waiting) >= _BATCH or time.monotonic() - since > _SECONDS:
                _write(scan, waiting)
                waiting, since = [], time.monotonic()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        _write(scan, waiting)


@dataclass(frozen=True)
class _Read:
    """What came of reading a repository: nothing of one that turned out to be known."""

    target: _Target
    repository: Listed
    entries: list[Entry]

    @property
    def is_busy(self) -> bool:
        """Whether the Hub had no time for it."""
        return any(p.error == HubBusy.__name__ for entry in self.entries for p in entry.problems)


def _read(scan: _Scan, target: _Target) -> _Read:
    """Read one repository, in a thread of its own."""
    repository = Listed(target.name, target.commit, target.name)
    try:
        if not target.commit:
            repository = scan.hub.pin(target.name, target.address.revision)
            now = replace(target, name=repository.name, commit=repository.commit)
            if _is_known(now, scan.known) and not _is_renamed(scan, repository):
                return _Read(now, repository, [])
        entries = read_repository(scan.hub, repository, scan.tokenizers, with_gguf=scan.with_gguf)
    except RequestsSpent:
        raise
    except RegError as error:
        return _Read(target, repository, [unreadable(repository, error)])
    if target.is_named and target.address.revision:
        entries = [_called(entry, f"@{target.address.revision}") for entry in entries]
    return _Read(target, repository, entries)


def _is_renamed(scan: _Scan, repository: Listed) -> bool:
    """Whether the catalog still has a repository under a name that it has no longer."""
    if repository.asked == repository.name:
        return False
    old = scan.known.get(repository.asked)
    return old is None or any(not errors for _, errors in old.places.values())


def _called(entry: Entry, revision: str) -> Entry:
    """An entry under the name that the user gave, with its revision, so that other revisions may stand beside it."""
    return replace(entry, found=replace(entry.found, name=entry.found.name + revision))


def _write(scan: _Scan, read: Sequence[_Read]) -> None:
    """Write what was read, in the place of what was known of the same repositories."""
    entries = [entry for one in read for entry in one.entries]
    uris = {entry.found.uri for entry in entries}
    old = [uri for one in read for uri in _replaced(one, scan.known) if uri not in uris]
    if entries or old:
        with scan.catalog.write() as transaction:
            store(transaction, entries)
            forget(transaction, old)
            mark_unresolved(transaction)
    for one in read:
        there = [entry.found.uri for entry in one.entries]
        scan.done.uris += there or scan.known[one.target.name].at(one.repository.commit)
        if one.target.name in scan.known:
            scan.done.n_updated += len(there)
        else:
            scan.done.n_new += len(there)


def _replaced(read: _Read, known: Mapping[str, _Repository]) -> Iterator[str]:
    """The places that a repository's entries stand in for: not those of revisions asked for by name.

    Of a repository that turned out to be known those are the times when it could not be read, which have no commit.
    """
    if read.is_busy:
        return
    called = (read.target.address.revision if read.target.is_named else None) or ""
    for name in dict.fromkeys((read.target.name, read.repository.name)):
        for uri, (shown, _) in known[name].places.items() if name in known else ():
            if shown.partition("@")[2] == called if read.entries else not _commit_of(uri):
                yield uri

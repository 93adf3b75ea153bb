"""The use case `scan`: addresses → checkpoints → models, claims, scores and problems in the catalog.

Reading happens outside of transactions; what was read is written in short ones, a batch at a time, so that an
interrupted scan keeps what it has and two scans at once lose nothing. A checkpoint whose files are as the
catalog remembers them (size, time, inode) is not opened again.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from registry.catalog import Catalog
from registry.checkpoint import Problem
from registry.download import fetched
from registry.entry import Entry, adopt, forget, note_problems, read_entry, store
from registry.errors import AmbiguousModel, BadAddress, CorruptCheckpoint, FileChanged
from registry.hub import Hub
from registry.hub_cache import snapshots
from registry.hub_known import recognise
from registry.hub_requests import Requests, is_offline
from registry.hub_scan import HubScan, scan_hub
from registry.names import CACHE, HUB, Address, is_alias, is_there, parse
from registry.overtaking import Stamps, is_back, newest
from registry.pending import leave
from registry.progress import SILENT, Progress
from registry.remembered import (
    digests_of,
    is_kept,
    is_refused,
    is_unchanged,
    remembered,
    says_nothing_new,
)
from registry.remote import meant, places
from registry.resolve import is_unresolved, mark_unresolved, resolve_claims
from registry.sources import find

_BATCH = 4096
_BATCH_TENSORS = 1 << 18
_BATCH_BYTES = 4 << 30
"""A transaction is full when it has so many places, tensors, or bytes of weights that were read for it."""

_HEADER_JOBS = 8
"""Threads that read headers at least: mostly they wait for the disk."""


@dataclass(frozen=True)
class ScannedModel:
    """One line of a scan's report."""

    id: str
    name: str
    status: str


@dataclass(frozen=True)
class ScanReport:
    """What a scan did.

    Attributes:
        scanned: checkpoints found, good or bad.
        new: addresses the catalog did not know.
        unchanged: addresses whose files are as they were.
        updated: addresses whose files changed.
        gone: known addresses below a scanned folder that are no longer there.
        problems: of this scan and, for unchanged addresses, of the scan that read them.
        models: the good ones, in the order of their addresses.
        n_requests: that the Hub was asked.
        received_bytes: of its answers.
    """

    scanned: int
    new: int
    unchanged: int
    updated: int
    gone: int
    problems: tuple[Problem, ...]
    models: tuple[ScannedModel, ...]
    n_requests: int = 0
    received_bytes: int = 0


def scan(
    catalog: Catalog,
    addresses: Sequence[str],
    *,
    headers_only: bool = False,
    jobs: int | None = None,
    progress: Progress = SILENT,
    digests: Mapping[str, str] | None = None,
    most_requests: int | None = None,
    with_gguf: bool = False,
) -> ScanReport:
    """Index every checkpoint at ``addresses``; a second call on unchanged files writes nothing.

    Of repositories of the Hub only the headers are read, unless HF_HUB_OFFLINE says that the cache is meant. Claims are
    resolved once, after the last batch; a scan that is interrupted leaves that to the next one.

    Args:
        catalog: where the rows go.
        addresses: folders, files, trees, ``hf-cache:``, ``hf-cache:org/name``, and those of the Hub: see
            `registry.names`.
        headers_only: read no tensor byte; such models have status "header".
        jobs: threads that read; default: one per core, of headers alone at least eight, and `registry.hub_scan.JOBS`
            repositories of the Hub at once.
        progress: told of every byte digested, and of every repository of the Hub.
        digests: of the tensors by name, where one place was just written and they are known.
        most_requests: that the Hub is asked; what was read by then is kept.
        with_gguf: read headers of GGUF on the Hub, several megabytes of each file; else such models have no tensors. On this
            machine they are always read.

    Raises:
        BadAddress: an address that does not exist; nothing is scanned then.
        Offline: a search or a collection, when the network is not to be used.
        HubMissing, HubRefused, HubBusy: a list of repositories cannot be had, or the Hub is out of order.
        RequestsSpent: ``most_requests`` were made and repositories are left.
    """
    parsed = [parse(text) for text in addresses]
    remote = [a for a in parsed if a.is_remote]
    if remote and is_offline():
        remote = []
    here = _scan_here(
        catalog, [a for a in parsed if a not in remote], headers_only=headers_only,
        jobs=jobs or max(os.cpu_count() or 1, _HEADER_JOBS if headers_only else 1),
        progress=progress, digests=digests,
    )  # fmt: skip
    there = HubScan()
    try:
        if remote:
            there = scan_hub(
                catalog, remote, jobs=jobs, most_requests=most_requests, progress=progress,
                with_gguf=with_gguf,
            )  # fmt: skip
    finally:  # what was read counts, whatever stopped the rest
        _settle(catalog, [*here.gone, *there.gone])
    uris = list(dict.fromkeys([*here.uris, *there.uris]))
    if there.stopped:
        raise there.stopped
    return _report(
        catalog, uris, n_new=here.n_new + there.n_new, n_updated=here.n_updated + there.n_updated,
        n_gone=len(here.gone) + len(there.gone), hub=there,
    )  # fmt: skip


@dataclass(frozen=True)
class _Here:
    """What was found on this machine: the places, how many of them are new or changed, and those that are gone."""

    uris: list[str]
    n_new: int
    n_updated: int
    gone: list[str]


def _scan_here(
    catalog: Catalog, addresses: Sequence[Address], *, headers_only: bool, jobs: int,
    progress: Progress, digests: Mapping[str, str] | None,
) -> _Here:  # fmt: skip
    """Index places on this machine; what is gone and what claims mean is left to `_settle`."""
    found = {f.uri: f for address in addresses for f in find(address)}
    known, gone = remembered(catalog, found, addresses)
    todo = [f for f in found.values() if not is_unchanged(f, known.get(f.uri), headers_only)]
    if todo:
        catalog.database.let_go()  # reading weights takes long, and others may want to write
    if not headers_only:
        n_bytes = sum(f.size_bytes for t in todo for f in t.weights)
        progress.start("scan", n_bytes)

    def stamps(uri: str) -> Stamps:
        return known[uri].files if uri in known else {}

    entries = (
        read_entry(
            f, headers_only=headers_only, jobs=jobs, progress=progress,
            known=digests or digests_of(catalog, f, known.get(f.uri)),
        )
        for f in todo
    )  # fmt: skip
    closed = []
    for batch in _batches(entries, headers_only=headers_only):
        closed += [f"{e.found.uri}/" for e in batch if is_refused(e) and not e.found.files]
        news = [e for e in batch if not says_nothing_new(e, known.get(e.found.uri))]
        if news:
            with catalog.write() as transaction:
                news = newest(transaction, news, stamps)
                kept = [e for e in news if is_kept(e, known.get(e.found.uri))]
                news = [e for e in news if not is_kept(e, known.get(e.found.uri))]
                note_problems(transaction, kept)
                store(transaction, news)
                mark_unresolved(transaction)
                leave(
                    transaction, (e.reading.model for e in news if e.reading and e.reading.digests)
                )
    gone = [uri for uri in gone if not uri.startswith(tuple(closed))]
    n_new = sum(f.uri not in known for f in todo)
    return _Here(list(found), n_new, len(todo) - n_new, gone)


def _settle(catalog: Catalog, gone: Sequence[str]) -> None:
    """Forget what is gone and find out whom the claims mean, if anything changed since that was last done."""
    if catalog.is_made and (gone or is_unresolved(catalog.rows("select key from store.setting"))):
        recognise(catalog)
        with catalog.write() as transaction:
            forget(transaction, [uri for uri in gone if not is_back(uri)])
            resolve_claims(transaction)


def ensure(catalog: Catalog, text: str, *, progress: Progress = SILENT) -> str:
    """The id of the model ``text`` names; a place is scanned first, which costs nothing when nothing changed.

    A repository of the Hub is downloaded into the cache, but for what is on this machine already.

    Raises:
        UnknownModel, AmbiguousModel: as `Catalog.find`.
        BadAddress: ``text`` names many repositories.
        CorruptCheckpoint: what lies there cannot be used.
        SourceError, NotEnoughDisk: as `registry.download.fetched`.
    """
    if is_alias(text):
        return catalog.find(text)
    if text.startswith(HUB):
        return _ensure_remote(catalog, parse(text), progress)
    path = os.path.expanduser(text)  # noqa: PTH111 - unlike Path.expanduser, never raises
    is_place = is_there(path) and ("/" in text or not _is_known(catalog, text))
    if is_place or text.startswith(CACHE):
        _usable(scan(catalog, [text], progress=progress), text)
    return catalog.find(text)


def _usable(report: ScanReport, text: str) -> ScanReport:
    """A report of a scan that found a model.

    Raises:
        CorruptCheckpoint: it found none.
    """
    if not report.models and report.problems:
        message = f"{text} cannot be used: {report.problems[0].detail}"
        raise CorruptCheckpoint(message, hint=f"reg scan {text}")
    return report


def _ensure_remote(catalog: Catalog, address: Address, progress: Progress) -> str:
    """The id of a model of the Hub, whose files are here then; without a network, of one in the cache."""
    text = str(address)
    if address.kind != "hub":
        message = f"{text}: means many repositories; one is needed here"
        raise BadAddress(message, hint="give hf://org/name[@revision]")
    if is_offline() and not address.revision and any(snapshots(address.name, "main")):
        text = f"{text}@main"
    models = list(dict.fromkeys(m.id for m in _usable(scan(catalog, [text]), text).models))
    found = {} if is_offline() else places(catalog, models, prefer=f"{HUB}{address.name}@")
    inside = meant(catalog, address, models)
    if len(inside) > 1:
        message = f"{text}: holds {len(inside)} checkpoints"
        listed = ", ".join(found[model].uri for model in inside[:8] if model in found)
        raise AmbiguousModel(message, hint=f"give one of {listed or 'its commits'}")
    if is_offline():
        return inside[0]
    try:
        catalog.checkpoint(inside[0])
    except (BadAddress, FileChanged):
        with Requests() as requests:
            here = fetched(catalog, Hub(requests), found[inside[0]])
        model = _usable(scan(catalog, [here], progress=progress), text).models[0].id
        if model != inside[0]:
            with catalog.write() as transaction:
                adopt(transaction, {found[inside[0]].uri: model})
                resolve_claims(transaction)
        return model
    return inside[0]


def _is_known(catalog: Catalog, text: str) -> bool:
    """Tell whether the catalog has a model of this very name."""
    if not catalog.is_made:
        return False
    return bool(catalog.rows("select 1 from store.address where lower(name) = lower(?)", [text]))


def _batches(entries: Iterable[Entry], *, headers_only: bool) -> Iterator[list[Entry]]:
    """Cut the work into transactions, as it comes: each costs a moment of its own, and what waits is in memory."""
    batch: list[Entry] = []
    n_tensors = n_bytes = 0
    for entry in entries:
        batch.append(entry)
        n_tensors += len(entry.reading.checkpoint.tensors) if entry.reading else 0
        n_bytes += 0 if headers_only else sum(f.size_bytes for f in entry.found.weights)
        if len(batch) >= _BATCH or n_tensors >= _BATCH_TENSORS or n_bytes >= _BATCH_BYTES:
            yield batch
            batch, n_tensors, n_bytes = [], 0, 0
    if batch:
        yield batch


def _report(
    catalog: Catalog, uris: Sequence[str], *, n_new: int, n_updated: int, n_gone: int, hub: HubScan
) -> ScanReport:
    """Say what the catalog now holds of what was found."""
    models: Iterable[ScannedModel] = ()
    problems: Iterable[Problem] = ()
    if uris:
        with catalog.read() as reader:
            rows = reader.rows(
                "select uri, model_id, name, status from store.address a "
                "join store.model m on m.id = a.model_id where uri in (select store.each(?))",
                [list(uris)],
            )
            at = {r["uri"]: ScannedModel(r["model_id"], r["name"], r["status"]) for r in rows}
            models = (at[uri] for uri in uris if uri in at)
            rows = reader.rows(
                "select uri, file, error, detail from store.problem "
                "where uri in (select store.each(?)) order by uri, file, error",
                [list(uris)],
            )
            problems = (Problem(r["uri"], r["file"], r["error"], r["detail"]) for r in rows)
    return ScanReport(
        scanned=len(uris), new=n_new, unchanged=len(uris) - n_new - n_updated, updated=n_updated,
        gone=n_gone, problems=tuple(problems), models=tuple(models), n_requests=hub.n_requests,
        received_bytes=hub.n_bytes,
    )  # fmt: skip

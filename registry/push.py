"""The use case `push`: a model to the Hub, and its new address into the catalog, without another scan.

What is pushed was decided by `registry.publication`. Before a byte is sent the weights are digested again; before the commit is
made the files are looked at once more. Afterwards the catalog holds what a scan of the repository would have found there.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from registry.catalog import ID_DIGITS, Catalog, Columns
from registry.database import Transaction
from registry.entry import Entry, forget, identified, store
from registry.errors import BadAddress, FileChanged, HubBusy, HubMissing, HubRefused, Offline
from registry.fingerprint import digest_model, digest_tensors, digest_text
from registry.header import read_header
from registry.hub import Hub, Listed
from registry.hub_push import MAIN, Pushed, Target, refuse_without_token
from registry.hub_push import push as push_files
from registry.hub_requests import Requests, is_offline
from registry.hub_source import moved
from registry.license_report import ALLOWED
from registry.names import HUB, Address, parse
from registry.progress import SILENT, Progress
from registry.publication import Publication
from registry.records import Evidence
from registry.resolve import mark_unresolved, resolve_claims
from registry.sources import find
from registry.version import VERSION

_COMMIT_DIGITS = 40


@dataclass(frozen=True)
class Push:
    """A model that is on the Hub.

    Attributes:
        publication: what was pushed.
        pushed: where it is.
        uri: its address there, at the commit.
        noted: whether the catalog knows it under that address.
    """

    publication: Publication
    pushed: Pushed
    uri: str
    noted: bool


def target_of(
    text: str, *, branch: str | None = None, private: bool = False, pull_request: bool = False
) -> Target:
    """Read where to push: ``org/name``, or its address ``hf://org/name[@branch]``.

    Raises:
        BadAddress: it is no name of a repository with its owner, or names a commit.
    """
    address = parse(text if text.startswith(HUB) else HUB + text)
    if address.kind != "hub" or address.inside or address.name.count("/") != 1:
        message = f"{text!r} is not the name of a repository with its owner"
        raise BadAddress(message, hint="reg push MODEL org/name")
    named = parse(f"{HUB}{address.name}@{branch}").revision if branch else address.revision
    if branch and address.revision not in (None, branch):
        message = f"{text} names the branch {address.revision}, --revision names {branch}"
        raise BadAddress(message, hint="give one of both")
    if named and len(named) == _COMMIT_DIGITS and set(named) <= set("0123456789abcdef"):
        message = f"{named} is a commit; a push goes to a branch"
        raise BadAddress(message, hint="reg push MODEL org/name --revision BRANCH")
    if pull_request and named not in (None, MAIN):
        message = f"a pull request is opened for {MAIN}, not for {named}"
        raise BadAddress(message, hint="leave out --revision or --create-pr")
    return Target(address.name, named or MAIN, private, pull_request)


def refuse_changed(
    catalog: Catalog, publication: Publication, *, jobs: int | None = None, progress: Progress = SILENT
) -> None:  # fmt: skip
    """Digest the weights again, and refuse those that are not the model's.

    Args:
        catalog: knows the digests.
        publication: what is to be pushed.
        jobs: threads that read.
        progress: told of every byte.

    Raises:
        FileChanged: naming the first tensor that differs.
    """
    checkpoint = publication.checkpoint
    progress.start("verify", checkpoint.n_bytes)
    found = digest_tensors(checkpoint.tensors, jobs=jobs, progress=progress.advance)
    now = digest_model(found, tied=checkpoint.tied)
    if now == publication.model:
        return
    known = _digests(catalog, publication.model)
    wrong = next(
        (name for name in sorted(found) if known.get(name) not in (None, found[name])), None
    )
    where = f"{wrong} in {checkpoint.tensor(wrong).file.name}" if wrong else "its tensors"
    message = (
        f"{publication.name}: {where} at {checkpoint.root} holds other bytes than were scanned; the weights "
        f"are {now[:ID_DIGITS]} now"
    )
    raise FileChanged(message, hint=f"reg verify {checkpoint.root}")


def push(
    catalog: Catalog, publication: Publication, *, message: str | None = None,
    told: Callable[[str], None] | None = None, bars: bool = False,
) -> Push:  # fmt: skip
    """Push what was decided, in one commit, and note the new address.

    Args:
        catalog: is told of the address and of why licences were allowed to contradict.
        publication: what, and where to.
        message: of the commit; its first line is the title.
        told: hears of parents that readers of the card will not find.
        bars: show on a terminal how far the upload is.

    Raises:
        Offline: HF_HUB_OFFLINE is set.
        FileChanged: a file changed since it was looked at; nothing is committed then.
        HubRefused, HubMissing, HubMoved, HubRejected, HubBusy, DamagedDownload, Interrupted: as `registry.hub_push.push`.
    """
    target = publication.target
    if is_offline():
        text = f"hf://{target.name}: HF_HUB_OFFLINE is set; nothing was written"
        raise Offline(text, hint="unset HF_HUB_OFFLINE, or reg push --dry-run")
    refuse_without_token(f"hf://{target.name}")
    with Requests() as requests:
        hub = Hub(requests)
        if told and not target.private:
            for text in _unseen(hub, publication):
                told(text)
        catalog.database.let_go()  # sending takes long, and others may want to write
        pushed = push_files(
            hub, target, publication.uploads, message=message or f"Upload {_title(publication)}",
            is_stale=publication.contradicts, refuse_change=lambda: _refuse_touched(publication), bars=bars,
        )  # fmt: skip
    entry = _entry(catalog, publication, pushed) if pushed.files is not None else None
    with catalog.write() as transaction:
        if entry is not None:
            _note(transaction, entry, pushed)
        columns = Columns()
        columns.add(_allowances(transaction, publication, pushed))
        columns.insert(transaction, "replace")
    return Push(publication, pushed, pushed.repository.uri, noted=entry is not None)


def _title(publication: Publication) -> str:
    """What is uploaded, in the words of a commit."""
    return f"{publication.name.rpartition('/')[2]} ({publication.model[:ID_DIGITS]})"


def _unseen(hub: Hub, publication: Publication) -> Sequence[str]:
    """The parents that a public card would name and that not everybody can see."""
    found = []
    for name in dict.fromkeys(p.repository for p in publication.parents if p.repository):
        with suppress(HubBusy, HubRefused):  # gated ones can be seen by all
            try:
                if hub.is_private(name):
                    found.append(f"{name} is private, and the card names it")
            except HubMissing:
                found.append(f"{name} is not on the Hub, or private, and the card names it")
    return found


def _refuse_touched(publication: Publication) -> None:
    """Refuse files that are no longer what was looked at."""
    for upload in publication.uploads:
        if not upload.is_unchanged:
            message = f"{publication.checkpoint.root}: {upload.path} changed while it was sent; nothing was committed"
            raise FileChanged(message, hint=f"reg scan {publication.checkpoint.root}")


def _digests(catalog: Catalog, model: str) -> dict[str, str]:
    """The digests of a model's tensors, by name."""
    rows = catalog.rows("select name, digest from store.tensor where model_id = ?", [model])
    return {row["name"]: row["digest"] for row in rows if row["digest"]}


def _entry(catalog: Catalog, publication: Publication, pushed: Pushed) -> Entry | None:
    """What a scan would find of the model in the repository, read from the files here."""
    files = pushed.files or ()
    digests = _digests(catalog, publication.model)
    unknown = [t for t in publication.checkpoint.tensors if t.name not in digests]
    digests |= digest_tensors(unknown) if unknown else {}
    own = {tensor.name: digests[tensor.name] for tensor in publication.checkpoint.tensors}
    with suppress(OSError), TemporaryDirectory(prefix="homolog-") as folder:
        root = Path(folder).resolve()
        for upload in publication.uploads:
            _put(root / upload.path, upload.content)
        called = Listed(pushed.repository.name, pushed.repository.commit, pushed.repository.asked)
        entries = [
            moved(found, called, root, files, None)
            for found in find(Address("path", str(root)))
            if found.root == root or publication.checkpoint.layout == "file"
        ]
        for entry in entries:
            known = identified(entry, own)
            if known.reading is not None and known.reading.model == publication.model:
                return known
    return None  # also where there was no room: it is on the Hub by now


def _put(path: Path, content: Path | bytes) -> None:
    """Put a file where it can be read like one of the repository; of weights the header, and nothing behind it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content.suffix == ".safetensors":
        header = read_header(content)
        with path.open("xb") as out, content.open("rb") as file:
            out.write(file.read(header.data_start))
            out.truncate(header.file_bytes)
    else:
        path.write_bytes(content.read_bytes())


def _note(transaction: Transaction, entry: Entry, pushed: Pushed) -> None:
    """Write a place under the name that a scan of the branch gives it, in the stead of where that branch was before."""
    name, uri = entry.found.name, entry.found.uri
    there = transaction.rows("select name from store.address where uri = ?", [uri])
    if pushed.revision != MAIN:  # a commit on two branches keeps the name that it has
        name = there[0]["name"] if there else f"{name}@{pushed.revision}"
    if not pushed.revision.startswith("refs/pr/"):
        rows = transaction.rows(
            "select uri from store.address where starts_with(uri, ?) and name = ? and uri <> ?",
            [f"{HUB}{pushed.repository.name}@", name, uri],
        )
        forget(transaction, [row["uri"] for row in rows])
    store(transaction, [replace(entry, found=replace(entry.found, name=name))])
    mark_unresolved(transaction)
    resolve_claims(transaction)


def _allowances(
    transaction: Transaction, publication: Publication, pushed: Pushed
) -> list[Evidence]:
    """Evidence, for every edge that the card states, that a conflict was known and why the model was passed on."""
    reason, license_ = publication.allowed, publication.license
    if reason is None or not license_.conflicts:
        return []
    detail = "; ".join(finding.detail for finding in license_.conflicts)
    edges: Sequence[Mapping[str, str]] = transaction.rows(
        "select parent, relation, status from store.edge where child = ? order by parent, relation, role, status",
        [publication.model],
    )
    return [
        Evidence(
            id=digest_text(f"{ALLOWED}\0{pushed.repository.uri}\0{edge['parent']}\0{edge['relation']}\0{edge['status']}"),
            child=publication.model, parent=edge["parent"], relation=edge["relation"], status=edge["status"],
            method=ALLOWED, version=VERSION, statistic="allowed_conflict", value=None, scope="header",
            detail=f"licence conflict allowed for {pushed.repository.uri}: {reason} ({detail})",
        )
        for edge in edges
    ]  # fmt: skip

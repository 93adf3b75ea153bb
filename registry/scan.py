"""The use case `scan`: addresses → checkpoints → models, claims, scores and problems in the catalog.

Reading happens outside of transactions; what was read is written in short ones, a batch at a time, so that an
interrupted scan keeps what it has and two scans at once lose nothing. A checkpoint whose files are as the
catalog remembers them (size, time, inode) is not opened again.
"""

import json
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from registry.catalog import Catalog, Columns, now
from registry.checkpoint import Checkpoint, Problem, read_checkpoint
from registry.claims import Claim, read_claims
from registry.database import Transaction
from registry.errors import (
    BadDocument,
    CorruptCheckpoint,
    FileChanged,
    PathEscapes,
    RegError,
    Unreadable,
)
from registry.file_ref import FileRef, list_files
from registry.fingerprint import (
    MODEL_DIGEST,
    architecture_fingerprint,
    digest_model,
    digest_tensors,
    digest_text,
    tokenizer_fingerprint,
)
from registry.names import parse
from registry.progress import SILENT, Progress
from registry.records import Address, File, Model
from registry.records import Claim as ClaimRow
from registry.records import Problem as ProblemRow
from registry.resolve import resolve_claims
from registry.scores import Score, read_scores, score_row
from registry.sources import Found, find
from registry.tensor_name import layer_of, module_of

_BATCH = 256
_BATCH_BYTES = 4 << 30


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
    """

    scanned: int
    new: int
    unchanged: int
    updated: int
    gone: int
    problems: tuple[Problem, ...]
    models: tuple[ScannedModel, ...]


@dataclass(frozen=True)
class _Entry:
    """One address as it was read; ``checkpoint`` is None when it could not be."""

    found: Found
    checkpoint: Checkpoint | None
    model: Model | None
    digests: dict[str, str]
    tokenizer: str | None
    claims: tuple[Claim, ...]
    scores: tuple[Score, ...]
    problems: tuple[Problem, ...]


@dataclass(frozen=True)
class _Known:
    """What the catalog remembers of an address."""

    files: dict[str, tuple[int, int, int]]
    model_id: str | None
    status: str | None


def scan(
    catalog: Catalog,
    addresses: Sequence[str],
    *,
    headers_only: bool = False,
    jobs: int | None = None,
    progress: Progress = SILENT,
) -> ScanReport:
    """Index every checkpoint at ``addresses``; a second call on unchanged files writes nothing.

    Args:
        catalog: where the rows go.
        addresses: folders, files, trees, ``hf-cache:`` or ``hf-cache:org/name``.
        headers_only: read no tensor byte; such models have status "header".
        jobs: threads that read; default: one per core.
        progress: told of every byte digested.

    Raises:
        BadAddress: an address that does not exist; nothing is scanned then.
    """
    jobs = jobs or os.cpu_count() or 1
    parsed = [parse(text) for text in addresses]
    found = {f.uri: f for address in parsed for f in find(address)}
    known = _remembered(catalog)
    todo = [f for f in found.values() if not _unchanged(f, known.get(f.uri), headers_only)]
    roots = [str(a.path.resolve()) for a in parsed if a.kind == "path"]
    gone = [uri for uri in known if uri not in found and _below(uri, roots)]
    progress.start("scan", sum(f.size_bytes for t in todo for f in t.files if f.format == "safetensors"))
    for batch in _batches(todo):
        entries = _read_all(batch, headers_only, jobs, progress)
        with catalog.write() as transaction:
            _store(transaction, entries)
            resolve_claims(transaction)
    if gone:
        with catalog.write() as transaction:
            _forget(transaction, gone)
            resolve_claims(transaction)
    n_new = sum(f.uri not in known for f in todo)
    return _report(catalog, found, n_new, len(todo) - n_new, len(gone))


def ensure(catalog: Catalog, text: str, *, progress: Progress = SILENT) -> str:
    """The id of the model ``text`` names; a path is scanned first, which costs nothing when nothing changed."""
    path = Path(text).expanduser()
    if path.exists() and ("/" in text or path.is_file() or not _is_known(catalog, text)):
        report = scan(catalog, [text], progress=progress)
        if not report.models and report.problems:
            first = report.problems[0]
            raise CorruptCheckpoint(f"{text} cannot be used: {first.detail}", hint="reg scan " + text)
    return catalog.find(text)


def _is_known(catalog: Catalog, text: str) -> bool:
    """Tell whether the catalog has a model of this very name."""
    if not catalog.path.exists():
        return False
    return bool(catalog.rows("select 1 from store.address where lower(name) = lower(?)", [text]))


def _remembered(catalog: Catalog) -> dict[str, _Known]:
    """Every address of the catalog with its files."""
    if not catalog.path.exists():
        return {}
    files: dict[str, dict[str, tuple[int, int, int]]] = defaultdict(dict)
    for r in catalog.rows("select uri, path, size_bytes, mtime_ns, inode from store.file"):
        files[r["uri"]][r["path"]] = (r["size_bytes"], r["mtime_ns"], r["inode"])
    models = {
        r["uri"]: (r["model_id"], r["status"])
        for r in catalog.rows(
            "select uri, model_id, status from store.address a join store.model m on m.id = a.model_id"
        )
    }
    uris = catalog.rows("select uri from store.problem union select uri from store.address")
    return {
        r["uri"]: _Known(files.get(r["uri"], {}), *models.get(r["uri"], (None, None))) for r in uris
    }


def _unchanged(found: Found, known: _Known | None, headers_only: bool) -> bool:  # noqa: FBT001
    """Tell whether the catalog already holds what a scan of ``found`` would write."""
    if known is None or (known.status == "header" and not headers_only):
        return False
    return known.files == {f.path: (f.size_bytes, f.mtime_ns, f.inode) for f in found.files}


def _below(uri: str, roots: Iterable[str]) -> bool:
    """Tell whether a local address lies in one of the scanned folders."""
    return any(uri == root or uri.startswith(root.rstrip("/") + "/") for root in roots)


def _batches(todo: Sequence[Found]) -> Iterator[list[Found]]:
    """Cut the work into transactions, by count and by bytes."""
    batch: list[Found] = []
    n_bytes = 0
    for found in todo:
        batch.append(found)
        n_bytes += sum(f.size_bytes for f in found.files)
        if len(batch) >= _BATCH or n_bytes >= _BATCH_BYTES:
            yield batch
            batch, n_bytes = [], 0
    if batch:
        yield batch


def _read_all(
    batch: Sequence[Found], headers_only: bool, jobs: int, progress: Progress  # noqa: FBT001
) -> list[_Entry]:
    """Read a batch: many checkpoints side by side, or the tensors of one."""
    if len(batch) < jobs:
        return [_read(found, headers_only, jobs, progress) for found in batch]
    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(lambda found: _read(found, headers_only, 1, progress), batch))


def _read(found: Found, headers_only: bool, jobs: int, progress: Progress) -> _Entry:  # noqa: FBT001
    """Read one address; whatever is wrong with it becomes its problems."""
    try:
        checkpoint = read_checkpoint(found.root, found.files)
        digests: dict[str, str] = {}
        if not headers_only:
            digests = digest_tensors(checkpoint.tensors, jobs=jobs, progress=progress.advance)
            _refuse_change(found)
    except (CorruptCheckpoint, FileChanged, Unreadable, OSError) as error:
        kind = error.kind if isinstance(error, RegError) else type(error).__name__
        file = str(getattr(error, "filename", None) or "")
        problem = Problem(found.uri, Path(file).name, kind, str(error))
        return _Entry(found, None, None, {}, None, (), (), (problem,))
    claims, claim_problems = read_claims(checkpoint)
    scores, score_problems = read_scores(checkpoint)
    problems = [*checkpoint.problems, *claim_problems, *score_problems]
    try:
        tokenizer = tokenizer_fingerprint(found.root)
    except (BadDocument, PathEscapes, Unreadable) as error:
        tokenizer = None
        problems.append(Problem(found.uri, "tokenizer", error.kind, error.message))
    unique = {(p.file, p.error): replace(p, address=found.uri) for p in problems}
    return _Entry(
        found, checkpoint, _model(found, checkpoint, digests), digests, tokenizer, claims, scores,
        tuple(unique.values()),
    )  # fmt: skip


def _refuse_change(found: Found) -> None:
    """Refuse what changed while it was read: its digest would belong to no file that ever was."""
    if _identity(list_files(found.root)) != _identity(found.files):
        message = f"{found.root} changed while it was read"
        raise FileChanged(message, hint=f"reg scan {found.root} when nothing writes there")


def _identity(files: Iterable[FileRef]) -> set[tuple[str, int, int]]:
    """What tells one state of a folder's weights from another."""
    return {(f.path, f.size_bytes, f.mtime_ns) for f in files if f.format in ("safetensors", "index")}


def _model(found: Found, checkpoint: Checkpoint, digests: dict[str, str]) -> Model:
    """The node of a checkpoint."""
    signature = architecture_fingerprint(checkpoint.tensors)
    by_dtype: dict[str, int] = defaultdict(int)
    for tensor in checkpoint.tensors:
        by_dtype[tensor.dtype] += tensor.n_bytes
    if digests:
        identity, status, name = digest_model(digests, tied=checkpoint.tied), "full", MODEL_DIGEST
    else:
        identity, status = digest_text(f"header\0{found.uri}\0{signature}"), "header"
        name = "blake3-header-1"
    return Model(
        id=identity, kind=checkpoint.kind, status=status, digest_name=name, signature=signature,
        dtype=max(sorted(by_dtype), key=by_dtype.__getitem__), n_params=checkpoint.n_params,
        n_bytes=checkpoint.n_bytes, n_tensors=len(checkpoint.tensors), created_at=now(),
    )  # fmt: skip


def _store(transaction: Transaction, entries: Sequence[_Entry]) -> None:
    """Write a batch; rows of an address that was read before are replaced."""
    uris = [e.found.uri for e in entries]
    for table in ("file", "claim", "problem", "address"):
        transaction.execute(f"delete from store.{table} where uri in (select store.each(?))", [uris])
    good = [e for e in entries if e.model is not None]
    columns = Columns()
    columns.add(e.model for e in good if e.model)
    columns.add(_address(e) for e in good)
    columns.insert(transaction, "nothing")
    _store_tensors(transaction, good)
    columns.add(
        File(uri=e.found.uri, path=f.path, size_bytes=f.size_bytes, mtime_ns=f.mtime_ns,
             inode=f.inode, format=f.format)
        for e in entries for f in e.found.files
    )  # fmt: skip
    columns.add(_claim(e, claim) for e in good for claim in e.claims)
    columns.add(score_row(e.model.id, score) for e in good if e.model for score in e.scores)
    columns.add(
        ProblemRow(uri=p.address, file=p.file, error=p.error, detail=p.detail, seen_at=now())
        for e in entries for p in e.problems
    )  # fmt: skip
    columns.insert(transaction, "replace")
    _drop_unplaced_headers(transaction)


def _store_tensors(transaction: Transaction, entries: Sequence[_Entry]) -> None:
    """Write the tensors of models that have none yet."""
    models = {e.model.id: e for e in entries if e.model}
    known = transaction.rows(
        "select distinct model_id from store.tensor where model_id in (select store.each(?))", [list(models)]
    )
    for row in known:
        del models[row["model_id"]]
    rows = [
        (i, t.name, t.dtype, json.dumps(t.shape), t.n_params, t.n_bytes, layer_of(t.name),
         module_of(t.name), e.digests.get(t.name))
        for i, e in models.items() if e.checkpoint for t in e.checkpoint.tensors
    ]  # fmt: skip
    names = ("model_id", "name", "dtype", "shape", "n_params", "n_bytes", "layer", "module", "digest")
    if rows:
        columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
        transaction.insert("tensor", columns, "nothing")


def _address(entry: _Entry) -> Address:
    """The row of a good address."""
    checkpoint, model = entry.checkpoint, entry.model
    assert checkpoint is not None and model is not None  # noqa: S101, PT018 - only called for good ones
    config = checkpoint.config
    architectures = config.get("architectures")
    first = architectures[0] if isinstance(architectures, list) and architectures else None
    family = config.get("model_type")
    licenses = [c.object for c in entry.claims if c.predicate == "license"]
    shown = checkpoint.adapter_config if checkpoint.kind == "adapter" else config
    return Address(
        uri=entry.found.uri, root=str(entry.found.root), model_id=model.id,
        source="hf-cache" if entry.found.uri.startswith("hf-cache:") else "local",
        layout=checkpoint.layout, name=entry.found.name,
        architecture=None if first is None else str(first),
        family=None if family is None else str(family), tokenizer=entry.tokenizer,
        license=licenses[0] if licenses else None,
        config=json.dumps(shown, sort_keys=True), seen_at=now(),
    )  # fmt: skip


def _claim(entry: _Entry, claim: Claim) -> ClaimRow:
    """The row of a claim."""
    assert entry.model is not None  # noqa: S101 - only called for good ones
    place = f"{entry.found.uri}\0{claim.source}\0{claim.predicate}\0{claim.object}"
    return ClaimRow(
        id=digest_text(place), uri=entry.found.uri, model_id=entry.model.id,
        predicate=claim.predicate, object=claim.object, relation=claim.relation,
        coefficient=claim.coefficient, source=claim.source, raw=claim.raw, resolved_id=None,
    )  # fmt: skip


def _forget(transaction: Transaction, uris: list[str]) -> None:
    """Drop addresses that are no longer there; their models stay, without a place."""
    for table in ("file", "claim", "problem", "address"):
        transaction.execute(f"delete from store.{table} where uri in (select store.each(?))", [uris])
    _drop_unplaced_headers(transaction)


def _drop_unplaced_headers(transaction: Transaction) -> None:
    """Drop header-only models that have no place left: their identity was the place."""
    unplaced = "status = 'header' and id not in (select model_id from store.address)"
    transaction.execute(
        f"delete from store.tensor where model_id in (select id from store.model where {unplaced})"
    )
    transaction.execute(f"delete from store.model where {unplaced}")


def _report(
    catalog: Catalog, found: dict[str, Found], n_new: int, n_updated: int, n_gone: int
) -> ScanReport:
    """Say what the catalog now holds of what was found."""
    places: dict[str, ScannedModel] = {}
    problems: list[Problem] = []
    if found:
        for r in catalog.rows(
            "select uri, model_id, name, status from store.address a join store.model m on m.id = a.model_id"
        ):
            places[r["uri"]] = ScannedModel(r["model_id"], r["name"], r["status"])
        rows = catalog.rows("select uri, file, error, detail from store.problem order by uri, file, error")
        problems = [Problem(r["uri"], r["file"], r["error"], r["detail"]) for r in rows if r["uri"] in found]
    return ScanReport(
        scanned=len(found), new=n_new, unchanged=len(found) - n_new - n_updated, updated=n_updated,
        gone=n_gone, problems=tuple(problems), models=tuple(places[u] for u in found if u in places),
    )  # fmt: skip

"""One place of a scan: read from disk into an `Entry`, written from it into rows.

Reading never raises for what a place holds: what is wrong becomes its problems. Writing replaces all rows of a
place; rows that hang on the weights (tensors, statistics, scores) stay as long as the weights are known.
"""

import json
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache

from registry.alias import drop, follow
from registry.catalog import DECISIVE, Columns, now
from registry.checkpoint import Checkpoint, Problem, read_checkpoint
from registry.claims import Claim, read_claims
from registry.column import Column
from registry.database import Row, Transaction
from registry.errors import FileChanged, RegError
from registry.file_ref import state_of
from registry.fingerprint import (
    MODEL_DIGEST,
    architecture_fingerprint,
    digest_model,
    digest_tensors,
    digest_text,
    tokenizer_fingerprint,
)
from registry.listed import SOURCE, take_back
from registry.progress import Progress
from registry.records import references
from registry.scores import Score, read_scores, score_row
from registry.sources import Found
from registry.tensor_name import layer_of, module_of

HEADER_DIGEST = "blake3-header-1"
"""Over the signature, if known, and what the Hub calls the files, or else the address: of a model of which no tensor byte was read."""

_TABLES = ("file", "claim", "problem", "address")
"""Tables whose rows belong to a place."""


@dataclass(frozen=True)
class Reading:
    """What could be read of a good place.

    Attributes:
        checkpoint: files, tensors and config.
        model: id of the node of the graph that it is.
        signature: digest of its tensor names and shapes; None where they were not looked for.
        digests: tensor name → digest; empty when only headers were read.
        tokenizer: its fingerprint; None without one.
        claims: what its files say of its descent.
        scores: what its files say it scored.
    """

    checkpoint: Checkpoint
    model: str
    signature: str | None
    digests: dict[str, str]
    tokenizer: str | None
    claims: tuple[Claim, ...]
    scores: tuple[Score, ...]


@dataclass(frozen=True)
class Entry:
    """One place as it was read.

    Attributes:
        found: where.
        reading: None when it is no checkpoint.
        problems: at most one for each file and error.
    """

    found: Found
    reading: Reading | None
    problems: tuple[Problem, ...]


def read_entry(
    found: Found, *, headers_only: bool, jobs: int, progress: Progress,
    known: Mapping[str, str] | None = None, tokenizer: str | None = None, with_gguf: bool = True,
) -> Entry:  # fmt: skip
    """Read one place; whatever is wrong with it becomes its problems.

    Args:
        found: where.
        headers_only: read no tensor byte.
        jobs: threads that digest.
        progress: told of every byte digested.
        known: digests of the tensors by name, if they need no reading.
        tokenizer: its fingerprint, if it needs no reading.
        with_gguf: open GGUF; else nothing is known of such a model but its files and its card.
    """
    try:
        checkpoint = read_checkpoint(found.root, found.files, with_gguf=with_gguf)
        digests: dict[str, str] = {}
        if known is not None and known.keys() == {t.name for t in checkpoint.tensors}:
            digests = dict(known)
        elif not headers_only:
            digests = digest_tensors(checkpoint.tensors, jobs=jobs, progress=progress.advance)
            _refuse_change(found)
        claims, claim_problems = read_claims(checkpoint)
        scores, score_problems = read_scores(checkpoint)
    except (RegError, OSError) as error:
        return Entry(found, None, (problem_of(found, error),))
    problems = [*checkpoint.problems, *claim_problems, *score_problems]
    try:
        if tokenizer is None and any(ref.format == "tokenizer" for ref in found.files):
            tokenizer = tokenizer_fingerprint(found.root)
    except (RegError, OSError) as error:
        problems.append(problem_of(found, error))
    unique = {(p.file, p.error): replace(p, address=found.uri) for p in problems}
    signature = architecture_fingerprint(checkpoint.tensors) if checkpoint.tensors else None
    reading = Reading(checkpoint, "", signature, {}, tokenizer, claims, scores)
    return identified(Entry(found, reading, tuple(unique.values())), digests)


def identified(entry: Entry, digests: Mapping[str, str]) -> Entry:
    """A place that was read, with the model's identity: from the digests of its tensors by name, else from what is known.

    That is what the Hub calls its files, where it does, so that copies there are one model; else the place.
    """
    reading = entry.reading
    if reading is None:
        return entry
    model = _of_header(entry.found, reading)
    if digests:
        model = digest_model(digests, tied=reading.checkpoint.tied)
    return replace(entry, reading=replace(reading, model=model, digests=dict(digests)))


def _of_header(found: Found, reading: Reading) -> str:
    """The id that a model has as long as nothing but its headers is read."""
    etags = sorted(ref.etag or "" for ref in found.weights)
    known = "\n".join(etags) if found.source == "hub" and all(etags) else found.uri
    return digest_text(f"header\0{known}\0{reading.signature or ''}")


def problem_of(found: Found, error: RegError | OSError) -> Problem:
    """The row for what makes a place unusable, with the file that is to blame."""
    detail = str(error)
    inside = detail.replace(str(found.root), "", 1) if found.root.is_dir() else detail
    blamed = [ref.path for ref in found.files if ref.path in inside]
    indexes = [ref.path for ref in found.files if ref.format == "index"]
    file = max(blamed, key=len) if blamed else next(iter(indexes), "")
    kind = error.kind if isinstance(error, RegError) else type(error).__name__
    return Problem(found.uri, file, kind, detail)


def _refuse_change(found: Found) -> None:
    """Refuse what changed while it was read: its digest would belong to no file that ever was."""
    folder = found.root if found.root.is_dir() else found.root.parent
    for ref in found.files:
        if ref.format in DECISIVE or folder != found.root:
            status = os.stat(folder / ref.path)  # noqa: PTH116 - a hundred thousand times
            if state_of(status) != (ref.size_bytes, ref.mtime_ns, ref.inode, ref.ctime_ns):
                message = f"{folder / ref.path}: changed while it was read"
                raise FileChanged(message, hint=f"reg scan {found.root} when nothing writes there")


def note_problems(transaction: Transaction, entries: Sequence[Entry]) -> None:
    """Write what is wrong with places now, and let all else that is known of them stay."""
    uris = [e.found.uri for e in entries]
    transaction.execute("delete from store.problem where uri in (select store.each(?))", [uris])
    columns = Columns()
    columns.add_rows("problem", (row for e in entries for row in _problems(e)))
    columns.insert(transaction, "replace")


def store(transaction: Transaction, entries: Sequence[Entry]) -> None:
    """Write entries; rows of a place that was read before are replaced. Claims wait to be resolved then."""
    if not entries:
        return
    uris = [e.found.uri for e in entries]
    since = transaction.rows(
        "select uri, known_since from store.address where uri in (select store.each(?))", [uris]
    )
    first_seen = {row["uri"]: row["known_since"] for row in since}
    _delete(transaction, uris)
    good = [(e.found, e.reading) for e in entries if e.reading]
    _add_models(transaction, [reading for _, reading in good])
    columns = Columns()
    columns.add_rows(
        "address", (_address(found, reading, first_seen.get(found.uri)) for found, reading in good)
    )
    columns.add_rows("file", (row for e in entries for row in _files(e.found)))
    columns.add_rows("claim", (row for found, reading in good for row in _claims(found, reading)))
    columns.add(score_row(r.model, score) for _, r in good for score in r.scores)
    columns.add_rows("problem", (row for e in entries for row in _problems(e)))
    columns.insert(transaction, "replace")
    follow(transaction, {_of_header(found, r): r.model for found, r in good if r.digests})
    _drop_unplaced_headers(transaction)


def _add_models(transaction: Transaction, readings: Sequence[Reading]) -> None:
    """Write models and their tensors; what is known of them stays as it is.

    Tensors have no key in the database, so that none comes twice is seen to here: those of a model are written together
    or not at all, and only of models that were not there before is it certain without a look that they are not.
    """
    by_id = {reading.model: reading for reading in readings}
    there = [
        row["id"]
        for row in transaction.rows(
            "select id from store.model where id in (select store.each(?))", [list(by_id)]
        )
    ]
    known = there and transaction.rows(
        "select distinct model_id from store.tensor where model_id in (select store.each(?))",
        [there],
    )
    transaction.execute(  # whose weights were lost and are here again
        "delete from store.model where status = 'latent' and id in (select store.each(?))",
        [list(by_id)],
    )
    columns = Columns()
    columns.add_rows("model", (_model(reading) for reading in by_id.values()))
    columns.insert(transaction, "nothing")
    for row in known:
        del by_id[row["model_id"]]
    for reading in by_id.values():
        columns.add_columns("tensor", _tensors(reading))
    columns.insert(transaction, "error")


def adopt(transaction: Transaction, models: Mapping[str, str]) -> None:
    """Let places hold other models than they were believed to, those that their bytes make them: address → model.

    Models that were never read whole and have no place left are dropped with all that hangs on them, but for sketches,
    which are of the same bytes. Their aliases follow.
    """
    held = "select uri, model_id from store.address where uri in (select store.each(?))"
    before = transaction.rows(held, [list(models)])
    follow(transaction, {row["model_id"]: models[row["uri"]] for row in before})
    for uri, model in models.items():
        transaction.execute(
            "update store.sketch s set model_id = ? from store.address a where a.uri = ? and s.model_id = a.model_id "
            "and s.model_id <> ? and s.spec not in (select spec from store.sketch where model_id = ?)",
            [model, uri, model, model],
        )
        for table in ("address", "claim"):
            transaction.execute(
                f"update store.{table} set model_id = ? where uri = ?", [model, uri]
            )
    _drop_unplaced_headers(transaction)


def learn(
    transaction: Transaction, uri: str, checkpoint: Checkpoint, digests: Mapping[str, str]
) -> str:
    """Let a place of which only headers were read be the model that all of its bytes make; its id.

    Args:
        transaction: of the catalog.
        uri: the place.
        checkpoint: what is there.
        digests: of its tensors, by name.
    """
    signature = architecture_fingerprint(checkpoint.tensors)
    model = digest_model(digests, tied=checkpoint.tied)
    reading = Reading(checkpoint, model, signature, dict(digests), None, (), ())
    _add_models(transaction, [reading])
    transaction.execute(
        "update store.score s set model_id = ? from store.address a "
        "where a.uri = ? and s.model_id = a.model_id and s.model_id <> ?",
        [model, uri, model],
    )
    adopt(transaction, {uri: model})
    return model


def forget(transaction: Transaction, uris: Sequence[str]) -> None:
    """Drop places that are no longer there; their models stay, without a place."""
    if not uris:
        return
    _delete(transaction, uris)
    _drop_unplaced_headers(transaction)


def _delete(transaction: Transaction, uris: Sequence[str]) -> None:
    """Delete the rows that belong to places."""
    for table in _TABLES:
        transaction.execute(
            f"delete from store.{table} where uri in (select store.each(?))", [list(uris)]
        )


def _drop_unplaced_headers(transaction: Transaction) -> None:
    """Drop models that were never read whole and have no place left, with all that hangs on them; what an alias names stays."""
    unplaced = transaction.rows(
        "select id from store.model m where status in ('header', 'sampled') "
        "and not exists (select 1 from store.address a where a.model_id = m.id and a.source <> ?) "
        "and not exists (select 1 from store.alias n where n.model_id = m.id)",
        [SOURCE],
    )
    if unplaced:
        drop_models(transaction, [row["id"] for row in unplaced])


def drop_models(transaction: Transaction, ids: Sequence[str]) -> None:
    """Drop models with all that hangs on them; listings of their names stand for themselves again."""
    drop(transaction, ids, "its model was removed")
    take_back(transaction, list(ids))
    for table, column in references("model"):
        transaction.execute(
            f"delete from store.{table} where {column} in (select store.each(?))", [list(ids)]
        )
    transaction.execute("delete from store.model where id in (select store.each(?))", [list(ids)])


def _model(reading: Reading) -> Row:
    """The row of a node of the graph."""
    checkpoint = reading.checkpoint
    by_dtype: dict[str, int] = defaultdict(int)
    for tensor in checkpoint.tensors:
        by_dtype[tensor.dtype] += tensor.n_bytes
    seen = bool(checkpoint.tensors)
    return {
        "id": reading.model, "kind": checkpoint.kind,
        "status": "full" if reading.digests else "header",
        "digest_name": MODEL_DIGEST if reading.digests else HEADER_DIGEST,
        "signature": reading.signature,
        "dtype": max(sorted(by_dtype), key=by_dtype.__getitem__, default=None),
        "n_params": checkpoint.n_params if seen else None,
        "n_bytes": checkpoint.n_bytes if seen else None,
        "n_tensors": len(checkpoint.tensors) if seen else None, "created_at": now(),
    }  # fmt: skip


def _tensors(reading: Reading) -> dict[str, Column]:
    """The rows of the tensors of a model, as columns: they are most of what a catalog holds."""
    tensors = reading.checkpoint.tensors
    names = [tensor.name for tensor in tensors]
    return {
        "model_id": [reading.model] * len(tensors), "name": names,
        "dtype": [tensor.dtype for tensor in tensors],
        "shape": [_shape(tensor.shape) for tensor in tensors],
        "n_params": [tensor.n_params for tensor in tensors],
        "n_bytes": [tensor.n_bytes for tensor in tensors],
        "layer": [layer_of(name) for name in names], "module": [module_of(name) for name in names],
        "digest": [reading.digests.get(name) for name in names],
    }  # fmt: skip


@lru_cache(maxsize=1 << 12)
def _shape(shape: tuple[int, ...]) -> str:
    """A shape as a JSON list."""
    return json.dumps(shape)


def _files(found: Found) -> Iterable[Row]:
    """The rows of the files of a place."""
    for ref in found.files:
        yield {
            "uri": found.uri, "path": ref.path, "size_bytes": ref.size_bytes, "mtime_ns": ref.mtime_ns,
            "inode": ref.inode, "format": ref.format, "etag": ref.etag, "xet": ref.xet,
        }  # fmt: skip


def _address(found: Found, reading: Reading, known_since: datetime | None) -> Row:
    """The row of a good place."""
    config = reading.checkpoint.config
    architectures = config.get("architectures")
    first = architectures[0] if isinstance(architectures, list) and architectures else None
    family = config.get("model_type")
    is_adapter = reading.checkpoint.kind == "adapter"
    shown = reading.checkpoint.adapter_config if is_adapter else config
    return {
        "uri": found.uri, "root": found.uri if found.source == "hub" else str(found.root),
        "model_id": reading.model, "source": found.source,
        "layout": reading.checkpoint.layout, "name": found.name,
        "architecture": None if first is None else str(first),
        "family": None if family is None else str(family), "tokenizer": reading.tokenizer,
        "license": next((c.object for c in reading.claims if c.predicate == "license"), None),
        "config": json.dumps(shown, sort_keys=True), "known_since": known_since or now(),
        "seen_at": now(),
    }  # fmt: skip


def _claims(found: Found, reading: Reading) -> Iterable[Row]:
    """The rows of what is said at a place."""
    for claim in reading.claims:
        said = f"{found.uri}\0{claim.source}\0{claim.predicate}\0{claim.object}"
        yield {
            "id": digest_text(said), "uri": found.uri, "model_id": reading.model,
            "predicate": claim.predicate, "object": claim.object, "relation": claim.relation,
            "coefficient": claim.coefficient, "source": claim.source, "raw": claim.raw, "resolved_id": None,
        }  # fmt: skip


def _problems(entry: Entry) -> Iterable[Row]:
    """The rows of what is wrong at a place."""
    for problem in entry.problems:
        yield {
            "uri": entry.found.uri, "file": problem.file, "error": problem.error, "detail": problem.detail, "seen_at": now(),
        }  # fmt: skip

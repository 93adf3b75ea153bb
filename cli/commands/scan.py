"""`reg scan`: addresses in, rows out."""

from dataclasses import replace
from typing import TYPE_CHECKING

import click

import homolog
from cli.block import Column, Line, Table
from cli.command import Command
from cli.session import Session

if TYPE_CHECKING:
    from homolog import ScanReport, Sketched

_FLOATS = "('F64', 'F32', 'F16', 'BF16')"


@click.command(cls=Command)
@click.argument("addresses", metavar="ADDRESS...", nargs=-1, required=True)
@click.option("--headers-only", is_flag=True, help="Read no weights: fast, and without digests.")
@click.option(
    "--sketch", is_flag=True, help="Also keep a sample of each model's weights, for reg infer."
)
@click.option(
    "--digests", is_flag=True, help="Read models of the Hub whole, and keep none of their bytes."
)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    help="Threads that read, by default one per core, of headers alone 8; or repositories of the Hub at once, 8 by default.",
)
@click.option(
    "--requests", type=click.IntRange(min=1), metavar="N", help="Ask the Hub at most N times."
)
@click.option(
    "--gguf", is_flag=True, help="On the Hub, read headers of GGUF too: megabytes of each file."
)
@click.pass_obj
def command(
    session: Session,
    *,
    addresses: tuple[str, ...],
    headers_only: bool,
    sketch: bool,
    digests: bool,
    jobs: int | None,
    requests: int | None,
    gguf: bool,
) -> None:
    """Index checkpoints on disk, in the cache and on the Hub.

    An ADDRESS is a folder, a safetensors or GGUF file, a tree of them, hf-cache: for all of the Hugging Face cache, or
    hf-cache:org/name for one of its repositories. Files that did not change are not read again. What cannot be read
    becomes a problem, never the end of the scan.

    On the Hub it is hf://org/name[@revision], hf://org/* for all of an owner, hf:search?author=…&filter=…&limit=… (also
    search= and base_model=), or hf:collection/owner/title-id. Headers, configs, tokenizers and cards are read, and no
    weights. A repository that has not moved is not asked again; a scan that was stopped goes on where it was. With
    HF_HUB_OFFLINE=1 the cache stands in for the Hub. With --sketch, at most 8 MB of each model are fetched, once: the
    few thousand weights by which reg infer tells its descent, and reg stats estimates what training changed. With
    --digests every byte is read, checked, and forgotten: the model is known as if it were here.

    Each GGUF file is a model of its own, the parts of a split one together. Those on the Hub are indexed by what their listing
    and their card say: size, licence, base. Their headers hold the whole vocabulary; --gguf reads them, for dtypes, shapes and
    keys, also of repositories that were indexed without.

    Examples:
      reg scan models
      reg scan models/chat models/math --jobs 2
      reg scan --headers-only models --json
      reg scan --sketch models
    """
    remote = all(address.startswith(("hf://", "hf:")) for address in addresses)
    with session.progress("repositories" if remote else "bytes") as progress:
        report = homolog.scan(
            session.catalog,
            addresses,
            headers_only=headers_only,
            jobs=jobs,
            progress=progress,
            most_requests=requests,
            with_gguf=gguf,
        )
    n_casts = _record_casts(session)
    if digests:
        report = _digest(session, report, requests)
    found = _sketch(session, report, jobs, requests) if sketch else None
    _tell(session, report, n_casts, found)


def _tell(session: Session, report: "ScanReport", n_casts: int, found: "Sketched | None") -> None:
    """Say what a scan did, and what sketching after it."""
    n_requests = report.n_requests + (found.n_requests if found else 0)
    n_bytes = report.received_bytes + (found.n_bytes if found else 0)
    models = [{"id": m.id, "name": m.name, "status": m.status} for m in report.models]
    if found and found.n_new:  # of which some were known by their headers only
        rows = session.catalog.rows("select id from store.model where status = 'sampled'")
        sampled = {row["id"] for row in rows}
        models = [m | {"status": "sampled"} if m["id"] in sampled else m for m in models]
    document = {
        "scanned": report.scanned,
        "new": report.new,
        "unchanged": report.unchanged,
        "updated": report.updated,
        "gone": report.gone,
        "casts": n_casts,
        "sketched": found.n_new if found else 0,
        "unsketched": found.problems if found else {},
        "requests": n_requests,
        "received_bytes": n_bytes,
        "problems": [
            {"address": p.address, "file": p.file, "error": p.error, "detail": p.detail}
            for p in report.problems
        ],
        "models": models,
    }
    counts = ", ".join(
        f"{n:,} {what}"
        for what, n in (
            ("new", report.new), ("unchanged", report.unchanged), ("updated", report.updated),
            ("gone", report.gone), ("found to be casts of others", n_casts),
            ("sketched", found.n_new if found else 0),
        ) if n
    )  # fmt: skip
    columns = (Column("address"), Column("file"), Column("error"), Column("detail"))
    session.out.answer(
        document,
        Line(f"{report.scanned:,} scanned" + (f": {counts}" if counts else "")),
        Table(document["problems"], columns, title="problems"),  # type: ignore[arg-type]
        ids=dict.fromkeys(m.id for m in report.models),
    )
    if n_requests:
        session.out.note(f"{n_requests:,} requests to the Hub, {n_bytes:,} bytes received")
    for model, why in found.problems.items() if found else ():
        session.out.warning(f"{session.catalog.name(model)} was not sketched: {why}")
    if report.problems:
        session.out.note(f"{len(report.problems):,} problems; reg sql 'from problems' lists them")


def _digest(session: Session, report: "ScanReport", requests: int | None) -> "ScanReport":
    """Read what is on the Hub whole, with the requests that are left; the report with the ids that this gives."""
    left = None if requests is None else requests - report.n_requests
    with session.progress() as progress:
        found = homolog.digest_remote(
            session.catalog, [m.id for m in report.models], most_requests=left, progress=progress
        )
    for model, why in found.problems.items():
        session.out.warning(f"{session.catalog.name(model)} was not digested: {why}")
    models = tuple(
        replace(m, id=found.models[m.id], status="full") if m.id in found.models else m
        for m in report.models
    )
    return replace(
        report, models=models, n_requests=report.n_requests + found.n_requests,
        received_bytes=report.received_bytes + found.n_bytes,
    )  # fmt: skip


def _sketch(
    session: Session, report: "ScanReport", jobs: int | None, requests: int | None
) -> "Sketched":
    """Sketch what was scanned, with the requests that are left."""
    left = None if requests is None else requests - report.n_requests
    with session.progress("models") as progress:
        return homolog.sketch(
            session.catalog, [m.id for m in report.models], jobs=jobs, most_requests=left,
            progress=progress,
        )  # fmt: skip


def _record_casts(session: Session) -> int:
    """Look for casts among what came since that was last done, where there can be any: it takes torch, and reads weights."""
    from registry.pending import pending, settle  # noqa: PLC0415 - help needs no database

    left = pending(session.catalog)
    if not left.notes:
        return 0
    models = list(left.models)
    possible = session.catalog.rows(
        f"select signature from models where status = 'full' and kind = 'model' and dtype in {_FLOATS} "
        "and signature in (select signature from models where id in (select store.each(?))) "
        "group by signature having count(distinct dtype) > 1 limit 1",
        [models],
    )
    n_found = homolog.record_casts(session.catalog, models) if possible else 0
    with session.catalog.write() as transaction:
        settle(transaction, left.notes)
    return n_found

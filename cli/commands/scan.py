"""`reg scan`: addresses in, rows out."""

from typing import TYPE_CHECKING

import click

import homolog
from cli.block import Column, Line, Table
from cli.command import Command
from cli.session import Session

if TYPE_CHECKING:
    from registry.scan import ScanReport

_FLOATS = "('F64', 'F32', 'F16', 'BF16')"


@click.command(cls=Command)
@click.argument("addresses", metavar="ADDRESS...", nargs=-1, required=True)
@click.option("--headers-only", is_flag=True, help="Read no weights: fast, and without digests.")
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    help="Threads that read, one per core by default; or repositories of the Hub at once, 8 by default.",
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
    HF_HUB_OFFLINE=1 the cache stands in for the Hub.

    Each GGUF file is a model of its own, the parts of a split one together. Those on the Hub are indexed by what their listing
    and their card say: size, licence, base. Their headers hold the whole vocabulary; --gguf reads them, for dtypes, shapes and
    keys, also of repositories that were indexed without.

    Examples:
      reg scan models
      reg scan models/chat models/math --jobs 2
      reg scan --headers-only models --json
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
    n_casts = 0
    if report.new + report.updated:
        n_casts = _record_casts(session, [m.id for m in report.models])
    _tell(session, report, n_casts)


def _tell(session: Session, report: "ScanReport", n_casts: int) -> None:
    """Say what was found."""
    document = {
        "scanned": report.scanned,
        "new": report.new,
        "unchanged": report.unchanged,
        "updated": report.updated,
        "gone": report.gone,
        "casts": n_casts,
        "requests": report.n_requests,
        "received_bytes": report.received_bytes,
        "problems": [
            {"address": p.address, "file": p.file, "error": p.error, "detail": p.detail}
            for p in report.problems
        ],
        "models": [{"id": m.id, "name": m.name, "status": m.status} for m in report.models],
    }
    counts = ", ".join(
        f"{n:,} {what}"
        for what, n in (
            ("new", report.new), ("unchanged", report.unchanged), ("updated", report.updated),
            ("gone", report.gone), ("found to be casts of others", n_casts),
        ) if n
    )  # fmt: skip
    columns = (Column("address"), Column("file"), Column("error"), Column("detail"))
    session.out.answer(
        document,
        Line(f"{report.scanned:,} scanned" + (f": {counts}" if counts else "")),
        Table(document["problems"], columns, title="problems"),  # type: ignore[arg-type]
        ids=dict.fromkeys(m.id for m in report.models),
    )
    if report.n_requests:
        session.out.note(
            f"{report.n_requests:,} requests to the Hub, {report.received_bytes:,} bytes received"
        )
    if report.problems:
        session.out.note(f"{len(report.problems):,} problems; reg sql 'from problems' lists them")


def _record_casts(session: Session, models: list[str]) -> int:
    """Look for casts among ``models``, but only where there can be any: it takes torch, and reads weights."""
    possible = session.catalog.rows(
        f"select signature from models where status = 'full' and kind = 'model' and dtype in {_FLOATS} "
        "and signature in (select signature from models where id in (select store.each(?))) "
        "group by signature having count(distinct dtype) > 1 limit 1",
        [models],
    )
    return homolog.record_casts(session.catalog, models) if possible else 0

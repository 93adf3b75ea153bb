"""`reg verify`: do the bytes agree with what is written about them?"""

import click

import homolog
from cli.block import Column, Line, Table
from cli.command import Command
from cli.session import Session

_COLUMNS = (Column("what"), Column("where"), Column("detail"))


@click.command(cls=Command)
@click.argument("target", metavar="MODEL|DIR")
@click.option(
    "--jobs", type=click.IntRange(min=1), help="Threads that read. Default: one per core."
)
@click.pass_obj
def command(session: Session, target: str, jobs: int | None) -> bool:
    """Check that bytes, sidecar, metadata and catalog agree.

    Every tensor is digested again and compared with what the catalog, the shards' metadata and homolog.json say of
    it. Exit code 3 when anything differs.

    Examples:
      reg verify merged
      reg verify models/chat
      reg verify chat --json
    """
    with session.progress() as progress:
        found = homolog.verify(session.catalog, target, jobs=jobs, progress=progress)
    differences = [
        {"what": d.what, "where": d.where, "detail": d.detail} for d in found.differences
    ]
    document = {
        "ok": found.ok,
        "checked": found.checked,
        "differences": differences,
        "digest": found.model or None,
        "folder": str(found.folder),
        "n_tensors": found.n_tensors,
    }
    agreed = f"{found.n_tensors:,} tensors agree: {', '.join(found.checked)}"
    differs = f"{len(differences):,} differences in {found.folder}"
    session.out.answer(
        document,
        Line(agreed, "good") if found.ok else Line(differs, "bad"),
        Table(differences, _COLUMNS),
        ids=[found.model] if found.model else [],
    )
    return found.ok

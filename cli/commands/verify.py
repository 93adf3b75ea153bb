"""`reg verify`: do the bytes agree with what is written about them?"""

from pathlib import Path

import click

import homolog
from cli.block import Column, Line, Table
from cli.command import Command
from cli.session import Session

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_COLUMNS = (Column("what"), Column("where"), Column("detail"))


@click.command(cls=Command)
@click.argument("target", metavar="MODEL|DIR")
@click.option(
    "--jobs", type=click.IntRange(min=1), help="Threads that read. Default: one per core."
)
@click.option(
    "--signature", is_flag=True, help="Check its signature too: needs --key or --certificate."
)
@click.option("--key", type=_FILE, help="Public key, PEM, that must have signed.")
@click.option(
    "--certificate", "certificates", type=_FILE, multiple=True,
    help="Certificate, PEM, that is trusted; may be given again.",
)  # fmt: skip
@click.pass_obj
def command(
    session: Session,
    target: str,
    *,
    jobs: int | None,
    signature: bool,
    key: Path | None,
    certificates: tuple[Path, ...],
) -> bool:
    """Check that bytes, sidecar, metadata and catalog agree.

    Every tensor is digested again and compared with what the catalog, the shards' metadata and homolog.json say of
    it. With --signature, model.sig must be made with the key, or by a certificate that leads to a trusted one, and every file be as it
    was signed. Exit code 3 when anything differs.

    Examples:
      reg verify merged
      reg verify merged --signature --key key.pub
      reg verify models/chat
      reg verify chat --json
    """
    if signature and not (key or certificates):
        message = "--signature needs --key or --certificate: who is to have signed?"
        raise click.UsageError(message)
    if key and certificates:
        message = "--key and --certificate exclude each other"
        raise click.UsageError(message)
    with session.progress() as progress:
        found = homolog.verify(session.catalog, target, jobs=jobs, progress=progress)
    differences = [
        {"what": d.what, "where": d.where, "detail": d.detail} for d in found.differences
    ]
    checked = list(found.checked)
    if key or certificates:
        checked.append("signature")
        wrong = homolog.tampered(found.folder, key=key, certificates=certificates)
        differences += [{"what": t.what, "where": t.where, "detail": t.detail} for t in wrong]
    ok = not differences
    document = {
        "ok": ok,
        "checked": checked,
        "differences": differences,
        "digest": found.model or None,
        "folder": str(found.folder),
        "n_tensors": found.n_tensors,
    }
    agreed = f"{found.n_tensors:,} tensors agree: {', '.join(checked)}"
    differs = f"{len(differences):,} differences in {found.folder}"
    session.out.answer(
        document,
        Line(agreed, "good") if ok else Line(differs, "bad"),
        Table(differences, _COLUMNS),
        ids=[found.model] if found.model else [],
    )
    return ok

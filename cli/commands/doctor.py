"""`reg doctor`: is the catalog whole, and do its rows speak of what is there?"""

import click

import homolog
from cli.block import Column, Line, Table
from cli.command import Command
from cli.session import Session

_COLUMNS = (
    Column("state"),
    Column("kind"),
    Column("where"),
    Column("n", "n", "count"),
    Column("detail"),
    Column("lost"),
    Column("repair"),
)


@click.command(cls=Command)
@click.option(
    "--repair", is_flag=True, help="Mend what can be mended; the old file is kept beside."
)
@click.pass_obj
def command(session: Session, *, repair: bool) -> bool:
    """Check that the catalog is whole, and mend it.

    Looks at the file, its tables and views, at rows that refer to nothing, at digests, at runs that were killed, at files
    that vanished or changed, and at what stopped work left behind. Without --repair nothing is changed. With it, rows are
    removed or corrected after a copy of the file is made; of a file that cannot be read whole, what can be read is copied
    into a new one. Exit code 3 when damage remains; the findings say which command helps.

    Examples:
      reg doctor
      reg doctor --repair
      reg doctor --json
    """
    found = homolog.examine(session.catalog, repair=repair)
    rows = [
        {
            "kind": f.kind, "where": f.where, "n": f.n, "detail": f.detail, "lost": f.lost, "repair": f.repair,
            "damage": f.is_damage, "repaired": f.is_repaired, "repairable": f.can_repair,
        }
        for f in found.findings
    ]  # fmt: skip
    document = {
        "ok": found.ok, "catalog": str(found.catalog), "version": found.version, "findings": rows,
        "kept": None if found.kept is None else str(found.kept),
    }  # fmt: skip
    n_damaged = sum(f.remains for f in found.findings)
    n_repaired = sum(f.is_repaired and f.is_damage for f in found.findings)
    said = f", {n_repaired} repaired" if n_repaired else ""
    session.out.answer(
        document,
        Line(f"the catalog is whole{said}", "good") if found.ok else Line(f"{n_damaged} kinds of damage{said}", "bad"),
        Table([row | {"state": _state(f)} for row, f in zip(rows, found.findings, strict=True)], _COLUMNS),
        ids=[f.kind for f in found.findings if f.remains],
    )  # fmt: skip
    if found.kept:
        session.out.note(f"what the catalog was is kept as {found.kept}")
    if not repair and any(f.remains and f.can_repair for f in found.findings):
        session.out.hint("reg doctor --repair mends what can be mended, and keeps a copy")
    return found.ok


def _state(finding: homolog.Finding) -> str:
    """A word for what is to be done about a finding."""
    if finding.is_repaired:
        return "repaired"
    return "damaged" if finding.is_damage else "note"

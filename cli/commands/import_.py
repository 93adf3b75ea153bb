"""`reg import`: lists of a hub's models into the catalog."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

import homolog
from cli.block import Column, Line, Table
from cli.command import Command
from cli.session import Session

if TYPE_CHECKING:
    from registry.listing_file import Format

_COLUMNS = (Column("file"), Column("kind"), Column("n_rows", "rows", "count"), Column("detail"))
_FORMATS = ("csv", "jsonl")


@click.command(cls=Command)
@click.argument(
    "files",
    metavar="FILE...",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, path_type=Path),
)
@click.option(
    "--format",
    "form",
    type=click.Choice(_FORMATS),
    help="Of all files. Default: told from their first bytes.",
)
@click.pass_obj
def command(session: Session, files: tuple[Path, ...], form: "Format | None") -> None:
    """Take in lists of a hub's models: CSV or JSON lines.

    Every row becomes a model of status listed, known by its name (a column id, modelId or model_id) until its files are
    scanned. Its parents (base_model, and tags like base_model:finetune:NAME) become declared edges; licence, downloads,
    likes, pipeline_tag, library_name, sha and times are kept. Files may be gzipped. Rows that cannot be used are counted
    and told in the view problems; the rest goes in at once or, after Ctrl-C, not at all. Reads no network.

    A folder that `reg export` wrote becomes a catalog again: all of it, or nothing, and only where nothing is known yet.

    Examples:
      reg import hub.jsonl
      reg import hub.csv --format csv
      reg import hub.jsonl hub.csv --json
    """
    folders = [file for file in files if file.is_dir()]
    if folders:
        if len(files) > 1 or form:
            message = (
                f"{folders[0]} is a folder: one export is taken in alone, and has its own format"
            )
            raise click.UsageError(message)
        _take_in(session, folders[0])
        return
    with session.progress() as progress:
        report = homolog.import_listings(session.catalog, files, form=form, progress=progress)
    counts = ", ".join(
        f"{n:,} {what}"
        for what, n in (
            ("new", report.n_new), ("changed", report.n_changed), ("unchanged", report.n_unchanged),
            ("repeated", report.n_repeated), ("left out", report.n_bad),
        ) if n
    )  # fmt: skip
    session.out.answer(
        vars(report) | {"problems": list(report.problems)},
        Line(f"{report.n_rows:,} rows: {counts}"),
        Table(report.problems, _COLUMNS, title="problems"),
        ids=[],
    )
    if report.problems:
        session.out.note("reg sql \"from problems where uri like 'listing:%'\" tells it again")
    if report.n_new:
        session.out.hint('reg ls --where "status = \'listed\'" --sort "downloads desc" lists them')


def _take_in(session: Session, folder: Path) -> None:
    """Make a catalog of an export."""
    made = homolog.take_in(session.catalog, folder)
    said = f"{sum(made.rows.values()):,} rows of {len(made.rows)} tables, schema version {made.version}"
    session.out.answer(made.as_json(), Line(said), ids=[])
    session.out.hint("reg ls lists the models; reg doctor says whether their files are here")

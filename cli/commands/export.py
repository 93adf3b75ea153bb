"""`reg export`: the whole catalog as Parquet files."""

from pathlib import Path

import click

import homolog
from cli.block import Column, Facts, Table
from cli.command import Command
from cli.session import Session

_COLUMNS = (Column("table"), Column("rows", "rows", "count"))


@click.command(cls=Command)
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.pass_obj
def command(session: Session, folder: Path) -> None:
    """Write the whole catalog as Parquet files.

    One file of each table, and manifest.json with the version of the schema, rows and SHA-256 of each. DIR must not exist, or
    be empty; it is there when it is whole. `reg import DIR` makes a catalog of it again, also with a later version of reg.

    Examples:
      reg export backup
      reg export backups/today --json
    """
    made = homolog.export(session.catalog, folder)
    document = made.as_json()
    facts = Facts((
        ("folder", str(made.folder), "text"), ("schema version", made.version, "text"), ("size", made.n_bytes, "bytes"),
    ))  # fmt: skip
    tables = [table for table in document["tables"] if table["rows"]]
    session.out.answer(document, facts, Table(tables, _COLUMNS), ids=[made.folder])
    session.out.hint(f"reg --catalog NEW import {folder} makes a catalog of it again")

"""`reg ls`: the models of the catalog."""

import click

import homolog
from cli.block import Column, Table
from cli.command import Command
from cli.session import Session

COLUMNS = (
    Column("name"),
    Column("family"),
    Column("n_params", "params", "params"),
    Column("dtype"),
    Column("status"),
    Column("relation"),
    Column("base"),
    Column("scores"),
    Column("aliases"),
    Column("id", kind="id"),
    Column("n_bytes", "size", "bytes"),
    Column("parents"),
    Column("addresses"),
)
"""What people see of a model, the most telling first."""


@click.command(cls=Command)
@click.option(
    "--where", metavar="SQL", help="Only models for which this is true, for example n_params > 1e9."
)
@click.option(
    "--sort",
    metavar="SQL",
    default="name, id",
    help="Order by this column; append desc to turn it round.",
)
@click.pass_obj
def command(session: Session, where: str | None, sort: str) -> None:
    """List the models of the catalog.

    Columns are those of the view models: reg sql 'describe models' explains them. Models known only from listings are
    shown where --where asks for some.

    Examples:
      reg ls
      reg ls --where "family = 'llama' and n_params > 1000"
      reg ls --where "base = 'base'" --sort "n_bytes desc"
      reg ls --quiet
    """
    condition = f"where (\n{where}\n)" if where else "where status <> 'listed'"
    # The user's SQL ends with its line, so that a comment in it hides nothing of ours.
    sql = f"select * from models {condition} order by {sort}\n"
    rows = list(homolog.query(session.catalog.database, sql).records())
    table = Table(rows, COLUMNS, empty="no models")
    session.out.answer(rows, table, ids=(row["id"] for row in rows))
    listed = session.catalog.rows("select count(*) as n from store.model where status = 'listed'")
    if not where and listed[0]["n"]:
        n = f"{listed[0]['n']:,}"
        session.out.note(f"{n} models are known only from listings: --where \"status = 'listed'\"")

"""`reg alias`: names of your own for models, with a history."""

from collections.abc import Sequence
from dataclasses import asdict

import click

import homolog
from cli.block import Column, Line, Table
from cli.command import Group
from cli.session import Session

_ALIASES = (
    Column("alias"),
    Column("model"),
    Column("model_id", "id", "id"),
    Column("since"),
    Column("who"),
    Column("why"),
    Column("n_changes", "changes", "count"),
)
_EVENTS = (
    Column("alias"),
    Column("step", kind="count"),
    Column("changed_at", "at"),
    Column("who"),
    Column("old_model", "from"),
    Column("new_model", "to"),
    Column("why"),
    Column("old_id", "from id", "id"),
    Column("new_id", "to id", "id"),
)


@click.group(cls=Group, invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Give models names of your own, with a history.

    An alias is typed with an @ before it, wherever a MODEL is asked for: @prod. It stands for weights: what is recorded of a merge is
    their digest, and the alias may move on. @NAME always means an alias; a file or a folder of that name is ./@NAME. Without a
    command, lists all aliases.
    """
    if ctx.invoked_subcommand is None:
        ctx.invoke(ls, model=None)


@command.command("set")
@click.argument("name")
@click.argument("model")
@click.option("--move", is_flag=True, help="Take it from the model that it names now.")
@click.option("--why", metavar="TEXT", help="To be remembered in its history.")
@click.pass_obj
def set_(session: Session, name: str, model: str, *, move: bool, why: str | None) -> None:
    """Let an alias name a model.

    NAME is of at most 64 lower-case letters, digits, '.', '_' and '-'. An alias that names another model is refused, unless --move
    says that it may be taken from there. Set again, nothing is written.

    Examples:
      reg alias set prod chat --why "passed the review"
      reg alias set prod math --move --why "better at sums"
    """
    id_ = session.model(model)
    found, event = homolog.set_alias(session.catalog, name, id_, move=move, why=why)
    said = f"{found.alias} names {found.model}"
    if event is None:
        session.out.note("it did so already; nothing is written")
    elif event.old_model is not None:
        said += f", and no longer {event.old_model}"
    session.out.answer(asdict(found), Line(said), ids=[id_])


@command.command()
@click.argument("name")
@click.option("--why", metavar="TEXT", help="To be remembered in its history.")
@click.pass_obj
def rm(session: Session, name: str, *, why: str | None) -> None:
    """Remove an alias; its model and its history stay.

    Examples:
      reg alias rm old --why "nobody asks for it"
    """
    event = homolog.remove_alias(session.catalog, name, why=why)
    said = Line(f"{event.alias} names nothing any more; it named {event.old_model}")
    session.out.answer(asdict(event), said, ids=[event.old_id])


@command.command()
@click.argument("model", required=False)
@click.pass_obj
def ls(session: Session, model: str | None) -> None:
    """List aliases, or those of one MODEL.

    With --quiet, the aliases as they are typed.

    Examples:
      reg alias ls
      reg alias ls chat
      reg alias ls --json
    """
    found = homolog.aliases(session.catalog, session.model(model) if model is not None else None)
    _tell(session, found, _ALIASES, "no aliases")


@command.command()
@click.argument("name", required=False)
@click.pass_obj
def history(session: Session, name: str | None) -> None:
    """Tell who changed aliases, when, from which model to which, and why; oldest first.

    Models are called as they were then, and may be gone.

    Examples:
      reg alias history
      reg alias history old --json
    """
    _tell(session, homolog.alias_events(session.catalog, name), _EVENTS, "no alias was ever set")


def _tell(
    session: Session,
    found: "Sequence[homolog.Alias] | Sequence[homolog.AliasEvent]",
    columns: tuple[Column, ...],
    empty: str,
) -> None:
    """Answer with aliases or events."""
    rows = [asdict(one) for one in found]
    session.out.answer(rows, Table(rows, columns, empty=empty), ids=[row["alias"] for row in rows])

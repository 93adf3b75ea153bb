"""`reg gc`: remove what nothing refers to."""

import click

import homolog
from cli.block import Line
from cli.command import Command
from cli.session import Session


@click.command(cls=Command)
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@click.pass_obj
def command(session: Session, *, dry_run: bool) -> None:
    """Remove what nothing refers to.

    That is models that are nowhere and that nothing was made of, and recipes that nobody ran.

    A model whose files are gone is kept as long as an edge of the lineage, a run, a claim, a measured score or an alias speaks of it.

    Examples:
      reg gc --dry-run
      reg gc
    """
    found = homolog.collect_garbage(session.catalog, dry_run=dry_run)
    document = {"models": list(found.models), "recipes": list(found.recipes), "dry_run": dry_run}
    said = "would be removed" if dry_run else "removed"
    session.out.answer(
        document, Line(f"{said}: {len(found.models)} models, {len(found.recipes)} recipes"), ids=found.models,
    )  # fmt: skip

"""`reg rm`: the catalog need not know a model any more."""

import click

import homolog
from cli.block import Column, Line, Table
from cli.command import Command
from cli.session import Session


@click.command(cls=Command)
@click.argument("models", metavar="MODEL...", nargs=-1, required=True)
@click.option(
    "--force",
    is_flag=True,
    help="Also what recorded merges were made of, which stays known, without a place; and what aliases name.",
)
@click.option(
    "--files",
    is_flag=True,
    help="Delete its files on this machine too, as far as they are what was scanned.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@click.pass_obj
def command(
    session: Session, models: tuple[str, ...], *, force: bool, files: bool, dry_run: bool
) -> None:
    """Forget models, with all that was measured of them.

    A model that a recorded merge was made of is refused: without it the merge cannot be made again. Files stay where they are,
    and a scan of their folder finds them again, unless --files deletes them; files of the cache and of the Hub are never
    deleted. A model that an alias names is refused, too; with --force the alias goes, and its history stays. Who claims to descend from a model that is gone is said to descend from its name.

    Examples:
      reg rm merged --dry-run
      reg rm chat --files --force --dry-run
    """
    ids = [session.catalog.find(model) for model in models]
    names = {id_: session.catalog.name(id_) for id_ in ids}
    found = homolog.remove(session.catalog, ids, force=force, files=files, dry_run=dry_run)
    document = {
        "models": list(found.models), "unplaced": list(found.unplaced), "places": list(found.places), "files": list(found.files),
        "kept_files": list(found.kept_files), "refused_files": list(found.refused_files), "aliases": list(found.aliases),
        "dry_run": dry_run,
    }  # fmt: skip
    rows = [
        *({"what": "model", "which": names[id_]} for id_ in found.models),
        *({"what": "alias", "which": alias} for alias in found.aliases),
        *({"what": "place", "which": place} for place in found.places),
        *({"what": "file", "which": file} for file in found.files),
    ]
    said = "would be removed" if dry_run else "removed"
    session.out.answer(
        document, Line(f"{said}: {len(found.models)} models, {len(found.places)} places, {len(found.files)} files"),
        Table(rows, (Column("what"), Column("which"))), ids=found.models,
    )  # fmt: skip
    for id_ in found.unplaced:
        session.out.note(f"{names[id_]} stays known, without a place: something was made of it")
    for file in found.kept_files:
        session.out.warning(f"{file} is not what was scanned; it is left where it is")
    for file in found.refused_files:
        session.out.warning(
            f"{file} could not be deleted; the catalog has forgotten it all the same"
        )

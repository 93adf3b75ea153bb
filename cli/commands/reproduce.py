"""`reg reproduce`: the same recipe, the same bytes."""

from pathlib import Path

import click

import homolog
from cli.block import Facts, Line
from cli.command import Command
from cli.session import Session


@click.command(cls=Command)
@click.argument("model")
@click.option(
    "-o",
    "--output",
    metavar="DIR",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder of the new copy; must not exist, or be empty.",
)
@click.option(
    "--jobs", type=click.IntRange(min=1), help="Threads; changes no byte. Default: one per core."
)
@click.pass_obj
def command(session: Session, model: str, output: Path, jobs: int | None) -> bool:
    """Run a merge's recorded recipe again and compare the bytes.

    The recipe comes from the catalog, or from homolog.json beside the weights; its parents are found by their
    digests. Exit code 3 when other bytes come out.

    Examples:
      reg reproduce merged -o again
    """
    with session.progress() as progress:
        expected, merged = homolog.reproduce(
            session.catalog, model, output, options=homolog.Options(jobs=jobs), progress=progress
        )
    ok = merged.model == expected
    document = {
        "ok": ok,
        "digest": merged.model,
        "expected": expected,
        "run": merged.run,
        "folder": str(merged.folder),
        "seconds": merged.seconds,
    }
    session.out.answer(
        document,
        Line("the same bytes" if ok else "other bytes", "good" if ok else "bad"),
        Facts((
            ("digest", [merged.model], "text"),
            ("expected", None if ok else [expected], "text"),
            ("folder", str(merged.folder), "text"),
            ("took", merged.seconds, "seconds"),
        )),
        ids=[merged.model],
    )  # fmt: skip
    return ok

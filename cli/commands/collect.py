"""`reg collect`: statistics of a model that some merge methods need."""

from pathlib import Path
from typing import Literal

import click

import homolog
from cli.block import Facts
from cli.command import Command
from cli.session import Session


@click.command(cls=Command)
@click.argument("model")
@click.option(
    "--suite",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="JSONL with a prompt and an answer in each line.",
)
@click.option(
    "--kind",
    required=True,
    type=click.Choice(["fisher", "gram"]),
    help="fisher: how much each weight matters, for method fisher; gram: what layers see, for regmean.",
)
@click.option(
    "--limit", type=click.IntRange(min=1), default=64, help="First so many lines. Default: 64."
)
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Where the statistics go.",
)
@click.pass_obj
def command(
    session: Session,
    *,
    model: str,
    suite: Path,
    kind: Literal["fisher", "gram"],
    limit: int,
    output: Path,
) -> None:
    """Gather Fisher information or Gram matrices of a model on a suite.

    The result is a checkpoint that a recipe names beside its model: `statistics: DIR`. Needs transformers.

    Examples:
      reg collect chat --suite suite.jsonl --kind fisher -o chat-fisher
    """
    with session.progress() as progress:
        found = homolog.collect(
            session.catalog,
            session.model(model, fetch=True),
            suite,
            output,
            kind=kind,
            limit=limit,
            progress=progress,
        )
    document = {"id": found, "kind": kind, "folder": str(output.absolute())}
    facts = Facts((("folder", str(output), "text"), ("kind", kind, "text"), ("id", found, "id")))
    session.out.answer(document, facts, ids=[found])
    session.out.hint(f"in a recipe, beside the model: statistics: {output}")

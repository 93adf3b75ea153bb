"""`reg merge`: a recipe carried out and its result registered."""

from pathlib import Path

import click

import homolog
from cli.block import Facts
from cli.command import Command
from cli.recipe_options import Asked, recipe_options
from cli.session import Session
from cli.size import Size


@click.command(cls=Command)
@recipe_options
@click.option(
    "-o",
    "--output",
    metavar="DIR",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder of the result; must not exist, or be empty.",
)
@click.option(
    "--shard-size",
    "shard_bytes",
    type=Size(),
    metavar="SIZE",
    help="Largest file of the result. Default: 5GB.",
)
@click.option(
    "--resume", is_flag=True, help="Refuse to begin anew: go on with a run that was stopped."
)
@click.option(
    "--stream", is_flag=True, help="Read models of the Hub from there; download none of them."
)
@click.pass_obj
def command(
    session: Session,
    asked: Asked,
    *,
    output: Path,
    shard_bytes: int | None,
    resume: bool,
    stream: bool,
) -> None:
    """Merge models and register the result.

    Give a RECIPE (YAML with mergekit's keys), or --method and its models. The result becomes a model of the catalog
    whose recipe, parents and coefficients are recorded there, in every shard and beside them; reg reproduce makes the
    same bytes again. A failed merge leaves nothing in DIR. One that was killed, interrupted or found the disk full is
    gone on with by the same command, from the tensors that were finished.

    With --device cuda a GPU does the arithmetic of methods that work entry by entry (reg methods NAME names a method's
    devices); the bytes are the same, and what stays on the processor is said.

    The licence of the result is worked out from all it is made of and stated in its card; models whose licences cannot
    all be obeyed are refused, unless --allow-license-conflict says why (reg licenses tells what is asked; no legal advice).

    Models may be hf://org/name[@revision]: they are downloaded into the Hugging Face cache, or with --stream read through
    a window of memory, once more for models whose bytes were never read (reg scan --digests does that by itself).

    Adapters alone become one adapter of their base; write MODEL+ADAPTER for a whole model that wears one.

    Examples:
      reg merge recipe.yaml -o merged-a
      reg merge --method widen chat math -o merged-b
      reg merge --method linear --weight chat=0.6 --weight math=0.4 chat math -o merged-c
      reg merge --method ties --base base --set density=0.4 --set lambda=0.8 chat math -o merged-d
      reg merge --method ties --rank 16 lora-a lora-b -o merged-lora
    """
    recipe, options = asked.recipe(), asked.options(shard_bytes, resume=resume)
    merge = homolog.merge_streamed if stream else homolog.merge
    with session.progress() as progress:
        merged = merge(
            session.catalog,
            recipe,
            output,
            options=options,
            progress=progress,
            told=session.out.note,
        )
    name = session.catalog.name(merged.model)
    document = {
        "model": name,
        "digest": merged.model,
        "run": merged.run,
        "folder": str(merged.folder),
        "seconds": merged.seconds,
        "read_bytes": merged.read_bytes,
        "write_bytes": merged.write_bytes,
        "license": merged.license.suggested,
        "notes": merged.notes,
    }
    session.out.answer(
        document,
        Facts((
            ("model", name, "text"),
            ("digest", [merged.model], "text"),
            ("folder", str(merged.folder), "text"),
            ("licence", f"{merged.license.suggested or 'no single one'} ({merged.license.why})", "text"),
            ("run", merged.run, "id"),
            ("took", merged.seconds, "seconds"),
            ("read", merged.read_bytes, "bytes"),
            ("wrote", merged.write_bytes, "bytes"),
        )),
        ids=[merged.model],
    )  # fmt: skip
    for note in merged.notes:
        session.out.note(note)
    session.out.hint(f"reg verify {output}")

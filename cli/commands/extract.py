"""`reg extract`: what training changed, as a LoRA of the base."""

import shlex
from pathlib import Path

import click

import homolog
from cli.block import Facts
from cli.command import Command
from cli.session import Session
from registry.errors import AmbiguousModel, NotHomologous


@click.command(cls=Command)
@click.argument("child")
@click.option(
    "--base", metavar="MODEL", help="The adapter belongs to it. Default: the child's only base."
)
@click.option("--rank", type=click.IntRange(min=1), help="Most rank of a factor.")
@click.option(
    "--energy",
    type=click.FloatRange(min=0, max=1, min_open=True),
    help="Keep at least this share of each squared change, as far as --rank allows.",
)
@click.option(
    "--projections-only", is_flag=True, help="Leave out norms, embeddings, heads and biases."
)
@click.option(
    "-o",
    "--output",
    metavar="DIR",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder of the adapter; must not exist, or be empty.",
)
@click.option("--jobs", type=click.IntRange(min=1), help="Threads. Default: one per core.")
@click.pass_obj
def command(
    session: Session,
    *,
    child: str,
    base: str | None,
    rank: int | None,
    energy: float | None,
    projections_only: bool,
    output: Path,
    jobs: int | None,
) -> None:
    """Write what training changed as a LoRA of the base.

    Each changed matrix of a linear layer becomes the best product of the rank asked for, by its singular values.
    Changed norms, embeddings, heads and biases are taken along whole. The result is an adapter as peft reads it, is
    registered, and takes part in merges as MODEL+ADAPTER. A failed run leaves nothing in DIR.

    Examples:
      reg extract chat --rank 4 -o chat-lora
      reg extract chat --base base --rank 8 --energy 0.9 -o chat-lora-small
      reg extract math --base base --energy 0.5 --projections-only -o math-lora --json
    """
    if rank is None and energy is None:
        message = "give --rank, --energy or both"
        raise click.UsageError(message)
    model = session.model(child, fetch=True)
    base_id = session.model(base, fetch=True) if base is not None else _only_base(session, model)
    with session.progress() as progress:
        made = homolog.extract(
            session.catalog,
            model,
            base_id,
            output,
            rank=rank or 0,
            energy=energy or 0.0,
            projections_only=projections_only,
            jobs=jobs,
            progress=progress,
        )
    _say(session, made, output)


def _only_base(session: Session, child: str) -> str:
    """The one model that a child is known to descend from.

    Raises:
        NotHomologous: there is none.
        AmbiguousModel: there are several.
    """
    catalog = session.catalog
    name = catalog.name(child)
    bases = [base for _, base in homolog.pairs(catalog, [child])]
    if not bases:
        message = f"no base of {name} is known"
        raise NotHomologous(message, hint=f"reg extract {name} --base MODEL")
    if len(bases) > 1:
        message = f"{name} has {len(bases)} bases: {', '.join(map(catalog.name, bases))}"
        raise AmbiguousModel(message, hint=f"reg extract {name} --base {catalog.name(bases[0])}")
    return bases[0]


def _say(session: Session, made: "homolog.Extracted", output: Path) -> None:
    """Say what was made."""
    name, base = session.catalog.name(made.model), session.catalog.name(made.base)
    document = {
        "model": name,
        "id": made.model,
        "child": made.child,
        "base": made.base,
        "folder": str(made.folder),
        "ranks": made.ranks,
        "relative_error": made.relative_error,
        "n_bytes": made.n_bytes,
        "child_bytes": made.child_bytes,
        "seconds": made.seconds,
        "changes": [vars(change) for change in made.changes],
        "notes": made.notes,
    }
    facts = Facts((
        ("model", name, "text"),
        ("id", made.model, "id"),
        ("folder", str(made.folder), "text"),
        ("rank", " to ".join(map(str, dict.fromkeys((made.ranks[0], made.ranks[-1])))), "text"),
        ("relative error", made.relative_error, "number"),
        ("wrote", made.n_bytes, "bytes"),
        ("child has", made.child_bytes, "bytes"),
        ("took", made.seconds, "seconds"),
    ))  # fmt: skip
    session.out.answer(document, facts, ids=[made.model])
    for note in made.notes:
        session.out.note(note)
    worn = shlex.quote(f"{base}+{output}")
    session.out.hint(f"reg merge --method passthrough {worn} -o DIR")

"""`reg stats`: delta statistics of (child, base) pairs."""

from dataclasses import asdict
from typing import Any

import click

import homolog
from cli.block import Column, Table
from cli.command import Command
from cli.session import Session
from registry.errors import BadParameter, NotHomologous

_COLUMNS = (
    Column("child"),
    Column("base"),
    Column("n_tensors", "tensors", "count"),
    Column("relative_l2", kind="number"),
    Column("max_abs", kind="number"),
    Column("within_005", kind="number"),
    Column("zero_share", kind="number"),
    Column("cosine", kind="number"),
    Column("rms", kind="number"),
    Column("abs_p50", kind="number"),
    Column("abs_p99", kind="number"),
    Column("n_nonfinite", "nonfinite", "count"),
)
_ESTIMATE_COLUMNS = (
    Column("child"),
    Column("base"),
    Column("n_tensors", "tensors", "count"),
    Column("n_scalars", "scalars", "count"),
    *(
        Column(name, title, kind="number")
        for name, title in (
            ("relative_l2", "relative_l2"), ("relative_l2_error", "±"), ("within_005", "within_005"),
            ("within_005_error", "±"), ("zero_share", "zero_share"), ("zero_share_error", "±"),
            ("cosine", "cosine"), ("rms", "rms"), ("rms_error", "±"),
        )
    ),
)  # fmt: skip
_LAYER_COLUMNS = (*_COLUMNS[:2], Column("layer", kind="count"), Column("module"), *_COLUMNS[2:9])


@click.command(cls=Command)
@click.argument("children", metavar="[CHILD]...", nargs=-1)
@click.option(
    "--base", metavar="MODEL", help="Compare with this model. Default: each child's own bases."
)
@click.option("--all", "everything", is_flag=True, help="Every pair of the catalog.")
@click.option("--spectral", is_flag=True, help="Also the singular values of every matrix; slow.")
@click.option("--layers", is_flag=True, help="Answer with one row per layer and module.")
@click.option("--jobs", type=click.IntRange(min=1), help="Threads. Default: one per core.")
@click.pass_obj
def command(
    session: Session,
    *,
    children: tuple[str, ...],
    base: str | None,
    everything: bool,
    spectral: bool,
    layers: bool,
    jobs: int | None,
) -> None:
    """Measure what training changed, tensor by tensor.

    Each CHILD is compared with its base in one pass over both. The numbers are stored and never measured again for
    the same bytes; the views deltas, layers and delta_summary hold them. |δ| is the size of one changed weight:
    within_005 is the share of weights that moved by at most 0.005, zero_share of those that did not move.

    Of models on the Hub of which only reg scan --sketch was asked, the same is estimated from the samples, with its
    standard error; such rows have the scope "sampled", and are not stored.

    Examples:
      reg stats chat math
      reg stats chat --base base --spectral
      reg stats --all
      reg stats chat --layers --json
    """
    if bool(children) == everything:
        message = "give CHILD models or --all"
        raise click.UsageError(message)
    with session.catalog.database.kept_open():  # opening takes longer than asking
        pairs = _pairs(session, children, base)
        estimated = homolog.unreachable(session.catalog, pairs)
        guesses = [_estimate(session, *pair) for pair in estimated]
    pairs = [pair for pair in pairs if pair not in estimated]
    if guesses and (spectral or layers):
        message = (
            f"{guesses[0]['child']} has only samples here; they tell neither layers nor spectra"
        )
        raise BadParameter(message, hint="give hf://org/name in the place of names, to download")
    with session.progress() as progress:
        for pair in pairs:
            homolog.stats(session.catalog, *pair, spectral=spectral, jobs=jobs, progress=progress)
    rows = _measured(session, pairs, "layers" if layers else "delta_summary")
    tables = []
    if rows or not guesses:
        columns = _LAYER_COLUMNS if layers else _COLUMNS
        tables.append(Table(rows, columns, empty="no pairs to measure"))
    if guesses:
        tables.append(Table(guesses, _ESTIMATE_COLUMNS, title="estimated from samples"))
    ids = dict.fromkeys(child for child, _ in [*pairs, *estimated])
    session.out.answer([*rows, *guesses], *tables, ids=ids)


def _measured(session: Session, pairs: list[tuple[str, str]], view: str) -> list[dict[str, Any]]:
    """The rows of a view of some pairs."""
    order = ", layer nulls first, module" if view == "layers" else ""
    sql = f"select * from {view} where child_id = ? and base_id = ? order by child_id{order}"
    with session.catalog.read() as reader:
        return [row for pair in pairs for row in reader.rows(sql, pair)]


def _estimate(session: Session, child: str, base: str) -> dict[str, Any]:
    """A row of what samples tell of a pair; of the one whose files are here, they are read now."""
    homolog.sketch(session.catalog, [child, base], fetch=False)
    found = asdict(homolog.estimate(session.catalog, child, base))
    names = {"child": session.catalog.name(child), "base": session.catalog.name(base)}
    return {"child_id": child, "base_id": base, **found, **names}


def _pairs(session: Session, children: tuple[str, ...], base: str | None) -> list[tuple[str, str]]:
    """(child, base) ids to measure; only models that are somewhere."""
    catalog = session.catalog
    models = list(dict.fromkeys(session.model(child, fetch=True) for child in children))
    if base is not None and models:
        base_id = session.model(base, fetch=True)
        return [(model, base_id) for model in models]
    placed = {
        row["model_id"]
        for row in catalog.rows(
            "select distinct model_id from store.address a join store.model m on m.id = a.model_id "
            "where a.source in ('local', 'hf-cache') or m.status = 'sampled'"
        )
    }
    found = homolog.pairs(catalog, models or None)
    for model in models:
        if not any(child == model for child, _ in found):
            message = f"no base of {catalog.name(model)} is known"
            raise NotHomologous(message, hint=f"reg stats {catalog.name(model)} --base MODEL")
    return [pair for pair in found if models or placed.issuperset(pair)]

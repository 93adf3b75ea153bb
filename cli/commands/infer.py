"""`reg infer`: lineage from the weights."""

from typing import Any

import click

import homolog
from cli.block import Column, Table
from cli.command import Command
from cli.session import Session

_COLUMNS = (
    Column("child"),
    Column("parent"),
    Column("relation"),
    Column("role"),
    Column("coefficient", kind="number"),
    Column("confidence", kind="number"),
    Column("why"),
)


@click.command(cls=Command)
@click.option(
    "--scalars",
    type=click.IntRange(min=1024),
    help="Weights looked at of each model. Default: 32,768.",
)
@click.option("--full", is_flag=True, help="Measure every edge on all weights.")
@click.option(
    "--claims/--no-claims",
    default=True,
    help="Let what cards say count where the weights say little. Default: --claims.",
)
@click.pass_obj
def command(session: Session, *, scalars: int | None, full: bool, claims: bool) -> None:
    """Recover who descends from whom from the weights.

    Reads the same few thousand weights of every model, once, and keeps them. Says how each child came about
    (finetune, merge with its coefficients, adapter_merged with its rank, quantized, pruned, …), why, and how sure that
    is; only models that changed, and their kin, are looked at again. With --full, what samples suggest is measured on
    all weights of child and parents, a slice at a time, and recipes that drop entries are done again until one makes
    the child. Parents that nobody has are latent. Models that are the same
    network in another basis are "permuted": they are homologous, but cannot be merged before they are aligned. What
    cards claim may turn an edge whose direction the weights leave open; it joins no models, and is not overwritten. The
    view conflicts, and reg lineage, tell where the weights say otherwise. The network is never asked: of models that
    are on the Hub only, it looks at what reg scan --sketch fetched.

    Examples:
      reg infer
      reg infer --scalars 8192 --json
      reg infer --full --no-claims
    """
    if scalars and full:
        message = "--scalars and --full exclude each other"
        raise click.UsageError(message)
    size: dict[str, Any] = {} if scalars is None and not full else {"n_scalars": scalars}
    with session.progress("models") as progress:
        found = homolog.infer(session.catalog, claims=claims, progress=progress, **size)
    catalog = session.catalog
    pairs = [(e.child, e.parent) for e in found.edges]
    pairs += [(c.child, c.parent) for c in found.contradictions]
    ids = sorted({end for pair in pairs for end in pair})
    names = {
        row["id"]: row["name"] for row in catalog.rows("select id, name from store.nodes(?)", [ids])
    }
    rows = [
        {
            "child": names[e.child], "parent": names[e.parent], "relation": e.kind.name, "role": e.role,
            "coefficient": e.coefficient, "confidence": round(e.confidence, 3), "why": e.kind.detail,
            "statistic": e.kind.statistic, "value": e.kind.value, "scope": e.scope, "child_id": e.child, "parent_id": e.parent,
        }
        for e in found.edges
    ]  # fmt: skip
    rows.sort(key=lambda row: (row["parent"], row["child"], row["role"]))
    refuted = [
        {"child": names[c.child], "parent": names[c.parent], "probability": round(c.probability, 3), "why": c.detail}
        for c in found.contradictions
    ]  # fmt: skip
    document = {
        "edges": rows, "refuted": refuted, "scope": found.scope, "n_models": found.n_models, "n_latent": found.n_latent,
        "read_bytes": found.read_bytes, "seconds": round(found.seconds, 3), "problems": found.problems,
        "unproved": found.unproved, "n_afar": found.n_afar,
    }  # fmt: skip
    table = Table(rows, _COLUMNS, empty="no model descends from another")
    session.out.answer(document, table, ids=[e.child for e in found.edges])
    if found.n_afar:
        session.out.note(
            f"{found.n_afar:,} models are on the Hub only and were not looked at; "
            "reg scan --sketch hf://org/name fetches what it takes"
        )
    for model, why in found.problems.items():
        session.out.warning(f"{catalog.name(model)} was left out: {why}")
    for model, why in found.unproved.items():
        session.out.warning(f"what {catalog.name(model)} comes from rests on samples: {why}")

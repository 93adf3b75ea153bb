"""`reg show`: everything about one model."""

import json

import click

import homolog
from cli.block import Block, Column, Facts, Row, Table, Text
from cli.command import Command
from cli.session import Session

_FEW = 20
"""Rows of each table that people are shown unasked."""

_QUERIES = {
    "edges": "select * from edges where child = ? or parent = ? "
    "order by child = ? desc, child_name, parent_name, role, status",
    "deltas": "select * from delta_summary where child_id = ? order by base",
    "claims": "select * from claims where model_id = ? order by predicate, source, object",
    "scores": "select * from scores where model_id = ? order by task, metric, origin, source",
    "files": "select uri, path, format, size_bytes, modified_at from files where model_id = ? order by uri, path",
    "runs": "select * from runs where model_id = ? order by started_at",
    "recipe": "select canonical from runs r join recipes p on p.digest = r.recipe "
    "where model_id = ? and status = 'COMPLETE' order by started_at desc limit 1",
    "problems": "select p.* from problems p join files f on f.uri = p.uri where f.model_id = ? "
    "group by all order by all",
    "conflicts": "select * from conflicts where child_id = ? order by kind, parent",
    "allowed": "select distinct detail from evidence where child = ? and method = 'license' order by detail",
    "tensors": "select name, dtype, shape, n_params, n_bytes, layer, module, digest from tensors "
    "where model_id = ? order by layer nulls first, name",
}

_COLUMNS = {
    "edges": (
        "child_name",
        "parent_name",
        "relation",
        "role",
        "coefficient:number",
        "status",
        "confidence:number",
    ),
    "deltas": (
        "base",
        "relative_l2:number",
        "max_abs:number",
        "within_005:number",
        "cosine:number",
    ),
    "scores": (
        "task",
        "metric",
        "value:number",
        "stderr:number",
        "n:count",
        "origin",
        "harness",
        "source",
    ),
    "claims": ("predicate", "object", "relation", "source", "resolved"),
    "runs": ("id:id", "status", "started_at", "seconds:seconds", "output"),
    "problems": ("file", "error", "detail"),
    "conflicts": ("kind", "parent", "detail"),
    "license_findings": ("kind", "detail"),
    "allowed": ("detail",),
    "tensors": ("name", "dtype", "shape", "n_params:params", "n_bytes:bytes", "module"),
}


@click.command(cls=Command)
@click.argument("model")
@click.option(
    "--tensors", "all_tensors", is_flag=True, help=f"All tensors, not only the first {_FEW}."
)
@click.pass_obj
def command(session: Session, model: str, all_tensors: bool) -> None:
    """Show everything that is known of one model.

    Facts, addresses, parents and children, measured deltas, claims, scores, the recipe it was made with, tensors.

    Examples:
      reg show chat
      reg show chat --tensors
      reg show models/math --json
    """
    id_ = session.model(model)
    with session.catalog.read() as reader:
        document = dict(reader.rows("select * from models where id = ?", [id_])[0])
        document |= {
            name: reader.rows(sql, [id_] * sql.count("?")) for name, sql in _QUERIES.items()
        }
    document["recipe"] = (
        json.loads(document["recipe"][0]["canonical"]) if document["recipe"] else None
    )
    license_ = homolog.licenses(session.catalog, [id_])[id_]
    document["effective_license"] = {"suggested": license_.suggested, "why": license_.why}
    document["license_findings"] = [{"kind": f.kind, "detail": f.detail} for f in license_.findings]
    for tensor in document["tensors"]:
        tensor["shape"] = json.loads(tensor["shape"])
    session.out.answer(document, *_blocks(document, None if all_tensors else _FEW), ids=[id_])


def _blocks(model: Row, n_tensors: int | None) -> list[Block]:
    """What people see."""
    facts = Facts((
        ("name", model["name"], "text"),
        ("also called", [n for n in model["names"] if n != model["name"]], "text"),
        ("aliases", model["aliases"], "text"),
        ("id", [model["id"]], "text"),
        ("status", model["status"], "text"),
        ("kind", model["kind"], "text"),
        ("family", model["family"], "text"),
        ("architecture", model["architecture"], "text"),
        ("parameters", model["n_params"], "count"),
        ("size", model["n_bytes"], "bytes"),
        ("dtype", model["dtype"], "text"),
        ("licence", model["license"], "text"),
        ("effective licence", _effective(model["effective_license"]), "text"),
        ("tokenizer", model["tokenizer"], "id"),
        ("signature", model["signature"], "id"),
        ("descends as", model["relation"], "text"),
        ("base", model["base"], "text"),
        ("addresses", model["addresses"], "text"),
        ("first seen", model["created_at"], "text"),
    ))  # fmt: skip
    blocks: list[Block] = [facts]
    for name, columns in _COLUMNS.items():
        rows, shown = model[name], tuple(map(_column, columns))
        limit, rest = (
            (n_tensors, "--tensors shows all") if name == "tensors" else (_FEW, "--json shows all")
        )
        blocks.append(Table(rows, shown, f"{name} ({len(rows):,})", limit=limit, rest=rest))
        if name == "runs" and model["recipe"]:
            blocks.append(Text("recipe " + json.dumps(model["recipe"], indent=2)))
    return blocks


def _effective(license_: Row) -> str:
    """The licence that the lineage leaves, and why."""
    return f"{license_['suggested'] or 'no single one'} ({license_['why']})"


def _column(text: str) -> Column:
    """A column from its name and, after a colon, its kind."""
    key, _, kind = text.partition(":")
    return Column(key, kind=kind or "text")  # type: ignore[arg-type]

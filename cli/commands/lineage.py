"""`reg lineage`: the graph."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import click

import homolog
from cli.block import Block, Line, Row, Text, Tree
from cli.command import Command
from cli.family_tree import tree_lines
from cli.session import Session

if TYPE_CHECKING:
    from registry.license_findings import Effective

_SAID = {"license_drift": "its licence drops", "license_conflict": "no licence satisfies"}

_FORMATS = ("tree", "json", "dot", "mermaid", "graphml")


@click.command(cls=Command)
@click.argument("model", required=False)
@click.option(
    "--ancestors", "direction", flag_value="ancestors", help="Only what MODEL descends from."
)
@click.option(
    "--descendants", "direction", flag_value="descendants", help="Only what descends from MODEL."
)
@click.option(
    "--format",
    "form",
    type=click.Choice(_FORMATS),
    default="tree",
    show_default=True,
    help="How the graph is written.",
)
@click.pass_obj
def command(session: Session, model: str | None, direction: str | None, form: str) -> None:
    """Draw who descends from whom, and how we know.

    Without MODEL the whole catalog; with it, the model with all its ancestors and descendants. Every edge says how
    the child came about and who says so: declared by a card or config, measured on the bytes, inferred from the
    weights, or recorded when we made it; a number below 1 is how far that is believed.

    Examples:
      reg lineage
      reg lineage merged --ancestors
      reg lineage base --descendants --format dot
      reg lineage --format mermaid
      reg lineage chat --json
    """
    if direction and not model:
        message = f"--{direction} needs a MODEL"
        raise click.UsageError(message)
    if form == "json":
        session.voice = "json"
    id_ = session.model(model) if model else None
    graph = homolog.Lineage.load(session.catalog)
    names = {node.id: node.name for node in graph.nodes.values()}
    if id_:
        up = graph.ancestors(id_) if direction != "descendants" else []
        down = graph.descendants(id_) if direction != "ancestors" else []
        graph = graph.around([*up, id_, *down])
    conflicts = session.catalog.rows("select * from conflicts order by child, kind, parent, detail")
    conflicts = [row for row in conflicts if row["child_id"] in graph.nodes]
    licenses = homolog.licenses(session.catalog, list(graph.nodes) if id_ else None)
    findings = _findings([licenses[node] for node in graph.nodes], names)
    licence = licenses[id_].summary if id_ else None
    allowed = session.catalog.rows(
        "select distinct child, child_name, detail from evidence where method = 'license' order by all"
    )
    writers = {"dot": graph.as_dot, "mermaid": graph.as_mermaid, "graphml": graph.as_graphml}
    block: Block = Text(writers[form]()) if form in writers else Tree(tuple(tree_lines(graph)))
    document = graph.as_json() | {"conflicts": conflicts, "licenses": findings, "license": licence}
    lines = [Line(licence)] if licence and form == "tree" else []
    session.out.answer(document, block, *lines, ids=graph.nodes)
    _tell(session, conflicts, findings)
    for row in allowed:
        if row["child"] in graph.nodes:
            session.out.note(f"{row['child_name']}: {row['detail']}")


def _tell(session: Session, conflicts: Iterable[Row], findings: Sequence[Row]) -> None:
    """Say what contradicts what, and what is wrong with licences."""
    for row in conflicts:
        if row["kind"] != "license_dropped":  # told below, with what is dropped
            session.out.note(f"{row['child']}: {row['detail']} ({row['kind']})")
    unknown = [row["model"] for row in findings if row["kind"] == "license_unknown"]
    for found in (row for row in findings if row["kind"] != "license_unknown"):
        asked, of = ", ".join(found["rules"]), ", ".join(found["from"])
        session.out.note(
            f"{found['model']}: {_SAID[found['kind']]} {asked} of {of} ({found['kind']})"
        )
    if unknown:
        session.out.note(f"licence unknown for {', '.join(unknown)} (license_unknown)")
    if findings:
        session.out.hint("reg licenses MODEL tells more")


def _findings(licenses: Iterable["Effective"], names: Mapping[str, str]) -> list[Row]:
    """What is wrong with licences and is not inherited."""
    return [
        {
            "model": names[f.model], "model_id": f.model, "kind": f.kind, "about": f.about, "rules": f.rules,
            "from": [names[ancestor] for ancestor in f.ancestors], "detail": f.detail,
        }
        for license_ in licenses
        for f in license_.findings
        if not f.inherited
    ]  # fmt: skip

"""`reg lineage`: the graph."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING

import click

import homolog
from cli.block import Block, Line, Row, Text, Tree
from cli.command import Command
from cli.family_tree import tree_lines
from cli.output import as_json
from cli.session import Session

if TYPE_CHECKING:
    from registry.generations import Direction
    from registry.license_findings import Effective
    from registry.lineage import Lineage

_SAID = {"license_drift": "its licence drops", "license_conflict": "no licence satisfies"}

_DIRECTIONS: tuple["Direction", ...] = ("ancestors", "descendants")
_ON_THE_HUB = "select uri from store.address where model_id = ? and source = 'hub' order by uri"
_DOCUMENTS = ("cyclonedx", "prov")
_FORMATS = ("tree", "json", "dot", "mermaid", "graphml", *_DOCUMENTS)


@click.command(cls=Command)
@click.argument("model", required=False)
@click.option(
    "--ancestors", "direction", flag_value="ancestors", help="Only what MODEL descends from."
)
@click.option(
    "--descendants", "direction", flag_value="descendants", help="Only what descends from MODEL."
)
@click.option("--depth", type=click.IntRange(min=1), help="At most so many generations from MODEL.")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=1_000,
    show_default=True,
    help="Ancestors, and descendants, that are shown at most: the nearest.",
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
def command(
    session: Session, model: str | None, *, direction: str | None, depth: int | None, limit: int, form: str
) -> None:  # fmt: skip
    """Draw who descends from whom, and how we know.

    Without MODEL the whole catalog, but for models that only a listing names and from which nothing else descends; with
    it, the model with all its ancestors and descendants. Every edge says how the child came about and who says so:
    declared by a card, config or listing, measured on the bytes, inferred from the weights, or recorded when we made it;
    a number below 1 is how far that is believed. For other programs: cyclonedx is a bill of materials (CycloneDX 1.6, with
    licences, scores, recipes), prov is PROV-JSON of the W3C; neither tells of this machine's folders.

    Examples:
      reg lineage
      reg lineage merged --ancestors
      reg lineage base --descendants --depth 1
      reg lineage base --descendants --format dot
      reg lineage --format mermaid
      reg lineage merged --ancestors --format cyclonedx
      reg lineage --format prov
      reg lineage chat --json
    """
    if not model and (direction or depth):
        message = f"--{direction or 'depth'} needs a MODEL"
        raise click.UsageError(message)
    if form == "json":
        session.voice = "json"
    id_ = session.model(model) if model else None
    counts: dict[str, int] = {}
    if id_:
        found = {
            way: homolog.relatives(session.catalog, id_, way, depth=depth, limit=limit)
            for way in _DIRECTIONS if direction in (None, way)
        }  # fmt: skip
        counts = {f"n_{way}": each.total for way, each in found.items()}
        nearest = (each.nearest for each in found.values())
        ids = list(dict.fromkeys([id_, *chain.from_iterable(nearest)]))
        graph = homolog.Lineage.among(session.catalog, ids)
    else:
        graph, counts["n_left_out"] = _whole(session)
    if form in _DOCUMENTS:
        _write(session, graph, id_, form)
    else:
        _draw(session, graph, id_, form, counts)
    for way in _DIRECTIONS:
        if counts.get(f"n_{way}", 0) > limit:
            n = counts[f"n_{way}"]
            session.out.note(
                f"{limit:,} of {n:,} {way} are shown, the nearest; --limit, --depth or reg sql show others"
            )
    if counts.get("n_left_out"):
        session.out.note(
            f"{counts['n_left_out']:,} models known only from listings are left out; name one"
        )


def _whole(session: Session) -> tuple["Lineage", int]:
    """The models that were found or are named by those, with all they descend from, and how many were left out."""
    rows = session.catalog.rows(
        "select id from store.model where status not in ('listed', 'latent') order by 1"
    )
    ids = [row["id"] for row in rows]
    rows = session.catalog.rows("select count(*) as n from store.model where status = 'listed'")
    if not rows[0]["n"]:
        return homolog.Lineage.load(session.catalog), 0
    graph = homolog.Lineage.load(session.catalog, ids)
    shown = sum(node.status == "listed" for node in graph.nodes.values())
    return graph, rows[0]["n"] - shown


def _write(session: Session, graph: "Lineage", model: str | None, form: str) -> None:
    """Write the graph as a document for other programs, the same in every voice but the quiet one."""
    writer = {"cyclonedx": homolog.as_bill, "prov": homolog.as_prov}[form]
    document = writer(homolog.pedigree(session.catalog, graph, model))
    session.out.answer(document, Text(as_json(document)), ids=graph.nodes)


def _draw(
    session: Session, graph: "Lineage", model: str | None, form: str, counts: Mapping[str, int]
) -> None:  # fmt: skip
    """Write the graph, and what is remarkable in it."""
    names = {node.id: node.name for node in graph.nodes.values()}
    conflicts = session.catalog.rows("select * from conflicts order by child, kind, parent, detail")
    conflicts = [row for row in conflicts if row["child_id"] in graph.nodes]
    licenses = homolog.licenses(session.catalog, list(graph.nodes))
    findings = _findings([licenses[node] for node in graph.nodes], names)
    licence = licenses[model].summary if model else None
    allowed = session.catalog.rows(
        "select distinct child, child_name, detail from evidence where method = 'license' "
        "and child in (select store.each(?)) order by all",
        [list(graph.nodes)],
    )  # fmt: skip
    writers = {"dot": graph.as_dot, "mermaid": graph.as_mermaid, "graphml": graph.as_graphml}
    block: Block = Text(writers[form]()) if form in writers else Tree(tuple(tree_lines(graph)))
    places = session.catalog.rows(_ON_THE_HUB, [model]) if model else []
    on_hub = [row["uri"] for row in places]
    told: dict[str, object] = {
        "conflicts": conflicts, "licenses": findings, "license": licence, "on_the_hub": on_hub
    }  # fmt: skip
    lines = [Line(licence)] if licence and form == "tree" else []
    if on_hub and form == "tree":
        lines.append(Line(f"on the Hub: {', '.join(on_hub)}"))
    session.out.answer(graph.as_json() | told | dict(counts), block, *lines, ids=graph.nodes)
    _tell(session, conflicts, findings)
    for row in allowed:
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

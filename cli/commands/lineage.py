"""`reg lineage`: the graph."""

import click

import homolog
from cli.block import Block, Text, Tree
from cli.command import Command
from cli.family_tree import tree_lines
from cli.session import Session

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
    if id_:
        up = graph.ancestors(id_) if direction != "descendants" else []
        down = graph.descendants(id_) if direction != "ancestors" else []
        graph = graph.around([*up, id_, *down])
    conflicts = session.catalog.rows("select * from conflicts order by child, kind, parent, detail")
    conflicts = [row for row in conflicts if row["child_id"] in graph.nodes]
    writers = {"dot": graph.as_dot, "mermaid": graph.as_mermaid, "graphml": graph.as_graphml}
    block: Block = Text(writers[form]()) if form in writers else Tree(tuple(tree_lines(graph)))
    session.out.answer(graph.as_json() | {"conflicts": conflicts}, block, ids=graph.nodes)
    for row in conflicts:
        session.out.note(f"{row['child']}: {row['detail']} ({row['kind']})")

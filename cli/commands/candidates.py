"""`reg candidates`: merge partners, ranked."""

from collections.abc import Sequence

import click

import homolog
from cli.block import Column, Table
from cli.command import Command
from cli.session import Session

_COLUMNS = (
    Column("ok", " "),
    Column("model"),
    Column("score", kind="number"),
    Column("why"),
)

_MARKS = {True: "yes", False: "no"}
_TELLING = ("near", "deltas", "new", "scores")


@click.command(cls=Command)
@click.argument("model", metavar="MODEL")
@click.option(
    "--limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many, at most."
)
@click.option(
    "--task",
    "tasks",
    metavar="TASK",
    multiple=True,
    help="Benchmark that counts; may be given again.",
)
@click.pass_obj
def command(session: Session, model: str, *, limit: int, tasks: tuple[str, ...]) -> None:
    """Rank the models of the catalog to merge one with, best first.

    Looks among its kin of the same tensors. The score is the chance that an average keeps what both can do, which falls
    with how far they lie apart; half of it is for what the candidate brings: changes that point elsewhere, and scores
    that are better where both were scored. What cannot be merged comes last, with the reason. Reads no weights: the
    sketches that reg infer left, or the deltas that reg stats measured, say how far models lie apart.

    Examples:
      reg candidates chat
      reg candidates chat --limit 5 --json
      reg candidates chat --task gsm8k
    """
    id_ = session.model(model)
    found = homolog.candidates(session.catalog, id_, limit=limit, tasks=tasks)
    ids = [id_, *(candidate.model for candidate in found.ranked)]
    names = {
        row["id"]: row["name"]
        for row in session.catalog.rows("select id, name from store.nodes(?)", [ids])
    }
    rows = [
        {
            "model": names[c.model], "model_id": c.model, "ok": c.ok, "score": round(c.score, 4),
            "reasons": [{"check": r.check, "ok": r.ok, "detail": r.detail} for r in c.reasons],
        }
        for c in found.ranked
    ]  # fmt: skip
    shown = [
        {**row, "ok": _MARKS[c.ok], "why": _why(c.reasons, ok=c.ok)}
        for row, c in zip(rows, found.ranked, strict=True)
    ]
    empty = f"no model to merge {names[id_]} with is known"
    session.out.answer(
        rows, Table(shown, _COLUMNS, empty=empty), ids=[c.model for c in found.ranked if c.ok]
    )
    if found.n_unlike:
        session.out.note(
            f"{found.n_unlike:,} of {found.n_kin:,} kin have other tensors or are stored as codes"
        )
    if not found.ranked:
        session.out.hint("reg infer finds kin by their weights; reg scan PATH adds models")
    elif found.n_unsketched:
        n = f"{found.n_unsketched:,}"
        session.out.hint(f"reg infer tells how far apart they lie; of {n} no sketch was compared")


def _why(reasons: Sequence[homolog.Reason], *, ok: bool) -> str:
    """What tells most: of a no, the checks that say so."""
    telling = [r.detail for r in reasons if (r.check in _TELLING if ok else r.ok is False)]
    return "; ".join(telling) or "nothing is measured: reg infer"

"""`reg mergeable`: a verdict with reasons."""

from functools import partial
from typing import Any

import click

import homolog
from cli.block import Column, Line, Table
from cli.command import Command
from cli.session import Session

_MARKS = {True: "yes", False: "no", None: "open"}


@click.command(cls=Command)
@click.argument("models", metavar="MODEL...", nargs=-1, required=True)
@click.option("--base", metavar="MODEL", help="Their base. Default: the nearest common one.")
@click.option("--measure", is_flag=True, help="Measure first what is not yet measured.")
@click.option(
    "--allow-license-conflict",
    metavar="REASON",
    help="Licences that cannot all be obeyed are no reason to say no.",
)
@click.pass_obj
def command(
    session: Session,
    models: tuple[str, ...],
    base: str | None,
    measure: bool,
    allow_license_conflict: str | None,
) -> bool:
    """Judge whether models can be merged, with reasons.

    Homologous models share a base; compatible ones have the same tensors. The verdict comes from what the catalog
    knows and reads no weights, unless --measure is given. Exit code 3 when the answer is no.

    Examples:
      reg mergeable chat math
      reg mergeable chat math --base base --measure
      reg mergeable chat math --json
    """
    catalog = session.catalog
    ids = [session.model(model) for model in models]
    base_id = session.model(base) if base else None
    judge = partial(homolog.mergeable, catalog, ids, base_id)
    verdict = judge(allow_license_conflict=allow_license_conflict)
    if measure:
        _measure(session, ids, verdict.base)
        verdict = judge(allow_license_conflict=allow_license_conflict)
    reasons = [{"check": r.check, "ok": r.ok, "detail": r.detail} for r in verdict.reasons]
    suggestions = [
        {"method": s.method, "parameters": s.parameters, "why": s.why} for s in verdict.suggestions
    ]
    name = catalog.name(verdict.base) if verdict.base else None
    document: dict[str, Any] = {
        "ok": verdict.ok,
        "score": round(verdict.score, 4),
        "base": name,
        "base_id": verdict.base,
        "reasons": reasons,
        "suggestions": suggestions,
    }
    session.out.answer(
        document,
        Line("mergeable" if verdict.ok else "not mergeable", "good" if verdict.ok else "bad"),
        Line(f"base: {name}" if name else "base: none known"),
        Line(f"chance that an average keeps what they can do: {verdict.score:.2f}"),
        Table(
            [{**r, "ok": _MARKS[r["ok"]]} for r in reasons],  # type: ignore[index]
            (Column("ok", " "), Column("check"), Column("detail")), title="reasons",
        ),
        Table(
            [{**s, "parameters": _spelled(s["parameters"])} for s in suggestions],  # type: ignore[arg-type]
            (Column("method"), Column("parameters"), Column("why")), title="suggestions",
        ),
        ids=[verdict.base] if verdict.ok and verdict.base else [],
    )  # fmt: skip
    return verdict.ok


def _measure(session: Session, models: list[str], base: str | None) -> None:
    """Measure each model against the base, or the others against the first where no base is known or shown."""
    rows = session.catalog.rows("select id from models where id = ? and len(addresses) > 0", [base])
    against = base if base and rows else models[0]
    with session.progress() as progress:
        for model in dict.fromkeys(models):
            if model != against:
                homolog.stats(session.catalog, model, against, progress=progress)


def _spelled(parameters: dict[str, Any]) -> str:
    """Parameters as options of `reg merge`."""
    return " ".join(f"--set {name}={value}" for name, value in parameters.items())

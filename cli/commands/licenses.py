"""`reg licenses`: under which terms models may be passed on, as far as their lineage tells."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any

import click

import homolog
from cli.block import Block, Column, Facts, Line, Row, Table
from cli.command import Command
from cli.session import Session
from registry.license_table import NOT_ADVICE

if TYPE_CHECKING:
    from registry.license_findings import Effective

_MODELS = (Column("model"), Column("says"), Column("effective"), Column("why"))
_OBLIGATIONS = (Column("asked"), Column("value"), Column("rules"), Column("from"), Column("detail"))
_FINDINGS = (Column("model"), Column("kind"), Column("from"), Column("detail"))


@click.command(cls=Command)
@click.argument("models", metavar="[MODEL]...", nargs=-1)
@click.pass_obj
def command(session: Session, models: tuple[str, ...]) -> None:
    """Show which licence models may carry, what is asked, and by whom.

    The licence of a model follows from its own card and from every ancestor whose weights are in it, however small its
    coefficient. Without MODEL all of the catalog that not only listings name. Findings are drift (its card drops what an ancestor asks for),
    conflict (no licence obeys all) and unknown (somebody says nothing). Every rule comes with its id and source. This is
    not legal advice.

    Examples:
      reg licenses
      reg licenses merged
      reg licenses chat --json
    """
    ids = [session.model(model) for model in models]
    found = homolog.licenses(session.catalog, ids or None)
    names = _names(session, {*found, *chain.from_iterable(map(_mentioned, found.values()))})
    judged = {id_: found[id_] for id_ in (dict.fromkeys(ids) if ids else names) if id_ in found}
    rows = [_row(names[id_], each) for id_, each in judged.items()]
    documents = [_document(each, names) for each in judged.values()]
    findings = [finding for document in documents for finding in document["findings"]]
    blocks: list[Block] = [Table(rows, _MODELS, empty="no models")]
    if len(judged) == 1:
        row, document = rows[0], documents[0]
        blocks = [
            Facts(tuple((key, row[key], "text") for key in ("model", "says", "effective", "why"))),
            Table([_shown(o) for o in document["obligations"]], _OBLIGATIONS, title="asked"),
        ]  # fmt: skip
    blocks += [
        Table([_shown(f) for f in findings if not f["inherited"] or len(judged) == 1], _FINDINGS, title="findings"),
        Line(NOT_ADVICE, "open"),
    ]  # fmt: skip
    session.out.answer({"note": NOT_ADVICE, "models": documents}, *blocks, ids=judged)


def _names(session: Session, ids: Iterable[str]) -> dict[str, str]:
    """Id → name of models, by name."""
    rows = session.catalog.rows(
        "select id, name from store.nodes(?) order by name, id", [sorted(ids)]
    )
    return {row["id"]: row["name"] for row in rows}


def _mentioned(license_: "Effective") -> Iterator[str]:
    """Ids of all models that are spoken of."""
    yield from (held.origin for held in license_.held)
    for obligation in license_.obligations:
        yield from obligation.ancestors
    for finding in license_.findings:
        yield from (finding.model, *finding.ancestors)


def _row(name: str, license_: "Effective") -> Row:
    """One model as people see it."""
    return {
        "model": name,
        "says": ", ".join(license_.declared),
        "effective": license_.suggested,
        "why": license_.why,
    }


def _document(license_: "Effective", names: Mapping[str, str]) -> dict[str, Any]:
    """One model as plain values."""
    return {
        "id": license_.model,
        "model": names[license_.model],
        "declared": license_.declared,
        "suggested": license_.suggested,
        "why": license_.why,
        "atoms": [
            {
                "atom": h.rule.atom, "value": h.rule.value, "rule": h.rule.id, "source": h.rule.source,
                "from": names[h.origin], "from_id": h.origin, "changed": h.changed,
            }
            for h in license_.held
        ],
        "obligations": [
            {
                "asked": o.atom, "value": o.value, "rules": o.rules, "from": [names[a] for a in o.ancestors],
                "detail": o.text,
            }
            for o in license_.obligations
        ],
        "findings": [
            {
                "model": names[f.model], "kind": f.kind, "about": f.about, "rules": f.rules,
                "from": [names[a] for a in f.ancestors], "detail": f.detail, "inherited": f.inherited,
            }
            for f in license_.findings
        ],
    }  # fmt: skip


def _shown(row: Mapping[str, Any]) -> Row:
    """A row whose lists are words."""
    return {k: ", ".join(v) if isinstance(v, list | tuple) else v for k, v in row.items()}

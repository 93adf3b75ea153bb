"""Aliases: names of our own for models, each with a history that nothing is ever taken from.

An alias names one model at a time, by its id: weights that change are another model, and the alias stays with the old one
until somebody moves it. Only where a model of which headers were known is read whole, and has another id since, do its
aliases follow, for the bytes are the same. Every change is an event: who, when, from which model to which, and why.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from getpass import getuser

from registry.catalog import ID_DIGITS, Catalog, Columns, now, refuse_lost, unknown_alias
from registry.database import Reader, Row, Transaction
from registry.errors import AliasTaken, BadParameter
from registry.names import ALIAS, alias_name

_EVENTS = "select * from alias_events"
_ONE = "select * from aliases where alias = ?"
_LAST = (
    "select name, step, new_name from store.alias_event where name in (select store.each(?)) "
    "qualify row_number() over (partition by name order by step desc) = 1"
)
_UNSHOWN = ("latent", "listed")
"""Statuses of models that are known by name alone: there are no weights that an alias could stand for."""


@dataclass(frozen=True)
class Alias:
    """A name of our own for a model, as the view `aliases` has it.

    Attributes:
        alias: as it is typed, with its @.
        model_id: of the model that it names.
        model: name of that model.
        since: when it was made to name this model; None where its history was lost.
        who: made it so, as the system names them.
        why: in their words; None where nothing was said.
        n_changes: of this alias so far.
    """

    alias: str
    model_id: str
    model: str | None
    since: datetime | None
    who: str | None
    why: str | None
    n_changes: int


@dataclass(frozen=True)
class AliasEvent:
    """One change of an alias, as the view `alias_events` has it.

    Attributes:
        alias: as it is typed, with its @.
        step: number of the change of this alias, from 1.
        changed_at: when.
        who: made it, as the system names them.
        old_model: what the model that it named before was called then; None: there was no such alias.
        new_model: what the model that it names since was called then; None: the alias was removed.
        why: in their words; None where nothing was said.
        old_id: of the model before, which may be gone.
        new_id: of the model since, which may be gone.
    """

    alias: str
    step: int
    changed_at: datetime
    who: str
    old_model: str | None
    new_model: str | None
    why: str | None
    old_id: str | None
    new_id: str | None


def aliases(catalog: Catalog, model: str | None = None) -> list[Alias]:
    """All aliases in order of their names, or those of one model, given by its id."""
    where, values = ("", []) if model is None else ("where model_id = ?", [model])
    rows = catalog.rows(f"select * from aliases {where} order by alias", values)
    return [Alias(**row) for row in rows]


def alias_events(catalog: Catalog, name: str | None = None) -> list[AliasEvent]:
    """Every change of all aliases, or of one, oldest first; also of those that are no more.

    Raises:
        UnknownAlias: there never was an alias of this name.
    """
    if name is None:
        rows = catalog.rows(f"{_EVENTS} order by changed_at, alias, step")
        return [AliasEvent(**row) for row in rows]
    with catalog.read() as reader:
        rows = reader.rows(
            f"{_EVENTS} where alias = ? order by step", [ALIAS + name.removeprefix(ALIAS)]
        )
        if not rows:
            raise unknown_alias(reader, catalog.path, name)
    return [AliasEvent(**row) for row in rows]


def set_alias(
    catalog: Catalog, name: str, model: str, *, move: bool = False, why: str | None = None
) -> tuple[Alias, AliasEvent | None]:
    """Let an alias name a model.

    Args:
        catalog: knows the model.
        name: of the alias, with or without its @: see `registry.names.alias_name`.
        model: id.
        move: an alias of another model may be taken from it.
        why: to be remembered.

    Returns:
        The alias as it is now, and what was changed; None: it named this model already, and nothing is written.

    Raises:
        BadParameter: what cannot be a name, or a model that is known by name alone.
        AliasTaken: it names another model, and ``move`` is not set.
        CatalogChanged: the catalog has no such model any more.
    """
    alias = alias_name(name)
    with catalog.write() as transaction:
        refuse_lost(transaction, [model])
        wanted, held = _node(transaction, model), _held(transaction, "name = ?", alias).get(alias)
        if held == model:
            return Alias(**transaction.rows(_ONE, [ALIAS + alias])[0]), None
        if wanted["status"] in _UNSHOWN:
            message = f"{wanted['name']} is {wanted['status']}, a name alone; an alias stands for weights that were scanned"
            raise BadParameter(
                message, hint=f"reg scan hf://{wanted['name']}, or the folder where it is"
            )
        if held is not None and not move:
            there = _node(transaction, held)["name"]
            message = f"{ALIAS}{alias} names {there} ({held[:ID_DIGITS]})"
            raise AliasTaken(
                message, hint=f"reg alias set {alias} {wanted['name']} --move takes it from there"
            )
        _change(transaction, {alias: model}, why)
        (row,) = transaction.rows(_ONE, [ALIAS + alias])
        return Alias(**row), _latest(transaction, alias)


def remove_alias(catalog: Catalog, name: str, *, why: str | None = None) -> AliasEvent:
    """Let an alias name nothing any more; its history stays.

    Raises:
        UnknownAlias: there is no alias of this name.
    """
    alias = name.removeprefix(ALIAS)
    with catalog.read() as reader:  # before anything is written, or a catalog made
        _refuse_unknown(reader, catalog, alias)
    with catalog.write() as transaction:
        _refuse_unknown(transaction, catalog, alias)
        _change(transaction, {alias: None}, why)
        return _latest(transaction, alias)


def held_by(reader: Reader, models: Sequence[str]) -> dict[str, str]:
    """The aliases of some models, in order of their names: name, without the @ → id of its model."""
    return _held(reader, "model_id in (select store.each(?))", list(models))


def drop(transaction: Transaction, models: Sequence[str], why: str) -> None:
    """Remove the aliases of models that are about to go."""
    _change(transaction, dict.fromkeys(held_by(transaction, models)), why)


def follow(transaction: Transaction, models: Mapping[str, str]) -> None:
    """Let aliases follow models that were read whole: id as it was made of headers → id of all their bytes."""
    unread = transaction.rows(
        "select a.name, a.model_id from store.alias a join store.model m on m.id = a.model_id "
        "where m.status in ('header', 'sampled') and m.id in (select store.each(?)) order by a.name",
        [[old for old, new in models.items() if old != new]],
    )
    wanted = {row["name"]: models[row["model_id"]] for row in unread}
    _change(transaction, wanted, "the same files, read whole", follows=True)


def _held(reader: Reader, where: str, value: object) -> dict[str, str]:
    """Aliases for which something is true: name → id of its model."""
    sql = f"select name, model_id from store.alias where {where} order by name"
    return {row["name"]: row["model_id"] for row in reader.rows(sql, [value])}


def _refuse_unknown(reader: Reader, catalog: Catalog, name: str) -> None:
    """Refuse an alias that is not there.

    Raises:
        UnknownAlias: with the nearest one.
    """
    if not _held(reader, "name = ?", name):
        raise unknown_alias(reader, catalog.path, name)


def _latest(reader: Reader, name: str) -> AliasEvent:
    """The last event of an alias that has some."""
    rows = reader.rows(f"{_EVENTS} where alias = ? order by step desc limit 1", [ALIAS + name])
    return AliasEvent(**rows[0])


def _node(reader: Reader, model: str) -> Row:
    """Name and status of a model."""
    rows = reader.rows("select name, status from store.nodes(?)", [[model]])
    return rows[0] if rows else {"name": model[:ID_DIGITS], "status": "gone"}


def _change(
    transaction: Transaction,
    wanted: Mapping[str, str | None],
    why: str | None,
    *,
    follows: bool = False,
) -> None:
    """Let aliases name other models, or None: nothing any more; write that, and the events.

    Law: an alias is there if and only if the last of its events names a model, and names that one.

    Args:
        transaction: to write in.
        wanted: name of an alias → id of the model.
        why: to be remembered.
        follows: the models before and after have the same files, and so the same name.
    """
    if not wanted:
        return
    held = _held(transaction, "name in (select store.each(?))", list(wanted))
    last = {row["name"]: row for row in transaction.rows(_LAST, [list(wanted)])}
    called = _called(transaction, {*held.values(), *filter(None, wanted.values())})
    events, at, who = [], now(), _user()
    for name, model in wanted.items():
        before = last.get(name, {"step": 0, "new_name": None})
        old = held.get(name)
        old_name = old and (called.get(old) or before["new_name"] or old[:ID_DIGITS])
        new_name = model and (called.get(model) or (follows and old_name) or model[:ID_DIGITS])
        events.append(
            {
                "name": name, "step": before["step"] + 1, "changed_at": at, "who": who, "old_id": old,
                "old_name": old_name, "new_id": model, "new_name": new_name, "why": why or None,
            }
        )  # fmt: skip
    _write(transaction, wanted, events)


def _called(reader: Reader, models: Iterable[str]) -> dict[str, str]:
    """What models are called; those that are known by their ids alone are left out."""
    rows = reader.rows("select id, name from store.nodes(?)", [sorted(models)])
    return {row["id"]: row["name"] for row in rows if row["name"] != row["id"][:ID_DIGITS]}


def _write(
    transaction: Transaction, wanted: Mapping[str, str | None], events: Sequence[Row]
) -> None:
    """Write what aliases name from now on, and the events that made it so."""
    gone = [name for name, model in wanted.items() if model is None]
    transaction.execute("delete from store.alias where name in (select store.each(?))", [gone])
    columns = Columns()
    named = ({"name": name, "model_id": model} for name, model in wanted.items() if model)
    columns.add_rows("alias", named)
    columns.insert(transaction, "replace")
    columns.add_rows("alias_event", events)
    columns.insert(transaction, "error")


def _user() -> str:
    """Who runs this process, as the system names them."""
    try:
        return getuser()
    except (OSError, KeyError, ImportError):  # a number that no account has
        return f"uid {os.getuid()}"

"""Contents of rows: digests made anew, recipes, kept results that speak of models that are gone, circles, runs without a process."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from registry.catalog import ID_DIGITS, now
from registry.database import Reader, Row
from registry.finding import Finding, examples
from registry.fingerprint import MODEL_DIGEST, architecture_fingerprint, digest_model, digest_text
from registry.header import TensorRef
from registry.process import is_alive

_BATCH = 500

_TENSORS = (
    "select model_id, list(name order by name) as names, list(digest order by name) as digests from store.tensor "
    "where model_id in (select unnest(cast(cast(? as json) as varchar[]))) group by model_id"
)


def check_contents(reader: Reader, without_row: Sequence[str] = ()) -> Iterator[Finding]:
    """What only a program can tell of rows, in the order in which mends follow from each other.

    Args:
        reader: of the catalog.
        without_row: what `without_row` found.
    """
    yield from _lost_models(reader, without_row)
    yield from _digests(reader)
    yield from _recipes(reader)
    yield from _kept(reader, without_row)
    yield from _runs(reader)
    yield from _circles(reader)


def without_row(reader: Reader) -> list[str]:
    """Models that lost their row and not their tensors, whose digests give the row again; ids in order."""
    ids = [
        row["id"]
        for row in reader.rows(
            "select distinct model_id as id from store.tensor where digest is not null "
            "and model_id not in (select id from store.model) order by id"
        )
    ]
    return [model for model, digests in _digested(reader, ids) if _fits(model, digests)]


def _lost_models(reader: Reader, ids: Sequence[str]) -> Iterator[Finding]:
    """Models whose rows can be made again."""
    if ids:
        yield Finding(
            "lost_models", "model", len(ids), f"models without a row, whose tensors are whole: {_ids(ids)}",
            repair="their rows are made again from their tensors", mends=tuple(_revived(reader, id_) for id_ in ids), can_repair=True,
        )  # fmt: skip


def _revived(reader: Reader, model: str) -> tuple[str, tuple[Any, ...]]:
    """The statement that makes the row of a model again."""
    rows = reader.rows(
        "select name, dtype, shape, n_params, n_bytes from store.tensor where model_id = ? order by name",
        [model],
    )
    sizes: dict[str, int] = defaultdict(int)
    for row in rows:
        sizes[row["dtype"]] += row["n_bytes"]
    kind = "adapter" if any("lora_" in row["name"] for row in rows) else "model"
    values = (
        model, kind, "full", MODEL_DIGEST, architecture_fingerprint(map(_shaped, rows)),
        max(sorted(sizes), key=sizes.__getitem__), sum(row["n_params"] for row in rows),
        sum(row["n_bytes"] for row in rows), len(rows), now(),
    )  # fmt: skip
    names = (
        "id, kind, status, digest_name, signature, dtype, n_params, n_bytes, n_tensors, created_at"
    )
    marks = ", ".join("?" for _ in values)
    return f"insert or ignore into store.model ({names}) values ({marks})", values


def _shaped(row: Row) -> TensorRef:
    """A tensor as far as its row tells; it is nowhere."""
    shape = tuple(json.loads(row["shape"]))
    return TensorRef(row["name"], row["dtype"], shape, Path(), 0, row["n_bytes"])


def _digested(
    reader: Reader, ids: Sequence[str]
) -> Iterator[tuple[str, dict[str, str | None] | None]]:
    """Each model with the digests of its tensors by name; None for one without a tensor."""
    for start in range(0, len(ids), _BATCH):
        some = ids[start : start + _BATCH]
        rows = {row["model_id"]: row for row in reader.rows(_TENSORS, [some])}
        for model in some:
            row = rows.get(model)
            yield model, row and dict(zip(row["names"], row["digests"], strict=True))


def _fits(model: str, digests: dict[str, str | None] | None) -> bool:
    """Tell whether tensors have the digest of a model; whether its head is tied only its config knows."""
    if not digests or None in digests.values():
        return False
    whole = {name: str(digest) for name, digest in digests.items()}
    return model in (digest_model(whole), digest_model(whole, tied=False))


def _digests(reader: Reader) -> Iterator[Finding]:
    """Models read whole whose tensors do not give their digest."""
    ids = [
        row["id"]
        for row in reader.rows(
            "select id from store.model where status = 'full' and digest_name = ? order by id",
            [MODEL_DIGEST],
        )
    ]
    wrong = [model for model, digests in _digested(reader, ids) if not _fits(model, digests)]
    if not wrong:
        return
    rows = reader.rows(
        "select model_id, uri, root, source from store.address where source <> 'listing' "
        "and model_id in (select unnest(cast(cast(? as json) as varchar[]))) order by uri",
        [wrong],
    )
    placed = {row["model_id"] for row in rows}
    roots = list(dict.fromkeys(row["root"] for row in rows))
    if placed:
        yield Finding(
            "digest", "tensor", len(placed),
            f"tensors do not give the digest of their model: {_ids(sorted(placed))}", "their digests, until they are read again",
            f"what is wrong is removed; to read it anew: reg scan {examples(roots, len(roots))}",
            _unread(sorted(placed)), can_repair=True,
        )  # fmt: skip
    gone = [model for model in wrong if model not in placed]
    if gone:
        mends = (
            *_unread(gone),
            _each("update store.model set status = 'latent' where id in ({})", gone),
        )
        yield Finding(
            "digest", "model", len(gone), f"tensors do not give the digest of their model, and no file of it is known: {_ids(gone)}",
            "the tensors of these models", "the tensors are removed; a model remains that is known by name alone",
            mends, can_repair=True,
        )  # fmt: skip


def _unread(models: Sequence[str]) -> tuple[tuple[str, tuple[Any, ...]], ...]:
    """Statements after which a scan reads models as if for the first time."""
    return (
        _each("delete from store.tensor where model_id in ({})", models),
        _each(
            "delete from store.file where uri in (select uri from store.address where model_id in ({}))",
            models,
        ),
    )


def _each(sql: str, values: Sequence[str]) -> tuple[str, tuple[Any, ...]]:
    """A statement about a list of texts."""
    return sql.format("select unnest(cast(cast(? as json) as varchar[]))"), (list(values),)


def _ids(models: Sequence[str]) -> str:
    """Models in a sentence."""
    return examples([model[:ID_DIGITS] for model in models], len(models))


def _recipes(reader: Reader) -> Iterator[Finding]:
    """Recipes that are not what their digest says."""
    rows = reader.rows("select digest, canonical from store.recipe order by digest")
    wrong = [row["digest"] for row in rows if digest_text(row["canonical"]) != row["digest"]]
    if wrong:
        mends = (
            _each("delete from store.run where recipe in ({})", wrong),
            _each("delete from store.recipe where digest in ({})", wrong),
        )
        yield Finding(
            "recipe", "recipe", len(wrong), f"recipes do not have their digest: {_ids(wrong)}", "these recipes and the records of their runs",
            "removed with their runs; reg reproduce takes what homolog.json beside the weights says", mends, can_repair=True,
        )  # fmt: skip


def _kept(reader: Reader, without_row: Sequence[str]) -> Iterator[Finding]:
    """Kept results of inference that speak of models that are not there, or of nothing."""
    known = {row["id"] for row in reader.rows("select id from store.model")} | set(without_row)
    for table, key, models_of in (("component", "id", _of_component), ("clans", "spec", _of_clans)):
        wrong = []
        for row in reader.rows(f"select {key} as key, found from store.{table} order by key"):
            try:
                sound = models_of(json.loads(row["found"])) <= known
            except (ValueError, TypeError, IndexError, KeyError, AttributeError):
                sound = False
            if not sound:
                wrong.append(row["key"])
        if wrong:
            yield Finding(
                "derived", table, len(wrong), f"kept results speak of models that are not there: {_ids(wrong)}",
                repair="removed; reg infer finds them anew", can_repair=True,
                mends=(_each(f"delete from store.{table} where {key} in ({{}})", wrong),),
            )  # fmt: skip


def _of_component(found: Any) -> set[str]:
    """The models that a kept component speaks of; latent ones are called by names of its own."""
    edges, _, root, *_ = found
    named = {end for edge in edges for end in edge[:2]} | {root}
    return {str(model) for model in named if not str(model).startswith("latent:")}


def _of_clans(found: Any) -> set[str]:
    """The models that kept clans speak of."""
    groups, unsound = found
    lines = [line for clans in groups.values() for clan in clans for line in clan[0]]
    return {line.split("\0", 1)[0] for line in (*lines, *unsound)}


def _runs(reader: Reader) -> Iterator[Finding]:
    """Runs that have started, and whose process is gone."""
    rows = reader.rows(
        "select id, process, output, started_at from store.run where status = 'STARTED' order by started_at, id"
    )
    dead = [row for row in rows if not is_alive(row["process"], row["started_at"])]
    if dead:
        outputs = [row["output"] for row in dead]
        sql, parameters = _each(
            "update store.run set status = 'ABORTED', ended_at = now(), error = 'the process ended' where id in ({})",
            [row["id"] for row in dead],
        )
        yield Finding(
            "dead_runs", "run", len(dead), f"runs have started whose process is not on this machine any more, into {examples(outputs, len(outputs))}",
            repair="marked as ABORTED; the same reg merge goes on where it was", mends=((sql, parameters),), can_repair=True,
        )  # fmt: skip


def _circles(reader: Reader) -> Iterator[Finding]:
    """Models that descend from themselves by what was inferred or done; equal weights can make that true."""
    below: dict[str, set[str]] = defaultdict(set)
    n_parents: dict[str, int] = defaultdict(int)
    for row in reader.rows(
        "select distinct child, parent from store.edge where status in ('recorded', 'inferred') and child <> parent "
        "and relation not in ('copy', 'cast', 'permuted') order by all"
    ):
        below[row["parent"]].add(row["child"])
        n_parents[row["child"]] += 1
    left = _without_sources(below, n_parents)
    left = _without_sources(*_turned(below, left))
    if left:
        yield Finding(
            "circle", "edge", len(left), f"models descend from each other in a circle: {_ids(sorted(left))}",
            repair="reg show tells the edges; a merge that gives the weights of one of its parents makes a circle rightly",
            is_damage=False,
        )  # fmt: skip


def _without_sources(below: dict[str, set[str]], n_parents: dict[str, int]) -> set[str]:
    """What is left of a graph when whoever has no parent is taken away, again and again."""
    ends = {end for some in below.values() for end in some} | below.keys()
    ready = [end for end in ends if not n_parents.get(end)]
    left, count = set(ends), dict(n_parents)
    while ready:
        node = ready.pop()
        left.discard(node)
        for child in below.get(node, ()):
            count[child] -= 1
            if not count[child]:
                ready.append(child)
    return left


def _turned(
    below: dict[str, set[str]], left: Iterable[str]
) -> tuple[dict[str, set[str]], dict[str, int]]:
    """The graph of what is left, upside down."""
    some = set(left)
    above: dict[str, set[str]] = defaultdict(set)
    count: dict[str, int] = defaultdict(int)
    for parent in some:
        for child in below.get(parent, set()) & some:
            above[child].add(parent)
            count[parent] += 1
    return above, count

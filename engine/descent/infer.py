"""The use case `infer`: who descends from whom, by the weights and a little by claims, written beside what people claim.

Sketches are small and kept, and so is what was found of every component: only those are inferred again whose models
changed, and the graph is the one that inferring from nothing gives. It replaces what was inferred before; claims, casts
and our own merges stay as they are.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from engine.descent.certify import certified
from engine.descent.component import Descent
from engine.descent.contradiction import Contradiction, contradictions
from engine.descent.forest import Forest, forest
from engine.descent.patch import N_SCALARS
from engine.descent.recall import recalled, recalled_clans, remember, remember_clans
from engine.descent.shelf import out_of_reach, shelved_ids, sketches_of, spec_of
from engine.descent.sketch import Sketch
from registry.catalog import Catalog, Columns, now, still_models
from registry.database import Row, Transaction
from registry.errors import CatalogChanged, Interrupted, NotHomologous
from registry.fingerprint import digest_text
from registry.progress import SILENT, Progress

VERSION = "1"
"""Version of the rules; stored with every reason."""

WHOLE_BYTES = 128 << 20
"""Memory that all models' weights may take as float32, that whole models are compared."""

_LATENT = "blake3-children-1"
_FLOAT_BYTES = 4


@dataclass(frozen=True)
class Inferred:
    """What was inferred.

    Attributes:
        edges: of all models that were looked at, latent parents by their new ids.
        unaligned: pairs that are one network in two bases, and how far their invariants are apart.
        n_models: looked at.
        n_latent: parents that nobody has.
        n_afar: models of the Hub that were not looked at, since nothing of their weights was fetched.
        contradictions: claims that are more likely wrong than right.
        problems: model → why it was not looked at.
        unproved: child → why its edges rest on samples, where all entries were asked for.
        read_bytes: of weights, for all sketches, those on the shelf included.
        scope: sampled; or full, where all entries were asked for: each edge tells whether they tell of it.
        seconds: it took.
    """

    edges: tuple[Descent, ...]
    unaligned: tuple[tuple[str, str, float], ...]
    n_models: int
    n_latent: int
    n_afar: int
    contradictions: tuple[Contradiction, ...]
    problems: dict[str, str]
    unproved: dict[str, str]
    read_bytes: int
    scope: str
    seconds: float


def infer(
    catalog: Catalog,
    *,
    n_scalars: int | None = N_SCALARS,
    claims: bool = True,
    whole_bytes: int = WHOLE_BYTES,
    progress: Progress = SILENT,
) -> Inferred:
    """Infer the lineage of all models of a catalog whose weights are at hand or were sketched before.

    What is inferred is written at once, at the end: whoever stops it before finds what was there.

    Args:
        catalog: where the models are and the edges go.
        n_scalars: entries looked at of each model, about; None: all. Then models that fit into memory side by side are
            compared whole; larger ones as usual, and what that suggests is measured on every entry, edge by edge.
        claims: let what cards and configs say decide directions that the weights leave open; they are held against
            the weights in any case.
        whole_bytes: memory for models side by side, as float32.
        progress: told of every model.

    Raises:
        NotHomologous: there are fewer than two models to compare.
        CatalogChanged: another process dropped models meanwhile; edges are those that were there, what was found is kept.
        Interrupted: Ctrl-C; the catalog is as it was, but for sketches that were read.
    """
    try:
        return _inferred(catalog, n_scalars, whole_bytes, progress, claims=claims)
    except (KeyboardInterrupt, RuntimeError) as error:
        if not isinstance(error, KeyboardInterrupt) and not isinstance(
            error.__cause__, KeyboardInterrupt
        ):
            raise
        message = f"catalog {catalog.path} holds what was inferred before, and the sketches that were read"
        raise Interrupted(message) from error


def _inferred(
    catalog: Catalog, n_scalars: int | None, whole_bytes: int, progress: Progress, *, claims: bool
) -> Inferred:
    """As `infer`, whose arguments these are."""
    started = time.monotonic()
    is_full = n_scalars is None
    sketches, problems, n_seen = _sketched(catalog, n_scalars, whole_bytes, progress)
    if len(sketches) < 2:  # noqa: PLR2004 - nobody descends from himself
        raise _too_few(catalog, len(sketches), problems)
    said = _declared(catalog)
    spec = spec_of(n_seen)
    known = recalled(catalog, spec)
    clans = recalled_clans(catalog, spec)
    voices = [(e["child"], e["parent"]) for e in said] if claims else ()
    found = forest(sketches, voices, known, clans)
    problems |= dict.fromkeys(found.unsound, "holds NaN or infinity: reg stats counts them")
    models = [s.model for s in sketches]
    n_models, read_bytes = len(sketches) - len(found.unsound), sum(s.read_bytes for s in sketches)
    del sketches
    seen = "full" if n_seen is None else "sampled"
    told = [replace(edge, scope=seen) for edge in found.edges]
    unproved: dict[str, str] = {}
    if is_full:
        told, unproved = certified(catalog, told, progress=progress)
    ids = _latent_ids(found)
    edges = tuple(_renamed(edge, ids) for edge in told)
    wrong = contradictions([(e["child"], e["parent"]) for e in said], models, found, joined=claims)
    with catalog.write() as transaction:
        gone = sorted(set(models) - still_models(transaction, models))
        if not gone:
            _store(transaction, edges, sorted(ids.values()), seen, _against(wrong, said, seen))
        remember(transaction, spec, found.components, known)
        if found.clans != clans:
            remember_clans(transaction, spec, found.clans)
    if gone:
        message = f"catalog {catalog.path}: {len(gone)} of its models are gone since they were looked at, {gone[0]} first"
        raise CatalogChanged(message, hint="reg infer, once nothing else writes there")
    return Inferred(
        edges, tuple(found.unaligned), n_models, len(ids), len(out_of_reach(catalog, n_seen or N_SCALARS)),
        tuple(wrong), problems, unproved, read_bytes,
        "full" if is_full else "sampled", time.monotonic() - started,
    )  # fmt: skip


def _sketched(
    catalog: Catalog, n_scalars: int | None, whole_bytes: int, progress: Progress
) -> tuple[list[Sketch], dict[str, str], int | None]:
    """What is compared, of models that cannot be read why, and how many scalars that is of each; None: all.

    A model whose files are gone is worth more as a sketch that was kept than not at all, so that then whole models are
    not compared.
    """
    rows = catalog.rows(
        "select id, n_params from store.model where kind = 'model' and status not in ('latent', 'listed') order by id"
    )
    afar = set(out_of_reach(catalog, n_scalars or N_SCALARS))
    rows = [row for row in rows if row["id"] not in afar]
    models = [row["id"] for row in rows]
    fits = _FLOAT_BYTES * sum(row["n_params"] or 0 for row in rows) <= whole_bytes
    if n_scalars is None and fits:
        sketches, problems = sketches_of(catalog, models, None, progress=progress)
        if not shelved_ids(catalog, list(problems), N_SCALARS):
            return sketches, problems, None
    n_seen = n_scalars or N_SCALARS
    sketches, problems = sketches_of(catalog, models, n_seen, progress=progress)
    return sketches, problems, n_seen


def _too_few(catalog: Catalog, n_models: int, problems: Mapping[str, str]) -> NotHomologous:
    """The error that there are not two models to compare."""
    message = f"catalog {catalog.path}: weights of {n_models} of its models can be read; lineage takes two"
    first = min(problems, default=None)
    if first is not None:
        message += f"; {catalog.name(first)} was left out: {problems[first]}"
    if out_of_reach(catalog, N_SCALARS):
        return NotHomologous(message, hint="reg scan --sketch hf://org/name fetches what it takes")
    return NotHomologous(message, hint="reg scan PATH adds models")


def _latent_ids(found: Forest) -> dict[str, str]:
    """Names of latent parents → ids that follow from the models around them, so that the same one keeps its own."""
    latent, around = set(found.latent), dict[str, list[str]]()
    for edge in found.edges:
        for end, other in ((edge.child, edge.parent), (edge.parent, edge.child)):
            if end in latent and other not in latent:
                around.setdefault(end, []).append(other)
    return {
        name: digest_text(f"{_LATENT}\0" + "\n".join(sorted(around.get(name, [name]))))
        for name in found.latent
    }


def _renamed(edge: Descent, ids: dict[str, str]) -> Descent:
    """An edge with the ids of latent ends."""
    return replace(
        edge, child=ids.get(edge.child, edge.child), parent=ids.get(edge.parent, edge.parent)
    )


def _declared(catalog: Catalog) -> list[Row]:
    """Declared edges, but for adapters, and for the bases of merges, of which the weights say nothing."""
    return catalog.rows(
        "select child, parent, relation from store.edge "
        "where status = 'declared' and relation <> 'adapter' and role <> 'base' order by all"
    )


def _against(wrong: Sequence[Contradiction], said: Sequence[Row], scope: str) -> list[Row]:
    """What speaks against claims."""
    found = {(one.child, one.parent): one for one in wrong}
    pairs = [(found.get((e["child"], e["parent"])), e["relation"]) for e in said]
    return [
        {
            "id": digest_text(f"claim\0{one.child}\0{one.parent}\0{relation}"),
            "child": one.child, "parent": one.parent, "relation": relation, "status": "inferred",
            "method": "strangers" if one.strangers else "descent", "version": VERSION,
            "statistic": "claim_probability", "value": one.probability, "scope": scope, "detail": one.detail,
        }
        for one, relation in pairs
        if one is not None
    ]  # fmt: skip


def _store(
    transaction: Transaction, edges: Sequence[Descent], latent: Sequence[str], seen: str,
    against: Sequence[Row],
) -> None:  # fmt: skip
    """Write what was inferred in place of what was before.

    Args:
        transaction: of the catalog.
        edges: all there are.
        latent: ids of parents that nobody has.
        seen: scope of what was compared: sampled or full.
        against: evidence against claims.
    """
    columns = Columns()
    columns.add_rows("model", [_latent(id_) for id_ in latent])
    columns.add_rows("evidence", against)
    made = now()
    for edge in edges:
        columns.add_rows("edge", [{
            "child": edge.child, "parent": edge.parent, "relation": edge.kind.name, "role": edge.role,
            "status": "inferred", "coefficient": edge.coefficient, "confidence": edge.confidence,
            "run_id": None, "created_at": made,
        }])  # fmt: skip
        columns.add_rows("evidence", _evidence(edge, seen))
    transaction.execute("delete from store.edge where status = 'inferred'")
    transaction.execute("delete from store.evidence where status = 'inferred'")
    transaction.execute("delete from store.model where digest_name = ?", [_LATENT])
    columns.insert(transaction, "replace")


def _evidence(edge: Descent, seen: str) -> Iterator[Row]:
    """What an edge rests on: its kind, and its direction where that was asked for."""
    reasons = [(edge.kind.statistic, edge.kind.value, edge.kind.detail, edge.scope)]
    if edge.direction:
        detail = "above 0 the parent is the one it is taken for"
        reasons.append(("direction", edge.direction, detail, seen))
    for statistic, value, detail, scope in reasons:
        yield {
            "id": digest_text(f"{edge.child}\0{edge.parent}\0{edge.kind.name}\0{edge.role}\0{statistic}"),
            "child": edge.child, "parent": edge.parent, "relation": edge.kind.name,
            "status": "inferred", "method": "descent", "version": VERSION, "statistic": statistic,
            "value": value, "scope": scope, "detail": detail,
        }  # fmt: skip


def _latent(model_id: str) -> Row:
    """A model that nobody has, and its children show."""
    unknown = dict.fromkeys(("signature", "dtype", "n_params", "n_bytes", "n_tensors"))
    return {
        "id": model_id, "kind": "model", "status": "latent", "digest_name": _LATENT,
        **unknown, "created_at": now(),
    }  # fmt: skip

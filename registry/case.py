"""Cases: what is asked of some models, and all that the catalog knows of them, read once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from registry.catalog import Catalog
from registry.closeness import Closeness, Pair, Sampled, closeness, pairs_of, shelf
from registry.database import Row
from registry.errors import UnknownModel
from registry.license_findings import Effective
from registry.license_report import license_of_merge
from registry.lineage import Lineage

HOMOLOGOUS_COSINE = 0.5
"""Least cosine between a model's matrices and its base's; strangers have about 0."""

REAL = ("F64", "F32", "F16", "BF16")
"""Dtypes of weights; all others hold codes or whole numbers."""

COSINE = "cosine_matrices"
"""The column of `delta_summary` that tells kin from strangers."""


@dataclass(frozen=True)
class Case:
    """What is asked, and what the catalog knows of it.

    Attributes:
        lineage: the models, the base, and all they descend from.
        models: ids, each once.
        base: id; None where none is given or known, or the weights refute it.
        refuted: name of a base that is declared and refuted; empty for none.
        rows: id → name, kind, status, dtype, signature and tokenizer, of the base and the models.
        deltas: id → row of the view `delta_summary` against the base.
        near: rows of `delta_summary` among the models themselves.
        sketched: id → stored sketch, of those that have one.
        pairs: how the models lie to each other; a single one, to its base.
        license: that what is made of the models would have.
    """

    lineage: Lineage
    models: tuple[str, ...]
    base: str | None
    refuted: str
    rows: dict[str, Row]
    deltas: dict[str, Row]
    near: list[Row]
    sketched: Mapping[str, Sampled]
    pairs: tuple[Pair, ...]
    license: Effective

    @property
    def shown(self) -> list[Row]:
        """Rows of those whose tensors are known."""
        return [row for row in self.rows.values() if row["signature"] is not None]

    def name(self, model: str) -> str:
        """What people call a model."""
        return str(self.rows[model]["name"])

    def strange(self, found: Closeness, a: str, b: str) -> bool:
        """Whether two models have nothing in common, and neither a chain of kin nor a turn explains it."""
        return _strange(self.lineage, found, a, b)

    def refutes(self, model: str, base: str) -> bool:
        """Whether sketches show that a model has nothing in common with a base."""
        return _refutes(self.lineage, self.sketched, model, base)


def load(catalog: Catalog, models: Sequence[str], base: str | None) -> Case:
    """Ask the catalog all that is needed.

    Args:
        catalog: what is known.
        models: ids, each once.
        base: id of the base; None: the nearest common one that the weights do not refute.

    Raises:
        UnknownModel: an id that the catalog does not have.
    """
    lineage = Lineage.load(catalog, [*models, *([base] if base else [])])
    missing = [m for m in (*models, *([base] if base else [])) if m not in lineage.nodes]
    if missing:
        message = f"the catalog has no model {missing[0]}"
        raise UnknownModel(message, hint="reg ls lists the models")
    claimed = base or lineage.common_base(models)
    sketched = shelf(catalog, [*models, *([claimed] if claimed else [])])
    refuted = not base and claimed and any(_refutes(lineage, sketched, m, claimed) for m in models)
    base = None if refuted else claimed
    asked = tuple(dict.fromkeys([*([base] if base else []), *models]))
    with catalog.read() as reader:
        found = {row["id"]: row for row in reader.rows("select * from store.nodes(?)", [asked])}
        measured = reader.rows(
            "select child, base from store.pair where child in (select store.each(?)) and base in "
            "(select store.each(?)) order by child, base",
            [list(models), [base] if base else list(models)],
        )
        deltas = [
            row
            for pair in measured
            for row in reader.rows(
                "select * from delta_summary where child_id = ? and base_id = ?",
                list(pair.values()),
            )
        ]
    of_base = {row["child_id"]: row for row in deltas if row["base_id"] == base}
    return Case(
        lineage=lineage,
        models=tuple(models),
        base=base,
        refuted=lineage.nodes[claimed].name if refuted and claimed else "",
        rows={model: found[model] for model in asked},
        deltas=of_base,
        near=[row for row in deltas if row["base_id"] in models],
        sketched=sketched,
        pairs=pairs_of(models, base, sketched, {m: r["relative_l2"] for m, r in of_base.items()}),
        license=license_of_merge(catalog, asked),
    )


def _refutes(lineage: Lineage, sketched: Mapping[str, Sampled], model: str, base: str) -> bool:
    """Whether sketches show that a model has nothing in common with a base."""
    if model == base or model not in sketched or base not in sketched:
        return False
    found = closeness(sketched[model], sketched[base])
    return found is not None and _strange(lineage, found, model, base)


def _strange(lineage: Lineage, found: Closeness, a: str, b: str) -> bool:
    """Whether two models have nothing in common, and neither a chain of kin nor a turn explains it."""
    if found.cosine >= HOMOLOGOUS_COSINE:
        return False
    return not lineage.kin(a, b) and not lineage.turned([a, b])

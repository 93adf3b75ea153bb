"""Mergeable or not: a verdict with reasons, made from the catalog alone, no weights read.

compatible: the same tensors (a fact of shapes). homologous: a common base (a fact of history, declared, recorded
or measured). mergeable: both, and within what methods tolerate. A check that nothing is known about is neither
yes nor no; only homology must be known, because nonsense comes out without it and no error.

Thresholds and their sources: |δ| ≤ 0.005 is where DARE's dropping is harmless and 0.03 where it is hopeless
(Yu et al., "Language Models are Super Mario", §4); task vectors more than about five times apart drown one another
and call for WIDEN (Yu et al., "Extend Model Merging from Fine-Tuned to Pre-Trained Large Language Models");
between models of one backbone the relative distance stays below about 0.75, between strangers it is about √2
(mean per-tensor distances of Llama-2-7B: fine-tunes 4-6, continued pre-training 89-93, strangers 120-148).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any

from registry.catalog import Catalog
from registry.database import Row
from registry.errors import UnknownModel
from registry.license_findings import Effective
from registry.license_report import license_of_merge
from registry.lineage import Lineage

SFT_RANGE = 0.005
"""Largest |δ| of most supervised fine-tunes; DARE works below."""

CPT_RANGE = 0.03
"""|δ| that continued pre-training reaches quickly; DARE fails there."""

SCALE_RATIO = 5.0
"""How far apart the sizes of task vectors may be before one drowns the other."""

HOMOLOGOUS_COSINE = 0.5
"""Least cosine between a model's matrices and its base's; strangers have about 0."""

_COSINE = "cosine_matrices"
_NEARLY_ALL = 0.99
_REAL = ("F64", "F32", "F16", "BF16")


@dataclass(frozen=True)
class Reason:
    """One check: yes, no, or (None) nothing is known or nothing is settled."""

    check: str
    ok: bool | None
    detail: str


@dataclass(frozen=True)
class Suggestion:
    """A method with parameters that suits these models, and why."""

    method: str
    parameters: dict[str, Any]
    why: str


@dataclass(frozen=True)
class Verdict:
    """The answer.

    Attributes:
        ok: no check says no.
        base: id of the common base; None where there is none.
        reasons: in the order in which they were checked.
        suggestions: best first; empty when the answer is no.
    """

    ok: bool
    base: str | None
    reasons: tuple[Reason, ...]
    suggestions: tuple[Suggestion, ...] = field(default=())


@dataclass(frozen=True)
class _Case:
    """What is asked, and what the catalog knows of it.

    Attributes:
        lineage: the models, the base, and all they descend from.
        models: ids, each once.
        base: id; None where none is given or known.
        rows: id → name, kind, status, dtype, signature and tokenizer, of the base and the models.
        deltas: id → row of the view `delta_summary` against the base.
        near: rows of `delta_summary` among the models themselves.
        license: that what is made of the models would have.
    """

    lineage: Lineage
    models: tuple[str, ...]
    base: str | None
    rows: dict[str, Row]
    deltas: dict[str, Row]
    near: list[Row]
    license: Effective

    @property
    def shown(self) -> list[Row]:
        """Rows of those whose tensors are known."""
        return [row for row in self.rows.values() if row["status"] != "latent"]


def mergeable(
    catalog: Catalog,
    models: Sequence[str],
    base: str | None = None,
    *,
    allow_license_conflict: str | None = None,
) -> Verdict:
    """Judge whether models can be merged with each other.

    Args:
        catalog: what is known.
        models: ids, at least one (two without a base).
        base: id of the base; None: the nearest common one.
        allow_license_conflict: why licences that cannot all be obeyed are no reason to say no; None: they are.

    Raises:
        UnknownModel: an id that the catalog does not have.
    """
    case = _case(catalog, tuple(dict.fromkeys(models)), base)
    reasons = (
        _kind(case),
        _signature(case),
        _tokenizer(case),
        _homology(case),
        *_alignment(case),
        *_measured(case),
        _dtype(case),
        _license(case, allow_license_conflict),
    )
    ok = all(reason.ok is not False for reason in reasons)
    return Verdict(ok, case.base, reasons, _suggest(case) if ok else ())


def _case(catalog: Catalog, models: tuple[str, ...], base: str | None) -> _Case:
    """Ask the catalog all that is needed."""
    lineage = Lineage.load(catalog, [*models, *([base] if base else [])])
    missing = [m for m in (*models, *([base] if base else [])) if m not in lineage.nodes]
    if missing:
        message = f"the catalog has no model {missing[0]}"
        raise UnknownModel(message, hint="reg ls lists the models")
    base = base or lineage.common_base(models)
    asked = tuple(dict.fromkeys([*([base] if base else []), *models]))
    pairs = [(m, base) for m in models] if base else list(permutations(models, 2))
    with catalog.read() as reader:
        found = {row["id"]: row for row in reader.rows("select * from store.nodes(?)", [asked])}
        deltas = [
            row
            for pair in pairs
            for row in reader.rows(
                "select * from delta_summary where child_id = ? and base_id = ?", pair
            )
        ]
    return _Case(
        lineage=lineage,
        models=models,
        base=base,
        rows={model: found[model] for model in asked},
        deltas={row["child_id"]: row for row in deltas if row["base_id"] == base},
        near=[row for row in deltas if row["base_id"] in models],
        license=license_of_merge(catalog, asked),
    )


def _yes(check: str, detail: str) -> Reason:
    """A check that is passed."""
    return Reason(check, ok=True, detail=detail)


def _no(check: str, detail: str) -> Reason:
    """A check that forbids merging."""
    return Reason(check, ok=False, detail=detail)


def _open(check: str, detail: str) -> Reason:
    """A check that neither allows nor forbids."""
    return Reason(check, ok=None, detail=detail)


def _kind(case: _Case) -> Reason:
    """Whole models, not adapters."""
    adapters = [row["name"] for row in case.shown if row["kind"] == "adapter"]
    if adapters:
        return _no("kind", f"{', '.join(adapters)}: adapters, not whole models")
    return _yes("kind", "whole models")


def _signature(case: _Case) -> Reason:
    """The same tensor names and shapes, vocabulary left out."""
    groups: dict[str, list[str]] = {}
    for row in case.shown:
        groups.setdefault(row["signature"], []).append(row["name"])
    if len(groups) <= 1:
        return _yes("compatible", "the same tensor names and shapes")
    detail = "; ".join(f"{', '.join(names)} ({digest[:8]})" for digest, names in groups.items())
    return _no("compatible", f"different tensor names or shapes: {detail}")


def _tokenizer(case: _Case) -> Reason:
    """The same tokens in the same rows."""
    known = {row["tokenizer"] for row in case.shown if row["tokenizer"]}
    if not known:
        return _open("tokenizer", "no model has a tokenizer beside it")
    if len(known) == 1:
        return _yes("tokenizer", "one tokenizer")
    return _open("tokenizer", "tokenizers differ: equal rows may mean different tokens")


def _homology(case: _Case) -> Reason:
    """A common base, declared, recorded or measured."""
    if case.base:
        return _descent(case, case.base)
    cosines = [row[_COSINE] for row in case.near if row[_COSINE] is not None]
    if cosines and min(cosines) < HOMOLOGOUS_COSINE:
        apart = f"their weights point apart: cosine {min(cosines):.3f}"
        return _no("homologous", f"no common base is declared, and {apart}")
    compared = {id_ for row in case.near for id_ in (row["child_id"], row["base_id"])}
    if cosines and compared == set(case.models):
        close = f"weights are close: cosine {min(cosines):.3f}"
        return _yes("homologous", f"no base is declared, but {close}")
    return _no("homologous", "no common base is declared, recorded or measured")


def _descent(case: _Case, base: str) -> Reason:
    """How each model is known to descend from ``base``."""
    lineage, known, unknown = case.lineage, set(), []
    for model in case.models:
        above = {model, *lineage.ancestors(model)}
        if base in above:
            known |= {
                edge.status for edge in lineage.edges
                if edge.child in above and base in (edge.parent, *lineage.ancestors(edge.parent))
            }  # fmt: skip
        elif model in case.deltas and (case.deltas[model][_COSINE] or 0) >= HOMOLOGOUS_COSINE:
            known.add("measured")
        else:
            unknown.append(str(case.rows[model]["name"]))
    name = case.rows[base]["name"]
    if unknown:
        who = ", ".join(unknown)
        return _no("homologous", f"nothing says or shows that {who} descends from {name}")
    return _yes("homologous", f"common base {name} ({', '.join(sorted(known)) or 'itself'})")


def _alignment(case: _Case) -> list[Reason]:
    """One basis; nothing is said where no other is known of."""
    asked = [*case.models, *([case.base] if case.base else [])]
    return [
        _no("aligned", f"{' and '.join(str(case.rows[m]['name']) for m in pair)} are one network in two bases: "
            "align: {method: weight_matching, residual: true} in a recipe brings them into one")
        for pair in case.lineage.turned(asked)
    ]  # fmt: skip


def _measured(case: _Case) -> list[Reason]:
    """What the delta statistics say of each model."""
    reasons = []
    for model in case.models:
        name, delta = case.rows[model]["name"], case.deltas.get(model)
        if delta is None:
            if case.base and model != case.base:
                reasons.append(_open("delta", f"{name}: not measured; reg stats {name}"))
            continue
        if delta["n_nonfinite"]:
            detail = f"{name}: {delta['n_nonfinite']:,} values are NaN or infinite"
            reasons.append(_no("delta", detail))
            continue
        size = (
            f"{name}: relative L2 {delta['relative_l2'] or 0:.4f}, "
            f"{delta['within_005'] or 0:.1%} of |δ| within {SFT_RANGE}, largest {delta['max_abs'] or 0:.3g}"
        )
        cosine = delta[_COSINE]
        if cosine is not None and cosine < HOMOLOGOUS_COSINE:
            refuted = f"cosine {cosine:.3f} to its claimed base: the claim is refuted"
            reasons.append(_no("delta", f"{size}; {refuted}"))
        else:
            reasons.append(_yes("delta", size))
    return reasons


def _dtype(case: _Case) -> Reason:
    """Weights, not codes."""
    coded = [row["name"] for row in case.shown if row["dtype"] not in _REAL]
    if coded:
        return _no("dtype", f"{', '.join(coded)}: stored as codes; dequantise first")
    dtypes = sorted({str(row["dtype"]) for row in case.shown})
    if len(dtypes) == 1:
        return _yes("dtype", "one dtype")
    return _yes("dtype", f"mixed {', '.join(dtypes)}: the base's is kept")


def _license(case: _Case, allowed: str | None) -> Reason:
    """What all that the models were made of asks; unknown stays unknown."""
    license_ = case.license
    asked = [obligation.text for obligation in license_.obligations]
    unknown = [f.detail for f in license_.findings if f.kind == "license_unknown"]
    conflicts = [finding.detail for finding in license_.conflicts]
    if conflicts and allowed is None:
        return _no("licence", "; ".join([*conflicts, *unknown]))
    if conflicts:
        return _open("licence", "; ".join([f"conflict allowed: {allowed}", *conflicts, *unknown]))
    if unknown:
        return _open("licence", "; ".join([*unknown, *asked]))
    return _yes("licence", "; ".join([license_.suggested or license_.why, *asked]))


def _suggest(case: _Case) -> tuple[Suggestion, ...]:
    """Methods that suit, best first (selector of the delta statistics)."""
    others = [m for m in case.models if m != case.base]
    sizes = {m: case.deltas[m]["rms"] for m in others if m in case.deltas}
    sizes = {m: size for m, size in sizes.items() if size}
    share = round(1.0 / max(1, len(others)), 4)
    if case.base is None or not others or len(sizes) < len(others):
        why = "the average is safe where little is known"
        plain = Suggestion("linear", {"weight": share}, why)
        slerp = Suggestion("slerp", {"t": 0.5}, "two models: keeps the norm of the weights")
        return (plain, slerp) if len(case.models) == 2 else (plain,)  # noqa: PLR2004 - slerp takes two
    ratio = max(sizes.values()) / min(sizes.values())
    if ratio > SCALE_RATIO:
        big = case.rows[max(sizes, key=lambda m: sizes[m])]["name"]
        why = f"{big} moved {ratio:.0f} times as far as the others: magnitude and direction must be weighed apart"
        gentle = "the average keeps the smaller task vectors from drowning only in part"
        return (
            Suggestion("widen", {"above_average_value_ratio": 1.0}, why),
            Suggestion("linear", {"weight": share}, gentle),
        )
    why = f"task vectors of like size (within {ratio:.1f} times): their sum keeps what each learned"
    amount = 1.0 if len(others) == 1 else max(share, 0.5)
    found = [Suggestion("task_arithmetic", {"lambda": amount}, why)]
    if len(others) > 1:
        why = "settles entries that disagree in sign"
        found.append(Suggestion("ties", {"density": 0.2, "lambda": 1.0}, why))
    if all((case.deltas[m]["within_005"] or 0) >= _NEARLY_ALL for m in others):
        why = (
            f"nearly all |δ| within {SFT_RANGE}: half of them can be dropped and the rest rescaled"
        )
        found.append(Suggestion("dare_linear", {"density": 0.5}, why))
    return tuple(found)

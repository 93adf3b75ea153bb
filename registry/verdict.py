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
from typing import Any

from registry.catalog import Catalog
from registry.database import Row
from registry.lineage import Lineage

SFT_RANGE = 0.005
"""Largest |δ| of most supervised fine-tunes; DARE works below."""

CPT_RANGE = 0.03
"""|δ| that continued pre-training reaches quickly; DARE fails there."""

SCALE_RATIO = 5.0
"""How far apart the sizes of task vectors may be before one drowns the other."""

HOMOLOGOUS_COSINE = 0.5
"""Least cosine between a model's weights and its base's; strangers have about 0."""


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


def mergeable(catalog: Catalog, models: Sequence[str], base: str | None = None) -> Verdict:
    """Judge whether models can be merged with each other.

    Args:
        catalog: what is known.
        models: ids, at least one (two without a base).
        base: id of the base; None: the nearest common one.
    """
    lineage = Lineage.load(catalog)
    base = base or lineage.common_base(models)
    asked = [*dict.fromkeys([*([base] if base else []), *models])]
    rows = {
        row["id"]: row
        for row in catalog.rows("select * from models where id in (select store.each(?))", [asked])
    }
    facts = [rows[m] for m in asked]
    shown = [row for row in facts if row["status"] != "latent"]
    pairs = _pairs(catalog, models, base)
    reasons = (
        _kind(shown),
        _signature(shown),
        _tokenizer(shown),
        _homology(catalog, lineage, rows, models, base),
        *_measured(rows, pairs, models, base),
        _dtype(shown),
        _license(facts),
    )
    ok = all(reason.ok is not False for reason in reasons)
    return Verdict(ok, base, reasons, _suggest(rows, pairs, models, base) if ok else ())


def _pairs(catalog: Catalog, models: Sequence[str], base: str | None) -> dict[str, Row]:
    """Model → its stored delta statistics against the base."""
    rows = catalog.rows(
        "select * from delta_summary where base_id = ? and child_id in (select store.each(?))",
        [base or "", list(models)],
    )
    return {row["child_id"]: row for row in rows}


def _kind(rows: Sequence[Row]) -> Reason:
    """Whole models, not adapters."""
    adapters = [row["name"] for row in rows if row["kind"] == "adapter"]
    if adapters:
        return Reason("kind", False, f"{', '.join(adapters)}: adapters, not whole models")
    return Reason("kind", True, "whole models")


def _signature(rows: Sequence[Row]) -> Reason:
    """The same tensor names and shapes, vocabulary left out."""
    if len({row["signature"] for row in rows}) <= 1:
        return Reason("compatible", True, "the same tensor names and shapes")
    groups: dict[str, list[str]] = {}
    for row in rows:
        groups.setdefault(str(row["signature"])[:8], []).append(str(row["name"]))
    detail = "; ".join(f"{', '.join(names)} ({sig})" for sig, names in groups.items())
    return Reason("compatible", False, f"different tensor names or shapes: {detail}")


def _tokenizer(rows: Sequence[Row]) -> Reason:
    """The same tokens in the same rows."""
    known = {row["tokenizer"] for row in rows if row["tokenizer"]}
    if not known:
        return Reason("tokenizer", None, "no model has a tokenizer beside it")
    if len(known) == 1:
        return Reason("tokenizer", True, "one tokenizer")
    return Reason("tokenizer", None, "tokenizers differ: equal rows may mean different tokens")


def _homology(
    catalog: Catalog, lineage: Lineage, rows: dict[str, Row], models: Sequence[str], base: str | None
) -> Reason:
    """A common base, declared, recorded or measured."""
    if base:
        sources = sorted({
            e.status for m in models for e in lineage.edges
            if e.child == m or e.child in lineage.ancestors(m)
        })  # fmt: skip
        name = rows[base]["name"]
        how = ", ".join(sources) or "given"
        return Reason("homologous", True, f"common base {name} ({how})")
    measured = catalog.rows(
        "select child_id, base_id, cosine, relative_l2 from delta_summary "
        "where child_id in (select store.each(?)) and base_id in (select store.each(?))",
        [list(models), list(models)],
    )
    if any(row["cosine"] is not None and row["cosine"] < HOMOLOGOUS_COSINE for row in measured):
        worst = min(row["cosine"] for row in measured if row["cosine"] is not None)
        detail = f"no common base is declared, and their weights point apart: cosine {worst:.3f}"
        return Reason("homologous", False, detail)
    if measured and len(models) == len({i for r in measured for i in (r["child_id"], r["base_id"])}):
        least = min(row["cosine"] or 0.0 for row in measured)
        return Reason("homologous", True, f"no base is declared, but weights are close: cosine {least:.3f}")
    return Reason("homologous", False, "no common base is declared, recorded or measured")


def _measured(
    rows: dict[str, Row], pairs: dict[str, Row], models: Sequence[str], base: str | None
) -> list[Reason]:
    """What the delta statistics say of each model."""
    reasons = []
    for model in models:
        name, pair = rows[model]["name"], pairs.get(model)
        if pair is None:
            if base and model != base:
                reasons.append(Reason("delta", None, f"{name}: not measured; reg stats {name}"))
            continue
        if pair["n_nonfinite"]:
            reasons.append(Reason("delta", False, f"{name}: {pair['n_nonfinite']:,} values are NaN or infinite"))
            continue
        size = (
            f"{name}: relative L2 {pair['relative_l2'] or 0:.4f}, "
            f"{pair['within_005'] or 0:.1%} of |δ| within {SFT_RANGE}, largest {pair['max_abs'] or 0:.3g}"
        )
        cosine = pair["cosine"]
        if cosine is not None and cosine < HOMOLOGOUS_COSINE:
            detail = f"{size}; cosine {cosine:.3f} to its claimed base: the claim is refuted"
            reasons.append(Reason("delta", False, detail))
        else:
            reasons.append(Reason("delta", True, size))
    return reasons


def _dtype(rows: Sequence[Row]) -> Reason:
    """Weights, not codes."""
    coded = [row["name"] for row in rows if row["dtype"] and row["dtype"] not in ("F64", "F32", "F16", "BF16")]
    if coded:
        return Reason("dtype", False, f"{', '.join(coded)}: stored as codes; dequantise first")
    dtypes = sorted({str(row["dtype"]) for row in rows if row["dtype"]})
    detail = "one dtype" if len(dtypes) == 1 else f"mixed {', '.join(dtypes)}: the base's is kept"
    return Reason("dtype", True, detail)


def _license(rows: Sequence[Row]) -> Reason:
    """What the cards say; unknown stays unknown."""
    stated = sorted({str(row["license"]) for row in rows if row["license"]})
    silent = [str(row["name"]) for row in rows if not row["license"]]
    if len(stated) == 1 and not silent:
        return Reason("licence", True, stated[0])
    parts = [", ".join(stated)] if stated else []
    parts += [f"unknown for {', '.join(silent)}"] if silent else []
    return Reason("licence", None, "; ".join(parts))


def _suggest(
    rows: dict[str, Row], pairs: dict[str, Row], models: Sequence[str], base: str | None
) -> tuple[Suggestion, ...]:
    """Methods that suit, best first (selector of the delta statistics)."""
    others = [m for m in models if m != base]
    sizes = {m: pairs[m]["rms"] for m in others if m in pairs and pairs[m]["rms"]}
    share = 1.0 / max(1, len(others))
    if base is None or len(sizes) < len(others):
        plain = Suggestion("linear", {"weight": round(share, 4)}, "the average is safe where little is known")
        slerp = Suggestion("slerp", {"t": 0.5}, "two models: keeps the norm of the weights")
        return (plain, slerp) if len(models) == 2 else (plain,)  # noqa: PLR2004 - slerp takes two
    ratio = max(sizes.values()) / min(sizes.values())
    if ratio > SCALE_RATIO:
        big = rows[max(sizes, key=lambda m: sizes[m])]["name"]
        why = f"{big} moved {ratio:.0f} times as far as the others: magnitude and direction must be weighed apart"
        gentle = "the average keeps the smaller task vectors from drowning only in part"
        return (
            Suggestion("widen", {"above_average_value_ratio": 1.0}, why),
            Suggestion("linear", {"weight": round(share, 4)}, gentle),
        )
    small = all(pairs[m]["within_005"] is not None and pairs[m]["within_005"] >= 0.99 for m in others)  # noqa: PLR2004 - nearly all
    why_sum = f"task vectors of like size (within {ratio:.1f} times): their sum keeps what each learned"
    found = [Suggestion("task_arithmetic", {"lambda": 1.0 if len(others) == 1 else round(max(share, 0.5), 4)}, why_sum)]
    if len(others) > 1:
        found.append(Suggestion("ties", {"density": 0.2, "lambda": 1.0}, "settles entries that disagree in sign"))
    if small:
        why = f"nearly all |δ| within {SFT_RANGE}: half of them can be dropped and the rest rescaled"
        found.append(Suggestion("dare_linear", {"density": 0.5}, why))
    return tuple(found)

"""Mergeable or not: a verdict with reasons, made from the catalog alone, no weights read.

compatible: the same tensors (a fact of shapes). homologous: a common base (a fact of history, declared, recorded
or measured). mergeable: both, and within what methods tolerate. A check that nothing is known about is neither
yes nor no; only homology must be known, because nonsense comes out without it and no error.

Thresholds and their sources: |δ| ≤ 0.005 is where DARE's dropping is harmless and 0.03 where it is hopeless
(Yu et al., "Language Models are Super Mario", §4); task vectors more than about five times apart drown one another
and call for WIDEN (Yu et al., "Extend Model Merging from Fine-Tuned to Pre-Trained Large Language Models");
between models of one backbone the relative distance stays below about 0.75, between strangers it is about √2
(mean per-tensor distances of Llama-2-7B: fine-tunes 4-6, continued pre-training 89-93, strangers 120-148).

The score is the chance that an average keeps what the models can do. It follows from how far they lie apart, which
sketches tell (`reg infer` leaves them) and the lengths of measured deltas let expect; data/mergeable.md says how right it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from registry.case import COSINE, HOMOLOGOUS_COSINE, REAL, Case, load
from registry.catalog import Catalog
from registry.closeness import Pair
from registry.homology import alignment, homology
from registry.reason import Reason, passed, refused, unsettled
from registry.suggestion import SCALE_RATIO, SFT_RANGE, Suggestion, suggest

FAR = 1 / 6
"""Distance, of that of strangers, at which an average is as likely to keep what both models can do as not.

Fine-tunes of Llama-2-7B lie 4-6 from their base where strangers lie 120-148 apart: 0.04. Continued pre-training lies at
0.7. This is the geometric mean of the two.
"""

UNKNOWN = 0.5
"""The chance of models of which nothing but their claims is known."""

OPPOSED = -0.1
"""Cosine of deltas below which one takes back what the other learned."""


@dataclass(frozen=True)
class Verdict:
    """The answer.

    Attributes:
        ok: no check says no.
        base: id of the common base; None where there is none.
        reasons: in the order in which they were checked.
        score: the chance that an average keeps what every model can do, in [0, 1]; 0 when the answer is no.
        suggestions: best first; empty when the answer is no.
    """

    ok: bool
    base: str | None
    reasons: tuple[Reason, ...]
    score: float
    suggestions: tuple[Suggestion, ...] = field(default=())


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
    with catalog.database.kept_open():
        case = load(catalog, tuple(dict.fromkeys(models)), base)
    reasons = (
        _kind(case),
        _signature(case),
        _tokenizer(case),
        homology(case),
        *alignment(case),
        *_measured(case),
        *_near(case),
        *_crossed(case),
        _dtype(case),
        _license(case, allow_license_conflict),
    )
    if any(reason.ok is False for reason in reasons):
        return Verdict(ok=False, base=case.base, reasons=reasons, score=0.0)
    score = min((keeps(pair.distance) for pair in case.pairs), default=UNKNOWN)
    names = {model: case.name(model) for model in case.rows}
    found = suggest(case.models, case.base, names, case.deltas)
    return Verdict(ok=True, base=case.base, reasons=reasons, score=score, suggestions=found)


def keeps(distance: float | None) -> float:
    """The chance that the average of two models keeps what both can do, in [0, 1].

    Half the way from one to the other costs, to second order, the square of that way: the odds are (FAR / distance)².

    Args:
        distance: of `registry.closeness.Closeness`; None: not known.
    """
    return UNKNOWN if distance is None else 1 / (1 + (distance / FAR) ** 2)


def _kind(case: Case) -> Reason:
    """Whole models, not adapters, whose files were read."""
    unread = [case.name(model) for model in case.models if case.rows[model] not in case.shown]
    if unread:
        return refused("kind", f"{', '.join(unread)}: known by name alone; scan the files first")
    adapters = [row["name"] for row in case.shown if row["kind"] == "adapter"]
    if adapters:
        return refused("kind", f"{', '.join(adapters)}: adapters, not whole models")
    return passed("kind", "whole models")


def _signature(case: Case) -> Reason:
    """The same tensor names and shapes, vocabulary left out."""
    groups: dict[str, list[str]] = {}
    for row in case.shown:
        groups.setdefault(row["signature"], []).append(row["name"])
    if len(groups) <= 1:
        return passed("compatible", "the same tensor names and shapes")
    detail = "; ".join(f"{', '.join(names)} ({digest[:8]})" for digest, names in groups.items())
    return refused("compatible", f"different tensor names or shapes: {detail}")


def _tokenizer(case: Case) -> Reason:
    """The same tokens in the same rows."""
    known = {row["tokenizer"] for row in case.shown if row["tokenizer"]}
    if not known:
        return unsettled("tokenizer", "no model has a tokenizer beside it")
    if len(known) == 1:
        return passed("tokenizer", "one tokenizer")
    return unsettled("tokenizer", "tokenizers differ: equal rows may mean different tokens")


def _measured(case: Case) -> list[Reason]:
    """What the delta statistics say of each model."""
    reasons = []
    for model in case.models:
        name, delta = case.rows[model]["name"], case.deltas.get(model)
        if delta is None:
            if case.base and model != case.base:
                reasons.append(unsettled("delta", f"{name}: not measured; reg stats {name}"))
            continue
        if delta["n_nonfinite"]:
            detail = f"{name}: {delta['n_nonfinite']:,} values are NaN or infinite"
            reasons.append(refused("delta", detail))
            continue
        size = (
            f"{name}: relative L2 {delta['relative_l2'] or 0:.4f}, "
            f"{delta['within_005'] or 0:.1%} of |δ| within {SFT_RANGE}, largest {delta['max_abs'] or 0:.3g}"
        )
        cosine = delta[COSINE]
        if cosine is not None and cosine < HOMOLOGOUS_COSINE:
            refuted = f"cosine {cosine:.3f} to its claimed base: the claim is refuted"
            reasons.append(refused("delta", f"{size}; {refuted}"))
        else:
            reasons.append(passed("delta", size))
    return reasons


def _near(case: Case) -> list[Reason]:
    """How far the models lie apart, and what an average would keep."""
    reasons = []
    for pair in case.pairs:
        if pair.distance is None:
            continue
        chance = keeps(pair.distance)
        how = "sampled" if pair.closeness else "expected of their deltas"
        detail = (
            f"{_names(case, pair)}{pair.distance:.1%} as far apart as strangers ({how}): "
            f"an average keeps both with chance {chance:.2f}"
        )
        reasons.append(passed("near", detail) if chance >= UNKNOWN else unsettled("near", detail))
    return reasons


def _crossed(case: Case) -> list[Reason]:
    """How the deltas of each pair lie to each other."""
    reasons = []
    for pair in case.pairs:
        across = pair.crossing
        sizes = [row["l2"] for m in (pair.a, pair.b) if (row := case.deltas.get(m)) and row["l2"]]
        if across:
            ratio = across.ratio
            detail = (
                f"deltas at cosine {across.cosine:.3f}, {across.conflict:.0%} of their signs differ, "
                f"one {ratio:.1f} times as long (sampled)"
            )
        elif len(sizes) > 1:
            ratio = max(sizes) / min(sizes)
            detail = f"one delta {ratio:.1f} times as long as the other"
        else:
            continue
        is_open = ratio > SCALE_RATIO or (across is not None and across.cosine < OPPOSED)
        said = unsettled if is_open else passed
        reasons.append(said("deltas", f"{_names(case, pair)}{detail}"))
    return reasons


def _names(case: Case, pair: Pair) -> str:
    """Which pair is meant, where there is more than one."""
    return f"{case.name(pair.a)} and {case.name(pair.b)}: " if len(case.pairs) > 1 else ""


def _dtype(case: Case) -> Reason:
    """Weights, not codes."""
    coded = [row["name"] for row in case.shown if row["dtype"] not in REAL]
    if coded:
        return refused("dtype", f"{', '.join(coded)}: stored as codes; dequantise first")
    dtypes = sorted({str(row["dtype"]) for row in case.shown})
    if len(dtypes) == 1:
        return passed("dtype", "one dtype")
    return passed("dtype", f"mixed {', '.join(dtypes)}: the base's is kept")


def _license(case: Case, allowed: str | None) -> Reason:
    """What all that the models were made of asks; unknown stays unknown."""
    license_ = case.license
    asked = [obligation.text for obligation in license_.obligations]
    unknown = [f.detail for f in license_.findings if f.kind == "license_unknown"]
    conflicts = [finding.detail for finding in license_.conflicts]
    if conflicts and allowed is None:
        return refused("licence", "; ".join([*conflicts, *unknown]))
    if conflicts:
        return unsettled(
            "licence", "; ".join([f"conflict allowed: {allowed}", *conflicts, *unknown])
        )
    if unknown:
        return unsettled("licence", "; ".join([*unknown, *asked]))
    return passed("licence", "; ".join([license_.suggested or license_.why, *asked]))

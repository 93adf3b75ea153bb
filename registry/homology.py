"""Homology: whether models have a common history, and one basis; weights count for more than what is declared."""

from registry.case import COSINE, HOMOLOGOUS_COSINE, Case
from registry.reason import Reason, passed, refused


def homology(case: Case) -> Reason:
    """A common base, declared, recorded or measured."""
    apart = [
        f"{case.name(pair.a)} and {case.name(pair.b)} point apart: cosine {pair.closeness.cosine:.3f} (sampled)"
        for pair in case.pairs
        if pair.closeness and case.strange(pair.closeness, pair.a, pair.b)
    ]
    if apart:
        return refused("homologous", f"the weights of {'; of '.join(apart)}")
    if case.base:
        return _descent(case, case.base)
    claim = (
        f"the weights refute that their base is {case.refuted}" if case.refuted else "no base is declared"
    )  # fmt: skip
    if cosines := _sampled(case):
        close = f"weights are close: cosine {min(cosines):.3f} (sampled)"
        return passed("homologous", f"{claim}, but {close}")
    return _compared(case, claim)


def _compared(case: Case, claim: str) -> Reason:
    """What measured differences of the models themselves say, where there is no base."""
    cosines = [row[COSINE] for row in case.near if row[COSINE] is not None]
    if cosines and min(cosines) < HOMOLOGOUS_COSINE:
        apart = f"their weights point apart: cosine {min(cosines):.3f}"
        return refused("homologous", f"no common base is declared, and {apart}")
    compared = {id_ for row in case.near for id_ in (row["child_id"], row["base_id"])}
    if cosines and compared == set(case.models):
        close = f"weights are close: cosine {min(cosines):.3f}"
        return passed("homologous", f"{claim}, but {close}")
    return refused("homologous", "no common base is declared, recorded or measured")


def _descent(case: Case, base: str) -> Reason:
    """How each model is known to descend from ``base``."""
    lineage, known, unknown = case.lineage, set(), []
    for model in case.models:
        above = {model, *lineage.ancestors(model)}
        if base in above:
            known |= {
                edge.status for edge in lineage.edges
                if edge.child in above and base in (edge.parent, *lineage.ancestors(edge.parent))
            }  # fmt: skip
        elif model in case.deltas and (case.deltas[model][COSINE] or 0) >= HOMOLOGOUS_COSINE:
            known.add("measured")
        elif base in case.sketched and model in case.sketched and not case.refutes(model, base):
            known.add("sampled")
        else:
            unknown.append(case.name(model))
    name = case.name(base)
    if unknown:
        who = ", ".join(unknown)
        return refused("homologous", f"nothing says or shows that {who} descends from {name}")
    return passed("homologous", f"common base {name} ({', '.join(sorted(known)) or 'itself'})")


def alignment(case: Case) -> list[Reason]:
    """One basis; nothing is said where no other is known of."""
    asked = [*case.models, *([case.base] if case.base else [])]
    return [
        refused("aligned", f"{' and '.join(case.name(m) for m in pair)} are one network in two bases: "
                "align: {method: weight_matching, residual: true} in a recipe brings them into one")
        for pair in case.lineage.turned(asked)
    ]  # fmt: skip


def _sampled(case: Case) -> list[float]:
    """The cosines of all pairs; none unless all have sketches."""
    found = [pair.closeness.cosine for pair in case.pairs if pair.closeness]
    return found if len(found) == len(case.pairs) else []

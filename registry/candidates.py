"""Candidates: which models of the catalog to merge a model with, best first, from the catalog alone, no weights read.

What is cheap is asked of all models in SQL: kin (whatever hangs together with the model by any edge, or was measured
against it), of the same tensor names and shapes, stored as weights. Of these, stored sketches tell how far they lie and
how much of what they learned is new; benchmark scores tell what they are better at. Only the best are judged in full.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from registry.case import REAL
from registry.catalog import Catalog
from registry.closeness import Sampled, best_spec, closenesses, expected, overlaps, sampled
from registry.errors import UnknownModel
from registry.lineage import Lineage
from registry.reason import Reason, passed, unsettled
from registry.verdict import Verdict, keeps, mergeable

LIMIT = 20
"""Candidates that are judged in full and shown, unless said otherwise."""

MOST = 4096
"""Candidates whose sketches are compared; of more, those that deltas and scores let expect most of."""

_SPARE = 3
"""Times the limit that are judged at most, where some are refused."""

_KIN = """
with recursive read(number) as (
    select number from store.model where status not in ('latent', 'listed')
    union select e.parent_number from store.edge e join read r on e.child_number = r.number
), above(number) as (
    select number from store.model where id = ?
    union select e.parent_number from store.edge e join above a on e.child_number = a.number
), below(number) as (
    select number from above
    union select e.child_number from store.edge e join below b on e.parent_number = b.number where {ahead}
)
select id from store.model where rowid in (select rowid from store.model where number in (from below))
union select base from store.pair where child = ?
union select child from store.pair where base = ?"""

_AHEAD = {True: "e.child_number in (from read)", False: "true"}
"""Where most models are only listed, only those from which read ones descend are on the way to one."""

_LENGTHS = """
select child, base, sqrt(sum(sum_sq) / sum(base_sum_sq)) as relative from store.delta
where base in (select base from store.pair where child = ? union select ?)
group by child, base having sum(base_sum_sq) > 0"""

_SCORES = """
select model_id, task, metric, concat_ws('|', harness, shots, origin) as how, avg(value) as value from store.score
where model_id in (select store.each(?)) and (? or task in (select store.each(?)))
group by all order by model_id, task, metric, how"""

_LESS_IS_BETTER = {"perplexity", "ppl", "loss", "bits", "bpb", "error", "wer", "cer"}
"""Words in the names of such metrics."""


@dataclass(frozen=True)
class Candidate:
    """A model to merge with.

    Attributes:
        model: id.
        ok: no check of the verdict says no.
        score: the verdict's score, half of it for what the candidate brings, in [0, 1]; 0 when the answer is no.
        reasons: those of the verdict, and what the candidate brings.
    """

    model: str
    ok: bool
    score: float
    reasons: tuple[Reason, ...]


@dataclass(frozen=True)
class Partners:
    """The answer.

    Attributes:
        ranked: best first.
        n_kin: whole models that hang together with the model.
        n_unlike: of these, those of other names or shapes, or stored as codes; they are no candidates.
        n_unsketched: of the others, those whose sketches were not compared with the model's.
    """

    ranked: tuple[Candidate, ...]
    n_kin: int
    n_unlike: int
    n_unsketched: int


@dataclass(frozen=True)
class _Prospect:
    """What is known of a candidate before it is judged.

    Attributes:
        model: id.
        keeps: the chance that an average keeps what both can do.
        new: the share of its delta that the model's does not have, in [0, 1]; None where nothing is known.
        gain: how much better it is at what it is better at, in [0, 1]; None without common scores.
        better: what it is better at, in words.
    """

    model: str
    keeps: float
    new: float | None = None
    gain: float | None = None
    better: str = ""

    @property
    def brings(self) -> float:
        """What it brings, in [0, 1]; ½ where nothing is known."""
        known = [value for value in (self.new, self.gain) if value is not None]
        return fmean(known) if known else 0.5

    def score(self, chance: float) -> float:
        """The chance that both are kept, weighed by what is brought: never more than the chance, at least half of it."""
        return chance * (0.5 + 0.5 * self.brings)


def candidates(
    catalog: Catalog, model: str, *, limit: int = LIMIT, tasks: Sequence[str] = ()
) -> Partners:
    """Rank the models to merge one with.

    Args:
        catalog: what is known.
        model: id.
        limit: how many to judge in full.
        tasks: benchmarks whose scores count; none: all.

    Raises:
        UnknownModel: an id that the catalog does not have.
    """
    with catalog.database.kept_open():
        if not catalog.rows("select id from store.model where id = ?", [model]):
            message = f"the catalog has no model {model}"
            raise UnknownModel(message, hint="reg ls lists the models")
        kin, alike = _kin(catalog, model)
        prospects, n_sketched = _prospects(catalog, model, alike, tasks)
        ranked = _judged(catalog, model, prospects, limit)
    return Partners(tuple(ranked), len(kin), len(kin) - len(alike), len(alike) - n_sketched)


def _kin(catalog: Catalog, model: str) -> tuple[list[str], list[str]]:
    """Whole models that hang together with a model, and those of them that have its tensors."""
    with catalog.read() as reader:
        listed = bool(reader.rows("select 1 from store.model where status = 'listed' limit 1"))
        kin = _KIN.format(ahead=_AHEAD[listed])
        rows = reader.rows(
            f"select m.id, m.signature = o.signature and m.dtype in (select store.each(?)) as alike "
            f"from store.model m join ({kin}) k on k.id = m.id join store.model o on o.id = ? "
            "where m.kind = 'model' and o.kind = 'model' and m.status not in ('latent', 'listed') and m.id <> o.id "
            "order by m.id",
            [list(REAL), model, model, model, model],
        )
    return [row["id"] for row in rows], [row["id"] for row in rows if row["alike"]]


def _prospects(
    catalog: Catalog, model: str, others: Sequence[str], tasks: Sequence[str]
) -> tuple[list[_Prospect], int]:
    """What is known of each candidate, best first, and how many could be compared by their sketches."""
    far = _measured(catalog, model)
    gains = _gains(catalog, model, others, tasks)
    rough = [_Prospect(m, keeps(far.get(m)), None, *gains.get(m, ())) for m in others]
    rough.sort(key=lambda p: (-p.score(p.keeps), p.model))
    near = _sketched(catalog, model, [p.model for p in rough[:MOST]])
    found = [
        replace(p, keeps=keeps(near[p.model][0]), new=near[p.model][1]) if p.model in near else p
        for p in rough
    ]
    return sorted(found, key=lambda p: (-p.score(p.keeps), p.model)), len(near)


def _sketched(
    catalog: Catalog, model: str, others: Sequence[str]
) -> dict[str, tuple[float, float | None]]:
    """Distance of each candidate, and the share of its delta that is new, from stored sketches."""
    spec = best_spec(catalog, [model])
    lineage = Lineage.load(catalog, [model, *others])
    above = [model, *lineage.ancestors(model)]
    roots = {s.model: s for s in _all(catalog, above, spec)} if spec else {}
    if model not in roots or spec is None:
        return {}
    found = {}
    for batch in sampled(catalog, others, spec):
        for other, near, new in zip(
            batch, closenesses(roots[model], batch), _new(lineage, roots, model, batch), strict=True
        ):
            if near is not None:
                found[other.model] = (near.distance, new)
    return found


def _all(catalog: Catalog, models: Sequence[str], spec: str) -> list[Sampled]:
    """Few sketches at once."""
    return [found for batch in sampled(catalog, models, spec) for found in batch]


def _new(
    lineage: Lineage, roots: Mapping[str, Sampled], model: str, batch: Sequence[Sampled]
) -> list[float | None]:
    """The share of each candidate's delta that a model's does not have: 1 at right angles, 0 for the same or none."""
    bases = [lineage.common_base([model, other.model]) or "" for other in batch]
    known = {*bases} & {*roots} - {model}
    if batch[0].patches != roots[model].patches:  # of another vocabulary
        known = set()
    cosines = {base: overlaps(roots[model], roots[base], batch) for base in sorted(known)}
    return [
        1.0 if base == model
        else None if base not in cosines
        else 0.0 if (cosine := cosines[base][i]) is None
        else 1.0 - max(0.0, cosine)
        for i, base in enumerate(bases)
    ]  # fmt: skip


def _measured(catalog: Catalog, model: str) -> dict[str, float]:
    """Distances that the lengths of measured deltas let expect: candidate → distance, of several bases the least."""
    lengths: dict[str, dict[str, float]] = {}
    for row in catalog.rows(_LENGTHS, [model, model]):
        lengths.setdefault(row["base"], {row["base"]: 0.0})[row["child"]] = row["relative"]
    found: dict[str, float] = {}
    for children in lengths.values():
        if model in children:
            for other, relative in children.items():
                apart = expected((children[model], relative))
                found[other] = min(found.get(other, apart), apart)
    return found


def _gains(
    catalog: Catalog, model: str, others: Sequence[str], tasks: Sequence[str]
) -> dict[str, tuple[float, str]]:
    """How much better each candidate is where it is better, as a share, the mean over all both were scored at in one way."""
    values: dict[str, dict[tuple[str, str, str], float]] = {}
    for row in catalog.rows(_SCORES, [[model, *others], not tasks, list(tasks)]):
        values.setdefault(row["model_id"], {})[row["task"], row["metric"], row["how"]] = row[
            "value"
        ]
    own = values.pop(model, {})
    found = {}
    for other, theirs in values.items():
        common = sorted(set(own) & set(theirs))
        parts = {subject: _better(subject[1], own[subject], theirs[subject]) for subject in common}
        if parts:
            words = [
                f"{subject[0]} {theirs[subject]:.3g} against {own[subject]:.3g}"
                for subject, part in parts.items() if part > 0
            ]  # fmt: skip
            found[other] = (fmean(parts.values()), ", ".join(words))
    return found


def _better(metric: str, own: float, other: float) -> float:
    """How much better a score is than one's own, as a share of the larger: in [0, 1], 0 if it is not better."""
    if _LESS_IS_BETTER & set(re.split(r"[^a-z]+", metric.lower())):
        own, other = other, own
    size = max(abs(own), abs(other))
    return min(1.0, max(0.0, other - own) / size) if size else 0.0


def _judged(
    catalog: Catalog, model: str, prospects: Sequence[_Prospect], limit: int
) -> list[Candidate]:
    """Judge the best in full until there are enough that are not refused; the refused ones come last."""
    found: list[Candidate] = []
    for prospect in prospects[: limit * _SPARE]:
        if sum(candidate.ok for candidate in found) >= limit:
            break
        verdict = mergeable(catalog, [model, prospect.model])
        found.append(_candidate(prospect, verdict))
    found.sort(key=lambda c: (not c.ok, -c.score, c.model))
    return found[:limit]


def _candidate(prospect: _Prospect, verdict: Verdict) -> Candidate:
    """A candidate with all that is said of it."""
    reasons = list(verdict.reasons)
    if prospect.new is not None:
        detail = f"{prospect.new:.0%} of what it learned is new"
        reasons.append(passed("new", detail) if prospect.new > 0 else unsettled("new", detail))
    if prospect.gain is not None:
        detail = (
            f"better at {prospect.better}"
            if prospect.better
            else "better at nothing both were scored at"
        )
        reasons.append(passed("scores", detail) if prospect.better else unsettled("scores", detail))
    return Candidate(prospect.model, verdict.ok, prospect.score(verdict.score), tuple(reasons))

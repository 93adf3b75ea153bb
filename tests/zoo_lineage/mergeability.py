"""Mergeability: how well a score foretells which pairs of models can be averaged, as figures and a page."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

N_DRAWS = 2000
"""Draws of families for the intervals."""


@dataclass(frozen=True)
class Outcome:
    """What became of two models, and what was said of them before.

    Attributes:
        split: of the zoo.
        family: the couple counts for.
        labels: of both.
        sort: what they are to each other.
        kept: of the best average, the least share that is left of a parent's ability.
        good: whether that is enough.
        score: of the verdict.
        same_base: their cards name one base, or one names the other.
        same_root: as far as cards tell, they descend from one model.
        homologous: they were made of one base, in one basis.
    """

    split: str
    family: str
    labels: tuple[str, str]
    sort: str
    kept: float
    good: bool
    score: float
    same_base: bool
    same_root: bool
    homologous: bool


def auroc(scores: Sequence[float], good: Sequence[bool]) -> float:
    """The chance that a good pair has the higher score of a good and a bad one, ties half; ½ without one of both."""
    values, is_good = np.asarray(scores, np.float64), np.asarray(good, bool)
    high, low = values[is_good], values[~is_good]
    if not len(high) or not len(low):
        return 0.5
    above = (high[:, None] > low[None]).mean() + 0.5 * (high[:, None] == low[None]).mean()
    return float(above)


RULES: dict[str, Callable[[Outcome], float]] = {
    "the verdict's score": lambda o: o.score,
    "same declared base model": lambda o: float(o.same_base),
    "same declared root": lambda o: float(o.same_root),
    "made of one base in one basis, as nobody knows": lambda o: float(o.homologous),
}
"""Name → what it says of a pair."""


def judged(found: Sequence[Outcome], rule: Callable[[Outcome], float]) -> float:
    """The AUROC of a rule."""
    return auroc([rule(o) for o in found], [o.good for o in found])


def gain(found: Sequence[Outcome], rule: str, over: str) -> tuple[float, float, float]:
    """How much larger the AUROC of one rule is than another's, and the 95 % interval when families are drawn anew."""
    by_family: dict[tuple[str, str], list[Outcome]] = {}
    for outcome in found:
        by_family.setdefault((outcome.split, outcome.family), []).append(outcome)
    groups, rng, draws = list(by_family.values()), np.random.default_rng(0), []
    for _ in range(N_DRAWS):
        drawn = [o for i in rng.integers(len(groups), size=len(groups)) for o in groups[i]]
        draws.append(judged(drawn, RULES[rule]) - judged(drawn, RULES[over]))
    low, high = np.quantile(draws, (0.025, 0.975))
    return judged(found, RULES[rule]) - judged(found, RULES[over]), float(low), float(high)


def document(found: Sequence[Outcome], sorts: Sequence[str]) -> str:
    """The page: figures of each split, then what became of each sort of pairs."""
    lines = [
        "# The verdict on mergeability, judged", "", "`make zoo-lineage` measures this again.", "",
        "Pairs of the models of `tests/zoo_lineage` are averaged for real, at 0.3, 0.5 and 0.7 of the first. *Mergeable* is a",
        "pair of which one of the three averages is right at least 0.9 times as often as each parent at that parent's own",
        "tasks: that was fixed before anything was measured. Models that are right less than one time in five at their own",
        "tasks are left out; that, and that distances are averaged over matrices, was chosen on families of other seeds than",
        "the splits'. Of each family at most five pairs of every sort are taken, in an order that says nothing.", "",
        "`reg mergeable` reads no weights: it knows cards, of which one in five names a wrong base, and what `reg scan` and",
        "`reg infer` left. The constant of its score comes from published distances (`registry/verdict.py`). Figures are AUROC;",
        "intervals are of 95 %, families drawn anew. A rule that says yes or no has but one threshold to be judged at.", "",
    ]  # fmt: skip
    for split in dict.fromkeys(o.split for o in found):
        lines += _of_split(split, [o for o in found if o.split == split], sorts)
    return "\n".join(lines).rstrip() + "\n"


def _of_split(split: str, found: Sequence[Outcome], sorts: Sequence[str]) -> list[str]:
    """The section of one split."""
    verdict, *others = list(RULES)[:3]
    lines = [f"## {split}: {len(found)} pairs, {sum(o.good for o in found)} of them mergeable", ""]
    lines += ["| what is asked | AUROC |", "| --- | --: |"]
    lines += [f"| {name} | {judged(found, rule):.3f} |" for name, rule in RULES.items()]
    lines.append("")
    for other in others:
        more, low, high = gain(found, verdict, other)
        lines.append(f"* The verdict over *{other}*: {more:+.3f} ({low:+.3f} to {high:+.3f}).")
    near = [o for o in found if o.homologous]
    lines.append(
        f"* Among the {len(near)} pairs of one base and basis alone: {judged(near, RULES[verdict]):.3f}, and "
        f"{judged(near, RULES[others[0]]):.3f} for *{others[0]}*."
    )
    yes, no = ([o for o in found if (o.score >= 0.5) == side] for side in (True, False))
    lines += [
        f"* Of {len(yes)} pairs with a score of at least one half {_share(yes)} were mergeable; of the other {len(no)},"
        f" {_share(no)}.",
        "",
        "| pairs | n | mergeable | mean score | same declared base |",
        "| --- | --: | --: | --: | --: |",
    ]
    for sort in sorts:
        if some := [o for o in found if o.sort == sort]:
            mean = sum(o.score for o in some) / len(some)
            same = sum(o.same_base for o in some) / len(some)
            lines.append(f"| {sort} | {len(some)} | {_share(some)} | {mean:.2f} | {same:.2f} |")
    return [*lines, ""]


def _share(found: Sequence[Outcome]) -> str:
    """The share of good ones."""
    return f"{sum(o.good for o in found) / len(found):.2f}" if found else "none"

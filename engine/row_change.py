"""Row changes: what happens to the rows of a model whose vocabulary is brought together with others."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

What = Literal["added", "averaged", "replaced", "zero", "filled", "moved", "dropped"]


@dataclass(frozen=True)
class RowChange:
    """What happens to one row of one model.

    Attributes:
        model: name of the model.
        token: of the row; "" for padding.
        id: number of the row in the output; of a dropped one, in the model.
        what: "moved": it was under another id; "added": the model had none; "averaged": likewise, the mean of several;
            "replaced": a rule forces another; "zero": a rule says so; "filled": nobody has one, the mean of all;
            "dropped": the output has none.
        sources: names of the models it comes from.
    """

    model: str
    token: str
    id: int
    what: What
    sources: tuple[str, ...] = ()


def what_happens(picks: Sequence[tuple[int, int]] | None, *, had: bool, stays: bool) -> What:
    """What happens to a row.

    Args:
        picks: (model, row) that it is the mean of; None for one that nobody has.
        had: whether the model has a row of this token, or padding of this number.
        stays: whether that is what it is made of.
    """
    if not picks:
        return "filled" if picks is None else "zero"
    if stays:
        return "moved"
    if had:
        return "replaced"
    return "added" if len(picks) == 1 else "averaged"


def summaries(changes: Iterable[RowChange]) -> list[str]:
    """A line for each model with changes."""
    counts: dict[str, Counter[str]] = {}
    for change in changes:
        kind = change.what + ("" if change.token else " (padding)")
        counts.setdefault(change.model, Counter())[kind] += 1
    return [
        f"{model}: rows of tokens " + ", ".join(f"{n} {what}" for what, n in each.items())
        for model, each in counts.items()
    ]

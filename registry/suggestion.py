"""Suggestions: merge methods and parameters that suit some models, from the sizes of their task vectors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SFT_RANGE = 0.005
"""Largest |δ| of most supervised fine-tunes; DARE works below."""

SCALE_RATIO = 5.0
"""How far apart the sizes of task vectors may be before one drowns the other."""

_NEARLY_ALL = 0.99


@dataclass(frozen=True)
class Suggestion:
    """A method with parameters that suits these models, and why."""

    method: str
    parameters: dict[str, Any]
    why: str


def suggest(
    models: Sequence[str],
    base: str | None,
    names: Mapping[str, str],
    deltas: Mapping[str, Mapping[str, Any]],
) -> tuple[Suggestion, ...]:
    """Methods that suit, best first (selector of the delta statistics).

    Args:
        models: ids of those to be merged.
        base: id of their base, possibly one of them; None where there is none.
        names: id → what people call it.
        deltas: id → row of the view `delta_summary` against the base, of those that are measured.
    """
    others = [m for m in models if m != base]
    sizes = {m: deltas[m]["rms"] for m in others if m in deltas}
    sizes = {m: size for m, size in sizes.items() if size}
    share = round(1.0 / max(1, len(others)), 4)
    if base is None or not others or len(sizes) < len(others):
        why = "the average is safe where little is known"
        plain = Suggestion("linear", {"weight": share}, why)
        slerp = Suggestion("slerp", {"t": 0.5}, "two models: keeps the norm of the weights")
        return (plain, slerp) if len(models) == 2 else (plain,)  # noqa: PLR2004 - slerp takes two
    ratio = max(sizes.values()) / min(sizes.values())
    if ratio > SCALE_RATIO:
        big = names[max(sizes, key=lambda m: sizes[m])]
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
    if all((deltas[m]["within_005"] or 0) >= _NEARLY_ALL for m in others):
        why = (
            f"nearly all |δ| within {SFT_RANGE}: half of them can be dropped and the rest rescaled"
        )
        found.append(Suggestion("dare_linear", {"density": 0.5}, why))
    return tuple(found)

"""The largest entries of a whole model, or tensor, exactly as many as asked for, without ever holding or sorting it.

The bits of a float32 magnitude, as a whole number, sort as the magnitude does: its key. A sample tells near which
keys the smallest of the largest entries must be; one look at all slices counts those keys, which gives it
exactly. Only where the estimate was wrong is there a further look. Counts are whole numbers, so that neither threads
nor slices can change a result.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from engine import kernels
from engine.count_kernels import Counts, Found, Near, count_magnitudes, count_near
from engine.histogram import WIDEST
from engine.method import Look, PerModel, Seen, per_model
from engine.ops import blocks
from engine.pick import Largest
from engine.selection import summed
from engine.slices import Slices, is_done, parts_of, shape_of
from engine.spread import Informed, Keys, Sample, Spread

ALL = Largest(0.0, 1 << 62)
"""Every entry."""

_HALF = 1 << 16
_SAMPLE = 1 << 21  # entries of each model that an estimate looks at
_LONGEST = 1 << 16  # of those, from one piece
_MODELS = 3  # with more of them, fewer entries of each
_CELLS = 4 * WIDEST  # keys that are counted one by one, of all questions together
_KEPT = 128  # keys of which each slice's counts are kept


@dataclass(frozen=True)
class Selected:
    """The largest entries, by magnitude; of equal ones the first by tensor and place.

    Attributes:
        threshold: magnitude of the smallest of them.
        ties: tensor → how many of its entries of exactly that magnitude belong to them; None: all of every tensor.
        slices: tensor → first element of each of its slices, and how many of that magnitude it has.
    """

    threshold: float
    ties: dict[str, int] | None = None
    slices: dict[str, list[tuple[int, int]]] = field(default_factory=dict)

    def of(self, tensor: str, values: Callable[[], torch.Tensor], start: int = 0) -> Largest:
        """What a slice of a tensor keeps, or the whole tensor.

        Args:
            tensor: its name.
            values: gives all entries of the slice, float32; asked for where only some of equal entries stay.
            start: flat index of the first.
        """
        if self.threshold == 0:
            return ALL
        if self.ties is None:
            return Largest(self.threshold, ALL.ties_end)
        left, here = self.ties.get(tensor, 0), 0
        for first, n_ties in self.slices.get(tensor, ()):
            if first < start:
                left -= n_ties
            elif start in {first, 0}:
                here += n_ties
        if left <= 0:
            return Largest(self.threshold, 0)
        if here <= left:
            return Largest(self.threshold, ALL.ties_end)
        flat = values().reshape(-1)
        for block in blocks(flat):
            places = (flat[block].abs() == self.threshold).nonzero()
            if len(places) >= left:
                return Largest(self.threshold, block.start + int(places[left - 1]) + 1)
            left -= len(places)
        return Largest(self.threshold, ALL.ties_end)


@dataclass(frozen=True)
class Ask:
    """A question for the largest entries of one model.

    Attributes:
        model: its place.
        count: from the number of entries to how many are asked for.
        changed: it takes the number of those that are not 0.
    """

    model: int
    count: Callable[[int], int]
    changed: bool = False


def select(look: Look, density: PerModel, *, changed: bool = False) -> list[Selected]:
    """The int(density · d) largest entries of each model, at least one, of its d; none of a model without entries.

    Args:
        look: at every slice.
        density: in (0, 1], for all models or one per model.
        changed: d counts the entries that are not 0.
    """

    def ask(model: int, share: float) -> Ask:
        return Ask(model, lambda size: max(1, int(share * size)), changed)

    def asks(n: int) -> list[Ask]:
        return [ask(i, share) for i, share in enumerate(per_model(density, n))]

    return largest_of(look, asks)


def largest_of(look: Look, asks: Callable[[int], list[Ask]]) -> list[Selected]:
    """Answer questions for the largest entries.

    Args:
        look: at every slice.
        asks: from the number of models to the questions.
    """
    asked, near = _estimated(look, asks)
    if not asked:
        return []
    found = _counted(look, asked, near)
    if not found.size:
        return [Selected(0.0) for _ in asked]
    answers = [_answer(look, found, i, ask) for i, ask in enumerate(asked)]
    open_ = {i: made for i, made in enumerate(answers) if isinstance(made, _Near)}
    if open_:
        again = _counted(look, [asked[i] for i in open_], list(open_.values()))
        for place, i in enumerate(open_):
            answers[i] = _answer(look, again, place, asked[i])
    return [made for made in answers if isinstance(made, Selected)]


@dataclass(frozen=True)
class _Near:
    """Keys among which the smallest of the largest entries may be: the first, how many, and the likeliest."""

    low: int
    width: int
    guess: int


_ZERO = _Near(0, 1, 0)
"""The key of 0."""


@dataclass(frozen=True, slots=True)
class _Here:
    """What was counted in one slice.

    Attributes:
        start: its first element.
        keys: those that occur, ascending: all that were counted, or, where they are many, the nearest to the guess.
        counts: how often each of them does.
        is_all: they are all.
    """

    start: int
    keys: Keys
    counts: Counts
    is_all: bool

    def n_ties(self, key: int) -> int | None:
        """How many entries have a key; None where that was not kept."""
        if not self.is_all and not self.keys[0] <= key <= self.keys[-1]:
            return None
        return int(self.counts[self.keys == key].sum())


@dataclass
class _Counted:
    """What a look counted.

    Attributes:
        size: entries of a model.
        zeros: of each question's model, its entries that are 0.
        near: which keys were counted.
        totals: of each question, the entries below those keys, and those of each of them.
        slices: of each question, tensor → what was counted in each slice.
    """

    size: int
    zeros: list[int]
    near: list[_Near]
    totals: list[Counts]
    slices: list[dict[str, list[_Here]]]

    def ties(self, i: int, key: int) -> dict[str, list[tuple[int, int]]] | None:
        """Tensor → first element of each slice, and how many entries have a key; None where that was not kept."""
        found = {}
        for tensor, slices in self.slices[i].items():
            here = [(one.start, n) for one in slices if (n := one.n_ties(key)) is not None]
            if len(here) < len(slices):
                return None
            found[tensor] = here
        return found


def _answer(look: Look, found: _Counted, i: int, ask: Ask) -> Selected | _Near:
    """One selection, from what was counted; where that is not enough, the key that is still to be counted."""
    n = min(ask.count(found.size - found.zeros[i]), found.size)
    if n >= found.size:
        return ALL_OF_IT
    if n <= 0:
        return NONE_OF_IT
    near, total = found.near[i], found.totals[i]
    ends = total.cumsum()
    place = found.size - n  # of the smallest that stays, from the smallest of all
    if not ends[0] <= place < ends[-1]:
        return _found_key(look, ask.model, place)
    offset = int(np.searchsorted(ends, place, side="right")) - 1
    key = near.low + offset
    left = n - (found.size - int(ends[offset + 1]))  # of the smallest, that stay
    if key == 0 or left == total[offset + 1]:
        return Selected(_magnitude(key))
    ties = found.ties(i, key)
    return (
        _Near(key, 1, key) if ties is None else Selected(_magnitude(key), _first(ties, left), ties)
    )


ALL_OF_IT = Selected(0.0)
"""Every entry is kept."""

NONE_OF_IT = Selected(math.inf, {})
"""No entry is kept."""


def _first(ties: dict[str, list[tuple[int, int]]], left: int) -> dict[str, int]:
    """How many of equal entries each tensor keeps, in the order of the tensors."""
    kept = {}
    for tensor, slices in ties.items():
        kept[tensor] = min(left, sum(n for _, n in slices))
        left -= kept[tensor]
    return kept


def _estimated(look: Look, asks: Callable[[int], list[Ask]]) -> tuple[list[Ask], list[_Near]]:
    """The questions, and near which keys their answers must be: by what is known, or by a sample of the entries."""
    if isinstance(look, Informed):
        asked = asks(len(look.spreads))
        if len(asked) * WIDEST <= _CELLS:
            return asked, _near(look.spreads, asked)
    made = [keys for _, keys in look(_sampled, sample=_SAMPLE)]
    if not made:
        return [], []
    samples = [Sample(np.concatenate(each)) for each in zip(*made, strict=True)]
    asked = asks(len(samples))
    return asked, _near(samples, asked)


def _near(spreads: Sequence[Spread | Sample], asked: list[Ask]) -> list[_Near]:
    """Near which keys the answers must be."""
    widest = min(WIDEST, _CELLS // max(1, len(asked)))
    return [
        _Near(*spreads[ask.model].near(ask.count, changed=ask.changed, widest=widest))
        for ask in asked
    ]


def _sampled(seen: Seen) -> list[Keys]:
    """Keys of each model: of all entries, or, where they or the models are many, of evenly spread ones."""
    n, size = len(seen.models), shape_of(seen.models).numel()
    taken = max(1, min(_LONGEST, size * _MODELS // n))
    step = -(-size // taken) or 1
    return [seen.models[i].reshape(-1)[::step].abs().numpy().view(np.int32) for i in range(n)]


def _found_key(look: Look, model: int, place: int) -> _Near:
    """The key at a place of the sorted whole, by two looks at all slices."""
    (total,) = summed(look, lambda seen: [half_counts(seen, model, None)])
    ends = total.cumsum()
    half = int(np.searchsorted(ends, place, side="right"))
    (lower,) = summed(look, lambda seen: [half_counts(seen, model, half)])
    key = _key(half, lower, place - int(ends[half] - total[half]))
    return _Near(key, 1, key)


def _key(upper: int, lower: Counts, place: int) -> int:
    """The key at a place of those that share an upper half, from how often each lower one occurs."""
    return (upper << 16) + int(np.searchsorted(lower.cumsum(), place, side="right"))


def _counted(look: Look, asked: list[Ask], near: list[_Near]) -> _Counted:
    """Count the keys near to the answers, in every slice."""
    places = [(ask.model, n) for ask, n in zip(asked, near, strict=True)]
    at_zero = [(ask.model, _ZERO) for ask in asked if ask.changed]

    def count(seen: Seen) -> tuple[int, list[int], list[tuple[Found, _Here]]]:
        counted = _near_counts(seen, [*places, *at_zero])
        zeros = iter(counted[len(places) :])
        n_zeros = [int(next(zeros).counts.sum()) if ask.changed else 0 for ask in asked]
        made = [(each, _here(seen.start, each, n)) for each, n in zip(counted, near, strict=False)]
        return shape_of(seen.models).numel(), n_zeros, made

    size, zeros = 0, [0] * len(asked)
    totals = [np.zeros(n.width + 1, np.int64) for n in near]
    slices: list[dict[str, list[_Here]]] = [{} for _ in asked]
    for tensor, (length, n_zeros, made) in look(count):
        size += length
        for i, (one, here) in enumerate(made):
            totals[i][0] += one.below
            totals[i][1 + one.places] += one.counts
            zeros[i] += n_zeros[i]
            slices[i].setdefault(tensor, []).append(here)
    return _Counted(size, zeros, near, totals, slices)


def _here(start: int, found: Found, near: _Near) -> _Here:
    """What is kept of what was counted in a slice."""
    first, n = 0, len(found.places)
    if n > _KEPT:
        guess = int(np.searchsorted(found.places, near.guess - near.low))
        first = min(max(0, guess - _KEPT // 2), n - _KEPT)
    kept = slice(first, first + _KEPT)
    keys, counts = found.places[kept] + near.low, found.counts[kept]
    return _Here(start, keys.astype(np.int32), counts.copy(), n <= _KEPT)


def half_counts(seen: Seen, model: int, upper: int | None) -> Counts:
    """How often each upper half of a magnitude's key occurs, or each lower half of those keys that have this upper one.

    Args:
        seen: a slice.
        model: whose entries.
        upper: None: count upper halves.

    Returns:
        (65,536) counts.
    """
    counts = np.zeros(_HALF, np.int64)
    stored, base = _stored(seen, model)
    if kernels.ready([stored] if base is None else [stored, base]):
        if _is_done(seen, model, count_magnitudes(stored, base, upper, counts)):
            return counts
        counts[:] = 0
    for keys in _keys(seen, model):
        halves = keys >> 16 if upper is None else keys[keys >> 16 == upper] & (_HALF - 1)
        counts += np.bincount(halves, minlength=_HALF)
    return counts


def _near_counts(seen: Seen, asked: Sequence[tuple[int, _Near]]) -> list[Found]:
    """Of models: how many keys are below those that are near, and how often each of the near ones occurs."""
    parts, base = parts_of(seen.models)
    taken = [parts[model] for model, _ in asked]
    if kernels.ready(taken if base is None else [*taken, base]):
        each = [(p, n.low, n.width, n.guess) for p, (_, n) in zip(taken, asked, strict=True)]
        bad, found = count_near([Near(*one) for one in each], base)
        models = [*(model for model, _ in asked), len(seen.models)]
        if is_done(seen.models, models[bad] if bad >= 0 else bad):
            return found
    return [_near_keys(_keys(seen, model), near) for model, near in asked]


def _near_keys(blocks_of: Iterator[Counts], near: _Near) -> Found:
    """The same of one model's keys, without a kernel."""
    below, inside = 0, [np.zeros(0, np.int64)]
    for keys in blocks_of:
        below += int(np.count_nonzero(keys < near.low))
        inside.append(keys[(keys >= near.low) & (keys < near.low + near.width)] - near.low)
    return Found(below, *np.unique(np.concatenate(inside), return_counts=True))


def _keys(seen: Seen, model: int) -> Iterator[NDArray[np.int64]]:
    """The bits of a model's magnitudes, block by block."""
    flat = seen.models[model].reshape(-1)
    for block in blocks(flat):
        yield flat[block].abs().numpy().view(np.int32).astype(np.int64)


def _stored(seen: Seen, model: int) -> tuple[torch.Tensor, torch.Tensor | None]:
    """A model as kernels read it, and the base to take off."""
    if isinstance(seen.models, Slices):
        return seen.models.stored[model], seen.models.base
    return seen.models[model].reshape(-1), None


def _is_done(seen: Seen, model: int, found: int) -> bool:
    """Tell whether a kernel went to the end, and did not find the model (0) or the base (1) not finite.

    Raises:
        NonFinite: a stored one is not.
    """
    if found >= 0 and isinstance(seen.models, Slices):
        seen.models.refuse(model if found == 0 else len(seen.models))
    return found < 0


def _magnitude(key: int) -> float:
    """The magnitude with this key."""
    return float(np.array([key], dtype=np.uint32).view(np.float32)[0])

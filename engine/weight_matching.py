"""Weight matching: one model's units put in the order of another's (arXiv:2209.04836, section 3.2).

Every group of units is ordered so that the products of weights that belong together sum to the most: a linear
assignment. Heads are matched with the best order of what is within them, so that a model whose heads, and their
dimensions, changed places is found again. Without the residual stream groups do not depend on each other and each is
looked at once; with it, in turns, until none changes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from engine.low_rank import one_thread
from engine.parent import Parent, family
from engine.reader import Reader
from engine.source import Source, load
from engine.symmetry import Group, Span, groups
from engine.transport import assignment
from engine.turned import Axis, turned
from registry.errors import MissingTensor, ShapeMismatch

MOST_ROUNDS = 100
"""Rounds through all groups; the paper's."""

Tables = tuple[Mapping[str, Source], Mapping[str, Source]]


def weight_matching(
    reader: Reader, anchor: Parent, other: Parent, *, residual: bool = False
) -> Parent:
    """``other`` with its units in the order of ``anchor``; it computes what it did.

    Args:
        reader: of both.
        anchor: whose order it becomes.
        other: of the same architecture and sizes.
        residual: also the residual stream: for models trained from different seeds.

    Raises:
        NotMergeable: no unit that may change places is known, or not what belongs to the residual stream.
        MissingTensor, ShapeMismatch: the two are not of one architecture.
        NonFinite: NaN or infinity in a tensor.
    """
    tables = family((anchor, other)).tables
    refuse_difference(anchor, other, tables[0], tables[1])
    shapes = {name: source.shape for name, source in tables[1].items()}
    found = groups(other.checkpoint.config, shapes, residual=residual)
    match = _Matching(reader, (tables[0], tables[1]))
    with one_thread():
        if residual:
            match.order(found[0], shown=alone(found).spans)
            found = [*found[1:], found[0]]
        for _ in range(MOST_ROUNDS if residual else 1):
            changed = [match.order(group) for group in found]
            if not any(changed):
                break
    return turned(other, tables[1], match.orders)


def alone(found: Sequence[Group]) -> Group:
    """The first of some groups, in those tensors that no other group moves: what shows first where its units go."""
    first, *others = found
    moved = {span.tensor for group in others for span in group.spans}
    return replace(first, spans=tuple(s for s in first.spans if s.tensor not in moved))


def refuse_difference(
    anchor: Parent, other: Parent, mine: Mapping[str, Source], theirs: Mapping[str, Source]
) -> None:
    """Refuse models with different tensors.

    Raises:
        MissingTensor, ShapeMismatch: naming the first tensor.
    """
    for name in sorted({**mine, **theirs}):
        if name not in mine or name not in theirs:
            has, lacks = (anchor, other) if name in mine else (other, anchor)
            message = (
                f"tensor {name} is in {has.name} but not in {lacks.name}; they cannot be aligned"
            )
            raise MissingTensor(message)
        if mine[name].shape != theirs[name].shape:
            message = (
                f"tensor {name} has shape {list(mine[name].shape)} in {anchor.name} and "
                f"{list(theirs[name].shape)} in {other.name}; weight matching needs equal widths"
            )
            raise ShapeMismatch(message, hint="align: ot_fusion carries one width onto another")


class _Matching:
    """The orders found so far.

    Attributes:
        orders: of the other model's axes.
    """

    def __init__(self, reader: Reader, tables: Tables) -> None:
        self.orders: dict[Axis, torch.Tensor] = {}
        self._reader = reader
        self._tables = tables

    def order(self, group: Group, *, shown: Sequence[Span] = ()) -> bool:
        """Bring a group into the best order, with all others as they are; tell whether it changed.

        Args:
            group: all that moves.
            shown: the spans that say where to, if not all.
        """
        if group.inner:
            sides = [self._units(group, side) for side in (0, 1)]
            within, gain = _match_within(group, *sides)
        else:
            gain = torch.zeros(group.n, group.n, dtype=torch.float64)
            for span in shown or group.spans:
                mine, theirs = (self._entries(span, group.n, side) for side in (0, 1))
                gain += (mine.flatten(1) @ theirs.flatten(1).T).double()
            within = None
        places = assignment(gain)
        changed = False
        for number, span in enumerate(group.spans):
            axis = (span.tensor, span.axis)
            if axis not in self.orders:
                length = self._tables[1][span.tensor].shape[span.axis]
                self.orders[axis] = torch.arange(length)
            known = self.orders[axis]
            part = slice(span.start, span.start + group.n * span.block)
            units = known[part].reshape(group.n, span.block)
            if within is None:
                made = units[places]
            else:
                moved = [units[j][within[i][j][number]] for i, j in enumerate(places.tolist())]
                made = torch.stack(moved)
            changed |= not torch.equal(made, units)
            self.orders[axis] = known.clone()
            self.orders[axis][part] = made.reshape(-1)
        return changed

    def _units(self, group: Group, side: int) -> list[torch.Tensor]:
        """Of every span of a group, its units: (n, block, the rest) float32."""
        return [self._entries(span, group.n, side) for span in group.spans]

    def _entries(self, span: Span, n: int, side: int) -> torch.Tensor:
        """The units of a span, those of the other model in the orders found so far: (n, block, the rest) float32."""
        tensor = load(self._reader, self._tables[side][span.tensor])
        if side:
            for axis in range(tensor.dim()):
                order = self.orders.get((span.tensor, axis))
                if order is not None:
                    tensor = tensor.index_select(axis, order)
        rows = tensor.movedim(span.axis, 0)[span.start : span.start + n * span.block]
        return rows.reshape(n, span.block, -1)


Within = Sequence[Sequence[Sequence[torch.Tensor]]]
"""Of a pair of units, for each span, the order of the second unit's entries."""


def _match_within(
    group: Group, mine: Sequence[torch.Tensor], theirs: Sequence[torch.Tensor]
) -> tuple[Within, torch.Tensor]:
    """The best orders within each pair of units, and what each pair then gains: (n, n) float64."""
    gain = torch.zeros(group.n, group.n, dtype=torch.float64)
    orders: list[list[list[torch.Tensor]]] = []
    for i in range(group.n):
        orders.append([])
        for j in range(group.n):
            found, value = _match_pair(group, [s[i] for s in mine], [s[j] for s in theirs])
            orders[i].append(found)
            gain[i, j] = value
    return orders, gain


def _match_pair(
    group: Group, mine: Sequence[torch.Tensor], theirs: Sequence[torch.Tensor]
) -> tuple[list[torch.Tensor], float]:
    """The best order of one unit's entries beside another's, for each span, and the products' sum."""
    orders = [torch.arange(len(span)) for span in theirs]
    for _ in range(MOST_ROUNDS if len(group.inner) > 1 else 1):
        changed = False
        for inner in group.inner:
            gain = torch.zeros(inner.n, inner.n, dtype=torch.float64)
            for number, start, block in inner.places:
                part = slice(start, start + inner.n * block)
                left = mine[number][part].reshape(inner.n, -1)
                right = theirs[number][orders[number][part]].reshape(inner.n, -1)
                gain += (left @ right.T).double()
            places = assignment(gain)
            if torch.equal(places, torch.arange(inner.n)):
                continue
            changed = True
            for number, start, block in inner.places:
                part = slice(start, start + inner.n * block)
                known = orders[number][part].reshape(inner.n, block)
                orders[number][part] = known[places].reshape(-1)
        if not changed:
            break
    pairs = zip(mine, theirs, orders, strict=True)
    value = sum(float((a * b[order]).sum(dtype=torch.float64)) for a, b, order in pairs)
    return orders, value

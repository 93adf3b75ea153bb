"""Optimal-transport fusion: one model's units carried onto another's, also onto fewer or more of them.

arXiv:1910.05653 for layers, arXiv:2310.05719 for transformers. Units are alike as far as the weights that make them
are, each unit's scaled to unit norm. Heads are carried as heads: query heads, and dimensions of values, within them.
What makes the anchor's units is the mean of what made those carried there; what reads a unit is shared out among
those it is carried to. So a network whose neurons were doubled is carried back to what it computed. The paper takes
the mean on both sides, the authors' code multiplies both by the number of the source's units; both change the scale
of what is read where the numbers differ, and are there by name. The residual stream has one map for all layers,
found from the embeddings.
"""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Literal

import torch

from engine.low_rank import one_thread
from engine.parent import Parent, family
from engine.reader import Reader
from engine.source import Source, load
from engine.symmetry import Group, Inner, Span, groups
from engine.transport import Solver, coupling
from engine.turned import Axis, carried
from engine.weight_matching import alone
from registry.errors import MissingTensor, ShapeMismatch

Marginals = Literal["preserve", "paper", "code"]


def fuse(
    reader: Reader,
    anchor: Parent,
    other: Parent,
    *,
    solver: Solver = "exact",
    regularization: float = 0.06,
    residual: bool = False,
    marginals: Marginals = "preserve",
) -> Parent:
    """``other`` carried onto the units of ``anchor``: tensors of the anchor's shapes, to be merged with it.

    Args:
        reader: of both.
        anchor: whose units and sizes they become.
        other: of the same blocks; neurons, heads and, with ``residual``, the stream may differ in number.
        solver: "exact", or "sinkhorn": soft.
        regularization: of "sinkhorn", > 0, in units of the largest cost; the authors' 0.06.
        residual: also the residual stream: for models trained from different seeds, or of another width.
        marginals: how sums are shared: "preserve", "paper" or "code".

    Raises:
        NotMergeable: no unit is known, or not what belongs to the residual stream.
        MissingTensor: other tensors than the anchor's.
        ShapeMismatch: a size differs that no group of units explains.
        NonFinite: NaN or infinity in a tensor.
    """
    tables = family((anchor, other)).tables
    found = [
        groups(
            parent.checkpoint.config,
            {name: source.shape for name, source in table.items()},
            residual=residual,
        )
        for parent, table in zip((anchor, other), tables, strict=True)
    ]
    transport = _Transport(reader, (tables[0], tables[1]), solver, regularization, marginals)
    with one_thread():
        if residual:
            transport.carry(*(alone(side) for side in found), whole=(found[0][0], found[1][0]))
        for mine, theirs in zip(*(side[residual:] for side in found), strict=False):
            transport.carry(mine, theirs)
    made = carried(other, tables[1], transport.maps)
    _refuse_difference(anchor, other, tables[0], family((anchor, made)).tables[1])
    return made


def _refuse_difference(
    anchor: Parent, other: Parent, mine: Mapping[str, Source], theirs: Mapping[str, Source]
) -> None:
    """Refuse what does not fit the anchor.

    Raises:
        MissingTensor, ShapeMismatch: naming the first tensor.
    """
    for name in sorted({**mine, **theirs}):
        if name not in mine or name not in theirs:
            has, lacks = (anchor, other) if name in mine else (other, anchor)
            message = f"tensor {name} is in {has.name} but not in {lacks.name}"
            raise MissingTensor(message, hint="ot_fusion carries widths, not depths")
        if mine[name].shape != theirs[name].shape:
            message = (
                f"tensor {name} has shape {list(mine[name].shape)} in {anchor.name} and "
                f"{list(theirs[name].shape)} in {other.name} when its neurons and heads are carried over"
            )
            raise ShapeMismatch(message, hint=_STREAM)


_STREAM = "residual: true carries the stream's width as well"


class _Transport:
    """The maps found so far.

    Attributes:
        maps: of the other model's axes, (its entries, the anchor's) float32.
    """

    def __init__(
        self,
        reader: Reader,
        tables: tuple[Mapping[str, Source], Mapping[str, Source]],
        solver: Solver,
        regularization: float,
        marginals: Marginals,
    ) -> None:
        self.maps: dict[Axis, torch.Tensor] = {}
        self._reader = reader
        self._tables = tables
        self._solver = solver
        self._regularization = regularization
        self._marginals = marginals

    def carry(
        self, mine: Group, theirs: Group, *, whole: tuple[Group, Group] | None = None
    ) -> None:
        """Find where a group's units go, and keep the map of every axis they are on.

        Args:
            mine: of the anchor.
            theirs: of the other model, in the same tensors.
            whole: the same groups with all that moves, where ``mine`` and ``theirs`` are not.
        """
        places = [[(span.tensor, span.axis) for span in group.spans] for group in (mine, theirs)]
        sizes = [[inner.n for inner in group.inner[1:]] for group in (mine, theirs)]
        if places[0] != places[1] or sizes[0] != sizes[1]:
            message = f"{mine.name} is built otherwise in the two models: " + " and ".join(
                f"{g.n} units of {[inner.n for inner in g.inner]}" for g in (mine, theirs)
            )
            raise ShapeMismatch(message, hint="ot_fusion carries heads of one size onto each other")
        left, right = (self._features(group, side) for side, group in enumerate((mine, theirs)))
        for number, rows in left.items():
            if rows.shape[2:] != right[number].shape[2:]:
                what = f"tensor {mine.spans[number].tensor}: each unit has {rows.shape[2]} weights in the anchor and "
                message = f"{what}{right[number].shape[2]} in the other model"
                raise ShapeMismatch(message, hint=_STREAM)
        within: dict[tuple[int, int], list[torch.Tensor]] = {}
        if mine.inner:
            cost = torch.zeros(theirs.n, mine.n, dtype=torch.float64)
            for i, j in product(range(theirs.n), range(mine.n)):
                units = [
                    {k: rows[u] for k, rows in side.items()} for side, u in ((left, j), (right, i))
                ]
                within[i, j], cost[i, j] = self._within(mine, theirs, *units)
        else:
            features = [
                torch.cat([rows.flatten(1) for rows in side.values()], 1) for side in (right, left)
            ]
            cost = _distances(*features)
        plan = coupling(cost, self._solver, self._regularization)
        ours, its = whole or (mine, theirs)
        for number, (span, source) in enumerate(zip(ours.spans, its.spans, strict=True)):
            makes = span.makes or len(self._tables[0][span.tensor].shape) == 1
            shares = self._shares(plan, makes=makes)
            if within:
                made = shares.repeat_interleave(source.block, 0).repeat_interleave(span.block, 1)
                for (i, j), plans in within.items():
                    scaled = [self._shares(each, makes=makes) for each in plans]
                    down = slice(i * source.block, (i + 1) * source.block)
                    across = slice(j * span.block, (j + 1) * span.block)
                    made[down, across] *= _inner_map(ours, number, scaled, source.block)
            else:
                made = torch.kron(shares, torch.eye(span.block, dtype=torch.float64))
            self._keep(span, source, made)

    def _features(self, group: Group, side: int) -> dict[int, torch.Tensor]:
        """What tells a group's units apart, matrices that make them: number of the span → (n, block, the rest) float64.

        Those of the other model are in the anchor's basis but for the axis itself.
        """
        found = {}
        for number, span in enumerate(group.spans):
            source = self._tables[side][span.tensor]
            if not span.makes or len(source.shape) < 2:  # noqa: PLR2004
                continue
            tensor = load(self._reader, source).double()
            for axis in range(tensor.dim()):
                weights = self.maps.get((span.tensor, axis)) if side else None
                if weights is not None and axis != span.axis:
                    dims = ([axis], [0])
                    tensor = torch.tensordot(tensor, weights.double(), dims=dims).movedim(-1, axis)
            rows = tensor.movedim(span.axis, 0)[span.start : span.start + group.n * span.block]
            found[number] = rows.reshape(group.n, span.block, -1)
        return found

    def _within(
        self,
        mine: Group,
        theirs: Group,
        left: Mapping[int, torch.Tensor],
        right: Mapping[int, torch.Tensor],
    ) -> tuple[list[torch.Tensor], float]:
        """Couplings of what is within a pair of units, and how far apart the two are then."""
        plans: list[torch.Tensor] = []
        moved = dict(right)
        for ours, its in zip(mine.inner, theirs.inner, strict=True):
            now = ours if plans else its  # what comes after the first is in the anchor's numbers
            rows = [_rows(inner, side) for inner, side in ((now, moved), (ours, left))]
            plans.append(coupling(_distances(*rows), self._solver, self._regularization))
            shares = [self._shares(plan, makes=True) for plan in plans]
            for number, unit in right.items():
                moved[number] = _inner_map(mine, number, shares, len(unit)).T @ unit
        ends = [torch.cat([side[number].flatten() for number in left]) for side in (moved, left)]
        return plans, float(_distances(*(end[None] for end in ends)))

    def _shares(self, plan: torch.Tensor, *, makes: bool) -> torch.Tensor:
        """What a coupling multiplies by: columns that sum to 1 make units, rows that sum to 1 share out what reads them."""
        rows, columns = plan.shape
        paper = makes if self._marginals == "preserve" else self._marginals == "paper"
        return plan * (columns if paper else rows)

    def _keep(self, mine: Span, theirs: Span, made: torch.Tensor) -> None:
        """Put the map of a span into that of its axis."""
        tables, key = self._tables, (mine.tensor, mine.axis)
        if key not in self.maps:
            n, m = (tables[side][mine.tensor].shape[mine.axis] for side in (1, 0))
            self.maps[key] = torch.eye(n) if n == m else torch.zeros(n, m)
        rows, columns = made.shape
        known = self.maps[key].clone()
        part = (slice(theirs.start, theirs.start + rows), slice(mine.start, mine.start + columns))
        known[part[0]], known[:, part[1]] = 0, 0
        known[part] = made.float()
        self.maps[key] = known


def _inner_map(mine: Group, number: int, plans: Sequence[torch.Tensor], block: int) -> torch.Tensor:
    """The map within a unit along one span, after the first of its inner groups: (entries here, the anchor's) float64.

    Only the first may change their number, since it is the one that is not repeated.
    """
    made = torch.eye(block, dtype=torch.float64)
    for inner, plan in zip(mine.inner, plans, strict=False):
        for place, start, size in inner.places:
            if place != number:
                continue
            step = torch.kron(plan, torch.eye(size, dtype=torch.float64))
            if plan.shape[0] != plan.shape[1]:
                made = made @ step
            else:
                part = slice(start, start + len(step))
                made[:, part] = made[:, part] @ step
    return made


def _rows(inner: Inner, units: Mapping[int, torch.Tensor]) -> torch.Tensor:
    """What tells the units of an inner group apart: (n, features) float64."""
    found = []
    for number, start, block in inner.places:
        if number in units:
            found.append(units[number][start : start + inner.n * block].reshape(inner.n, -1))
    return torch.cat(found, 1)


def _distances(rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Euclidean distances of rows scaled to unit norm, zeros as they are: (n, m) float64."""
    left, right = (
        x / torch.linalg.vector_norm(x, dim=1, keepdim=True).clamp_min(_TINY)
        for x in (rows, columns)
    )
    return torch.cdist(left, right, compute_mode="donot_use_mm_for_euclid_dist")


_TINY = 1e-300

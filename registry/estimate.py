"""Estimates of what training changed, from two stored sketches: with their errors, and never among what was measured.

A scalar stands for as many entries as its tensor has for each that was sampled; of a deep model whose layers were not all
sampled, for those of the others too. Were scalars independent, the relative error of a squared length would be
√((K − 1) / s) with the kurtosis K of s scalars; those of one row or column are not, which is counted.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import hypot, sqrt
from typing import Any

import numpy as np

from registry.catalog import Catalog
from registry.closeness import Doubles, Sampled, shelf
from registry.errors import BadAddress, NotHomologous
from registry.tensor_name import layer_of

_SMALL = 0.005  # |δ| that counts as within_005


@dataclass(frozen=True)
class Estimate:
    """What samples tell of a delta; each error is one standard deviation.

    Attributes:
        child, base: ids.
        n_tensors: that were sampled.
        n_scalars: sampled entries that both have.
        relative_l2, relative_l2_error: ‖δ‖ / ‖base‖.
        rms, rms_error: of δ, in the unit of the weights.
        cosine: of the weights; None where one of them is zero.
        within_005, within_005_error: share of entries with |δ| of at most 0.005.
        zero_share, zero_share_error: share of entries that did not change.
        scope: "sampled".
    """

    child: str
    base: str
    n_tensors: int
    n_scalars: int
    relative_l2: float | None
    relative_l2_error: float | None
    rms: float
    rms_error: float
    cosine: float | None
    within_005: float
    within_005_error: float
    zero_share: float
    zero_share_error: float
    scope: str = "sampled"


def unreachable(catalog: Catalog, pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Pairs that can only be estimated: not measured yet, and one of both is nowhere but on the Hub."""
    models = sorted({model for pair in pairs for model in pair})
    rows = catalog.rows(
        "select model_id from store.address where model_id in (select store.each(?)) "
        "group by model_id having bool_and(source not in ('local', 'hf-cache'))",
        [models],
    )
    afar = {row["model_id"] for row in rows}
    known = catalog.rows(
        "select child, base from store.pair where child in (select store.each(?))", [models]
    )
    measured = {(row["child"], row["base"]) for row in known}
    return [pair for pair in pairs if afar.intersection(pair) and pair not in measured]


def estimate(catalog: Catalog, child: str, base: str) -> Estimate:
    """Estimate the delta of a pair from its sketches; nothing is read or written.

    Args:
        catalog: has the sketches.
        child: id of the model that changed.
        base: id of the model it is compared with.

    Raises:
        BadAddress: one of them has no sketch that suits the other's.
        NotHomologous: their sketches share no tensor.
    """
    sketches = shelf(catalog, [child, base])
    for model in (child, base):
        if model not in sketches:
            rows = catalog.rows(
                "select uri from store.address where model_id = ? order by uri", [model]
            )
            uri = rows[0]["uri"] if rows else "hf://org/name"
            message = (
                f"the weights of {catalog.name(model)} are not here, and there is no sketch of them"
            )
            raise BadAddress(message, hint=f"reg scan --sketch {uri}")
    parts = _shared(sketches[child], sketches[base])
    if not parts:
        message = f"sketches of {catalog.name(child)} and {catalog.name(base)} have no tensor of one name and shape"
        raise NotHomologous(message, hint="reg show MODEL lists the tensors of each")
    return _estimated(child, base, parts, _factors(catalog, child, parts))


@dataclass(frozen=True)
class _Part:
    """The rectangle of one tensor of which both sketches hold the scalars.

    Attributes:
        kind: whether it lies in a layer, and whether it is a vector.
        n_params: of the tensor.
        child, base: (rows, columns) float64.
    """

    kind: tuple[bool, bool]
    n_params: int
    child: Doubles
    base: Doubles


def _shared(new: Sampled, old: Sampled) -> list[_Part]:
    """What both sketches hold, by name."""
    theirs = dict(_rectangles(old))
    found = []
    for key, (child, rows) in _rectangles(new):
        if key in theirs:
            base, before = theirs[key]
            kind = (layer_of(key[0]) is not None, bool(key[-1]))
            found.append(_Part(kind, min(rows, before) * key[1], child, base))
    return found


def _rectangles(of: Sampled) -> Iterator[tuple[tuple[Any, ...], tuple[Doubles, int]]]:
    """Where each patch lies, but for the tensor's rows, which a vocabulary may have more of; its scalars, and those rows."""
    at = 0
    for name, rows, columns, row, n_rows, column, n_columns, is_vector in json.loads(of.patches):
        size = n_rows * n_columns
        values = of.values[at : at + size].astype(np.float64).reshape(n_rows, n_columns)
        at += size
        if size:
            yield (name, columns, row, n_rows, column, n_columns, is_vector), (values, rows)


def _factors(catalog: Catalog, model: str, parts: Sequence[_Part]) -> dict[tuple[bool, bool], float]:  # fmt: skip
    """How many parameters of each kind the model has for each in a tensor that was sampled: of deep models not all were."""
    rows = catalog.rows(
        "select layer is not null as inside, json_array_length(shape) < 2 as is_vector, sum(n_params) as n "
        "from store.tensor where model_id = ? and dtype in ('F64', 'F32', 'F16', 'BF16') group by all",
        [model],
    )
    known = {(row["inside"], row["is_vector"]): float(row["n"]) for row in rows}
    sampled: dict[tuple[bool, bool], int] = {}
    for part in parts:
        sampled[part.kind] = sampled.get(part.kind, 0) + part.n_params
    return {kind: max(1.0, known.get(kind, 0.0) / n) for kind, n in sampled.items()}


@dataclass
class _Sum:
    """A sum over all entries as samples let expect it, and its variance."""

    total: float = 0.0
    variance: float = 0.0

    def add(self, terms: Doubles, weight: float) -> None:
        """Add a part's terms, (rows, columns), each standing for ``weight`` entries.

        Entries of one row or one column may be alike: the variance is that of both kinds of clusters together.
        """
        single = terms.size * float(terms.var())
        rows, columns = (
            len(sums) * float(sums.var()) for sums in (terms.sum(1), terms.sum(0)) if len(sums)
        )
        clustered = (rows if len(terms) > 1 else 0.0) + (columns if terms.shape[1] > 1 else 0.0)
        self.total += weight * float(terms.sum())
        self.variance += weight**2 * max(single, clustered - single)

    @property
    def relative_error(self) -> float:
        """One standard deviation over the sum; 0 for nothing."""
        return sqrt(self.variance) / self.total if self.total > 0 else 0.0


def _estimated(
    child: str, base: str, parts: Sequence[_Part], factors: dict[tuple[bool, bool], float]
) -> Estimate:
    """The numbers of a pair whose sketches share scalars."""
    squared, size, other, dot, within, zero = (_Sum() for _ in range(6))
    n = 0.0
    for part in parts:
        delta = part.child - part.base
        weight = factors[part.kind] * part.n_params / delta.size
        n += weight * delta.size
        sums: tuple[tuple[_Sum, Any], ...] = (
            (squared, delta**2), (size, part.base**2), (other, part.child**2), (dot, part.child * part.base),
            (within, (np.abs(delta) <= _SMALL) * 1.0), (zero, (delta == 0) * 1.0),
        )  # fmt: skip
        for found, terms in sums:
            found.add(terms, weight)
    relative = sqrt(squared.total / size.total) if size.total else None
    rms, error = sqrt(squared.total / n), squared.relative_error / 2  # of a root, half
    both = sqrt(size.total * other.total)
    spread = hypot(error, size.relative_error / 2)
    return Estimate(
        child=child, base=base, n_tensors=len(parts), n_scalars=sum(p.child.size for p in parts),
        relative_l2=relative, relative_l2_error=None if relative is None else relative * spread,
        rms=rms, rms_error=rms * error, cosine=max(-1.0, min(1.0, dot.total / both)) if both else None,
        within_005=within.total / n, within_005_error=sqrt(within.variance) / n,
        zero_share=zero.total / n, zero_share_error=sqrt(zero.variance) / n,
    )  # fmt: skip

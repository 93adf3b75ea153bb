"""The use case `stats`: what changed between a base and a child, tensor by tensor, in one streaming pass.

Tensors are paired by name; where one side ties its output head to the embedding and the other has a head of its own,
the embedding is compared with that head, and a head that is a mere copy is left out (`engine.parent`). A vocabulary
that grew or shrank is compared on the rows both have; tensors that only one side has, that changed their shape, or
that hold codes are reported as such. What was measured is stored and, since ids are digests, never measured again.
"""

import json
import os
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import pairwise
from threading import Lock

from engine.delta import UNIT, Accumulation, Accumulators, derived
from engine.histogram import Counts, Sums
from engine.lookup import load_parent
from engine.parent import Parent, family, refuse_change
from engine.reader import DTYPES, FLOATS, Reader
from engine.spectral import Spectrum, spectrum
from engine.threads import in_order
from registry.catalog import Catalog, Columns, now, refuse_lost
from registry.database import Row, Transaction
from registry.errors import NotMergeable
from registry.header import TensorRef
from registry.lineage import Lineage
from registry.progress import SILENT, Progress
from registry.records import Pair
from registry.tensor_name import has_vocabulary, layer_of, module_of

VERSION = "2"
"""Version of the arithmetic; a pair measured by another version is measured again."""

_UNIT = UNIT
_FROM_HISTOGRAM = ("abs_", "top")
_STATUSES = ("aligned", "cropped", "only_child", "only_base", "mismatched", "uncounted")


@dataclass(frozen=True)
class Measured:
    """A pair whose statistics are in the catalog.

    Attributes:
        child: id of the model that changed.
        base: id of the model it is compared with.
        reused: they were there already.
        seconds: the measurement took; 0 if reused.
    """

    child: str
    base: str
    reused: bool
    seconds: float


@dataclass(frozen=True)
class _Pairing:
    """One tensor name and what each side has under it; ``n`` elements can be compared."""

    name: str
    status: str
    child: TensorRef | None
    base: TensorRef | None
    n: int

    @property
    def comparable(self) -> bool:
        """Whether both sides have weights of one shape, as far as the smaller vocabulary goes."""
        return self.status in ("aligned", "cropped")

    @property
    def n_bytes(self) -> int:
        """Bytes that are read of it."""
        sides = (side for side in (self.child, self.base) if side is not None and self.comparable)
        return sum(self.n * DTYPES[side.dtype].itemsize for side in sides)


@dataclass(frozen=True)
class _Unit:
    """Elements of a tensor that one thread works on: [start, stop) of ``pairing``."""

    pairing: _Pairing
    start: int
    stop: int

    @property
    def is_last(self) -> bool:
        """Whether nothing of its tensor comes after it."""
        return self.stop == self.pairing.n

    @property
    def n_bytes(self) -> int:
        """Bytes that are read of it."""
        whole = self.pairing.n_bytes
        return whole * (self.stop - self.start) // self.pairing.n if self.pairing.n else 0


@dataclass
class _Rows:
    """What was measured of a pair so far, as it is stored: a few hundred bins a tensor, not all of them."""

    child: str
    base: str
    whole: Accumulators = field(default_factory=Accumulators)
    tensor: Accumulators = field(default_factory=Accumulators)
    columns: Columns = field(default_factory=Columns)
    histograms: list[tuple[str, tuple[Counts, Counts, Sums, Sums]]] = field(default_factory=list)

    def add(self, unit: _Unit, found: Accumulators | None, matrix: Spectrum | None) -> None:
        """Add what was measured of a unit; units come in the order of their tensors and elements."""
        if found is not None:
            self.tensor += found
        if unit.is_last:
            whole = None if found is None else self.tensor
            self._add_rows("delta", unit.pairing, _numbers(unit.pairing, whole))
            if found is not None:
                self.whole += self.tensor
                bins = self.tensor.histogram_rows()
                if len(bins[0]):
                    self.histograms.append((unit.pairing.name, bins))
            self.tensor = Accumulators()
        if matrix is not None:
            self._add_rows("spectrum", unit.pairing, _fields(matrix))

    def _add_rows(self, table: str, pairing: _Pairing, values: Row) -> None:
        key = {"child": self.child, "base": self.base, "tensor": pairing.name}
        self.columns.add_rows(table, [key | values])


def pairs(catalog: Catalog, children: Sequence[str] | None) -> list[tuple[str, str]]:
    """Every (child, base) pair worth measuring, by child.

    A model is compared with each parent it has by descent, with its base if it is a merge, and with the roots of
    its family; adapters, models whose files nobody has shown, and pairs in two bases are left out.

    Args:
        catalog: knows the graph.
        children: ids; None: all models.
    """
    lineage = Lineage.load(catalog, children)
    whole = {
        row["id"]
        for row in catalog.rows(
            "select id from store.model where kind = 'model' and status not in ('latent', 'listed')"
        )
    }
    roots = set(lineage.roots())
    is_turned = any(e.relation == "permuted" for e in lineage.edges)
    found: dict[tuple[str, str], None] = {}
    for child in children if children is not None else lineage.nodes:
        direct = [e.parent for e in lineage.parents(child) if e.role != "model"]
        far = [m for m in lineage.ancestors(child) if m in roots]
        for base in (*direct, *far):
            is_pair = child in whole and base in whole and base != child
            if is_pair and not (is_turned and lineage.turned([child, base])):
                found[child, base] = None
    return list(found)


def measure(
    catalog: Catalog,
    child: str,
    base: str,
    *,
    spectral: bool = False,
    jobs: int | None = None,
    progress: Progress = SILENT,
) -> Measured:
    """Measure one pair and store its rows.

    Args:
        catalog: where both are known and the rows go.
        child: id of the model that changed.
        base: id of the model it is compared with.
        spectral: also the singular values of every matrix.
        jobs: threads; None: one per core.
        progress: told of every byte read.

    Raises:
        NotMergeable: no tensor name is in both.
        FileChanged, BadAddress: the files are not there, or not as scanned.
        CatalogChanged: one of them was scanned whole meanwhile, and has another id now.
    """
    started = time.monotonic()
    with catalog.database.kept_open():  # opening once for all questions is what takes the time
        if _is_known(catalog, child, base, spectral=spectral):
            return Measured(child, base, reused=True, seconds=0.0)
        sides = (load_parent(catalog, child), load_parent(catalog, base))
    catalog.database.let_go()
    pairings = _pair(*sides)
    if not any(p.comparable for p in pairings):
        message = f"{sides[0].name} and {sides[1].name} have no weights of one name and shape"
        raise NotMergeable(message, hint="reg show MODEL lists the tensors of each")
    n_bytes = sum(p.n_bytes for p in pairings)
    progress.start("stats", n_bytes)
    rows = _Rows(child, base)
    one_at_a_time = Lock()  # a spectrum may need half a gigabyte, and uses all cores
    with Reader() as reader:

        def work(unit: _Unit) -> tuple[_Unit, Accumulators | None, Spectrum | None]:
            if not unit.pairing.comparable:
                return unit, None, None
            found, matrix = _accumulate(reader, unit), None
            if spectral and unit.is_last:
                with one_at_a_time:
                    matrix = _spectrum(reader, unit.pairing)
            progress.advance(unit.n_bytes)
            return unit, found, matrix

        units = [unit for pairing in pairings for unit in _units(pairing)]
        with closing(in_order(work, units, jobs=jobs or os.cpu_count() or 1)) as results:
            for unit, found, matrix in results:
                rows.add(unit, found, matrix)
    refuse_change(sides)
    seconds = time.monotonic() - started
    count = {f"n_{s}": sum(p.status == s for p in pairings) for s in _STATUSES}
    pair = Pair(
        child=child, base=base, version=VERSION, scope="full", **count,
        read_bytes=n_bytes, seconds=seconds, measured_at=now(), **_by_rank(rows.whole),
    )  # fmt: skip
    _store(catalog, pair, rows)
    return Measured(child, base, reused=False, seconds=seconds)


def _is_known(catalog: Catalog, child: str, base: str, *, spectral: bool) -> bool:
    """Tell whether all that is asked for was measured before: a zero delta and a vector have no spectrum."""
    known = catalog.rows(
        "select (select count(*) from store.delta d left join store.spectrum s using (child, base, tensor) "
        "where d.child = p.child and d.base = p.base and d.status = 'aligned' and d.sum_sq > 0 "
        "and d.n_nonfinite = 0 and json_array_length(d.base_shape) > 1 and s.tensor is null) as n_missing "
        "from store.pair p where child = ? and base = ? and version = ?",
        [child, base, VERSION],
    )
    return bool(known) and not (spectral and known[0]["n_missing"])


def _pair(child: Parent, base: Parent) -> list[_Pairing]:
    """Pair tensors by name, in order of names."""
    both = family((child, base))
    new, old = (
        {name: source for name, source in table.items() if isinstance(source, TensorRef)}
        for table in both.tables  # models as they are stored have no other
    )
    return [_pairing(name, new.get(name), old.get(name)) for name in both.names]


def _pairing(name: str, child: TensorRef | None, base: TensorRef | None) -> _Pairing:
    """Say what can be compared of one tensor name."""
    if base is None or child is None:
        return _Pairing(name, "only_child" if base is None else "only_base", child, base, 0)
    if child.dtype not in FLOATS or base.dtype not in FLOATS:
        return _Pairing(name, "uncounted", child, base, 0)
    if child.shape == base.shape:
        return _Pairing(name, "aligned", child, base, child.n_params)
    if has_vocabulary(name) and child.shape[1:] == base.shape[1:]:
        return _Pairing(name, "cropped", child, base, min(child.n_params, base.n_params))
    return _Pairing(name, "mismatched", child, base, 0)


def _units(pairing: _Pairing) -> list[_Unit]:
    """The units of a tensor in order, one at least: the same for any number of threads."""
    cuts = [*range(0, pairing.n, _UNIT), pairing.n] if pairing.n else [0, 0]
    return [_Unit(pairing, *ends) for ends in pairwise(cuts)]


def _accumulate(reader: Reader, unit: _Unit) -> Accumulators:
    """One pass over a unit of a pair of tensors."""
    child, base = unit.pairing.child, unit.pairing.base
    assert child and base  # noqa: S101, PT018 - only comparable ones come here
    found = Accumulation()
    found.add(*(reader.region(ref, unit.start, unit.stop) for ref in (base, child)))
    return found.total()


def _spectrum(reader: Reader, pairing: _Pairing) -> Spectrum | None:
    """The singular values of a pair of matrices."""
    child, base = pairing.child, pairing.base
    if pairing.status != "aligned" or child is None or base is None or len(base.shape) < 2:  # noqa: PLR2004
        return None
    return spectrum(reader.whole(base), reader.whole(child))


def _store(catalog: Catalog, pair: Pair, rows: _Rows) -> None:
    """Write all rows of a pair in one transaction, in place of older ones."""
    rows.columns.add([pair])
    with catalog.write() as transaction:
        refuse_lost(transaction, (pair.child, pair.base))
        for table in ("pair", "delta", "histogram", "spectrum"):
            transaction.execute(
                f"delete from store.{table} where child = ? and base = ?", [pair.child, pair.base]
            )
        rows.columns.insert(transaction, "replace")
        _store_histograms(transaction, rows)


def _store_histograms(transaction: Transaction, rows: _Rows) -> None:
    """Write the non-empty bins of all tensors that changed."""
    n = len(rows.histograms)
    lists = ("bins", "counts", "sums_abs", "sums_sq")
    transaction.insert_lists(
        "histogram",
        {
            "child": [rows.child] * n,
            "base": [rows.base] * n,
            "tensor": [name for name, _ in rows.histograms],
        },
        {name: [bins[i] for _, bins in rows.histograms] for i, name in enumerate(lists)},
    )


def _numbers(pairing: _Pairing, found: Accumulators | None) -> Row:
    """The row of one tensor name, but for its key; its numbers are null where nothing was compared."""
    new, old = pairing.child, pairing.base
    numbers = _renamed(found or Accumulators()) | _by_rank(found or Accumulators())
    if found is None:
        numbers = dict.fromkeys(numbers)
    return {
        "status": pairing.status,
        "layer": layer_of(pairing.name), "module": module_of(pairing.name),
        "child_dtype": new.dtype if new else None, "base_dtype": old.dtype if old else None,
        "child_shape": json.dumps(new.shape) if new else None,
        "base_shape": json.dumps(old.shape) if old else None, **numbers,
    }  # fmt: skip


def _renamed(found: Accumulators) -> Row:
    """Accumulators by column: SQL's own words get another name."""
    words = {"sum": "sum_delta", "min": "min_delta", "max": "max_delta"}
    return {words.get(name, name): value for name, value in found.as_row().items()}


def _by_rank(found: Accumulators) -> Row:
    """The statistics that only the histogram can tell."""
    return {k: v for k, v in derived(found).items() if k.startswith(_FROM_HISTOGRAM)}


def _fields(found: Spectrum) -> Row:
    """A spectrum by column."""
    return {name: getattr(found, name) for name in found.__dataclass_fields__}

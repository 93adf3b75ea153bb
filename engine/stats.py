"""The use case `stats`: what changed between a base and a child, tensor by tensor, in one streaming pass.

Tensors are paired by name. A vocabulary that grew or shrank is compared on the rows both have; tensors that only
one side has, that changed their shape, or that hold codes are reported as such. What was measured is stored and,
since ids are digests, never measured again.
"""

import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain

from engine.delta import BLOCK, Accumulators, accumulate, derived
from engine.reader import DTYPES, FLOATS, Reader
from engine.spectral import Spectrum, spectrum
from registry.catalog import Catalog, Columns, now
from registry.checkpoint import Checkpoint
from registry.database import Transaction
from registry.errors import NotMergeable
from registry.header import TensorRef
from registry.lineage import Lineage
from registry.progress import SILENT, Progress
from registry.records import Delta, Pair
from registry.records import Spectrum as SpectrumRow
from registry.tensor_name import has_vocabulary, layer_of, module_of

VERSION = "1"
"""Version of the arithmetic; a pair measured by another version is measured again."""

_CHUNK = 4 * BLOCK
_FROM_HISTOGRAM = ("abs_", "top")


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


def pairs(catalog: Catalog, children: Sequence[str] | None) -> list[tuple[str, str]]:
    """Every (child, base) pair worth measuring, by child.

    A model is compared with each parent it has by descent, with its base if it is a merge, and with the roots of
    its family; adapters and models whose files nobody has shown are left out.

    Args:
        catalog: knows the graph.
        children: ids; None: all models.
    """
    lineage = Lineage.load(catalog)
    whole = {
        row["id"]
        for row in catalog.rows(
            "select id from store.model where kind = 'model' and status <> 'latent'"
        )
    }
    roots = set(lineage.roots())
    found: dict[tuple[str, str], None] = {}
    for child in children if children is not None else lineage.nodes:
        direct = [e.parent for e in lineage.parents(child) if e.role != "model"]
        far = [m for m in lineage.ancestors(child) if m in roots]
        for base in (*direct, *far):
            if child in whole and base in whole and base != child:
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
    """
    known = catalog.rows(
        "select (select count(*) from store.spectrum s where s.child = p.child and s.base = p.base) as n "
        "from store.pair p where child = ? and base = ? and version = ?",
        [child, base, VERSION],
    )
    if known and (known[0]["n"] or not spectral):
        return Measured(child, base, reused=True, seconds=0.0)
    started = time.monotonic()
    new, old = catalog.checkpoint(child), catalog.checkpoint(base)
    pairings = _pair(new, old)
    comparable = [p for p in pairings if p.n or p.status in ("aligned", "cropped")]
    if not comparable:
        message = f"{catalog.name(child)} and {catalog.name(base)} have no tensor name in common"
        raise NotMergeable(message, hint="reg show MODEL lists the tensors of each")
    n_bytes = sum(_bytes(p) for p in comparable)
    progress.start("stats", n_bytes)
    spectra: dict[str, Spectrum] = {}
    with Reader() as reader, ThreadPoolExecutor(jobs or os.cpu_count() or 1) as pool:

        def work(pairing: _Pairing) -> Accumulators:
            found = _accumulate(reader, pairing)
            if spectral and (s := _spectrum(reader, pairing)):
                spectra[pairing.name] = s
            progress.advance(_bytes(pairing))
            return found

        results = dict(zip((p.name for p in comparable), pool.map(work, comparable), strict=True))
    seconds = time.monotonic() - started
    _store(catalog, (child, base), pairings, results, spectra, (n_bytes, seconds))
    return Measured(child, base, reused=False, seconds=seconds)


def _pair(child: Checkpoint, base: Checkpoint) -> list[_Pairing]:
    """Pair tensors by name, in order of names."""
    new, old = ({t.name: t for t in c.tensors} for c in (child, base))
    return [
        _pairing(name, new.get(name), old.get(name)) for name in sorted(new.keys() | old.keys())
    ]


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


def _bytes(pairing: _Pairing) -> int:
    """Bytes that are read of a pair of tensors."""
    sides = (side for side in (pairing.child, pairing.base) if side)
    return sum(pairing.n * DTYPES[side.dtype].itemsize for side in sides if pairing.n)


def _accumulate(reader: Reader, pairing: _Pairing) -> Accumulators:
    """One pass over a pair of tensors."""
    assert pairing.child and pairing.base  # noqa: S101, PT018 - only comparable ones come here
    total = Accumulators()
    for start in range(0, pairing.n, _CHUNK):
        stop = min(start + _CHUNK, pairing.n)
        old = reader.flat(pairing.base, start, stop)
        total += accumulate(old, reader.flat(pairing.child, start, stop))
    return total


def _spectrum(reader: Reader, pairing: _Pairing) -> Spectrum | None:
    """The singular values of a pair of matrices."""
    child, base = pairing.child, pairing.base
    if pairing.status != "aligned" or child is None or base is None or len(base.shape) < 2:  # noqa: PLR2004
        return None
    return spectrum(reader.whole(base), reader.whole(child))


def _store(
    catalog: Catalog,
    pair: tuple[str, str],
    pairings: Sequence[_Pairing],
    results: dict[str, Accumulators],
    spectra: dict[str, Spectrum],
    cost: tuple[int, float],
) -> None:
    """Write all rows of a pair in one transaction, in place of older ones."""
    child, base = pair
    count = {s: sum(p.status == s for p in pairings) for s in
             ("aligned", "cropped", "only_child", "only_base", "mismatched", "uncounted")}  # fmt: skip
    whole = sum(results.values(), Accumulators())
    columns = Columns()
    columns.add([
        Pair(
            child=child, base=base, version=VERSION, scope="full",
            **{f"n_{status}": n for status, n in count.items()},
            read_bytes=cost[0], seconds=cost[1], measured_at=now(), **_by_rank(whole),
        )
    ])  # fmt: skip
    columns.add(_row(child, base, p, results.get(p.name)) for p in pairings)
    columns.add(
        SpectrumRow(child=child, base=base, tensor=name, **_fields(s))
        for name, s in sorted(spectra.items())
    )
    with catalog.write() as transaction:
        for table in ("pair", "delta", "histogram", "spectrum"):
            transaction.execute(
                f"delete from store.{table} where child = ? and base = ?", [child, base]
            )
        columns.insert(transaction, "replace")
        _store_histograms(transaction, pair, results)


def _row(child: str, base: str, pairing: _Pairing, found: Accumulators | None) -> Delta:
    """The row of one tensor name; its numbers are null where nothing was compared."""
    new, old = pairing.child, pairing.base
    numbers = _renamed(found or Accumulators()) | _by_rank(found or Accumulators())
    if found is None:
        numbers = dict.fromkeys(numbers)
    return Delta(
        child=child, base=base, tensor=pairing.name, status=pairing.status,
        layer=layer_of(pairing.name), module=module_of(pairing.name),
        child_dtype=new.dtype if new else None, base_dtype=old.dtype if old else None,
        child_shape=json.dumps(new.shape) if new else None,
        base_shape=json.dumps(old.shape) if old else None, **numbers,
    )  # fmt: skip


def _renamed(found: Accumulators) -> dict[str, float | int | None]:
    """Accumulators by column: SQL's own words get another name."""
    words = {"sum": "sum_delta", "min": "min_delta", "max": "max_delta"}
    return {words.get(name, name): value for name, value in found.as_row().items()}


def _by_rank(found: Accumulators) -> dict[str, float | int | None]:
    """The statistics that only the histogram can tell."""
    return {k: v for k, v in derived(found).items() if k.startswith(_FROM_HISTOGRAM)}


def _fields(found: Spectrum) -> dict[str, float | int | str | None]:
    """A spectrum by column."""
    return {name: getattr(found, name) for name in found.__dataclass_fields__}


def _store_histograms(
    transaction: Transaction, pair: tuple[str, str], results: dict[str, Accumulators]
) -> None:
    """Write the non-empty bins of every tensor as columns."""
    parts = [(name, found.histogram_rows()) for name, found in results.items()]

    def joined(i: int) -> list[float]:
        return list(chain.from_iterable(rows[i].tolist() for _, rows in parts))

    n = sum(len(rows[0]) for _, rows in parts)
    transaction.insert(
        "histogram",
        {
            "child": [pair[0]] * n,
            "base": [pair[1]] * n,
            "tensor": list(chain.from_iterable([name] * len(rows[0]) for name, rows in parts)),
            "bin": joined(0),
            "n": joined(1),
            "sum_abs": joined(2),
            "sum_sq": joined(3),
        },
        "replace",
    )

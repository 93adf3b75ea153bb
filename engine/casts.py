"""Exact relations found by arithmetic: a model that is another one in a coarser dtype.

Copies need no search, they have one digest. A cast does: every tensor of the finer model, rounded to the coarser
dtype, must give the coarser model's bytes. Only models of one signature and different dtypes are compared: first
by a digest of the beginnings of their tensors, then whole.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from engine.reader import DTYPES, FLOATS, Reader
from registry.catalog import Catalog, Columns, now
from registry.checkpoint import Checkpoint
from registry.errors import BadAddress, FileChanged
from registry.fingerprint import digest_text
from registry.records import Edge, Evidence

_CHUNK = 1 << 22
_PROBE = 64
_VERSION = "1"


@dataclass(frozen=True)
class _Model:
    """A model whose files are at hand; ``probes``: dtype → digest of the beginnings of its tensors in it."""

    id: str
    dtype: str
    checkpoint: Checkpoint
    probes: dict[str, str]


def record_casts(catalog: Catalog, models: Sequence[str]) -> int:
    """Find the casts among ``models`` and all others of their signature; record an edge for each.

    Args:
        catalog: where they are.
        models: ids of models that may be new; pairs without one of them are not looked at.

    Returns:
        Number of casts found.
    """
    columns = Columns()
    n_found = 0
    for finer, coarser in _candidates(catalog, set(models)):
        if not is_cast(finer.checkpoint, coarser.checkpoint):
            continue
        n_found += 1
        columns.add([
            Edge(
                child=coarser.id, parent=finer.id, relation="cast", role="parent", status="measured",
                coefficient=None, confidence=1.0, run_id=None, created_at=now(),
            ),
            Evidence(
                id=digest_text(f"cast\0{coarser.id}\0{finer.id}"), child=coarser.id, parent=finer.id,
                relation="cast", status="measured", method="cast", version=_VERSION,
                statistic="equal_share", value=1.0, scope="full",
                detail="every tensor equals the parent's after rounding to its dtype",
            ),
        ])  # fmt: skip
    if n_found:
        with catalog.write() as transaction:
            columns.insert(transaction, "replace")
    return n_found


def is_cast(finer: Checkpoint, coarser: Checkpoint) -> bool:
    """Tell whether ``coarser`` is ``finer`` rounded to its dtypes, tensor by tensor, bit by bit."""
    fine = {t.name: t for t in finer.tensors}
    if fine.keys() != {t.name for t in coarser.tensors}:
        return False
    with Reader() as reader:
        for b in sorted(coarser.tensors, key=lambda t: (t.n_bytes, t.name)):
            a = fine[b.name]
            if a.shape != b.shape or a.dtype not in DTYPES or b.dtype not in DTYPES:
                return False
            for start in range(0, b.n_params, _CHUNK):
                stop = min(start + _CHUNK, b.n_params)
                rounded = reader.flat(a, start, stop).to(DTYPES[b.dtype])
                if not torch.equal(
                    rounded.view(torch.uint8), reader.flat(b, start, stop).view(torch.uint8)
                ):
                    return False
    return True


def _candidates(catalog: Catalog, models: set[str]) -> Iterator[tuple[_Model, _Model]]:
    """(finer, coarser) pairs whose tensors begin alike, each with one of ``models``."""
    rows = catalog.rows(
        "select id, signature, dtype from store.model where status = 'full' and kind = 'model' "
        "and signature in (select signature from store.model where id in (select store.each(?)) "
        "group by signature) order by id",
        [sorted(models)],
    )
    known = {
        (r["parent"], r["child"])
        for r in catalog.rows("select parent, child from store.edge where relation = 'cast'")
    }
    groups: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for row in rows:
        if row["dtype"] in FLOATS:
            groups[row["signature"]].append((row["id"], row["dtype"]))
    for group in groups.values():
        dtypes = {dtype for _, dtype in group}
        if len(dtypes) == 1:
            continue
        shown = [model for id_, dtype in group for model in _read(catalog, id_, dtype, dtypes)]
        begins: dict[str, list[_Model]] = defaultdict(list)
        for model in shown:
            begins[model.probes[model.dtype]].append(model)
        for finer in shown:
            for dtype, probe in sorted(finer.probes.items()):
                for coarser in begins[probe] if dtype != finer.dtype else ():
                    new = models & {finer.id, coarser.id}
                    if coarser.dtype == dtype and new and (finer.id, coarser.id) not in known:
                        yield finer, coarser


def _read(catalog: Catalog, model: str, dtype: str, dtypes: set[str]) -> list[_Model]:
    """A model with the digests of its beginnings in its own and every coarser dtype; none if its files are gone."""
    try:
        checkpoint = catalog.checkpoint(model)
    except (BadAddress, FileChanged):
        return []
    wanted = {d for d in dtypes if FLOATS.index(d) >= FLOATS.index(dtype)}
    with Reader() as reader:
        starts = [
            reader.flat(t, 0, min(_PROBE, t.n_params))
            for t in checkpoint.tensors
            if t.dtype in FLOATS
        ]
    probes = {
        d: digest_text(
            "".join(s.to(DTYPES[d]).view(torch.uint8).numpy().tobytes().hex() for s in starts)
        )
        for d in wanted
    }
    return [_Model(model, dtype, checkpoint, probes)]

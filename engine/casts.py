"""Exact relations found by arithmetic: a model that is another one in a coarser dtype.

Copies need no search, they have one digest. A cast does: every tensor of the finer model, rounded to the coarser
dtype, must give the coarser model's bytes. Only models of one signature and different dtypes are compared: first
by a digest of the beginnings, middles and ends of their tensors, then whole. The edge runs from the finer model to the
coarser one; whether the finer was made from the coarser, by filling up with zeros, no arithmetic can tell.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from engine.reader import DTYPES, FLOATS, Reader
from registry.catalog import Catalog, Columns, now
from registry.checkpoint import Checkpoint
from registry.errors import BadAddress, CorruptCheckpoint, RunError, Unreadable
from registry.fingerprint import digest_text
from registry.records import Edge, Evidence

_CHUNK = 1 << 22
_PROBE = 64
_VERSION = "1"


@dataclass(frozen=True)
class _Model:
    """A model whose files are at hand; ``probes``: dtype → digest of a sample of its tensors in it."""

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
        try:
            found = is_cast(finer.checkpoint, coarser.checkpoint)
        except RunError:  # a file that changed or cannot be read: nothing is known of this pair
            found = False
        if not found:
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
    """(finer, coarser) pairs whose samples are alike, each with one of ``models``."""
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
        alike: dict[str, list[_Model]] = defaultdict(list)
        for model in shown:
            alike[model.probes[model.dtype]].append(model)
        for finer in shown:
            for dtype, probe in sorted(finer.probes.items()):
                for coarser in alike[probe] if dtype != finer.dtype else ():
                    new = models & {finer.id, coarser.id}
                    if coarser.dtype == dtype and new and (finer.id, coarser.id) not in known:
                        yield finer, coarser


def _read(catalog: Catalog, model: str, dtype: str, dtypes: set[str]) -> list[_Model]:
    """A model with digests of a sample in its own and every coarser dtype; none if its files cannot be read."""
    wanted = {d for d in dtypes if FLOATS.index(d) >= FLOATS.index(dtype)}
    try:
        checkpoint = catalog.checkpoint(model)
        with Reader() as reader:
            samples = [
                reader.flat(t, start, min(start + _PROBE, t.n_params))
                for t in checkpoint.tensors
                if t.dtype in FLOATS
                for start in _places(t.n_params)
            ]
    except (BadAddress, CorruptCheckpoint, RunError, Unreadable):
        return []
    probes = {
        d: digest_text(
            "".join(s.to(DTYPES[d]).view(torch.uint8).numpy().tobytes().hex() for s in samples)
        )
        for d in wanted
    }
    return [_Model(model, dtype, checkpoint, probes)]


def _places(n: int) -> list[int]:
    """Where samples of a tensor of ``n`` elements begin: at its beginning, its middle and near its end."""
    return sorted({0, n // 2, max(0, n - _PROBE)})

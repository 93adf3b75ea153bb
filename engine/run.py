"""Runs: a plan carried out, within a memory budget, by as many threads as there are cores.

The work is cut into units: a slice of an element-wise step, or a whole tensor. Each unit reads its slices,
computes in float32, casts once and writes where its bytes belong; units share nothing, so their order, their
size and the number of threads cannot change a byte. What the result changed against its reference is summed on
the way, unit by unit of a tensor and tensor by tensor in the plan's order. A tensor is digested by the thread that
finishes it, while the others go on, and noted in a journal, so that a run that was stopped can be resumed. A method
that surveys the whole model does so before the first unit.
"""

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engine.arithmetic import merged, rounded
from engine.edits import EditError, edit_error
from engine.journal import Journal
from engine.parent import refuse_change
from engine.plan import CHUNK, Plan, TensorStep
from engine.reader import FLOATS, Reader
from engine.source import Source, finite, load
from engine.survey import survey
from engine.tally import Tally
from engine.threads import in_order
from engine.writer import SHARD_BYTES, OutputTensor, Writer, shards_of
from registry.errors import NonFinite
from registry.header import TensorRef
from registry.progress import SILENT, Progress

MEMORY_BYTES = 512 << 20
"""Memory for tensors at any moment, by default."""

_COPIED_BYTES = 1 << 20
"""Bytes copied at once of tensors that hold no weights."""


@dataclass(frozen=True)
class Change:
    """How far a result is from its reference, after the cast to the output's dtype.

    Weights only: tensors of whole numbers and the like count in nothing.

    Attributes:
        n: elements compared.
        n_changed: elements that differ from the reference's.
        n_lost: elements that the merge changed, and that are the reference's again after rounding.
        sum_sq: Σ δ², float64.
        base_sum_sq: Σ W0², float64.
        max_abs: largest magnitude of δ.
        edit: by a method that edits one model, how far its task vector is from what it was; of a method on weights, its
            weights.
    """

    n: int = 0
    n_changed: int = 0
    n_lost: int = 0
    sum_sq: float = 0.0
    base_sum_sq: float = 0.0
    max_abs: float = 0.0
    edit: EditError = field(default_factory=EditError)

    def __add__(self, other: "Change") -> "Change":
        return Change(
            self.n + other.n,
            self.n_changed + other.n_changed,
            self.n_lost + other.n_lost,
            self.sum_sq + other.sum_sq,
            self.base_sum_sq + other.base_sum_sq,
            max(self.max_abs, other.max_abs),
            self.edit + other.edit,
        )

    @property
    def relative_l2(self) -> float:
        """‖δ‖ / ‖W0‖; 0 for a zero reference."""
        return math.sqrt(self.sum_sq / self.base_sum_sq) if self.base_sum_sq else 0.0


@dataclass(frozen=True)
class Outcome:
    """What a run found out beside the weights.

    Attributes:
        change: against the reference; None for an adapter, which has none.
        state: what the method must know to go on merging into the result, name → number; None for most methods.
        notes: further findings, in words.
        measured: lines of the card: what, value.
        write_bytes: of tensors, where they are not those of the plan.
        digests: tensor name → digest of what was written; {} where nobody has looked.
        n_resumed: tensors that an earlier run had finished.
    """

    change: Change | None
    state: dict[str, float] | None = None
    notes: tuple[str, ...] = ()
    measured: tuple[tuple[str, str], ...] = ()
    write_bytes: int | None = None
    digests: Mapping[str, str] = field(default_factory=dict)
    n_resumed: int = 0


@dataclass(frozen=True)
class _Unit:
    """Elements [start, stop) of one step; of a step that copies what holds no weights, bytes."""

    step: TensorStep
    start: int
    stop: int
    size: int

    @property
    def io_bytes(self) -> int:
        """Bytes read and written; those of all units of a step add up to the step's."""
        total = self.step.read_bytes + self.step.write_bytes
        return total * self.stop // max(1, self.size) - total * self.start // max(1, self.size)


def run_plan(
    plan: Plan,
    folder: Path,
    *,
    metadata: dict[str, str],
    shard_bytes: int = SHARD_BYTES,
    jobs: int | None = None,
    memory_bytes: int = MEMORY_BYTES,
    chunk: int | None = None,
    progress: Progress = SILENT,
    journal: Journal | None = None,
) -> "Outcome":
    """Write the shards of a plan's result into ``folder``, which must exist and hold none, or a journal's.

    Laws: the bytes and the outcome depend on the plan, ``metadata`` and ``shard_bytes`` alone, wherever and however
    often the run was stopped; an error leaves no shard, unless there is a journal, whose owner decides; it is the same
    one for any number of threads.

    Args:
        plan: what to do.
        folder: where the shards go.
        metadata: of every shard.
        shard_bytes: largest shard, bytes of tensors.
        jobs: threads; None: one per core.
        memory_bytes: for tensors; a single unit of work may take more, `Plan.unit_bytes` says how much.
        chunk: elements of a slice; None: the plan's.
        progress: told of every byte read or written.
        journal: of ``folder``: says what is finished, and is told; None: the run cannot be resumed.

    Raises:
        NonFinite: NaN or infinity in a parent's tensor or in the result.
        NotEnoughDisk: the output does not fit.
        FileChanged: a parent's files are not those that were planned with.
    """
    jobs = jobs or os.cpu_count() or 1
    outputs = [OutputTensor(s.name, s.dtype, s.shape, s.write_bytes) for s in plan.steps]
    shards, resumable = shards_of(outputs, shard_bytes), journal is not None
    with (
        _one_thread_each(),
        Reader() as reader,
        Writer(folder, shards, metadata, resumable=resumable) as writer,
    ):
        tally = Tally(writer, journal, Change())
        n_resumed = tally.resume(jobs, progress)
        steps = [step for step in plan.steps if step.name not in tally.sums]
        progress.start("merge", sum(step.read_bytes + step.write_bytes for step in steps))
        whole = survey(plan, reader, jobs=jobs, memory_bytes=memory_bytes)

        def work(unit: _Unit) -> None:
            change = _do(plan, unit, reader, writer, whole)
            progress.advance(unit.io_bytes)
            tally.add(unit.step.name, (unit.start, unit.stop), unit.size, change)

        units = in_order(
            work,
            (unit for step in steps for unit in _units(plan, step, chunk)),
            jobs=jobs,
            needs=lambda unit: plan.unit_bytes(unit.step, chunk),
            memory_bytes=memory_bytes,
        )
        with closing(units):
            for _ in units:
                pass
        refuse_change(plan.parents)
        writer.finish()
        state = whole if isinstance(whole, dict) else None
        digests = tally.all_digests(jobs)
    return Outcome(tally.total(), state, digests=digests, n_resumed=n_resumed)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Let torch use no threads of its own in the block: ours keep the cores busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _units(plan: Plan, step: TensorStep, chunk: int | None) -> Iterator[_Unit]:
    """Cut a step into units."""
    size, length = step.n_params, plan.slice_elements(step, chunk)
    if _is_opaque(step):
        size, length = step.write_bytes, _COPIED_BYTES
    for start in range(0, size, max(1, length)):
        yield _Unit(step, start, min(start + length, size), size)


def _is_opaque(step: TensorStep) -> bool:
    """Tell whether a step copies bytes that are no weights."""
    return step.action == "copy" and step.dtype not in FLOATS


def _do(plan: Plan, unit: _Unit, reader: Reader, writer: Writer, whole: Any) -> Change:
    """Carry out one unit."""
    step = unit.step
    if _is_opaque(step):
        data = reader.bytes(_stored(step.sources[0]), unit.start, unit.stop)
        writer.write(step.name, unit.start, data.numpy().data)
        return Change()

    def read(source: Source) -> torch.Tensor:
        if plan.is_whole(step):
            return load(reader, source)
        ref = _stored(source)
        return finite(ref, reader.flat(ref, unit.start, unit.stop))

    if step.action == "copy":
        ref = _stored(step.sources[0])
        out = reader.flat(ref, unit.start, unit.stop)
        reference = result = finite(ref, out)
    else:
        reference, result = merged(plan, step, read, start=unit.start, whole=whole)
        out = rounded(plan, step, result, unit.start)
    change = _change(reference, result, out)
    if plan.recipe.method.makes == "edit" and step.action != "copy":
        before, after = read(step.sources[0]).reshape(-1), out.float()
        if step.base is not None:
            before, after = before.sub_(reference), after.sub(reference)
        change = replace(change, edit=edit_error(before, after))
    if not math.isfinite(change.sum_sq):
        message = f"{plan.recipe.method.name} makes tensor {step.name} not finite in {step.dtype}"
        raise NonFinite(message, hint="choose out_dtype: float32, or smaller weights")
    writer.write(step.name, unit.start * out.element_size(), out.view(torch.uint8).numpy().data)
    return change


def _stored(source: Source) -> TensorRef:
    """A source that is stored, as those of copies and of slices are."""
    if not isinstance(source, TensorRef):
        message = f"{source.name} is computed and has no slices"
        raise TypeError(message)
    return source


def _change(reference: torch.Tensor, result: torch.Tensor, out: torch.Tensor) -> Change:
    """Compare flat slices of the result, as merged and as rounded, and its reference; not finite where it is not."""
    total = Change()
    for start in range(0, len(out), CHUNK):  # float64 copies of a whole tensor would be its largest
        block = slice(start, start + CHUNK)
        delta = out[block].to(torch.float64, copy=True).sub_(reference[block])
        low, high = torch.aminmax(delta)
        sum_sq = float(torch.dot(delta, delta))
        n_changed = int(np.count_nonzero(delta.numpy() != 0))
        n_lost = 0
        if result is not reference and out.dtype != torch.float32:
            n_lost = int(
                np.count_nonzero(
                    (result[block].numpy() != reference[block].numpy()) & (delta.numpy() == 0)
                )
            )
        before = delta.copy_(reference[block])
        total += Change(
            n=len(delta),
            n_changed=n_changed,
            n_lost=n_lost,
            sum_sq=sum_sq,
            base_sum_sq=float(torch.dot(before, before)),
            max_abs=max(-float(low), float(high)),
        )
    return total

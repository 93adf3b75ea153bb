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
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch

from engine.arithmetic import applied, merged, rounded, seen_slice
from engine.change import Change, closed, compared, ending
from engine.compiler import keep_memory
from engine.device import applied_on
from engine.direct import buffer_bytes
from engine.edits import EditError, edit_error
from engine.journal import Journal
from engine.kernels import Closing, finish
from engine.method import Seen
from engine.parent import refuse_change
from engine.plan import MEMORY_BYTES, Plan, TensorStep
from engine.reader import DTYPES, FLOATS, Reader
from engine.slices import Slices
from engine.source import finite, load, stored
from engine.survey import survey, survey_tensor
from engine.tally import Tally
from engine.threads import in_order
from engine.writer import SHARD_BYTES, OutputTensor, Writer, shards_of
from registry.errors import NonFinite
from registry.progress import SILENT, Progress

_COPIED_BYTES = 1 << 20
"""Bytes copied at once of tensors that hold no weights."""


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
    device: torch.device | None = None,
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
        chunk: elements of a slice; None: as many as the memory allows.
        device: merges the slices of portable steps; None: the processor does.
        progress: told of every byte read or written.
        journal: of ``folder``: says what is finished, and is told; None: the run cannot be resumed.

    Raises:
        NonFinite: NaN or infinity in a parent's tensor or in the result.
        NotEnoughDisk: the output does not fit.
        NotEnoughMemory: of the device.
        FileChanged: a parent's files are not those that were planned with.
    """
    if not any(plan.is_whole(step) for step in plan.steps):
        keep_memory()
    jobs = jobs or os.cpu_count() or 1
    chunk = chunk or plan.chunk_within(memory_bytes, jobs)
    outputs = [OutputTensor(s.name, s.dtype, s.shape, s.write_bytes) for s in plan.steps]
    shards, resumable = shards_of(outputs, shard_bytes), journal is not None
    with (
        _one_thread_each(),
        Reader(pinned=device is not None and device.type == "cuda") as reader,
        Writer(
            folder, shards, metadata, resumable=resumable, memory_bytes=buffer_bytes(memory_bytes)
        ) as writer,
    ):
        tally = Tally(writer, journal, Change())
        n_resumed = tally.resume(jobs, progress)
        steps = [step for step in plan.steps if step.name not in tally.sums]
        progress.start("merge", sum(step.read_bytes + step.write_bytes for step in steps))
        whole = survey(plan, reader, jobs=jobs, memory_bytes=memory_bytes, chunk=chunk)
        doing = _Work(plan, reader, chunk, whole, device, tally)

        def work(unit: _Unit) -> None:
            change = doing.do(unit)
            progress.advance(unit.io_bytes)
            tally.add(unit.step.name, (unit.start, unit.stop), unit.size, change)

        units = in_order(
            work, (unit for step in steps for unit in _units(plan, step, chunk)), jobs=jobs,
            needs=lambda unit: plan.unit_bytes(unit.step, chunk), memory_bytes=plan.unit_room(memory_bytes),
        )  # fmt: skip
        with closing(units):
            for _ in units:
                pass
        refuse_change(plan.parents)
        writer.finish()
        state = whole if plan.recipe.method.keeps_state else None
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


def _units(plan: Plan, step: TensorStep, chunk: int) -> Iterator[_Unit]:
    """Cut a step into units; a tensor that is surveyed for itself is one."""
    size = step.n_params
    if _is_opaque(step):
        size = step.write_bytes
        places = [
            (start, min(start + _COPIED_BYTES, size)) for start in range(0, size, _COPIED_BYTES)
        ]
    elif plan.surveys(step) == "tensor" and size:
        places = [(0, size)]
    else:
        places = plan.slices(step, chunk)
    for start, stop in places:
        yield _Unit(step, start, stop, size)


def _is_opaque(step: TensorStep) -> bool:
    """Tell whether a step copies bytes that are no weights."""
    return step.action == "copy" and step.dtype not in FLOATS


def results(
    plan: Plan, reader: Reader, steps: Iterable[TensorStep], *, memory_bytes: int = MEMORY_BYTES
) -> Iterator[tuple[TensorStep, int, torch.Tensor]]:
    """What some steps of a plan make, to look at: nothing is written.

    Args:
        plan: decides.
        reader: of the parents' files.
        steps: of the plan, those that hold weights.
        memory_bytes: for a survey of the whole model.

    Yields:
        A step, the flat index of a slice's first entry, and the slice in the output's dtype, flat; in order.

    Raises:
        NonFinite, FileChanged: as `run_plan`.
    """
    jobs = os.cpu_count() or 1
    chunk = plan.chunk_within(memory_bytes, jobs)
    with _one_thread_each():
        whole = survey(plan, reader, jobs=jobs, memory_bytes=memory_bytes, chunk=chunk)
        making = _Making(plan, reader, chunk, whole, None)
        for step in steps:
            for unit in _units(plan, step, chunk):
                for start, out, _ in making.made(unit):
                    yield step, start, out


@dataclass(frozen=True)
class _Making:
    """What all units of a run share: see `run_plan`, and what the survey found."""

    plan: Plan
    reader: Reader
    chunk: int
    whole: Any
    device: torch.device | None

    def made(self, unit: _Unit) -> Iterator[tuple[int, torch.Tensor, Change]]:
        """Slices of a unit that holds weights: flat index of the first entry, result, how far it is from its reference."""
        plan, step = self.plan, unit.step
        whole, places = self.whole, [(unit.start, unit.stop)]
        if plan.surveys(step) == "tensor":
            whole = survey_tensor(plan, step, self.reader, self.chunk)
            places = plan.slices(step, self.chunk)
        for place in places:
            out, change = self._made(step, place, whole)
            if not math.isfinite(change.sum_sq):
                message = (
                    f"{plan.recipe.method.name} makes tensor {step.name} not finite in {step.dtype}"
                )
                raise NonFinite(message, hint="choose out_dtype: float32, or smaller weights")
            yield place[0], out, change

    def _made(
        self, step: TensorStep, place: tuple[int, int], whole: Any
    ) -> tuple[torch.Tensor, Change]:
        """A slice of a result in the output's dtype, or a whole tensor, flat, and how far it is from its reference."""
        plan, reader, (start, stop) = self.plan, self.reader, place
        if step.action == "copy":
            ref = stored(step.sources[0])
            out = reader.flat(ref, start, stop)
            reference = finite(ref, out)
            return out, compared(reference, reference, out)
        if plan.is_whole(step):
            reference, result = merged(
                plan, step, lambda source: load(reader, source), start=start, whole=whole
            )
            out = rounded(plan, step, result, start)
            change = compared(reference, result, out)
            if plan.recipe.method.makes == "edit":
                edit = _edit(step, load(reader, step.sources[0]), reference, out)
                change = replace(change, edit=edit)
            return out, change
        inputs = seen_slice(plan, step, reader, start, stop)
        if self.device is not None and plan.is_portable(step):
            result = applied_on(self.device, plan, step, inputs, whole)
            return _finished(plan, step, inputs, result, _end(plan, step, inputs))
        end = _end(plan, step, inputs)
        cast("Slices", inputs.models).closing = end if plan.recipe.method.ends_in_sum else None
        return _finished(plan, step, inputs, applied(plan, step, inputs, whole), end)


@dataclass(frozen=True)
class _Work(_Making):
    """The same, and where results go."""

    tally: Tally[Change]

    def do(self, unit: _Unit) -> Change:
        """Carry out one unit."""
        name = unit.step.name
        if _is_opaque(unit.step):
            data = self.reader.bytes(stored(unit.step.sources[0]), unit.start, unit.stop)
            self.tally.write(name, unit.start, data.numpy().data)
            return Change()
        total = Change()
        for start, out, change in self.made(unit):
            self.tally.write(name, start * out.element_size(), out.view(torch.uint8).numpy().data)
            total += change
        return total


def _end(plan: Plan, step: TensorStep, inputs: Seen) -> Closing | None:
    """What becomes of the result of a slice; None where kernels cannot do it."""
    if plan.recipe.rounding != "nearest":
        return None
    origin = cast("Slices", inputs.models).part_of_origin
    return ending(origin, DTYPES[step.dtype], add=plan.recipe.method.space == "delta")


def _finished(
    plan: Plan, step: TensorStep, inputs: Seen, result: torch.Tensor, end: Closing | None
) -> tuple[torch.Tensor, Change]:
    """A slice of a result, with the base, rounded and compared."""
    models = cast("Slices", inputs.models)
    if end is not None and (models.is_closed(result) or finish(result, end)):
        made = closed(end)
    else:
        before, flat = models.origin.float(), result.reshape(-1)
        if plan.recipe.method.space == "delta":
            flat.add_(before)
        out = rounded(plan, step, flat, inputs.start)
        made = out, compared(before, flat, out)
    if plan.recipe.method.makes == "edit":
        whole = models.stored[0].float()
        edit = _edit(step, whole, models.origin.float(), made[0])
        return made[0], replace(made[1], edit=edit)
    return made


def _edit(
    step: TensorStep, model: torch.Tensor, reference: torch.Tensor, out: torch.Tensor
) -> EditError:
    """How far an edited model is from what it was; of task vectors, where there is a base."""
    before, after = model.reshape(-1), out.float()
    if step.base is not None:
        before, after = before - reference, after - reference
    return edit_error(before, after)

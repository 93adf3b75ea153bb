"""Runs: a plan carried out, within a memory budget, by as many threads as there are cores.

The work is cut into units: a slice of an element-wise step, or a whole tensor. Each unit reads its slices,
computes in float32, casts once and writes where its bytes belong; units share nothing, so their order, their
size and the number of threads cannot change a byte. What the result changed against its reference is summed on
the way, unit by unit in the plan's order.
"""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Condition

import torch

from engine.draws import Draws
from engine.method import CONTEXT
from engine.plan import CHUNK, Plan, TensorStep
from engine.reader import DTYPES, Reader
from engine.recipe import Value
from engine.writer import SHARD_BYTES, OutputTensor, Writer, shards_of
from registry.errors import NonFinite
from registry.header import TensorRef
from registry.progress import SILENT, Progress

MEMORY_BYTES = 512 << 20
"""Memory for tensors at any moment, by default."""


@dataclass(frozen=True)
class Change:
    """How far a result is from its reference, after the cast to the output's dtype.

    Attributes:
        n: elements compared.
        n_changed: elements that differ from the reference's.
        sum_sq: Σ δ², float64.
        base_sum_sq: Σ W0², float64.
        max_abs: largest \\|δ\\|.
    """

    n: int = 0
    n_changed: int = 0
    sum_sq: float = 0.0
    base_sum_sq: float = 0.0
    max_abs: float = 0.0

    def __add__(self, other: "Change") -> "Change":
        return Change(
            self.n + other.n,
            self.n_changed + other.n_changed,
            self.sum_sq + other.sum_sq,
            self.base_sum_sq + other.base_sum_sq,
            max(self.max_abs, other.max_abs),
        )

    @property
    def relative_l2(self) -> float:
        """‖δ‖ / ‖W0‖; 0 for a zero reference."""
        return math.sqrt(self.sum_sq / self.base_sum_sq) if self.base_sum_sq else 0.0


@dataclass(frozen=True)
class _Unit:
    """Elements [start, stop) of one step."""

    step: TensorStep
    start: int
    stop: int


class _Budget:
    """Lets a unit begin when the memory it needs is free; one unit may always run."""

    def __init__(self, n_bytes: int) -> None:
        self._free = self._all = n_bytes
        self._changed = Condition()

    @contextmanager
    def take(self, n_bytes: int) -> Iterator[None]:
        """Hold ``n_bytes`` for the block."""
        taken = min(n_bytes, self._all)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= taken)
            self._free -= taken
        try:
            yield
        finally:
            with self._changed:
                self._free += taken
                self._changed.notify_all()


def run_plan(
    plan: Plan,
    folder: Path,
    *,
    metadata: dict[str, str],
    shard_bytes: int = SHARD_BYTES,
    jobs: int | None = None,
    memory_bytes: int = MEMORY_BYTES,
    chunk: int = CHUNK,
    progress: Progress = SILENT,
) -> Change:
    """Write the shards of a plan's result into ``folder``, which must exist and be empty.

    Law: the bytes depend on the plan, ``metadata`` and ``shard_bytes`` alone.

    Raises:
        NonFinite: NaN or infinity in a parent's tensor or in the result.
        NotEnoughDisk: the output does not fit.
        FileChanged: a parent's file ended early.
    """
    units = [unit for step in plan.steps for unit in _units(plan, step, chunk)]
    outputs = [OutputTensor(s.name, s.dtype, s.shape, s.write_bytes) for s in plan.steps]
    budget = _Budget(memory_bytes)
    progress.start("merge", plan.read_bytes + plan.write_bytes)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with (
            Reader() as reader,
            Writer(folder, shards_of(outputs, shard_bytes), metadata) as writer,
        ):

            def work(unit: _Unit) -> Change:
                with budget.take(plan.unit_bytes(unit.step)):
                    change = _do(plan, unit, reader, writer)
                share = (unit.stop - unit.start) / max(1, unit.step.n_params)
                progress.advance(round((unit.step.read_bytes + unit.step.write_bytes) * share))
                return change

            changes = _in_order(work, units, jobs or os.cpu_count() or 1)
            writer.finish()
    finally:
        torch.set_num_threads(threads)
    return sum(changes, Change())


def _in_order(work: Callable[[_Unit], Change], units: Sequence[_Unit], jobs: int) -> list[Change]:
    """Results of all units in the order of the units; the first error stops the rest."""
    with ThreadPoolExecutor(jobs) as pool:
        futures: list[Future[Change]] = [pool.submit(work, unit) for unit in units]
        try:
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            for future in futures:
                if future in done:
                    future.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
        return [future.result() for future in futures]


def _units(plan: Plan, step: TensorStep, chunk: int) -> list[_Unit]:
    """Cut a step into units."""
    if step.action == "merge" and plan.recipe.method.scope == "tensor":
        return [_Unit(step, 0, step.n_params)]
    starts = range(0, max(1, step.n_params), chunk)
    return [_Unit(step, start, min(start + chunk, step.n_params)) for start in starts]


def _do(plan: Plan, unit: _Unit, reader: Reader, writer: Writer) -> Change:
    """Carry out one unit."""
    step = unit.step
    if step.action == "copy":
        source = step.sources[0]
        size = source.n_bytes // max(1, source.n_params) if source.n_params else 0
        if unit.stop > unit.start:
            data = reader.bytes(source, unit.start * size, unit.stop * size)
            writer.write(step.name, unit.start * size, memoryview(data))
        return Change()
    sources = [_finite(reader, ref, unit) for ref in step.sources]
    base = _finite(reader, step.base, unit) if step.base else None
    reference = base if base is not None else sources[0]
    result = _compute(plan, unit, base, sources)
    out = result.to(DTYPES[step.dtype]).reshape(-1)
    if not torch.isfinite(out).all():
        message = f"the merged tensor {step.name} is not finite in {step.dtype}"
        raise NonFinite(message, hint="choose out_dtype: float32, or smaller weights")
    if out.numel():
        data = memoryview(out.view(torch.uint8).numpy())
        writer.write(step.name, unit.start * out.element_size(), data)
    return _change(reference.reshape(-1), out)


def _compute(
    plan: Plan, unit: _Unit, base: torch.Tensor | None, sources: list[torch.Tensor]
) -> torch.Tensor:
    """Call the method on one unit: flat slices for element-wise methods, the true shape for others."""
    method, step = plan.recipe.method, unit.step
    if method.scope == "tensor":
        sources = [s.reshape(step.shape) for s in sources]
        base = None if base is None else base.reshape(step.shape)
    keywords: dict[str, object] = {
        p.keyword: _value(plan.recipe.values[p.name]) for p in method.parameters
    }
    available = dict(
        zip(
            CONTEXT,
            (base, step.name, Draws(plan.recipe.seed, step.name, _keys(plan), unit.start)),
            strict=True,
        )
    )
    keywords |= {name: available[name] for name in method.context}
    if method.space == "weight":
        return method.function(sources, **keywords)
    assert base is not None  # noqa: S101 - `pin` refuses a delta method without a base
    deltas = [source.sub_(base) for source in sources]
    return base + method.function(deltas, **keywords)


def _keys(plan: Plan) -> tuple[str, ...]:
    """A key per model for random draws: its id, and for one listed again, which time it is."""
    ids = plan.recipe.models
    return tuple(f"{model}#{ids[:i].count(model)}" for i, model in enumerate(ids))


def _value(value: Value | tuple[float, ...]) -> Value | list[float]:
    """A parameter as methods take it."""
    return list(value) if isinstance(value, tuple) else value


def _finite(reader: Reader, ref: TensorRef, unit: _Unit) -> torch.Tensor:
    """A slice in float32, refused if any of it is not finite."""
    values = reader.flat(ref, unit.start, unit.stop).to(torch.float32)
    if not torch.isfinite(values).all():
        message = f"tensor {ref.name} of {ref.file} holds NaN or infinity"
        raise NonFinite(message, hint="reg stats counts them; merge without this model")
    return values


def _change(reference: torch.Tensor, out: torch.Tensor) -> Change:
    """Compare a slice of the result with its reference."""
    if not out.numel():
        return Change()
    delta = out.to(torch.float64).sub_(reference)
    return Change(
        n=delta.numel(),
        n_changed=int(torch.count_nonzero(delta)),
        sum_sq=float(delta.square().sum()),
        base_sum_sq=float(reference.to(torch.float64).square().sum()),
        max_abs=float(delta.abs().max()),
    )

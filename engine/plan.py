"""Plans: every decision of a merge, made before the first tensor byte is merged.

Who makes one: `engine.planner`, from a pinned recipe and the parents; same in, same out. Who reads it: `reg plan`
prints it, `engine.run` executes it; there is no third path.
"""

import heapq
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from engine.direct import buffer_bytes
from engine.ops import BLOCK
from engine.parent import Parent
from engine.pinned import PinnedRecipe
from engine.products import slab_height
from engine.source import Source, refs
from engine.spread import Spread
from engine.vocabulary import Unified
from registry.header import TensorRef

CHUNK = 1 << 21
"""Most elements of one slice of an element-wise step; results do not depend on it."""

MEMORY_BYTES = 512 << 20
"""Memory for tensors at any moment, by default."""

_SHARE = 4
UNIT_BYTES = (MEMORY_BYTES - buffer_bytes(MEMORY_BYTES)) // _SHARE
"""Memory that a slice of an element-wise step may need, bytes: with many parents slices are shorter than `CHUNK`.

A slice of a method that ends in a sum takes a quarter of what its run has, less where there are more threads than four,
for all of them must have room; at least `LEAST_UNIT_BYTES`, as the slices of other methods do.
"""

LEAST_UNIT_BYTES = 30 << 20

ITEM_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
"""Bytes of an element of each dtype that is written."""

_PAGE = 1 << 10
_FLOAT_BYTES = 4
# Memory of one unit of work, in float32 numbers per element: for each parent, and beside them.
_SLICED = (2, 12)  # with the method's temporaries; result, cast, comparison, a raw read
_SUMMED = (1, 8)  # of a sum that nobody surveys, without kernels; with them, next to nothing
_VECTOR = (6, 6)  # of a whole vector: methods may compute those in float64


@dataclass(frozen=True)
class TensorStep:
    """How one tensor of the output is made.

    Attributes:
        name: in the output.
        action: "merge": by the method; "copy": the bytes of ``sources[0]``.
        sources: one per model in the recipe's order; for "copy" only one, stored.
        base: the base's tensor, where the method has a base.
        dtype: of the output, as safetensors spells it.
        shape: of the output.
        why: reason of a copy, in words; empty for a merge.
        values: every parameter's value for this tensor, or tuple of one per model.
        keys: one per model, for its random draws.
        statistics: one per model, where the models have any of this tensor.
    """

    name: str
    action: Literal["merge", "copy"]
    sources: tuple[Source, ...]
    base: Source | None
    dtype: str
    shape: tuple[int, ...]
    why: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    keys: tuple[str, ...] = ()
    statistics: tuple[Source, ...] | None = None

    @property
    def inputs(self) -> tuple[Source, ...]:
        """Everything that is read: the base first, statistics last."""
        return (
            ((self.base,) if self.base is not None else ()) + self.sources + (self.statistics or ())
        )

    @property
    def n_params(self) -> int:
        """Number of elements."""
        return self.sources[0].n_params

    @property
    def read_bytes(self) -> int:
        """Bytes this step reads."""
        return sum(source.n_bytes for source in self.inputs)

    @property
    def write_bytes(self) -> int:
        """Bytes this step writes."""
        if self.action == "copy":
            return self.sources[0].n_bytes
        return self.n_params * ITEM_BYTES[self.dtype]

    @property
    def sliceable(self) -> bool:
        """Tell whether all that is read is stored and of the output's shape, so that slices of it can be read."""
        return self.statistics is None and all(isinstance(s, TensorRef) for s in self.inputs)


@dataclass(frozen=True)
class Plan:
    """A merge, fully decided.

    Attributes:
        recipe: what it carries out.
        base: the base, where the method has one.
        models: in the recipe's order.
        steps: one per output tensor, by name.
        tie: value of ``tie_word_embeddings`` the output's config must have; None: as the reference's.
        notes: decisions a person should know of, in words.
        vocabulary: how the models' vocabularies were brought together; None: they were alike.
        chat_template: text of the output's chat template; None: the reference's.
        layers: for a model made of slices, the layer of the reference that each layer's config entries come from.
        spreads: of each model's task vector over all that is merged, where they are known; they change no byte.
    """

    recipe: PinnedRecipe
    base: Parent | None
    models: tuple[Parent, ...]
    steps: tuple[TensorStep, ...]
    tie: bool | None
    notes: tuple[str, ...]
    vocabulary: Unified | None = None
    chat_template: str | None = None
    layers: tuple[int, ...] | None = None
    statistics: tuple[Parent, ...] = ()
    spreads: tuple[Spread, ...] = ()

    @property
    def reference(self) -> Parent:
        """The parent whose config, tokenizer and tensor names the output takes: the base, else the first model."""
        return self.base or self.models[0]

    @property
    def parents(self) -> tuple[Parent, ...]:
        """All parents, the base first."""
        return ((self.base,) if self.base else ()) + self.models

    @property
    def read_bytes(self) -> int:
        """Tensor bytes that the last pass of the run reads; a survey reads those it looks at as often as it looks."""
        return sum(step.read_bytes for step in self.steps)

    @property
    def write_bytes(self) -> int:
        """Tensor bytes the run writes."""
        return sum(step.write_bytes for step in self.steps)

    def chunk_within(self, memory_bytes: int, jobs: int = 1) -> int:
        """Elements of one slice of an element-wise step, when ``jobs`` of them share the memory: at most `CHUNK`.

        What ends in a sum holds little beside it where there are kernels; temporaries of other methods grow with slices.
        """
        is_sum = self.recipe.method.ends_in_sum
        share = self.unit_room(memory_bytes) // max(_SHARE, jobs) if is_sum else 0
        unit_bytes = min(UNIT_BYTES, max(LEAST_UNIT_BYTES, share))
        each, beside = self._sliced
        fitting = unit_bytes // (_FLOAT_BYTES * (each * len(self.parents) + beside))
        return min(CHUNK, max(1, fitting // _PAGE) * _PAGE)

    def unit_room(self, memory_bytes: int) -> int:
        """Memory that units of work may take together, of what a run has, bytes: what the writer's buffers leave."""
        return memory_bytes - min(buffer_bytes(memory_bytes), self.write_bytes)

    @property
    def _sliced(self) -> tuple[int, int]:
        """Memory of a slice, in numbers for each parent, and beside them; a survey may ask for all models at once."""
        method = self.recipe.method
        return _SUMMED if method.ends_in_sum and method.survey is None else _SLICED

    def is_whole(self, step: TensorStep) -> bool:
        """Tell whether a step's tensor is worked on as a whole."""
        method = self.recipe.method
        return step.action == "merge" and (
            method.needs_whole_with(step.values) or not step.sliceable
        )

    def is_portable(self, step: TensorStep) -> bool:
        """Tell whether an accelerator may merge the slices of ``step``; surveys are the processor's."""
        anywhere = self.recipe.method.anywhere_with(step.values)
        return step.action == "merge" and anywhere and not self.is_whole(step)

    def surveys(self, step: TensorStep) -> Literal["tensor", "model"] | None:
        """What is surveyed before ``step`` is merged, if anything; of a whole tensor the method sees all itself."""
        method = self.recipe.method
        scope = method.scope_with(step.values)
        if step.action == "copy" or not method.surveys_with(step.values) or scope == "element":
            return None
        return None if scope == "tensor" and self.is_whole(step) else scope

    def slice_elements(self, step: TensorStep, chunk: int | None = None) -> int:
        """Elements of one slice of ``step``, as it is read and merged; of a whole tensor, all of them.

        Slices that are surveyed are made of blocks of `BLOCK` entries; slices of rows of whole rows, or slabs of them.
        """
        if self.is_whole(step):
            return step.n_params
        wanted = chunk or self.chunk_within(MEMORY_BYTES)
        if step.action == "merge" and self.recipe.method.rows_with(step.values):
            columns = max(1, math.prod(step.shape[1:]) if len(step.shape) > 1 else step.n_params)
            slab = columns * (slab_height(columns) if self.surveys(step) else 1)
            wanted = max(1, wanted // slab) * slab
        elif self.surveys(step):
            wanted = max(1, wanted // BLOCK) * BLOCK
        return min(wanted, step.n_params)

    def slices(self, step: TensorStep, chunk: int | None = None) -> list[tuple[int, int]]:
        """First element of each slice of ``step``, and the one behind its last, in order."""
        size, length = step.n_params, max(1, self.slice_elements(step, chunk))
        return [(start, min(start + length, size)) for start in range(0, size, length)]

    def unit_bytes(self, step: TensorStep, chunk: int | None = None) -> int:
        """Memory that one unit of work of ``step`` needs at most, bytes: inputs, temporaries and result."""
        kind = self._sliced
        if self.is_whole(step):
            kind = self.recipe.method.copies if len(step.shape) > 1 else _VECTOR
        each, beside = kind
        n_inputs = max(len(step.inputs), len(self.parents))
        size = self.slice_elements(step, chunk) * _FLOAT_BYTES * (each * n_inputs + beside)
        made = (s for s in step.inputs if not isinstance(s, TensorRef))
        return size + sum(_FLOAT_BYTES * ref.n_params for s in made for ref in refs(s))

    def _n_units(self, step: TensorStep, chunk: int | None) -> int:
        """How many slices of a step may be worked on at once."""
        if self.surveys(step) == "tensor":
            return 1
        return -(-step.n_params // self.slice_elements(step, chunk))

    def beyond(self, memory_bytes: int) -> str | None:
        """What needs more than ``memory_bytes`` at once, in words, with the bytes; None: nothing does."""
        chunk = self.chunk_within(memory_bytes)
        largest = max(self.steps, key=lambda step: self.unit_bytes(step, chunk), default=None)
        if largest is None or (need := self.unit_bytes(largest, chunk)) <= memory_bytes:
            return None
        what = "whole tensors" if self.is_whole(largest) else "slices of whole rows"
        name = self.recipe.method.name
        return f"{name} works on {what}: {largest.name} needs {need:,} bytes of memory at once, more than {memory_bytes:,}"

    def stays(self, device: str) -> str | None:
        """What the processor merges although ``device`` was asked for, in words; None: nothing."""
        if device == "cpu":
            return None
        if self.recipe.adapter is not None:
            return f"adapters are merged on the processor, not on {device}"
        merged = [step for step in self.steps if step.action == "merge"]
        n = len(merged) - sum(map(self.is_portable, merged))
        if not n:
            return None
        method, why = self.recipe.method, "they are computed while they are read"
        if not any(method.anywhere_with(step.values) for step in merged):
            why = f"{method.name} with these parameters cannot do otherwise"
        return (
            f"{n:,} of {len(merged):,} tensors are merged on the processor, not on {device}: {why}"
        )

    def remarks(self, memory_bytes: int, device: str) -> list[str]:
        """`beyond` and `stays`, as far as there is something to say."""
        too_large = None if self.recipe.adapter else self.beyond(memory_bytes)
        return [said for said in (too_large, self.stays(device)) if said]

    def peak_bytes(self, jobs: int, memory_bytes: int = MEMORY_BYTES) -> int:
        """Memory that ``jobs`` units at once need at most, bytes, in a run that has ``memory_bytes``."""
        chunk = self.chunk_within(memory_bytes, jobs)
        units = (
            size
            for step in self.steps
            if (size := self.unit_bytes(step, chunk))
            for _ in range(min(jobs, self._n_units(step, chunk)))
        )
        return sum(heapq.nlargest(jobs, units))

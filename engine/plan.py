"""Plans: every decision of a merge, made before the first tensor byte is read.

Who makes one: `make_plan`, from a pinned recipe and the parents' checkpoints; pure, same in, same out. Who reads
it: `reg plan` prints it, `engine.run` executes it; there is no third path. A tensor that cannot be merged is a
refusal here, never a surprise in the middle of a run.
"""

import heapq
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from engine.parent import Family, Parent, family
from engine.pinned import PinnedRecipe
from engine.reader import FLOATS
from engine.recipe import DTYPES
from registry.errors import MissingTensor, NotMergeable, ShapeMismatch, UnsupportedDtype
from registry.header import TensorRef
from registry.tensor_name import has_vocabulary

CHUNK = 1 << 18
"""Most elements of one slice of an element-wise step; results do not depend on it."""

UNIT_BYTES = 24 << 20
"""Memory that a slice of an element-wise step may need, bytes: with many parents slices are shorter than `CHUNK`."""

_PAGE = 1 << 10
_FLOAT_BYTES = 4
# Memory of one unit of work, in float32 numbers per element: for each parent, and beside them.
_SLICED = (2, 12)  # with the method's temporaries; result, cast, comparison, a raw read
_WHOLE = (1, 6)  # of a whole tensor, whose temporaries and comparison go block by block
_VECTOR = (6, 6)  # of a whole vector: methods may compute those in float64
_ITEM_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
_SPELLED = {code: name for name, code in DTYPES.items()}
_BUFFER = re.compile(r"(?:^|\.)(?:inv_freq|position_ids|token_type_ids|masked_bias|(attn\.bias))$")
_MASK_DIMS = 4

Tables = Sequence[Mapping[str, TensorRef]]


@dataclass(frozen=True)
class TensorStep:
    """How one tensor of the output is made.

    Attributes:
        name: in the output.
        action: "merge": by the method; "copy": the bytes of ``sources[0]``.
        sources: one per model in the recipe's order; for "copy" only one.
        base: the base's tensor, where the method has a base.
        dtype: of the output, as safetensors spells it.
        shape: of the output.
        why: reason of a copy, in words; empty for a merge.
    """

    name: str
    action: Literal["merge", "copy"]
    sources: tuple[TensorRef, ...]
    base: TensorRef | None
    dtype: str
    shape: tuple[int, ...]
    why: str = ""

    @property
    def n_params(self) -> int:
        """Number of elements."""
        return self.sources[0].n_params

    @property
    def read_bytes(self) -> int:
        """Bytes this step reads."""
        return sum(t.n_bytes for t in self.sources) + (self.base.n_bytes if self.base else 0)

    @property
    def write_bytes(self) -> int:
        """Bytes this step writes."""
        if self.action == "copy":
            return self.sources[0].n_bytes
        return self.n_params * _ITEM_BYTES[self.dtype]


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
    """

    recipe: PinnedRecipe
    base: Parent | None
    models: tuple[Parent, ...]
    steps: tuple[TensorStep, ...]
    tie: bool | None
    notes: tuple[str, ...]

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
        """Tensor bytes the run reads."""
        return sum(step.read_bytes for step in self.steps)

    @property
    def write_bytes(self) -> int:
        """Tensor bytes the run writes."""
        return sum(step.write_bytes for step in self.steps)

    @property
    def chunk(self) -> int:
        """Elements of one slice of an element-wise step: at most `CHUNK`, fewer for many parents."""
        fitting = UNIT_BYTES // self._element_bytes(1)
        return min(CHUNK, max(1, fitting // _PAGE) * _PAGE)

    def slice_elements(self, step: TensorStep, chunk: int | None = None) -> int:
        """Elements of one unit of work of ``step``: a slice of ``chunk``, or the whole tensor."""
        if step.action == "merge" and self.recipe.method.scope == "tensor":
            return step.n_params
        return min(chunk or self.chunk, step.n_params)

    def unit_bytes(self, step: TensorStep, chunk: int | None = None) -> int:
        """Memory that one unit of work of ``step`` needs at most, bytes: inputs, temporaries and result."""
        return self.slice_elements(step, chunk) * self._element_bytes(len(step.shape))

    def peak_bytes(self, jobs: int) -> int:
        """Memory that ``jobs`` units at once need at most, bytes."""
        units = (
            size
            for step in self.steps
            if (size := self.unit_bytes(step))
            for _ in range(min(jobs, -(-step.n_params // self.slice_elements(step))))
        )
        return sum(heapq.nlargest(jobs, units))

    def _element_bytes(self, n_dims: int) -> int:
        """Memory per element of a unit of work, bytes."""
        kind = _SLICED
        if self.recipe.method.scope == "tensor":
            kind = _WHOLE if n_dims > 1 else _VECTOR
        each, beside = kind
        return _FLOAT_BYTES * (each * len(self.parents) + beside)


def make_plan(recipe: PinnedRecipe, base: Parent | None, models: Sequence[Parent]) -> Plan:
    """Decide every step of a merge.

    Args:
        recipe: pinned.
        base: the parent with id ``recipe.base``.
        models: the parents with ids ``recipe.models``, in that order.

    Raises:
        MissingTensor: a parent lacks a tensor that others have.
        ShapeMismatch: one name, two shapes.
        UnsupportedDtype: weights in a dtype that holds codes, not values.
        NotMergeable: an adapter among the parents.
    """
    parents = [base, *models] if base else list(models)
    for parent in parents:
        if parent.checkpoint.kind == "adapter":
            message = f"{parent.name} is an adapter; this merge takes whole models"
            raise NotMergeable(
                message, hint="merge the adapter into its base first (peft: merge_and_unload)"
            )
    made = family(parents)
    _refuse_codes(parents, made)
    notes = [
        f"{parent.name} has no {head} of its own: its {embedding} stands for it; the output has both"
        for parent, head, embedding in made.stand_ins
    ]
    names = _names(parents, made, notes)
    steps = tuple(_step(name, recipe, parents, made.tables, notes) for name in names)
    notes += _dtype_notes(recipe, parents, steps)
    tie = False if made.stand_ins else True if made.n_dropped else None
    return Plan(recipe, base, tuple(models), steps, tie, tuple(dict.fromkeys(notes)))


def effective_config(plan: Plan) -> dict[str, Any]:
    """The config of the output: the reference's, with dtype and tying as the plan decided and without its place."""
    config = _adapted(plan.reference.checkpoint.config, plan)
    if plan.tie is not None:
        config["tie_word_embeddings"] = plan.tie
    inner = config.get("text_config")
    if isinstance(inner, dict):
        config["text_config"] = _adapted(inner, plan)
        if plan.tie is not None and "tie_word_embeddings" in inner:
            config["text_config"]["tie_word_embeddings"] = plan.tie
    return config


def _adapted(config: Mapping[str, Any], plan: Plan) -> dict[str, Any]:
    """A config whose dtype is the one most weights have, as far as it names one."""
    adapted = {key: value for key, value in config.items() if key != "_name_or_path"}
    n_bytes: Counter[str] = Counter()
    for step in plan.steps:
        n_bytes[step.dtype] += step.write_bytes
    known = [dtype for dtype in FLOATS if n_bytes[dtype]]
    for key in ("torch_dtype", "dtype"):
        if known and key in adapted:
            adapted[key] = _SPELLED[max(known, key=lambda dtype: n_bytes[dtype])]
    return adapted


def _refuse_codes(parents: Sequence[Parent], made: Family) -> None:
    """Refuse tensors of codes, such as 8-bit floats or packed integers, unless they are the same in all parents."""
    for name in made.names:
        held = [(p, t[name]) for p, t in zip(parents, made.tables, strict=True) if name in t]
        mixed = any(ref.dtype in FLOATS for _, ref in held)
        codes = [ref for _, ref in held if _is_code(ref) or (mixed and ref.dtype not in FLOATS)]
        if codes and not (len(held) == len(parents) and _same(held)):
            message = (
                f"tensor {name} of {codes[0].file} has dtype {codes[0].dtype}, which holds codes and not values; "
                "merging them would be noise"
            )
            raise UnsupportedDtype(message, hint="dequantise the model first")


def _is_code(ref: TensorRef) -> bool:
    """Tell whether a tensor holds codes: small floats, or whole numbers in more than one dimension."""
    if ref.dtype in FLOATS or _is_buffer(ref):
        return False
    return ref.dtype.startswith(("F", "C")) or len(ref.shape) > 1


def _is_buffer(ref: TensorRef) -> bool:
    """Tell whether a tensor is computed from the config; models of one family may or may not store it."""
    found = _BUFFER.search(ref.name)
    return found is not None and (found[1] is None or len(ref.shape) == _MASK_DIMS)


def _same(held: Sequence[tuple[Parent, TensorRef]]) -> bool:
    """Tell whether some parents' tensors are known to be equal."""
    digests = {parent.digest(ref) for parent, ref in held}
    return len(digests) == 1 and None not in digests


def _names(parents: Sequence[Parent], made: Family, notes: list[str]) -> list[str]:
    """The tensors of the output; a tensor that only some parents have is a refusal or a note."""
    names = []
    for name in made.names:
        pairs = list(zip(parents, made.tables, strict=True))
        lacking = list(dict.fromkeys(p.name for p, table in pairs if name not in table))
        having, ref = next((p.name, table[name]) for p, table in pairs if name in table)
        kept = name in made.tables[0]
        if lacking and not _is_buffer(ref):
            message = f"tensor {name} is in {having} but not in {', '.join(lacking)}"
            raise MissingTensor(message, hint="reg mergeable says what else differs")
        if lacking:
            notes.append(
                f"{name} is not in {', '.join(lacking)}; " + ("copied" if kept else "left out")
            )
        names += [name] if kept else []
    return names


def _step(
    name: str,
    recipe: PinnedRecipe,
    parents: Sequence[Parent],
    tables: Tables,
    notes: list[str],
) -> TensorStep:
    """Decide how tensor ``name`` is made."""
    held = [(p, table[name]) for p, table in zip(parents, tables, strict=True) if name in table]
    refs = [ref for _, ref in held]
    first, reference = held[0]
    out = recipe.out_dtype or reference.dtype
    same = _same(held)
    why = ""
    if _is_buffer(reference):
        why = "a buffer, computed from the config"
    elif any(ref.dtype not in FLOATS for ref in refs):
        why = f"{reference.dtype}, no weights"
    if why and len(held) == len(parents) and not same:
        notes.append(f"{name} ({reference.dtype}) differs between parents; {first.name}'s is kept")
    if not why:
        _refuse_shapes(name, held)
    if not why and same and recipe.method.space == "delta" and out == reference.dtype:
        why = "equal in all parents"
    if why:
        return TensorStep(name, "copy", (reference,), None, reference.dtype, reference.shape, why)
    base = reference if recipe.base else None
    sources = tuple(refs[1:] if base else refs)
    return TensorStep(name, "merge", sources, base, out, reference.shape)


def _refuse_shapes(name: str, held: Sequence[tuple[Parent, TensorRef]]) -> None:
    """Refuse one name with two shapes."""
    first, a = held[0]
    for other, b in held:
        if a.shape != b.shape:
            message = (
                f"tensor {name} has shape {list(a.shape)} in {first.name} "
                f"and {list(b.shape)} in {other.name}"
            )
            hint = "reg mergeable says what else differs"
            if has_vocabulary(name) and a.shape[1:] == b.shape[1:]:
                hint = "their vocabularies differ; bring both to one tokenizer first"
            raise ShapeMismatch(message, hint=hint)


def _dtype_notes(
    recipe: PinnedRecipe, parents: Sequence[Parent], steps: Sequence[TensorStep]
) -> list[str]:
    """What a person should know of the dtypes."""
    merged = [step for step in steps if step.action == "merge"]
    read = {ref.dtype for step in merged for ref in (*step.sources, step.base) if ref is not None}
    notes = []
    if len(read) > 1 and recipe.out_dtype is None:
        notes.append(
            f"the parents hold {', '.join(sorted(read))}; each tensor keeps the dtype of {parents[0].name}; "
            "out_dtype: in the recipe chooses another"
        )
    if "F64" in read:
        notes.append("F64 weights are merged in float32, as all others")
    return notes

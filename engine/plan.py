"""Plans: every decision of a merge, made before the first tensor byte is read.

Who makes one: `make_plan`, from a pinned recipe and the parents' checkpoints; pure, same in, same out. Who reads
it: `reg plan` prints it, `engine.run` executes it; there is no third path. A tensor that cannot be merged is a
refusal here, never a surprise in the middle of a run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from engine.reader import FLOATS
from engine.recipe import PinnedRecipe
from registry.checkpoint import Checkpoint
from registry.errors import MissingTensor, NotMergeable, ShapeMismatch, UnsupportedDtype
from registry.header import TensorRef
from registry.tensor_name import EMBEDDING, HEAD, has_vocabulary

CHUNK = 1 << 20
"""Elements of one slice of an element-wise step; results do not depend on it."""

_FLOAT_BYTES = 4
_ITEM_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
_BUFFERS = ("inv_freq", "position_ids", "masked_bias", "attn.bias", "token_type_ids")
"""Endings of tensors that are computed from the config; models of one family may or may not store them."""


@dataclass(frozen=True)
class Parent:
    """A model that takes part: what the catalog knows and where its files are.

    Attributes:
        id: model digest.
        name: what people call it.
        checkpoint: its files.
        digests: tensor name → digest.
    """

    id: str
    name: str
    checkpoint: Checkpoint
    digests: Mapping[str, str]


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

    def unit_bytes(self, step: TensorStep) -> int:
        """Memory that one unit of work of ``step`` needs at most, bytes: inputs, temporaries and result."""
        if step.action == "copy":
            return min(step.write_bytes, CHUNK * _FLOAT_BYTES)
        whole = self.recipe.method.scope == "tensor"
        n = step.n_params if whole else min(CHUNK, step.n_params)
        return n * _FLOAT_BYTES * (2 * len(self.models) + 5)

    def peak_bytes(self, jobs: int) -> int:
        """Memory that ``jobs`` units at once need at most, bytes."""
        largest = sorted((self.unit_bytes(step) for step in self.steps), reverse=True)
        return sum(largest[:jobs])


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
    notes: list[str] = []
    tables, tie = _tables(parents, notes)
    names = _names(parents, tables, notes)
    steps = tuple(_step(name, recipe, base, models, tables, notes) for name in names)
    dtypes = sorted({t.dtype for table in tables for t in table.values() if t.dtype in FLOATS})
    if len(dtypes) > 1 and recipe.out_dtype is None:
        notes.append(
            f"the parents hold {', '.join(dtypes)}; each tensor keeps the dtype of {parents[0].name}; "
            "out_dtype: in the recipe chooses another"
        )
    return Plan(recipe, base, tuple(models), steps, tie, tuple(notes))


def effective_config(plan: Plan) -> dict[str, Any]:
    """The config of the output: the reference's, with dtype and tying as the plan decided."""
    config = dict(plan.reference.checkpoint.config)
    config.pop("_name_or_path", None)
    if plan.recipe.out_dtype:
        spelled = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64"}
        for key in ("torch_dtype", "dtype"):
            if key in config:
                config[key] = spelled[plan.recipe.out_dtype]
    if plan.tie is not None:
        config["tie_word_embeddings"] = plan.tie
    return config


def _tables(
    parents: Sequence[Parent], notes: list[str]
) -> tuple[list[dict[str, TensorRef]], bool | None]:
    """Name → tensor of each parent, with heads that are mere copies of embeddings made alike."""
    tables = [{t.name: t for t in p.checkpoint.tensors} for p in parents]
    for parent, table in zip(parents, tables, strict=True):
        for head, embedding in _pairs(table):
            if parent.checkpoint.tied and parent.digests[head] == parent.digests[embedding]:
                del table[head]
    heads = sorted({n for table in tables for n in table if HEAD.search(n)})
    tie = None
    for head in heads:
        for parent, table in zip(parents, tables, strict=True):
            embedding = next((n for n in table if EMBEDDING.search(n)), None)
            if head not in table and embedding is not None:
                tie = False
                table[head] = table[embedding]
                notes.append(
                    f"{parent.name} has no {head}: its {embedding} stands for it; the output has both"
                )
    return tables, tie


def _pairs(table: Mapping[str, TensorRef]) -> list[tuple[str, str]]:
    """(head, embedding) of a parent that stores both."""
    embedding = next((n for n in table if EMBEDDING.search(n)), None)
    return [(n, embedding) for n in table if HEAD.search(n) and embedding is not None]


def _names(
    parents: Sequence[Parent], tables: Sequence[Mapping[str, TensorRef]], notes: list[str]
) -> list[str]:
    """The tensors of the output; a tensor that only some parents have is a refusal or a note."""
    names = []
    for name in sorted({n for table in tables for n in table}):
        lacking = [p.name for p, table in zip(parents, tables, strict=True) if name not in table]
        if not lacking:
            names.append(name)
        elif name.endswith(_BUFFERS):
            kept = name in tables[0]
            notes.append(
                f"{name} is not in {', '.join(lacking)}; " + ("copied" if kept else "left out")
            )
            names += [name] if kept else []
        else:
            having = next(p.name for p, table in zip(parents, tables, strict=True) if name in table)
            message = f"tensor {name} is in {having} but not in {', '.join(lacking)}"
            raise MissingTensor(message, hint="reg mergeable says what else differs")
    return names


def _step(
    name: str,
    recipe: PinnedRecipe,
    base: Parent | None,
    models: Sequence[Parent],
    tables: Sequence[Mapping[str, TensorRef]],
    notes: list[str],
) -> TensorStep:
    """Decide how tensor ``name`` is made."""
    parents = [base, *models] if base else list(models)
    refs = [table[name] for table in tables if name in table]
    reference = refs[0]
    if len(refs) < len(tables):
        return TensorStep(
            name, "copy", (reference,), None, reference.dtype, reference.shape, "a buffer"
        )
    for parent, ref in zip(parents, refs, strict=True):
        if ref.shape != reference.shape:
            _refuse_shapes(name, parents[0], reference, parent, ref)
    digests = {p.digests.get(r.name) for p, r in zip(parents, refs, strict=True)}
    same = len(digests) == 1 and None not in digests
    out = recipe.out_dtype or reference.dtype
    if any(ref.dtype not in FLOATS for ref in refs):
        if not same and any(ref.dtype.startswith(("F", "BF")) or "scale" in name for ref in refs):
            odd = next(r for r in refs if r.dtype not in FLOATS)
            message = (
                f"tensor {name} of {odd.file} has dtype {odd.dtype}, which holds codes and not values; "
                "merging them would be noise"
            )
            raise UnsupportedDtype(message, hint="dequantise the model first")
        if not same:
            notes.append(
                f"{name} ({reference.dtype}) differs between parents; {parents[0].name}'s is kept"
            )
        return TensorStep(
            name,
            "copy",
            (reference,),
            None,
            reference.dtype,
            reference.shape,
            f"{reference.dtype}, no weights",
        )
    if same and recipe.method.space == "delta" and out == reference.dtype:
        return TensorStep(
            name, "copy", (reference,), None, out, reference.shape, "equal in all parents"
        )
    sources = tuple(refs[1:] if base else refs)
    return TensorStep(name, "merge", sources, reference if base else None, out, reference.shape)


def _refuse_shapes(name: str, first: Parent, a: TensorRef, other: Parent, b: TensorRef) -> None:
    """Say that one name has two shapes."""
    message = f"tensor {name} has shape {list(a.shape)} in {first.name} and {list(b.shape)} in {other.name}"
    hint = "reg mergeable says what else differs"
    if has_vocabulary(name) and a.shape[1:] == b.shape[1:]:
        hint = "their vocabularies differ; bring both to one tokenizer first"
    raise ShapeMismatch(message, hint=hint)

"""Planning: every decision of a merge, made before the first tensor byte is merged.

Pure, same in, same out. A tensor that cannot be merged is a refusal here, never a surprise in the middle of a run.
"""

import re
from collections.abc import Sequence

from engine.parent import Family, Parent, family
from engine.pinned import PinnedRecipe
from engine.plan import Plan, TensorStep
from engine.reader import FLOATS
from engine.slots import Slot, slots
from engine.source import Source
from engine.vocabulary import Unified
from registry.errors import MissingTensor, NotMergeable, ShapeMismatch, UnsupportedDtype
from registry.header import TensorRef
from registry.tensor_name import has_vocabulary, split_layer

_BUFFER = re.compile(r"(?:^|\.)(?:inv_freq|position_ids|token_type_ids|masked_bias|(attn\.bias))$")
_MASK_DIMS = 4

Held = Sequence[tuple[Parent, Source]]


def make_plan(
    recipe: PinnedRecipe,
    base: Parent | None,
    models: Sequence[Parent],
    *,
    statistics: Sequence[Parent] = (),
    vocabulary: Unified | None = None,
    chat_template: str | None = None,
    notes: Sequence[str] = (),
) -> Plan:
    """Decide every step of a merge.

    Args:
        recipe: pinned.
        base: the parent with id ``recipe.base``.
        models: the parents with ids ``recipe.models``, in that order.
        statistics: their statistics, one each; (): none.
        vocabulary: how the parents' vocabularies were brought together, where they were.
        chat_template: of the output; None: the reference's.
        notes: what was decided before, in words.

    Raises:
        MissingTensor: a parent lacks a tensor that others have.
        ShapeMismatch: one name, two shapes.
        UnsupportedDtype: weights in a dtype that holds codes, not values.
        NotMergeable: an adapter among the parents.
        BadRecipe: slices or modules that do not fit the models.
    """
    parents = [base, *models] if base else list(models)
    for parent in parents:
        if parent.checkpoint.kind == "adapter":
            message = f"{parent.name} is an adapter; this merge takes whole models"
            raise NotMergeable(message, hint=f"name it as MODEL+{parent.name}")
    made = family(parents)
    _refuse_codes(parents, made)
    said = list(notes)
    said += [
        f"{parent.name} has no {head} of its own: its {embedding} stands for it; the output has both"
        for parent, head, embedding in made.stand_ins
    ]
    tables = made.tables[1:] if base else made.tables
    steps = []
    found = slots(recipe, made.tables[0] if base else None, tables, made.names)
    by_layer: dict[int, int] = {}
    for slot in found:
        _note_layer(slot, by_layer)
        held, lacking = _held(slot, parents, made, has_base=base is not None)
        if not held or (lacking and not _accepted(slot, held, lacking, parents[0], said)):
            continue
        steps.append(_step(slot, recipe, held, said, complete=not lacking, tables=statistics))
    steps.sort(key=lambda step: step.name)
    said += _dtype_notes(recipe, parents, steps)
    tie = False if made.stand_ins else True if made.n_dropped else None
    return Plan(
        recipe=recipe, base=base, models=tuple(models), steps=tuple(steps), tie=tie,
        notes=tuple(dict.fromkeys(said)), vocabulary=vocabulary, chat_template=chat_template,
        layers=None if recipe.whole else tuple(by_layer[i] for i in sorted(by_layer)),
        statistics=tuple(statistics),
    )  # fmt: skip


def _note_layer(slot: Slot, by_layer: dict[int, int]) -> None:
    """Remember from which layer of its first source a layer of the output comes."""
    out, source = split_layer(slot.name), split_layer(slot.base or slot.models[0][1])
    if out and source:
        by_layer.setdefault(out[1], source[1])


def _held(
    slot: Slot, parents: Sequence[Parent], made: Family, *, has_base: bool
) -> tuple[list[tuple[Parent, Source]], list[str]]:
    """The parents' tensors for a slot, the base first, and the names of the parents that lack theirs."""
    shift = 1 if has_base else 0
    wanted = [(0, slot.base)] if slot.base else []
    wanted += [(i + shift, name) for i, name in slot.models]
    held = [(parents[i], made.tables[i][name]) for i, name in wanted if name in made.tables[i]]
    lacking = [parents[i].name for i, name in wanted if name not in made.tables[i]]
    return held, list(dict.fromkeys(lacking))


def _accepted(
    slot: Slot, held: Held, lacking: Sequence[str], first: Parent, notes: list[str]
) -> bool:
    """Tell whether a tensor that some parents lack is kept nevertheless; only buffers may be lacking.

    Raises:
        MissingTensor: it is no buffer.
    """
    parent, source = held[0]
    if not _is_buffer(source):
        message = f"tensor {source.name} is in {parent.name} but not in {', '.join(lacking)}"
        raise MissingTensor(message, hint="reg mergeable says what else differs")
    kept = first.name not in lacking
    notes.append(
        f"{slot.name} is not in {', '.join(lacking)}; " + ("copied" if kept else "left out")
    )
    return kept


def _step(
    slot: Slot,
    recipe: PinnedRecipe,
    held: Held,
    notes: list[str],
    *,
    complete: bool,
    tables: Sequence[Parent],
) -> TensorStep:
    """Decide how one tensor of the output is made."""
    sources = [source for _, source in held]
    first, reference = held[0]
    out = recipe.out_dtype or reference.dtype
    same, why = _same(held), ""
    if _is_buffer(reference):
        why = "a buffer, computed from the config"
    elif any(source.dtype not in FLOATS for source in sources):
        why = f"{reference.dtype}, no weights"
    if why and complete and not same:
        notes.append(
            f"{slot.name} ({reference.dtype}) differs between parents; {first.name}'s is kept"
        )
    if why and isinstance(reference, TensorRef):
        return TensorStep(
            slot.name, "copy", (reference,), None, reference.dtype, reference.shape, why
        )
    _refuse_shapes(held)
    names = [name for _, name in slot.models]
    values = slot.piece.at(names, slot.name, slot.depth)
    method = recipe.method
    unchanged = same and method.space == "delta" and method.scope_with(values) != "model"
    if unchanged and out == reference.dtype and isinstance(reference, TensorRef):
        why = "equal in all parents"
        return TensorStep(
            slot.name, "copy", (reference,), None, reference.dtype, reference.shape, why
        )
    base = reference if slot.base else None
    ids = [recipe.models[i] for i, _ in slot.models]
    return TensorStep(
        slot.name, "merge", tuple(sources[1:] if base else sources), base, out, reference.shape,
        values=values,
        keys=tuple(f"{id_}#{ids[:i].count(id_)}" for i, id_ in enumerate(ids)),
        statistics=_statistics(slot, reference, tables),
    )  # fmt: skip


def _statistics(
    slot: Slot, reference: Source, tables: Sequence[Parent]
) -> tuple[Source, ...] | None:
    """The models' statistics of a tensor; None where they have none.

    Raises:
        MissingTensor: some have, some have not.
        ShapeMismatch: they are neither of the tensor's shape nor a square of its columns.
    """
    if not tables:
        return None
    found = [(tables[i], tables[i].tensors.get(name)) for i, name in slot.models]
    having = [(parent, source) for parent, source in found if source is not None]
    if not having:
        return None
    if len(having) < len(found):
        lacking = next(parent.name for parent, source in found if source is None)
        message = f"{having[0][0].name} has statistics of tensor {slot.name}, {lacking} has none"
        raise MissingTensor(message)
    shapes = [reference.shape, (*reference.shape[1:], *reference.shape[1:])]
    for parent, source in having:
        if source.shape not in shapes:
            message = (
                f"statistics of tensor {slot.name} in {parent.name} have shape {list(source.shape)}; "
                f"the tensor has {list(reference.shape)}"
            )
            raise ShapeMismatch(message)
    return tuple(source for _, source in having)


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


def _is_code(ref: Source) -> bool:
    """Tell whether a tensor holds codes: small floats, or whole numbers in more than one dimension."""
    if ref.dtype in FLOATS or _is_buffer(ref):
        return False
    return ref.dtype.startswith(("F", "C")) or len(ref.shape) > 1


def _is_buffer(ref: Source) -> bool:
    """Tell whether a tensor is computed from the config; models of one family may or may not store it."""
    found = _BUFFER.search(ref.name)
    return found is not None and (found[1] is None or len(ref.shape) == _MASK_DIMS)


def _same(held: Held) -> bool:
    """Tell whether some parents' tensors are known to be equal."""
    digests = {parent.digest(ref) for parent, ref in held}
    return len(digests) == 1 and None not in digests


def _refuse_shapes(held: Held) -> None:
    """Refuse one name with two shapes."""
    first, a = held[0]
    for other, b in held:
        if a.shape != b.shape:
            message = (
                f"tensor {a.name} has shape {list(a.shape)} in {first.name} "
                f"and {list(b.shape)} in {other.name}"
            )
            hint = "reg mergeable says what else differs"
            if has_vocabulary(a.name) and a.shape[1:] == b.shape[1:]:
                hint = "their vocabularies differ; add `tokenizer_source: base`, or union, to the recipe"
            raise ShapeMismatch(message, hint=hint)


def _dtype_notes(
    recipe: PinnedRecipe, parents: Sequence[Parent], steps: Sequence[TensorStep]
) -> list[str]:
    """What a person should know of the dtypes."""
    merged = [step for step in steps if step.action == "merge"]
    read = {ref.dtype for step in merged for ref in step.inputs}
    notes = []
    if len(read) > 1 and recipe.out_dtype is None:
        notes.append(
            f"the parents hold {', '.join(sorted(read))}; each tensor keeps the dtype of {parents[0].name}; "
            "out_dtype: in the recipe chooses another"
        )
    if "F64" in read:
        notes.append("F64 weights are merged in float32, as all others")
    return notes

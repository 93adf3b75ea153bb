"""Slots: which tensors of the parents make which tensor of the output.

For whole models it is the tensor of the same name. A recipe with slices takes layers from where it likes: the layers
of the output are counted anew, and what stands before and after them comes from the first and the last slice.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from engine.pinned import BASE, PinnedModule, PinnedRecipe, PinnedSlice, PinnedSource
from engine.source import Source
from registry.errors import BadRecipe, MissingTensor
from registry.tensor_name import module_of, split_layer

Table = Mapping[str, Source]


@dataclass(frozen=True)
class Slot:
    """One tensor of the output.

    Attributes:
        name: in the output.
        base: its name in the base, where there is one.
        models: (place in the recipe's models, name there), in order.
        piece: the slice it belongs to.
        depth: of its layer among those of the slice, in [0, 1]; 0 outside of layers.
    """

    name: str
    base: str | None
    models: tuple[tuple[int, str], ...]
    piece: PinnedSlice
    depth: float


def slots(
    recipe: PinnedRecipe, base: Table | None, models: Sequence[Table], names: Sequence[str]
) -> Iterator[Slot]:
    """Every tensor of the output.

    Args:
        recipe: says which layers come from where.
        base: the base's tensors by name, where there is one.
        models: the models' tensors by name, in the recipe's order.
        names: of all tensors of all of them, sorted.

    Raises:
        BadRecipe: modules that are not there, or that leave tensors out; layers that are not there.
    """
    members = _members(recipe.modules, names)
    for module in recipe.modules:
        mine = members[module.name]
        if len(module.slices) == 1 and module.slices[0].sources[0].layers is None:
            yield from _whole(recipe, module.slices[0], mine)
        else:
            yield from _sliced(recipe, module, mine, base, models)


def _members(modules: Sequence[PinnedModule], names: Sequence[str]) -> dict[str, list[str]]:
    """Module → the names of its tensors; "" gets those that no other has."""
    found: dict[str, list[str]] = {module.name: [] for module in modules}
    left: list[str] = []
    for name in names:
        owner = next((m.name for m in modules if m.name and m.name in name.split(".")), "")
        found.get(owner, left).append(name)
    components = sorted({part for name in names for part in name.split(".")[:2]})
    empty = [name for name, mine in found.items() if name and not mine]
    if empty:
        message = f"there is no module {empty[0]!r}; the tensors' names have " + ", ".join(
            components
        )
        raise BadRecipe(message)
    if left:
        message = f"tensor {left[0]} and {len(left) - 1} more belong to no module of the recipe"
        raise BadRecipe(message, hint="add the module `default` for the rest")
    return found


def _whole(recipe: PinnedRecipe, piece: PinnedSlice, names: Sequence[str]) -> Iterator[Slot]:
    """Each tensor of the same name."""
    split = {name: split_layer(name) for name in names}
    last: Counter[str] = Counter()  # stack of layers → number of its last one
    for parts in split.values():
        if parts:
            last[parts[0]] = max(last[parts[0]], parts[1])
    places = [source.model for source in piece.models]
    for name in names:
        parts = split[name]
        depth = 0.0 if parts is None else parts[1] / last[parts[0]] if last[parts[0]] else 1.0
        yield Slot(
            name, name if recipe.base else None, tuple((i, name) for i in places), piece, depth
        )


def _sliced(
    recipe: PinnedRecipe,
    module: PinnedModule,
    names: Sequence[str],
    base: Table | None,
    models: Sequence[Table],
) -> Iterator[Slot]:
    """Layers from where the slices say, and what stands before and after them."""
    stacks = sorted({parts[0] for name in names if (parts := split_layer(name))})
    if len(stacks) != 1:
        message = f"the slices of {module.name or 'the model'} have {len(stacks)} stacks of layers ({', '.join(stacks)})"
        raise BadRecipe(message, hint="name each stack's part of the model under `modules:`")
    for name in names:
        if split_layer(name) is None:
            before = module_of(name) == "embedding" or "embed" in name
            piece = module.slices[0 if before else -1]
            places = tuple((source.model, name) for source in piece.models)
            yield Slot(name, name if recipe.base else None, places, piece, 0.0)
    n_layers = 0
    for piece in module.slices:
        spans = [source.layers or (0, 0) for source in piece.sources]
        length = spans[0][1] - spans[0][0]
        for offset in range(length):
            yield from _layer(piece, stacks[0], offset, n_layers, base=base, models=models)
            n_layers += 1


def _layer(
    piece: PinnedSlice,
    stack: str,
    offset: int,
    number: int,
    *,
    base: Table | None,
    models: Sequence[Table],
) -> Iterator[Slot]:
    """Layer ``number`` of the output, which is the ``offset``-th of its slice."""
    leader = piece.sources[0]
    table = base if leader.model == BASE else models[leader.model]
    at = {id(source): _start(source, offset) for source in piece.sources}
    suffixes = [
        parts[2]
        for name in sorted(table or ())
        if (parts := split_layer(name)) and parts[:2] == (stack, at[id(leader)])
    ]
    if not suffixes:
        message = f"there is no layer {at[id(leader)]} in model {leader.model + 1} of the slice"
        raise MissingTensor(message, hint="layer_range is [first, last + 1], counted from 0")
    first, last = leader.layers or (0, 1)
    depth = offset / (last - first - 1) if last - first > 1 else 1.0
    for suffix in suffixes:
        own = [(s.model, f"{stack}{at[id(s)]}{suffix}") for s in piece.models]
        under = next((at[id(s)] for s in piece.sources if s.model == BASE), None)
        if base is not None and under is None:
            layers = {layer for layer, _ in ((at[id(s)], s) for s in piece.models)}
            if len(layers) > 1:
                message = "the sources of a slice have different layers, and none is the base's"
                raise BadRecipe(message, hint="add the base to the sources, with its layer_range")
            under = layers.pop()
        in_base = f"{stack}{under}{suffix}" if base is not None else None
        yield Slot(f"{stack}{number}{suffix}", in_base, tuple(own), piece, depth)


def _start(source: PinnedSource, offset: int) -> int:
    """The layer that a source gives to the ``offset``-th layer of its slice."""
    return (source.layers or (0, 0))[0] + offset

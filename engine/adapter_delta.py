"""Adapters as task vectors: what each of some LoRAs adds to a base, as models beside a base of zeros.

A merge of those is a merge of what the adapters add, by any method on task vectors, and the base's files stay closed.
Only what an adapter holds whole, or says relative to the base's weights, needs the base.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from engine.adapter import Adapted, WithRows, tied_head, wear
from engine.lora import Factors, Lora, read_lora
from engine.parent import Parent
from engine.pinned import ZERO
from engine.source import Made, Source
from registry.errors import NotMergeable, ShapeMismatch
from registry.header import TensorRef
from registry.tensor_name import EMBEDDING, HEAD

_PLAIN = 3  # sources of a weight with a low-rank change and no magnitude
_PREFIX = 4  # components of a name that one adapter may have in front and another not
_HINT = "give --base, the model that the adapters were trained on"


@dataclass(frozen=True)
class Zeros(Made):
    """A tensor of zeros: the base of a task vector, or that of an adapter that leaves a tensor alone.

    Attributes:
        sources: none.
        origin: the file that tells the shape, for messages.
    """

    origin: Path

    def compute(self, parts: Sequence[torch.Tensor]) -> torch.Tensor:  # noqa: ARG002 - has none
        """The zeros; see `Made.compute`."""
        return torch.zeros(self.shape)

    @property
    def file(self) -> Path:
        """The file that tells the shape."""
        return self.origin


@dataclass(frozen=True)
class Difference(Made):
    """One tensor minus another, float32.

    Attributes:
        sources: the two.
    """

    def compute(self, parts: Sequence[torch.Tensor]) -> torch.Tensor:
        """The difference; see `Made.compute`."""
        left, right = parts
        return left - right


@dataclass(frozen=True)
class Target:
    """A tensor that some of the adapters change.

    Attributes:
        called: its name in the network, as the adapters have it.
        base: the base's tensor; zeros where no base is given.
        rank: of the adapters' factors of it, added up.
        whole: whether it is to be stored whole, because one of the adapters does or because it is no matrix.
        embedding: whether its factors are those of an embedding.
        transposed: whether it is stored (in, out).
    """

    called: str
    base: Source
    rank: int = 0
    whole: bool = False
    embedding: bool = False
    transposed: bool = False


@dataclass(frozen=True)
class TaskVectors:
    """Adapters as models on a base of zeros.

    Attributes:
        zero: the base, by the name of the one that it stands for.
        models: one per adapter, in their order; each has every tensor that any of them changes.
        targets: tensor name, as in the base, → what it is.
        n_changed: how many of them each adapter changes.
    """

    zero: Parent
    models: tuple[Parent, ...]
    targets: Mapping[str, Target]
    n_changed: tuple[int, ...]


def task_vectors(adapters: Sequence[Parent], base: Parent | None) -> TaskVectors:
    """What adapters add to their base.

    A plain factor is never added to the base's weights, so that nothing of it is rounded away; what needs the base
    is the difference of the base with the adapter on and the base. Law: where no base is needed, giving one changes
    nothing.

    Args:
        adapters: LoRAs in PEFT's files, at least one.
        base: the model they belong to; None: the adapters must do without it.

    Raises:
        NotMergeable: no LoRA; adapters of different bases, or one that needs the base, and none is given; tensors
            that the base does not have; adapters that do not agree how a square matrix is stored.
        ShapeMismatch: one module of two shapes, or of none.
        MissingTensor, UnsupportedDtype: as `engine.adapter.wear`.
    """
    loras = [read_lora(adapter) for adapter in adapters]
    ground = _ground(adapters, loras) if base is None else base
    targets: dict[str, Target] = {}
    found: list[dict[str, Source]] = []
    for adapter, lora in zip(adapters, loras, strict=True):
        deltas: dict[str, Source] = {}
        for name, target, delta in _deltas(ground, adapter, lora):
            targets[name] = _joined(name, targets.get(name), target, adapter)
            deltas[name] = delta
        found.append(deltas)
    names = sorted(targets)
    zeros = {name: _zeros(name, targets[name].base, targets[name].base.file) for name in names}
    models = tuple(
        _model(adapter, adapter.id, adapter.name, {n: deltas.get(n, zeros[n]) for n in names})
        for adapter, deltas in zip(adapters, found, strict=True)
    )
    named = (base.id, base.name) if base else (ZERO, ZERO)
    zero = _model(adapters[0], *named, zeros)
    return TaskVectors(
        zero, models, {name: targets[name] for name in names}, tuple(map(len, found))
    )


def _model(adapter: Parent, id_: str, name: str, made: Mapping[str, Source]) -> Parent:
    """A model of nothing but computed tensors."""
    config = {"tie_word_embeddings": False}
    checkpoint = replace(adapter.checkpoint, kind="model", tensors=(), config=config)
    return Parent(id_, name, checkpoint, {}, made=made)


def _zeros(name: str, like: Source, file: Path) -> Zeros:
    """Zeros in the shape of a tensor."""
    return Zeros(name, "F32", like.shape, (), file)


def _ground(adapters: Sequence[Parent], loras: Sequence[Lora]) -> Parent:
    """The base as far as the adapters tell: zeros in the shapes of the weights they change.

    Raises:
        NotMergeable: they are not of one base, or need its weights.
    """
    _refuse_strangers(adapters, loras)
    made: dict[str, Source] = {}
    for adapter, lora in zip(adapters, loras, strict=True):
        _refuse_needy(adapter, lora)
        for factors in lora.factors:
            name = f"{factors.path}.weight"
            shape = (factors.b.shape[0], *factors.a.shape[1:])
            is_matrix = len(shape) == 2  # noqa: PLR2004
            if is_matrix and (factors.embedding or lora.transposed):
                shape = shape[::-1]
            made.setdefault(name, Zeros(name, "F32", shape, (), factors.a.file))
    for name in made:
        parts = name.split(".", _PREFIX)
        for i in range(1, len(parts)):
            rest = ".".join(parts[i:])
            if rest in made:
                message = f"the adapters have modules {name} and {rest}, which may be one module by two names"
                raise NotMergeable(message, hint=_HINT)
    return _model(adapters[0], ZERO, ZERO, made)


def _refuse_strangers(adapters: Sequence[Parent], loras: Sequence[Lora]) -> None:
    """Refuse adapters that were trained on different bases, or store weights differently."""
    named = [
        (adapter, str(adapter.checkpoint.adapter_config.get("base_model_name_or_path") or ""))
        for adapter in adapters
    ]
    bases = {base for _, base in named if base}
    if len(bases) > 1:
        each = ", ".join(f"{adapter.name} of {base or 'an unknown one'}" for adapter, base in named)
        message = f"the adapters belong to different bases: {each}"
        raise NotMergeable(message, hint=f"{_HINT}, if it is one model by different names")
    if len({lora.transposed for lora in loras}) > 1:
        each = ", ".join(
            f"{adapter.name} {str(lora.transposed).lower()}"
            for adapter, lora in zip(adapters, loras, strict=True)
        )
        message = f"the adapters differ in fan_in_fan_out: {each}"
        raise NotMergeable(message, hint=_HINT)


def _refuse_needy(adapter: Parent, lora: Lora) -> None:
    """Refuse an adapter of which something has no meaning without the base's weights."""
    for ref, why in _needs(lora):
        message = (
            f"tensor {ref.name} of adapter {adapter.name} ({ref.file}) {why}; "
            "to merge it takes the base's weights"
        )
        raise NotMergeable(message, hint=_HINT)


def needs_base(adapter: Parent) -> bool:
    """Tell whether an adapter says something that has no meaning without the base's weights."""
    return any(True for _ in _needs(read_lora(adapter)))


def _needs(lora: Lora) -> Iterator[tuple[TensorRef, str]]:
    """What needs the base, and why."""
    for factors in lora.factors:
        if factors.magnitude is not None:
            yield factors.magnitude, "scales a row of weights (DoRA)"
        if factors.weight is not None:
            yield factors.weight, "stands in place of the base's"
        if factors.bias is not None:
            yield factors.bias, "changes a bias"
    for ref in lora.whole.values():
        yield ref, "stands in place of the base's"
    for _, ref in lora.rows.values():
        yield ref, "replaces rows of the base's embedding"


def _deltas(ground: Parent, adapter: Parent, lora: Lora) -> Iterator[tuple[str, Target, Source]]:
    """Every tensor that an adapter changes: (name in the base, what it is, what is added)."""
    factors = {f.a: f for f in lora.factors}
    called = {f.a: f"{f.path}.weight" for f in lora.factors}
    called |= {f.bias: f"{f.path}.bias" for f in lora.factors if f.bias is not None}
    called |= {ref: name for name, ref in lora.whole.items()}
    called |= {ref: f"{path}.weight" for path, (_, ref) in lora.rows.items()}
    tables = ground.tensors
    embedding = next((t for name, t in tables.items() if EMBEDDING.search(name)), None)
    tied = embedding if ground.checkpoint.tied else None
    for name, source in wear(ground, adapter).made.items():
        parts = source.sources if isinstance(source, Made) else ()
        ref = next((s for s in parts if isinstance(s, TensorRef) and s in called), None)
        if ref is None or source is ground.made.get(name):
            continue  # the base's own, or a tied head that stays as it was
        under = tables.get(name, tied if HEAD.search(name) else None)
        if under is None:
            message = f"tensor {ref.name} of adapter {adapter.name} ({ref.file}) has no counterpart in {ground.name}"
            raise NotMergeable(
                message, hint="an adapter that brings modules of its own has no task vector"
            )
        if 0 in source.shape:
            message = f"tensor {ref.name} of {ref.file} changes a tensor of shape {list(source.shape)}: there is nothing in it"
            raise ShapeMismatch(message)
        target, delta = _delta(ground, adapter, source, under, factors.get(ref))
        yield name, replace(target, called=called[ref]), delta
        head = tied_head(ground) if isinstance(source, WithRows) and under is tied else None
        if head is not None and head not in tables:  # the head of a tied model has those rows too
            yield head, replace(target, called=head), replace(delta, name=head)


def _delta(
    ground: Parent, adapter: Parent, source: Source, under: Source, factors: Factors | None
) -> tuple[Target, Made]:
    """One changed tensor, not yet called anything, and what is added to it."""
    if source.shape != under.shape:
        message = (
            f"tensor {source.name} has shape {list(source.shape)} in adapter {adapter.name} and "
            f"{list(under.shape)} in {ground.name}: it has other tokens"
        )
        raise ShapeMismatch(message, hint="merge MODEL+ADAPTER, with tokenizer_source: union")
    difference = Difference(source.name, "F32", source.shape, (source, under))
    if factors is None or not isinstance(source, Adapted):
        return Target("", under, whole=True), difference
    own = factors.weight
    same = own is None or adapter.digest(own) == ground.digest(under) is not None
    target = Target(
        "", under, factors.rank, whole=not same, embedding=factors.embedding,
        transposed=source.transposed,
    )  # fmt: skip
    if not same or len(source.sources) > _PLAIN:
        return target, difference
    zeros = _zeros(source.name, under, factors.a.file)
    return target, replace(source, dtype="F32", sources=(zeros, *source.sources[1:]))


def _joined(name: str, old: Target | None, new: Target, adapter: Parent) -> Target:
    """What is known of a tensor from several adapters.

    Raises:
        NotMergeable: by one it is stored (in, out), by another (out, in).
    """
    if old is None:
        return new
    both = bool(old.rank and new.rank)
    if both and (old.transposed, old.embedding) != (new.transposed, new.embedding):
        message = f"adapter {adapter.name} takes tensor {name} for stored the other way than those before it"
        raise NotMergeable(message, hint="see fan_in_fan_out of their adapter_config.json")
    lead = old if old.rank else new
    return replace(lead, rank=old.rank + new.rank, whole=old.whole or new.whole)

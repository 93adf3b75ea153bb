"""Adapters put on: a model that wears a LoRA is a model whose adapted tensors are computed when they are read.

The base's files stay as they are, and no second model is written. What comes out is what the network computes with
the adapter on: an output head that was tied to an embedding stays what it was when only the embedding is adapted.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch

from engine.growth import is_grown, rows_after, tokenizer_of, with_rows
from engine.lora import Factors, Lora, read_lora
from engine.parent import WORN, Parent
from engine.reader import FLOATS
from engine.source import Made, Source
from registry.errors import MissingTensor, NotMergeable, ShapeMismatch, UnsupportedDtype
from registry.header import TensorRef
from registry.tensor_name import EMBEDDING, HEAD, split_layer

_BLOCK = 1 << 20
"""Elements that are in float64 at once; results do not depend on it but for the last digit of norms."""

DECODERS = ("ForCausalLM", "LMHeadModel")
"""Ends of the names of classes that predict the next token."""

_SHARED = ("ForMaskedLM", "ForPreTraining", "ForConditionalGeneration", "WithLMHeadModel")
"""Ends of the names of other classes whose output may use the embedding's weights."""

_HEAD = "lm_head.weight"


@dataclass(frozen=True)
class Adapted(Made):
    """A weight with a low-rank change: W + s·BA, or with DoRA's magnitude m: m · (W + s·BA)/‖W + s·BA‖ by rows.

    arXiv:2106.09685, section 4.1; arXiv:2402.09353, eq. 5. Computed in float64, row block by row block.

    Attributes:
        sources: W, A, B and, for DoRA, m.
        scale: s.
        transposed: whether W is stored (in, out).
    """

    scale: float
    transposed: bool

    def compute(self, parts: Sequence[torch.Tensor]) -> torch.Tensor:
        """The changed weight; see `Made.compute`."""
        weight, a, b, *magnitude = parts
        stored = weight.reshape(len(weight), -1)
        matrix = stored.T if self.transposed else stored  # (out, in), shares memory with the weight
        right = a.reshape(len(a), -1).to(torch.float64).mul_(self.scale)
        left = b.reshape(len(b), -1)
        n_rows = max(1, _BLOCK // max(1, matrix.shape[1]))
        for start in range(0, len(matrix), n_rows):
            rows = slice(start, start + n_rows)
            block = left[rows].to(torch.float64) @ right
            block += matrix[rows]
            if magnitude:
                norms = torch.linalg.vector_norm(block, dim=1)
                block *= (magnitude[0].reshape(-1)[rows].to(torch.float64) / norms)[:, None]
            matrix[rows] = block
        return stored.reshape(self.shape)


@dataclass(frozen=True)
class Shifted(Made):
    """A bias with a change: b + s·c.

    Attributes:
        sources: b and c.
        scale: s.
    """

    scale: float

    def compute(self, parts: Sequence[torch.Tensor]) -> torch.Tensor:
        """The changed bias; see `Made.compute`."""
        bias, change = (part.to(torch.float64) for part in parts)
        return (bias + self.scale * change).to(torch.float32)


@dataclass(frozen=True)
class WithRows(Made):
    """An embedding of which some rows are replaced.

    Attributes:
        sources: the embedding, (tokens, width), and the new rows.
        tokens: whose rows they are.
    """

    tokens: tuple[int, ...]

    def compute(self, parts: Sequence[torch.Tensor]) -> torch.Tensor:
        """The embedding with its new rows; see `Made.compute`."""
        embedding, rows = parts
        embedding[list(self.tokens)] = rows
        return embedding


@dataclass(frozen=True)
class Same(Made):
    """A tensor under another name: one that replaces the base's, or a head that was tied."""

    def compute(self, parts: Sequence[torch.Tensor]) -> torch.Tensor:
        """The tensor; see `Made.compute`."""
        return parts[0]


def wear(base: Parent, adapter: Parent) -> Parent:
    """Put an adapter on a model.

    Args:
        base: a whole model, which may wear others already.
        adapter: a LoRA in PEFT's files.

    Returns:
        A model of the same tensors, of which the adapted ones are computed when they are read; modules that the
        adapter brings are added.

    Raises:
        NotMergeable: the base is an adapter, the adapter is no LoRA, or something in it has no place in the base.
        MissingTensor: the base has no tensor of an adapted module.
        ShapeMismatch: naming both files.
        UnsupportedDtype: what is adapted holds codes, not numbers.
    """
    if base.checkpoint.kind == "adapter":
        message = f"{base.name} is an adapter; {adapter.name} can be put on a whole model only"
        raise NotMergeable(message, hint="name it as MODEL+ADAPTER")
    fitting = _Fitting(base, adapter, read_lora(adapter))
    made = fitting.made()
    checkpoint = base.checkpoint
    if fitting.unties(made):
        checkpoint = replace(checkpoint, config=_untied(checkpoint.config))
    n_tokens = rows_after(base, adapter, made)
    tokenizer = base.tokenizer
    if n_tokens:
        checkpoint = replace(checkpoint, config=with_rows(checkpoint.config, n_tokens))
        tokenizer = tokenizer_of(adapter) or tokenizer
    return replace(
        base,
        id=base.id + WORN + adapter.id,
        name=base.name + WORN + adapter.name,
        checkpoint=checkpoint,
        digests={name: digest for name, digest in base.digests.items() if name not in made},
        made={**base.made, **made},
        adapters=(*base.adapters, adapter),
        tokenizer=tokenizer,
    )


class _Fitting:
    """One adapter tried on one base."""

    def __init__(self, base: Parent, adapter: Parent, lora: Lora) -> None:
        self._base, self._adapter, self._lora = base, adapter, lora
        self._tensors = base.tensors
        embedding = next((n for n in self._tensors if EMBEDDING.search(n)), None)
        self._tied = embedding if base.checkpoint.tied and not self._heads() else None

    def made(self) -> dict[str, Source]:
        """Every tensor of the base that the adapter changes, and those it adds, by name."""
        made: dict[str, Source] = {}
        for name, source in self._changes():
            if name in made:
                message = f"{self._where} changes tensor {name} of {self._base.name} in two ways"
                raise NotMergeable(message)
            made[name] = source
        kept = self._kept_head(made)
        return {**made, **kept}

    def unties(self, made: Mapping[str, Source]) -> bool:
        """Tell whether the head has weights of its own now, and had none before."""
        return self._tied is not None and any(HEAD.search(name) for name in made)

    @property
    def _where(self) -> str:
        """The adapter, in messages."""
        return f"adapter {self._adapter.name} ({self._adapter.checkpoint.root})"

    def _heads(self) -> list[str]:
        """The base's heads with weights of their own."""
        return [name for name in self._tensors if HEAD.search(name)]

    def _changes(self) -> Iterator[tuple[str, Source]]:
        """Everything the adapter changes: (name in the base, what it becomes)."""
        for factors in self._lora.factors:
            yield self._adapted(factors)
            if factors.bias is not None:
                name, bias = self._own(f"{factors.path}.bias", factors.bias)
                self._refuse_shape(bias, factors.bias, fits=factors.bias.shape == bias.shape)
                sources = (bias, factors.bias)
                yield name, Shifted(name, bias.dtype, bias.shape, sources, factors.scale)
        for wanted, ref in self._lora.whole.items():
            name = self._find(wanted) or wanted
            old = self._tensors.get(name)
            if old is None:
                self._refuse_stray(wanted, ref)
            else:
                self._refuse_shape(old, ref, fits=old.shape == ref.shape or is_grown(old, ref))
            dtype = ref.dtype if old is None else old.dtype
            yield name, Same(name, dtype, ref.shape, (ref,))
        for path, (tokens, ref) in self._lora.rows.items():
            name, old = self._own(f"{path}.weight", ref)
            fits = len(old.shape) == 2 and ref.shape == (len(tokens), old.shape[1])  # noqa: PLR2004
            self._refuse_shape(old, ref, fits=fits and max(tokens, default=0) < old.shape[0])
            yield name, WithRows(name, old.dtype, old.shape, (old, ref), tokens)

    def _adapted(self, factors: Factors) -> tuple[str, Source]:
        """The weight of one adapted module."""
        name, weight = self._own(f"{factors.path}.weight", factors.a)
        a, b, magnitude = factors.a, factors.b, factors.magnitude
        change = (b.shape[0], *a.shape[1:])
        turned = len(change) == 2 and weight.shape == change[::-1]  # noqa: PLR2004
        transposed = turned and (
            factors.embedding or weight.shape != change or self._is_transposed(factors.path)
        )
        fits = turned if factors.embedding else (turned or weight.shape == change)
        self._refuse_shape(weight, b, a, fits=fits)
        if magnitude is not None:
            n_outputs = math.prod(magnitude.shape)
            self._refuse_shape(weight, magnitude, fits=n_outputs == b.shape[0])
        start: Source = weight
        if factors.weight is not None:
            self._refuse_shape(weight, factors.weight, fits=factors.weight.shape == weight.shape)
            start = factors.weight
        sources = (start, a, b, *(() if magnitude is None else (magnitude,)))
        made = Adapted(name, weight.dtype, weight.shape, sources, factors.scale, transposed)
        return name, made

    def _is_transposed(self, path: str) -> bool:
        """Whether a square weight is stored (in, out): as its namesakes are, else as the adapter's config says.

        The config has one word for all modules, and PEFT writes what it set for the last of them.
        """
        known = self._orders.get(path.rpartition(".")[2], set())
        return True in known if len(known) == 1 else self._lora.transposed

    @cached_property
    def _orders(self) -> dict[str, set[bool]]:
        """Last part of a module's path → whether such weights are stored (in, out), where shape and bias tell."""
        orders: dict[str, set[bool]] = {}
        for name, weight in self._tensors.items():
            path = name.removesuffix(".weight")
            bias = self._tensors.get(f"{path}.bias")
            if path == name or bias is None or len(weight.shape) != 2:  # noqa: PLR2004
                continue
            rows, columns = weight.shape
            if rows != columns and bias.shape in ((rows,), (columns,)):
                orders.setdefault(path.rpartition(".")[2], set()).add(bias.shape == (columns,))
        return orders

    def _refuse_stray(self, name: str, ref: TensorRef) -> None:
        """Refuse a tensor that the base lacks, unless its module, or its stack of layers, is new as a whole.

        Raises:
            MissingTensor: naming both files.
        """
        layer = split_layer(name)
        at = f".{layer[0]}" if layer else f".{name.rpartition('.')[0]}."
        if not HEAD.search(name) and any(at in f".{own}" for own in self._tensors):
            raise self._missing(name, ref)

    def _missing(self, name: str, ref: TensorRef) -> MissingTensor:
        """The error that the base has no tensor of this name."""
        message = (
            f"{self._base.name} ({self._base.checkpoint.root}) has no tensor {name}, "
            f"which {ref.name} of {ref.file} changes"
        )
        base = self._adapter.checkpoint.adapter_config.get("base_model_name_or_path")
        hint = f"it was trained on {base}" if base else "reg show lists the tensors of a model"
        return MissingTensor(message, hint=hint)

    def _own(self, wanted: str, ref: TensorRef) -> tuple[str, Source]:
        """The base's tensor for a name of the adapter: (its name there, the tensor).

        Raises:
            MissingTensor: there is none.
            UnsupportedDtype: it holds codes.
        """
        name = self._find(wanted)
        if name is None:
            raise self._missing(wanted, ref)
        source = self._tensors[self._tied if name not in self._tensors and self._tied else name]
        if source.dtype not in FLOATS:
            message = f"tensor {name} of {source.file} has dtype {source.dtype}; no adapter can be added to codes"
            raise UnsupportedDtype(message, hint="put the adapter on the base before quantisation")
        return name, source

    def _find(self, wanted: str) -> str | None:
        """The base's name for a tensor: the same, or one that is the same but for a prefix one side lacks.

        Raises:
            NotMergeable: several fit.
        """
        if wanted in self._tensors:
            return wanted
        fitting = [
            name
            for name in self._tensors
            if name.endswith("." + wanted) or wanted.endswith("." + name)
        ]
        if len(fitting) > 1:
            message = (
                f"{self._where} changes {wanted}, and {self._base.name} has {len(fitting)} tensors "
                f"of that name: {', '.join(sorted(fitting)[:3])}"
            )
            raise NotMergeable(message)
        if not fitting and self._tied and HEAD.search(wanted):
            return wanted
        return fitting[0] if fitting else None

    def _refuse_shape(self, old: Source, *new: TensorRef, fits: bool) -> None:
        """Refuse shapes that do not fit.

        Raises:
            ShapeMismatch: naming both files.
        """
        if not fits:
            shapes = " and ".join(f"{ref.name} of shape {list(ref.shape)}" for ref in new)
            message = (
                f"{shapes} in {new[0].file} do not fit {old.name} of shape {list(old.shape)} "
                f"in {old.file}"
            )
            raise ShapeMismatch(message, hint="an adapter fits the base it was trained on")

    def _kept_head(self, made: Mapping[str, Source]) -> dict[str, Source]:
        """A tied head as it was, where the embedding changes for whole and the head does not."""
        embedding = made.get(self._tied or "")
        if embedding is None or isinstance(embedding, WithRows):
            return {}  # rows of single tokens are shared with a tied head
        if any(HEAD.search(name) for name in made):
            return {}
        name = tied_head(self._base)
        if name is None:
            self._refuse_shared(embedding)
            return {}
        old = self._tensors[embedding.name]
        return {name: Same(name, old.dtype, old.shape, (old,))}

    def _refuse_shared(self, embedding: Source) -> None:
        """Refuse to change an embedding whose weights the output of an encoder uses, too, under a name of its own.

        Raises:
            NotMergeable: the network would compute with another head than it did with the adapter on.
        """
        named = self._base.checkpoint.config.get("architectures")
        kind = str(next(iter(named), "")) if isinstance(named, list) else ""
        if kind.endswith(_SHARED):
            message = (
                f"{self._where} changes {embedding.name} of {self._base.name}, "
                f"which the head of a {kind} shares"
            )
            raise NotMergeable(message, hint="an adapter of other modules can be put on")


def tied_head(model: Parent) -> str | None:
    """What the head of a tied model is called: of a decoder whose files have none, as decoders call it."""
    stored = [t.name for t in model.checkpoint.tensors if HEAD.search(t.name)]
    if stored:
        return stored[0]
    named = model.checkpoint.config.get("architectures")
    is_decoder = isinstance(named, list) and str(next(iter(named), "")).endswith(DECODERS)
    return _HEAD if is_decoder else None


def _untied(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config that says that the head has weights of its own."""
    untied = {**config, "tie_word_embeddings": False}
    inner = config.get("text_config")
    if isinstance(inner, dict) and "tie_word_embeddings" in inner:
        untied["text_config"] = {**inner, "tie_word_embeddings": False}
    return untied

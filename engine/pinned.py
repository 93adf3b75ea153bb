"""Pinned recipes: what was asked for with nothing left open.

Who makes one: `engine.pin`, from a recipe and the ids of its models, and `engine.recorded` when a merge is made again.
Who reads it: `engine.plan`. Parents are named by digest, every parameter has its value; the digest of the canonical
form is the recipe's identity.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine import vocabulary
from engine.method import Method
from engine.ops import shares
from engine.recipe import DTYPES, AdapterSize, Alignment, Rounding
from engine.setting import Filtered, Gradient, Scalar, Setting, plain, resolve
from engine.vocabulary import TokenizerChoice
from registry.documents import dump_yaml
from registry.fingerprint import digest_text

FORMAT = "homolog-recipe-2"
"""Name of the canonical form."""

BASE = -1
"""Stands for the base where a source says which model it is."""

ZERO = "zero"
"""Id and name of the base of adapters that are merged without one."""


@dataclass(frozen=True)
class PinnedSource:
    """One model's part in a slice.

    Attributes:
        model: its place in `PinnedRecipe.models`, or `BASE`.
        layers: [first, last) of its layers; None: all.
        values: the parameters that each model has for itself; {} for the base.
    """

    model: int
    layers: tuple[int, int] | None
    values: Mapping[str, Setting]


@dataclass(frozen=True)
class PinnedSlice:
    """Some layers of the output, or all.

    Attributes:
        sources: in the order that decides every sum.
        values: the parameters for all of them.
    """

    sources: tuple[PinnedSource, ...]
    values: Mapping[str, Setting]

    @property
    def models(self) -> tuple[PinnedSource, ...]:
        """The sources without the base."""
        return tuple(source for source in self.sources if source.model != BASE)

    def at(self, tensors: Sequence[str], tensor: str, depth: float) -> dict[str, Any]:
        """Every parameter's value, or tuple of one per model, for a tensor of the output.

        Args:
            tensors: its names in the models.
            tensor: its name in the output.
            depth: of its layer among those of the slice, in [0, 1].
        """
        found: dict[str, Any] = {n: resolve(s, tensor, depth) for n, s in self.values.items()}
        models = self.models
        for name in models[0].values:
            pairs = zip(models, tensors, strict=True)
            found[name] = tuple(resolve(m.values[name], own, depth) for m, own in pairs)
        return found


@dataclass(frozen=True)
class PinnedModule:
    """A part of the output, by the component of its tensors' names ("": all of them), and its slices."""

    name: str
    slices: tuple[PinnedSlice, ...]


@dataclass(frozen=True)
class PinnedRecipe:
    """A recipe with nothing left open.

    Attributes:
        method: the merge method.
        base: id of the base; None for methods that use none.
        models: ids, in the recipe's order.
        modules: which tensors are made of what; one module of one slice without layers for whole models.
        out_dtype, seed, tokenizer, chat_template, rounding, align: as in `engine.recipe.Recipe`.
        adapter: how large it may be, where the models are adapters and become one; None: a whole model is made.
        statistics: id of the checkpoint that holds each model's statistics, where the recipe names one.
        stages: id → the recipe whose result it stands for.
    """

    method: Method
    base: str | None
    models: tuple[str, ...]
    modules: tuple[PinnedModule, ...]
    out_dtype: str | None = None
    seed: int = 0
    tokenizer: TokenizerChoice | None = None
    chat_template: str | None = None
    rounding: Rounding = "nearest"
    align: Alignment | None = None
    adapter: AdapterSize | None = None
    statistics: tuple[str | None, ...] = ()
    stages: Mapping[str, "PinnedRecipe"] = field(default_factory=dict)

    @property
    def whole(self) -> PinnedSlice | None:
        """The only slice, where whole models are merged."""
        slices = [each for module in self.modules for each in module.slices]
        only = len(slices) == 1 and not self.modules[0].name
        return slices[0] if only and slices[0].sources[0].layers is None else None

    @property
    def values(self) -> dict[str, Setting | tuple[Setting, ...]]:
        """Parameter → setting, or one per model, where whole models are merged; {} for slices."""
        piece = self.whole
        if piece is None:
            return {}
        models = piece.models
        own = {name: tuple(m.values[name] for m in models) for name in models[0].values}
        return {**piece.values, **own}

    @property
    def parameters(self) -> dict[str, Any]:
        """`values` as JSON holds them: a list where each model has its own."""
        return {
            name: [plain(each) for each in setting]
            if isinstance(setting, tuple)
            else plain(setting)
            for name, setting in self.values.items()
        }

    def canonical(self) -> dict[str, Any]:
        """The canonical form as plain JSON values; `engine.recorded.from_canonical` reads it back."""
        form: dict[str, Any] = {
            "format": FORMAT,
            "method": self.method.name,
            "base": self.base,
            "models": list(self.models),
            "modules": [
                {"name": module.name, "slices": [_slice_document(s) for s in module.slices]}
                for module in self.modules
            ],
            "out_dtype": self.out_dtype,
            "seed": self.seed,
        }
        if self.tokenizer:
            form["tokenizer"] = vocabulary.as_document(self.tokenizer)
        if self.chat_template is not None:
            form["chat_template"] = self.chat_template
        if self.rounding != "nearest":
            form["round"] = self.rounding
        if self.align:
            form["align"] = {
                "method": self.align.method,
                **dict(sorted(self.align.options.items())),
            }
        if self.adapter:
            form["adapter"] = {"rank": self.adapter.rank, "energy": self.adapter.energy}
        if any(self.statistics):
            form["statistics"] = list(self.statistics)
        if self.stages:
            form["stages"] = {id_: stage.canonical() for id_, stage in sorted(self.stages.items())}
        return form

    @property
    def coefficients(self) -> tuple[float | None, ...]:
        """What each model's weights or task vector is multiplied with in the end.

        Where no one number says it, because signs are elected or an angle decides, what was asked for. None where
        it differs between tensors, and for methods that find the coefficients themselves.

        Raises:
            BadParameter: weights that sum to 0 cannot be normalised.
        """
        values = self.values
        weight, t, scale = values.get("weight"), values.get("t"), values.get("scale")
        factor = values.get("lambda", 1.0)
        if isinstance(weight, tuple) and not any(_differs(each) for each in (*weight, factor)):
            numbers = [float(each) for each in weight]  # type: ignore[arg-type]
            if "sign" in values:
                return tuple(numbers)
            normal = values.get("normalize", values.get("normalize_weights"))
            parts = shares(numbers) if normal is True else numbers
            return tuple(float(factor) * part for part in parts)  # type: ignore[arg-type]
        if isinstance(t, float) and len(self.models) == 2:  # noqa: PLR2004 - t is between two
            return (1.0 - t, t)
        if isinstance(scale, tuple) and len(scale) == len(self.models) == 1:
            return (None if _differs(scale[0]) else float(scale[0]),)  # type: ignore[arg-type]
        return (None,) * len(self.models)

    @property
    def text(self) -> str:
        """The canonical form as JSON text, keys sorted, no spaces."""
        return json.dumps(self.canonical(), sort_keys=True, separators=(",", ":"))

    @property
    def digest(self) -> str:
        """Hex digest of `text`."""
        return digest_text(self.text)


def as_yaml(pinned: PinnedRecipe, names: Mapping[str, str]) -> str:
    """The recipe as YAML that `reg merge` accepts, models by the ``names`` given for their ids."""
    documents = [*_stage_documents(pinned, names), _document(pinned, names)]
    return "---\n".join(dump_yaml(document) for document in documents)


def _stage_documents(pinned: PinnedRecipe, names: Mapping[str, str]) -> list[dict[str, Any]]:
    """A document for each recipe that this one names as a model, those they need first, each once."""
    found: dict[str, dict[str, Any]] = {}
    for id_, stage in pinned.stages.items():
        for document in [
            *_stage_documents(stage, names),
            {"name": names[id_], **_document(stage, names)},
        ]:
            found.setdefault(document["name"], document)
    return list(found.values())


def _document(pinned: PinnedRecipe, names: Mapping[str, str]) -> dict[str, Any]:
    """One document of the YAML form."""
    document: dict[str, Any] = {"merge_method": pinned.method.name}
    if pinned.base and pinned.base != ZERO:
        document["base_model"] = names[pinned.base]
    piece = pinned.whole
    if piece:
        document["models"] = [_source_document(pinned, source, names) for source in piece.sources]
        if piece.values:
            document["parameters"] = {k: plain(v) for k, v in sorted(piece.values.items())}
    elif [module.name for module in pinned.modules] == [""]:
        document["slices"] = _slices_document(pinned, pinned.modules[0], names)
    else:
        document["modules"] = {
            module.name or "default": {"slices": _slices_document(pinned, module, names)}
            for module in pinned.modules
        }
    return document | _output_document(pinned, names)


def _output_document(pinned: PinnedRecipe, names: Mapping[str, str]) -> dict[str, Any]:
    """What a document says of the output."""
    document: dict[str, Any] = {}
    if pinned.out_dtype:
        document["out_dtype"] = next(k for k, v in DTYPES.items() if v == pinned.out_dtype)
    if pinned.tokenizer:
        chosen = pinned.tokenizer.renamed(lambda id_: names.get(id_, id_))
        document["tokenizer"] = vocabulary.as_document(chosen)
    if pinned.chat_template is not None:
        document["chat_template"] = names.get(pinned.chat_template, pinned.chat_template)
    if pinned.rounding != "nearest":
        document["round"] = pinned.rounding
    if pinned.align:
        document["align"] = {"method": pinned.align.method, **pinned.align.options}
    if pinned.adapter and pinned.adapter != AdapterSize():
        document["adapter"] = {"rank": pinned.adapter.rank, "energy": pinned.adapter.energy}
    document["seed"] = pinned.seed
    return document


def _slices_document(
    pinned: PinnedRecipe, module: PinnedModule, names: Mapping[str, str]
) -> list[dict[str, Any]]:
    """The slices of a module as YAML has them."""
    return [
        {
            "sources": [_source_document(pinned, source, names) for source in piece.sources],
            "parameters": {k: plain(v) for k, v in sorted(piece.values.items())},
        }
        for piece in module.slices
    ]


def _source_document(
    pinned: PinnedRecipe, source: PinnedSource, names: Mapping[str, str]
) -> dict[str, Any]:
    """One model of a slice as YAML has it."""
    id_ = pinned.base if source.model == BASE else pinned.models[source.model]
    document: dict[str, Any] = {"model": names[id_ or ""]}
    if source.layers:
        document["layer_range"] = list(source.layers)
    if source.values:
        document["parameters"] = {k: plain(v) for k, v in sorted(source.values.items())}
    if source.model != BASE and pinned.statistics and pinned.statistics[source.model]:
        document["statistics"] = pinned.statistics[source.model]
    return document


def _slice_document(piece: PinnedSlice) -> dict[str, Any]:
    """One slice of the canonical form."""
    return {
        "parameters": {name: plain(setting) for name, setting in sorted(piece.values.items())},
        "sources": [
            {
                "model": source.model,
                "layers": list(source.layers) if source.layers else None,
                "parameters": {name: plain(s) for name, s in sorted(source.values.items())},
            }
            for source in piece.sources
        ],
    }


def _differs(setting: Setting | tuple[Setting, ...]) -> bool:
    """Tell whether a setting is no single number."""
    return isinstance(setting, Gradient | Filtered | tuple)


__all__ = [
    "BASE",
    "FORMAT",
    "ZERO",
    "PinnedModule",
    "PinnedRecipe",
    "PinnedSlice",
    "PinnedSource",
    "Scalar",
    "as_yaml",
]

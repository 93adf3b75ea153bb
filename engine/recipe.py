"""Recipes: what the user asks for.

Who makes one: `engine.recipe_file` from YAML (mergekit's keys), the options of `reg merge`, or Python. Who reads it:
`engine.pinned`, which says what is meant; here is only what was said.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from math import inf
from typing import Any, Literal

from engine.vocabulary import TokenizerChoice
from registry.errors import BadRecipe

DTYPES = {
    "float32": "F32", "float16": "F16", "bfloat16": "BF16", "float64": "F64",
}  # fmt: skip
"""Output dtypes as recipes spell them → as safetensors spells them."""

Rounding = Literal["nearest", "stochastic"]
"""How float32 becomes the output's dtype: to the nearest value, or up or down at random without bias."""

_FLAG = (False, True)
_ALIGNMENTS: dict[str, dict[str, tuple[object, ...]]] = {
    "weight_matching": {"residual": _FLAG},
    "ot_fusion": {
        "residual": _FLAG,
        "solver": ("exact", "sinkhorn"),
        "regularization": (),
        "marginals": ("preserve", "paper", "code"),
    },
}
"""Options of each alignment, and what they may be; (): a number above 0."""

ROUNDINGS: tuple[Rounding, ...] = ("nearest", "stochastic")


@dataclass(frozen=True)
class Part:
    """One model of a recipe and the parameters that are its own.

    Attributes:
        model: a path, a name or an id; ``model+adapter`` for a model that wears a LoRA; the name of a recipe that
            stands before this one in the same file.
        parameters: name → value, gradient or filters, see `engine.setting`.
        layers: [first, last) of its layers; None: all.
        statistics: path or name of a checkpoint that holds the model's Fisher information or Gram matrices under
            the names of its tensors; for the methods that use them.
    """

    model: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    layers: tuple[int, int] | None = None
    statistics: str | None = None


@dataclass(frozen=True)
class Slice:
    """Some layers of the output.

    Attributes:
        parts: where they come from, as many layers of each.
        parameters: for all of them.
    """

    parts: tuple[Part, ...]
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Module:
    """A part of the output that is made by itself.

    Attributes:
        name: a component of its tensors' names, such as vision_tower; "" for the whole model.
        slices: its layers, from the first on; one whose parts have no ``layers`` is all of them.
        parameters: for all of them.
    """

    name: str
    slices: tuple[Slice, ...]
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class AdapterSize:
    """How large the factors of an adapter that is merged from adapters may be.

    Attributes:
        rank: at most; 0: the ranks of those that are merged, added up, or as ``energy`` asks.
        energy: share of each ‖δ‖² that is kept at least, as far as ``rank`` allows; 0: as ``rank`` asks.
    """

    rank: int = 0
    energy: float = 0.0


@dataclass(frozen=True)
class Alignment:
    """A step before the merge that brings all models into the basis of the first.

    Attributes:
        method: "weight_matching" or "ot_fusion".
        options: of that method, by name.
    """

    method: str
    options: Mapping[str, float | bool | str] = field(default_factory=dict)


@dataclass(frozen=True)
class Recipe:
    """What the user asks for.

    Attributes:
        method: name of a merge method.
        models: in the order that decides every sum; with ``modules``, every part of those once.
        base: the base of the task vectors; None: the common base of the models, where the method needs one.
        parameters: name → value, gradient or filters, for all models.
        out_dtype: dtype of the result as safetensors spells it; None: each tensor keeps the base's own.
        seed: of the random masks.
        modules: what is merged from layers; (): whole models.
        tokenizer: how vocabularies are brought together; None: they must have the same shapes.
        chat_template: auto, chatml, one of the models, or the template itself; None: the reference's.
        compat: a tool whose defaults the parameters have; None: the papers'.
        rounding: of the result.
        align: done first; None: the models share a basis.
        adapter: how large the result may be, where all models are adapters; None: no limit is set.
        stages: recipes whose results are models of this one, by name.
    """

    method: str
    models: tuple[Part, ...]
    base: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    out_dtype: str | None = None
    seed: int = 0
    modules: tuple[Module, ...] = ()
    tokenizer: TokenizerChoice | None = None
    chat_template: str | None = None
    compat: str | None = None
    rounding: Rounding = "nearest"
    align: Alignment | None = None
    adapter: AdapterSize | None = None
    stages: Mapping[str, "Recipe"] = field(default_factory=dict)

    def like(self, tool: str) -> "Recipe":
        """The same recipe, and those before it, with the defaults of a tool."""
        stages = {name: stage.like(tool) for name, stage in self.stages.items()}
        return replace(self, compat=tool, stages=stages)


def out_dtype(name: str | None) -> str | None:
    """The safetensors code of a dtype as recipes spell it; None stays None.

    Raises:
        BadRecipe: there is no such dtype to write.
    """
    if name is None:
        return None
    if isinstance(name, str) and name in DTYPES:
        return DTYPES[name]
    message = f"dtype is {name!r:.200}; it must be one of " + ", ".join(DTYPES)
    raise BadRecipe(message)


def mapping(value: Any, where: str) -> dict[str, Any]:
    """``value`` as a mapping with text keys.

    Raises:
        BadRecipe: it is none; ``where`` says what it would have been.
    """
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        message = f"{where} is {value!r:.200}; it must be a mapping"
        raise BadRecipe(message)
    return value


def refuse_unknown(fields: Mapping[str, Any], keys: Sequence[str], where: str) -> None:
    """Refuse a key that would be passed over, with the nearest one there is."""
    for key in fields:
        if key not in keys:
            near = get_close_matches(key, keys, n=1)
            message = f"{where}: unknown key {key!r:.200}; known keys are " + ", ".join(keys)
            raise BadRecipe(message, hint=f"did you mean {near[0]}?" if near else None)


def layer_range(value: Any, where: str) -> tuple[int, int]:
    """A range of layers."""
    whole = isinstance(value, list) and [type(x) for x in value] == [int, int]
    if not whole or not 0 <= value[0] < value[1]:
        message = (
            f"{where}: layer_range is {value!r:.200}; it must be [first, last + 1], counted from 0"
        )
        raise BadRecipe(message)
    return value[0], value[1]


def parse_rounding(value: Any, where: str) -> Rounding:
    """The rounding; "nearest" where there is none.

    Raises:
        BadRecipe: there is no such rounding.
    """
    if value is None:
        return "nearest"
    for rounding in ROUNDINGS:
        if value == rounding:
            return rounding
    message = f"{where}: round is {value!r:.200}; it must be one of " + ", ".join(ROUNDINGS)
    raise BadRecipe(message)


def parse_adapter(value: Any, where: str) -> AdapterSize | None:
    """What is said of a merged adapter's factors; None where nothing is.

    Raises:
        BadRecipe: an unknown key or a value out of range.
    """
    if value is None:
        return None
    fields = mapping(value, where)
    refuse_unknown(fields, ("rank", "energy"), where)
    rank, energy = fields.get("rank", 0), fields.get("energy", 0.0)
    if (
        type(rank) is not int
        or rank < 0
        or type(energy) not in {int, float}
        or not 0 <= energy <= 1
    ):
        message = f"{where}: rank is {rank!r:.200} and energy {energy!r:.200}; rank is a count, energy in [0, 1]"
        raise BadRecipe(message, hint="0 and 0 keep the adapters' ranks, added up")
    return AdapterSize(rank, float(energy))


def parse_alignment(value: Any, where: str) -> Alignment | None:
    """The step before the merge: a name, or a mapping with the name as ``method``."""
    if value is None:
        return None
    fields = {"method": value} if isinstance(value, str) else mapping(value, where)
    method = fields.get("method")
    if method not in _ALIGNMENTS:
        message = f"{where}: method is {method!r:.200}; it must be one of " + ", ".join(_ALIGNMENTS)
        raise BadRecipe(message)
    refuse_unknown(fields, ("method", *_ALIGNMENTS[method]), where)
    options = {key: value for key, value in fields.items() if key != "method"}
    for key, given in options.items():
        choices = _ALIGNMENTS[method][key]
        number = isinstance(given, int | float) and type(given) is not bool and 0 < given < inf
        if not (any(type(given) is type(c) and given == c for c in choices) if choices else number):
            allowed = ", ".join(map(str, choices)).lower() or "a number above 0"
            message = f"{where}: {key} of {method} is {given!r:.200}; it must be {allowed}"
            raise BadRecipe(message)
    return Alignment(method, options)

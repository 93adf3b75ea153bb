"""Recipes: what the user asks for.

Who makes one: a YAML file (mergekit's keys), or the options of `reg merge`. Who reads it: `engine.plan`.
`pin` turns it into its canonical form: parents by digest, every parameter with its value, nothing left open.
The digest of the canonical form is the recipe's identity.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from engine import methods
from engine.method import Method, Parameter
from registry.documents import dump_yaml, parse_yaml, read_yaml
from registry.errors import BadParameter, BadRecipe
from registry.fingerprint import digest_text

DTYPES = {
    "float32": "F32", "float16": "F16", "bfloat16": "BF16", "float64": "F64",
}  # fmt: skip
"""Output dtypes as recipes spell them → as safetensors spells them."""

_KEYS = ("merge_method", "base_model", "models", "parameters", "dtype", "out_dtype", "seed")
_LATER = {
    "slices": "layer slices",
    "modules": "merging several modules",
    "tokenizer_source": "rebuilding tokenizers",
    "tokenizer": "rebuilding tokenizers",
    "chat_template": "changing the chat template",
}

Value = float | bool | str


@dataclass(frozen=True)
class Part:
    """One model of a recipe and the parameters that are its own.

    Attributes:
        model: a path, a name or an id.
        parameters: name → value.
    """

    model: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Recipe:
    """What the user asks for.

    Attributes:
        method: name of a merge method.
        models: in the order that decides every sum.
        base: the base of the task vectors; None: the common base of the models, where the method needs one.
        parameters: name → value, for all models.
        out_dtype: dtype of the result as safetensors spells it; None: each tensor keeps the base's own.
        seed: of the random masks.
    """

    method: str
    models: tuple[Part, ...]
    base: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    out_dtype: str | None = None
    seed: int = 0


@dataclass(frozen=True)
class PinnedRecipe:
    """A recipe with nothing left open.

    Attributes:
        method: the merge method.
        base: id of the base; None for methods that use none.
        models: ids, in the recipe's order.
        values: parameter → one value, or one per model.
        out_dtype: as in `Recipe`.
        seed: as in `Recipe`.
    """

    method: Method
    base: str | None
    models: tuple[str, ...]
    values: Mapping[str, Value | tuple[float, ...]]
    out_dtype: str | None
    seed: int

    def canonical(self) -> dict[str, Any]:
        """The canonical form as plain JSON values; `from_canonical` reads it back."""
        return {
            "format": "homolog-recipe-1",
            "method": self.method.name,
            "base": self.base,
            "models": list(self.models),
            "parameters": {
                k: list(v) if isinstance(v, tuple) else v for k, v in sorted(self.values.items())
            },
            "out_dtype": self.out_dtype,
            "seed": self.seed,
        }

    @property
    def coefficients(self) -> tuple[float | None, ...]:
        """What each model's weights or task vector is multiplied with in the end.

        Where signs are elected no one number says it: the weight that was asked for. None without any weight.
        """
        weight, t = self.values.get("weight"), self.values.get("t")
        if isinstance(weight, tuple):
            if "sign" in self.values:
                return weight
            total = sum(weight) if self.values.get("normalize") is True else 1.0
            scale = self.values.get("lambda", 1.0)
            return tuple(w / total * float(scale) for w in weight)  # type: ignore[arg-type]
        if isinstance(t, float):
            return (1.0 - t, t)
        return (None,) * len(self.models)

    @property
    def text(self) -> str:
        """The canonical form as JSON text, keys sorted, no spaces."""
        return json.dumps(self.canonical(), sort_keys=True, separators=(",", ":"))

    @property
    def digest(self) -> str:
        """Hex digest of `text`."""
        return digest_text(self.text)


def read_recipe(path: Path) -> Recipe:
    """Read a recipe file.

    Raises:
        BadRecipe: an unknown key (with the nearest known one), a missing key or a value of the wrong kind.
        BadDocument: not YAML.
    """
    return parse_recipe(read_yaml(path), str(path))


def recipe_from_text(text: str) -> Recipe:
    """Read a recipe from YAML text."""
    return parse_recipe(parse_yaml(text), "the recipe")


def parse_recipe(document: Any, where: str) -> Recipe:
    """Make a recipe of a parsed YAML document; ``where`` names it in errors."""
    top = _mapping(document, where)
    for key in top:
        if key in _LATER:
            message = f"{where}: key {key!r}: {_LATER[key]} is not supported yet"
            raise BadRecipe(message, hint="merge whole models with `models:`")
        if key not in _KEYS:
            near = get_close_matches(str(key), _KEYS, n=1)
            message = f"{where}: unknown key {key!r}; known keys are " + ", ".join(_KEYS)
            raise BadRecipe(message, hint=f"did you mean {near[0]}?" if near else None)
    for key in ("merge_method", "models"):
        if key not in top:
            raise BadRecipe(
                f"{where}: key {key!r} is missing", hint="reg methods lists the methods"
            )
    models = top["models"]
    if not isinstance(models, list) or not models:
        raise BadRecipe(f"{where}: models is {models!r}; it must be a list of at least one model")
    parts = tuple(_part(entry, f"{where}, models[{i}]") for i, entry in enumerate(models))
    base = top.get("base_model")
    if base is not None and not isinstance(base, str):
        raise BadRecipe(f"{where}: base_model is {base!r}; it must be a name, an id or a path")
    seed = top.get("seed", 0)
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise BadRecipe(f"{where}: seed is {seed!r}; it must be a whole number")
    return Recipe(
        method=str(top["merge_method"]),
        models=parts,
        base=base,
        parameters=_mapping(top.get("parameters") or {}, f"{where}, parameters"),
        out_dtype=out_dtype(top.get("out_dtype") or top.get("dtype")),
        seed=seed,
    )


def out_dtype(name: str | None) -> str | None:
    """The safetensors code of a dtype as recipes spell it; None stays None."""
    if name is None or name in DTYPES:
        return DTYPES[name] if name else None
    message = f"dtype is {name!r}; it must be one of " + ", ".join(DTYPES)
    raise BadRecipe(message)


def pin(recipe: Recipe, base: str | None, models: Sequence[str]) -> PinnedRecipe:
    """Fill in everything a recipe leaves open.

    A base that is also listed among the models is no model of its own for methods on task vectors; for methods
    on weights it is the first.

    Args:
        recipe: as the user gave it.
        base: id of the base, where there is one.
        models: ids of ``recipe.models``, in that order.

    Raises:
        UnknownMethod: with the nearest name.
        BadRecipe: the wrong number of models, an unknown parameter, or no base where one is needed.
        BadParameter: a value outside its range.
    """
    method = methods.get(recipe.method)
    pairs = list(zip(recipe.models, models, strict=True))
    if method.space == "delta":
        pairs = [pair for pair in pairs if pair[1] != base]
    else:
        pairs.sort(key=lambda pair: pair[1] != base)
    low, high = method.n_models
    if not low <= len(pairs) <= high:
        many = str(low) if low == high else f"{low} to {high}"
        message = f"method {method.name} merges {many} models; the recipe has {len(pairs)}"
        raise BadRecipe(message, hint=f"reg methods {method.name}")
    parts = [part for part, _ in pairs]
    _refuse_unknown(method, recipe, parts)
    values: dict[str, Value | tuple[float, ...]] = {}
    for parameter in method.parameters:
        if parameter.per_model:
            own = (p.parameters.get(parameter.name) for p in parts)
            chosen = (_common(recipe, parameter) if v is None else v for v in own)
            values[parameter.name] = tuple(_number(parameter, v) for v in chosen)
        else:
            values[parameter.name] = _checked(parameter, _common(recipe, parameter))
    needs_base = method.space == "delta" or "base" in method.context
    if needs_base and base is None:
        message = f"method {method.name} works on task vectors and needs a base"
        raise BadRecipe(message, hint="give --base MODEL, or base_model: in the recipe")
    return PinnedRecipe(
        method=method,
        base=base if needs_base else None,
        models=tuple(model for _, model in pairs),
        values=values,
        out_dtype=recipe.out_dtype,
        seed=recipe.seed,
    )


def from_canonical(document: Mapping[str, Any]) -> PinnedRecipe:
    """Read a canonical form back. Law: ``from_canonical(p.canonical()) == p``."""
    if document.get("format") != "homolog-recipe-1":
        message = (
            f"recipe format is {document.get('format')!r}; this version reads homolog-recipe-1"
        )
        raise BadRecipe(message, hint="pip install --upgrade homolog")
    return PinnedRecipe(
        method=methods.get(document["method"]),
        base=document["base"],
        models=tuple(document["models"]),
        values={
            k: tuple(v) if isinstance(v, list) else v for k, v in document["parameters"].items()
        },
        out_dtype=document["out_dtype"],
        seed=document["seed"],
    )


def as_yaml(pinned: PinnedRecipe, names: Mapping[str, str]) -> str:
    """The recipe as YAML that `reg merge` accepts, models by the ``names`` given for their ids."""
    shared = {k: v for k, v in sorted(pinned.values.items()) if not isinstance(v, tuple)}
    own = {k: v for k, v in pinned.values.items() if isinstance(v, tuple)}
    document: dict[str, Any] = {"merge_method": pinned.method.name}
    if pinned.base:
        document["base_model"] = names[pinned.base]
    document["models"] = [
        {
            "model": names[model],
            **({"parameters": {k: v[i] for k, v in own.items()}} if own else {}),
        }
        for i, model in enumerate(pinned.models)
    ]
    if shared:
        document["parameters"] = shared
    if pinned.out_dtype:
        document["out_dtype"] = next(k for k, v in DTYPES.items() if v == pinned.out_dtype)
    document["seed"] = pinned.seed
    return dump_yaml(document)


def _part(entry: Any, where: str) -> Part:
    """One entry of ``models``."""
    if isinstance(entry, str):
        return Part(entry)
    fields = _mapping(entry, where)
    unknown = [key for key in fields if key not in ("model", "parameters")]
    if unknown or not isinstance(fields.get("model"), str):
        message = (
            f"{where} is {entry!r}; it must be a mapping with `model` and, if wanted, `parameters`"
        )
        raise BadRecipe(message)
    return Part(fields["model"], _mapping(fields.get("parameters") or {}, where + ", parameters"))


def _mapping(value: Any, where: str) -> dict[str, Any]:
    """``value`` as a mapping with text keys."""
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise BadRecipe(f"{where} is {value!r}; it must be a mapping")
    return value


def _refuse_unknown(method: Method, recipe: Recipe, parts: Sequence[Part]) -> None:
    """Refuse parameters the method does not have."""
    names = [p.name for p in method.parameters]
    for given in (recipe.parameters, *(part.parameters for part in parts)):
        for name in given:
            if name not in names:
                near = get_close_matches(name, names, n=1)
                message = (
                    f"method {method.name} has no parameter {name!r}; it has {', '.join(names)}"
                )
                raise BadRecipe(message, hint=f"did you mean {near[0]}?" if near else None)
    for part in parts:
        for name in part.parameters:
            if not next(p for p in method.parameters if p.name == name).per_model:
                message = f"parameter {name!r} of method {method.name} is one for all models"
                raise BadRecipe(message, hint="move it to the recipe's own `parameters:`")


def _common(recipe: Recipe, parameter: Parameter) -> Any:
    """The value for all models: the recipe's, else the default.

    Raises:
        BadParameter: there is neither.
    """
    value = recipe.parameters.get(parameter.name, parameter.default)
    if value is None:
        raise BadParameter(f"parameter {parameter.name} is missing; it must be {parameter.allowed}")
    return value


def _checked(parameter: Parameter, value: Any) -> Value:
    """A value of the right kind and range."""
    if isinstance(value, list):
        message = (
            f"parameter {parameter.name} is a list; gradients over layers are not supported yet"
        )
        raise BadRecipe(message, hint=f"give {parameter.allowed}")
    return parameter.check(value)


def _number(parameter: Parameter, value: Any) -> float:
    """A number in the parameter's range."""
    return float(_checked(parameter, value))

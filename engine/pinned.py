"""Pinned recipes: what was asked for with nothing left open.

Who makes one: `pin`, from a recipe and the ids of its models. Who reads it: `engine.plan`, and `from_canonical` when
a merge is made again. Parents are named by digest, every parameter has its value; the digest of the canonical form
is the recipe's identity.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from engine import methods
from engine.method import Method, Parameter
from engine.ops import shares
from engine.recipe import DTYPES, Part, Recipe, mapping
from registry.documents import dump_yaml
from registry.errors import BadParameter, BadRecipe
from registry.fingerprint import digest_text

FORMAT = "homolog-recipe-1"
"""Name of the canonical form."""

Value = float | bool | str


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
            "format": FORMAT,
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

        Where no one number says it, because signs are elected or an angle decides, what was asked for. None for
        methods that find the coefficients themselves.

        Raises:
            BadParameter: weights that sum to 0 cannot be normalised.
        """
        values = self.values
        weight, t, scale = values.get("weight"), values.get("t"), values.get("scale")
        if isinstance(weight, tuple):
            if "sign" in values:
                return weight
            parts = shares(weight) if values.get("normalize") is True else weight
            factor = float(values.get("lambda", 1.0))  # type: ignore[arg-type]
            return tuple(factor * part for part in parts)
        if isinstance(t, float):
            return (1.0 - t, t)
        return (scale if isinstance(scale, float) else None,) * len(self.models)

    @property
    def text(self) -> str:
        """The canonical form as JSON text, keys sorted, no spaces."""
        return json.dumps(self.canonical(), sort_keys=True, separators=(",", ":"))

    @property
    def digest(self) -> str:
        """Hex digest of `text`."""
        return digest_text(self.text)


def check(recipe: Recipe) -> Method:
    """Refuse what can be refused before a single model is looked at; return the method.

    Raises:
        UnknownMethod: with the nearest name.
        BadRecipe: a parameter that the method does not have, or not per model.
        BadParameter: a value outside its range.
    """
    method = methods.get(recipe.method)
    for parameter in method.parameters:
        if not parameter.per_model:
            _checked(parameter, _common(recipe, parameter))
        elif recipe.parameters.get(parameter.name) is not None:
            _checked(parameter, recipe.parameters[parameter.name])
    for name in recipe.parameters:
        _known(method, name)
    for part in recipe.models:
        for name, value in part.parameters.items():
            parameter = _known(method, name)
            if not parameter.per_model:
                message = f"parameter {name!r:.200} of method {method.name} is one for all models"
                raise BadRecipe(message, hint="move it to the recipe's own `parameters:`")
            if value is not None:
                _checked(parameter, value)
    return method


def pin(recipe: Recipe, base: str | None, models: Sequence[str]) -> PinnedRecipe:
    """Fill in everything a recipe leaves open.

    A base that is also listed among the models is no model of its own for methods on task vectors; for methods
    on weights it is the first.

    Args:
        recipe: as the user gave it.
        base: id of the base, where there is one.
        models: ids of ``recipe.models``, in that order.

    Raises:
        BadRecipe: the wrong number of models, or no base where one is needed.
        BadParameter: a value is missing, or weights that sum to 0 cannot be normalised.
        UnknownMethod, BadRecipe, BadParameter: as `check`.
    """
    method = check(recipe)
    pairs = list(zip(recipe.models, models, strict=True))
    if method.space == "delta":
        pairs = [pair for pair in pairs if pair[1] != base]
    else:
        pairs.sort(key=lambda pair: pair[1] != base)
    _refuse_number(method, len(pairs))
    values: dict[str, Value | tuple[float, ...]] = {}
    for parameter in method.parameters:
        if parameter.per_model:
            own = (part.parameters.get(parameter.name) for part, _ in pairs)
            chosen = (_common(recipe, parameter) if v is None else v for v in own)
            values[parameter.name] = tuple(_number(parameter, v) for v in chosen)
        else:
            values[parameter.name] = _checked(parameter, _common(recipe, parameter))
    if _needs_base(method) and base is None:
        message = f"method {method.name} works on task vectors and needs a base"
        raise BadRecipe(message, hint="give --base MODEL, or base_model: in the recipe")
    pinned = PinnedRecipe(
        method=method,
        base=base if _needs_base(method) else None,
        models=tuple(model for _, model in pairs),
        values=values,
        out_dtype=recipe.out_dtype,
        seed=recipe.seed,
    )
    _ = pinned.coefficients  # refuses weights that cannot be normalised
    return pinned


def from_canonical(document: Any) -> PinnedRecipe:
    """Read a canonical form back. Law: ``from_canonical(p.canonical()) == p``.

    A parameter that the document does not name has its default: it is younger than the document.

    Raises:
        UnknownMethod, BadRecipe, BadParameter: it is not the canonical form of a recipe.
    """
    where = "the recorded recipe"
    fields = mapping(document, where)
    if fields.get("format") != FORMAT:
        message = (
            f"{where} has the format {fields.get('format')!r:.200}; this version reads {FORMAT}"
        )
        raise BadRecipe(message, hint="pip install --upgrade homolog")
    ids, base = fields.get("models"), fields.get("base")
    if not isinstance(ids, list) or not all(isinstance(i, str) for i in [*ids, base or ""]):
        message = (
            f"{where} has the models {ids!r:.200} and the base {base!r:.200}; they must be ids"
        )
        raise BadRecipe(message)
    out, seed = fields.get("out_dtype"), fields.get("seed")
    if out not in (None, *DTYPES.values()) or type(seed) is not int:
        message = f"{where} has the out_dtype {out!r:.200} and the seed {seed!r:.200}"
        raise BadRecipe(message)
    values = mapping(fields.get("parameters"), where + ", parameters")
    lists = {name: value for name, value in values.items() if isinstance(value, list)}
    if any(len(value) != len(ids) for value in lists.values()):
        message = f"{where} must have one value for each of {len(ids)} models: {lists!r:.200}"
        raise BadRecipe(message)
    recipe = Recipe(
        method=str(fields.get("method")),
        models=tuple(
            Part(model, {name: value[i] for name, value in lists.items()})
            for i, model in enumerate(ids)
        ),
        parameters={name: value for name, value in values.items() if name not in lists},
        out_dtype=out,
        seed=seed,
    )
    return pin(recipe, base, ids)


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


def _known(method: Method, name: str) -> Parameter:
    """The parameter of this name."""
    parameter = method.parameter(name)
    if parameter is None:
        names = [p.name for p in method.parameters]
        near = get_close_matches(name, names, n=1)
        message = f"method {method.name} has no parameter {name!r:.200}; it has {', '.join(names)}"
        raise BadRecipe(message, hint=f"did you mean {near[0]}?" if near else None)
    return parameter


def _refuse_number(method: Method, n_models: int) -> None:
    """Refuse more or fewer models than the method takes."""
    low, high = method.n_models
    if not low <= n_models <= high:
        many = str(low) if low == high else f"{low} to {high}"
        message = f"method {method.name} merges {many} models; the recipe has {n_models}"
        raise BadRecipe(message, hint=f"reg methods {method.name}")


def _needs_base(method: Method) -> bool:
    """Tell whether a method has to do with a base."""
    return method.space == "delta" or "base" in method.context


def _common(recipe: Recipe, parameter: Parameter) -> Any:
    """The value for all models: the recipe's, else the default.

    Raises:
        BadParameter: there is neither.
    """
    value = recipe.parameters.get(parameter.name)
    if value is None:
        value = parameter.default
    if value is None:
        message = f"parameter {parameter.name} is missing; it must be {parameter.allowed}"
        raise BadParameter(message)
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

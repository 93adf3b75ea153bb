"""Pinning: from what was said to what is meant.

`check` refuses what can be refused before a single model is looked at; `pin` fills in everything a recipe leaves open.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from engine import methods
from engine.method import Method, Parameter
from engine.pinned import BASE, PinnedModule, PinnedRecipe, PinnedSlice, PinnedSource
from engine.recipe import (
    Module,
    Part,
    Recipe,
    Slice,
)  # fmt: skip
from engine.setting import Scalar, Setting, checked, first_of, parse, varies
from registry.errors import BadParameter, BadRecipe

_SCIENTIFIC = re.compile(r"[+-]?\d+(?:\.\d*)?[eE][+-]?\d+")  # YAML 1.1 takes 1e-4 for a text

Settings = Mapping[str, Any]


def check(recipe: Recipe) -> Method:
    """Refuse what can be refused before a single model is looked at; return the method.

    Raises:
        UnknownMethod: with the nearest name.
        BadRecipe: a parameter that the method does not have, or not per model.
        BadParameter: a value outside its range.
    """
    method = methods.get(recipe.method)
    defaults(method, recipe.compat)
    for settings in _shared(recipe):
        for name, value in settings.items():
            _read(known(method, name), value)
    for part in _parts(recipe):
        for name, value in part.parameters.items():
            parameter = known(method, name)
            if not parameter.per_model:
                message = f"parameter {name!r:.200} of method {method.name} is one for all models"
                raise BadRecipe(message, hint="move it to the recipe's own `parameters:`")
            _read(parameter, value)
    for stage in recipe.stages.values():
        check(stage)
    return method


def pin(
    recipe: Recipe,
    base: str | None,
    models: Sequence[str],
    *,
    statistics: Sequence[str | None] = (),
    stages: Mapping[str, PinnedRecipe] | None = None,
) -> PinnedRecipe:
    """Fill in everything a recipe leaves open.

    A base that is also listed among the models is no model of its own for methods on task vectors; for methods
    on weights it is the first.

    Args:
        recipe: as the user gave it.
        base: id of the base, where there is one.
        models: ids of ``recipe.models``, in that order.
        statistics: ids of their checkpoints of statistics; (): there are none.
        stages: id → pinned, for those of ``models`` and ``base`` that are results of recipes.

    Raises:
        BadRecipe: the wrong number of models, or no base where one is needed.
        BadParameter: a value is missing, or weights that sum to 0 cannot be normalised.
        UnknownMethod, BadRecipe, BadParameter: as `check`.
    """
    method = check(recipe)
    if method.base == "needed" and base is None:
        message = f"method {method.name} works on task vectors and needs a base"
        raise BadRecipe(message, hint="give --base MODEL, or base_model: in the recipe")
    used = base if method.base != "none" else None
    pairs = list(zip(recipe.models, models, statistics or [None] * len(models), strict=True))
    if used:
        pairs = [pair for pair in pairs if pair[1] != used]
    elif base:
        pairs.sort(key=lambda pair: pair[1] != base)
    leads = 0 if base and not used and pairs and pairs[0][1] == base else None
    modules = recipe.modules or (Module("", (Slice(tuple(part for part, _, _ in pairs)),)),)
    places = _places(recipe, [model for _, model, _ in pairs], models, used)
    pinned = PinnedRecipe(
        method=method,
        base=used,
        models=tuple(model for _, model, _ in pairs),
        modules=tuple(_module(recipe, method, module, places, leads) for module in modules),
        out_dtype=recipe.out_dtype,
        seed=recipe.seed,
        tokenizer=recipe.tokenizer,
        chat_template=recipe.chat_template,
        rounding=recipe.rounding,
        align=recipe.align,
        adapter=recipe.adapter,
        statistics=tuple(id_ for _, _, id_ in pairs) if any(statistics) else (),
        stages=stages or {},
    )
    refuse_varying_survey(pinned)
    _ = pinned.coefficients  # refuses weights that cannot be normalised
    return pinned


def _places(
    recipe: Recipe, ids: Sequence[str], models: Sequence[str], used: str | None
) -> dict[str, int]:
    """Text of each model that slices name → its place among the pinned models."""
    named = zip(recipe.models, models, strict=True)
    return {part.model: BASE if id_ == used else ids.index(id_) for part, id_ in named}


def _module(
    recipe: Recipe, method: Method, module: Module, places: Mapping[str, int], first: int | None
) -> PinnedModule:
    """One module with the parameters of its slices and their sources; ``first`` is the model that leads all others."""
    usual = defaults(method, recipe.compat)
    slices = []
    for piece in module.slices:
        shared = (piece.parameters, module.parameters, recipe.parameters)
        sources = []
        for i, part in enumerate(piece.parts):
            place = places[part.model] if recipe.modules else i
            own = (part.parameters, *shared)
            values = {p.name: chained(p, own, usual) for p in method.parameters if p.per_model}
            sources.append(PinnedSource(place, part.layers, {} if place == BASE else values))
        sources.sort(key=lambda source: source.model != first)
        values = {p.name: chained(p, shared, usual) for p in method.parameters if not p.per_model}
        slices.append(PinnedSlice(tuple(sources), values))
        refuse_number(method, len(slices[-1].models))
    return PinnedModule(module.name, tuple(slices))


def chained(parameter: Parameter, settings: Sequence[Settings], usual: Settings) -> Setting:
    """What the first of ``settings`` that says something of a parameter says, for each tensor.

    Raises:
        BadParameter: for some tensors none says anything, and there is no default.
    """
    said = [
        _read(parameter, s[parameter.name]) for s in settings if s.get(parameter.name) is not None
    ]
    default = usual.get(parameter.name)
    found = first_of(*said, None if default is None else _read(parameter, default))
    if found is None:
        where = " for tensors that no filter fits" if said else ""
        message = f"parameter {parameter.name} is missing{where}; it must be {parameter.allowed}"
        raise BadParameter(message)
    return found


def defaults(method: Method, compat: str | None) -> dict[str, Any]:
    """Parameter → default, as the papers have it or as a tool does.

    Raises:
        BadRecipe: the tool has no such method.
    """
    own = {parameter.name: parameter.default for parameter in method.parameters}
    if compat is None:
        return own
    if compat not in method.compat:
        tools = sorted({tool for each in methods.all_methods().values() for tool in each.compat})
        message = f"compat is {compat!r:.200}; method {method.name} is like that of " + (
            ", ".join(sorted(method.compat)) or f"none of {', '.join(tools)}"
        )
        raise BadRecipe(message, hint="leave out compat:")
    return own | dict(method.compat[compat])


def _shared(recipe: Recipe) -> Iterator[Settings]:
    """All parameters that are for more than one model."""
    yield recipe.parameters
    for module in recipe.modules:
        yield module.parameters
        for piece in module.slices:
            yield piece.parameters


def _parts(recipe: Recipe) -> Iterator[Part]:
    """All parts of a recipe."""
    yield from recipe.models
    for module in recipe.modules:
        for piece in module.slices:
            yield from piece.parts


def known(method: Method, name: str) -> Parameter:
    """The parameter of this name."""
    parameter = method.parameter(name)
    if parameter is None:
        names = [p.name for p in method.parameters]
        near = get_close_matches(name, names, n=1)
        message = f"method {method.name} has no parameter {name!r:.200}; it has " + (
            ", ".join(names) or "none"
        )
        raise BadRecipe(message, hint=f"did you mean {near[0]}?" if near else None)
    return parameter


def refuse_number(method: Method, n_models: int) -> None:
    """Refuse more or fewer models than the method takes."""
    low, high = method.n_models
    if not low <= n_models <= high:
        many = str(low) if low == high else f"{low} to {high}"
        message = f"method {method.name} merges {many} models; the recipe has {n_models}"
        raise BadRecipe(message, hint=f"reg methods {method.name}")


def refuse_varying_survey(pinned: PinnedRecipe) -> None:
    """Refuse gradients and filters on what decides of the model as a whole."""
    method = pinned.method
    for module in pinned.modules:
        for piece in module.slices:
            if method.scope_with(piece.values) != "model":
                continue
            for name in method.surveyed:
                own = [
                    piece.values.get(name),
                    *(source.values.get(name) for source in piece.models),
                ]
                if any(setting is not None and varies(setting) for setting in own):
                    message = (
                        f"parameter {name} of method {method.name} is one for the whole model here"
                    )
                    tensors = "scope: tensor lets it vary" if method.parameter("scope") else None
                    raise BadRecipe(message, hint=tensors)


def _read(parameter: Parameter, value: Any) -> Setting | None:
    """A setting all of whose values are of the right kind and range; None where nothing is said."""
    if value is None:
        return None

    def check(one: Any) -> Scalar:
        if (
            isinstance(one, str)
            and parameter.kind in {"number", "count"}
            and _SCIENTIFIC.fullmatch(one)
        ):
            one = float(one)
        return parameter.check(one)

    return checked(parse(value, f"parameter {parameter.name}"), check)

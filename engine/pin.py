"""Pinning: from what was said to what is meant.

`check` refuses what can be refused before a single model is looked at; `pin` fills in everything a recipe leaves open;
`from_canonical` reads back what was recorded.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from engine import methods
from engine.method import Method, Parameter
from engine.pinned import BASE, FORMAT, PinnedModule, PinnedRecipe, PinnedSlice, PinnedSource
from engine.recipe import (
    DTYPES,
    Module,
    Part,
    Recipe,
    Slice,
    layer_range,
    mapping,
    parse_alignment,
    parse_rounding,
)  # fmt: skip
from engine.setting import Scalar, Setting, checked, first_of, parse, varies
from engine.vocabulary import parse_choice
from registry.errors import BadParameter, BadRecipe

_SCIENTIFIC = re.compile(r"[+-]?\d+(?:\.\d*)?[eE][+-]?\d+")  # YAML 1.1 takes 1e-4 for a text
_WHERE = "the recorded recipe"
_FORMAT_1 = "homolog-recipe-1"

Settings = Mapping[str, Any]


def check(recipe: Recipe) -> Method:
    """Refuse what can be refused before a single model is looked at; return the method.

    Raises:
        UnknownMethod: with the nearest name.
        BadRecipe: a parameter that the method does not have, or not per model.
        BadParameter: a value outside its range.
    """
    method = methods.get(recipe.method)
    _defaults(method, recipe.compat)
    for settings in _shared(recipe):
        for name, value in settings.items():
            _read(_known(method, name), value)
    for part in _parts(recipe):
        for name, value in part.parameters.items():
            parameter = _known(method, name)
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
        statistics=tuple(id_ for _, _, id_ in pairs) if any(statistics) else (),
        stages=stages or {},
    )
    _refuse_varying_survey(pinned)
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
    defaults = _defaults(method, recipe.compat)
    slices = []
    for piece in module.slices:
        shared = (piece.parameters, module.parameters, recipe.parameters)
        sources = []
        for i, part in enumerate(piece.parts):
            place = places[part.model] if recipe.modules else i
            own = (part.parameters, *shared)
            values = {p.name: _chained(p, own, defaults) for p in method.parameters if p.per_model}
            sources.append(PinnedSource(place, part.layers, {} if place == BASE else values))
        sources.sort(key=lambda source: source.model != first)
        values = {
            p.name: _chained(p, shared, defaults) for p in method.parameters if not p.per_model
        }
        slices.append(PinnedSlice(tuple(sources), values))
        _refuse_number(method, len(slices[-1].models))
    return PinnedModule(module.name, tuple(slices))


def _chained(parameter: Parameter, settings: Sequence[Settings], defaults: Settings) -> Setting:
    """What the first of ``settings`` that says something of a parameter says, for each tensor.

    Raises:
        BadParameter: for some tensors none says anything, and there is no default.
    """
    said = [
        _read(parameter, s[parameter.name]) for s in settings if s.get(parameter.name) is not None
    ]
    default = defaults.get(parameter.name)
    found = first_of(*said, None if default is None else _read(parameter, default))
    if found is None:
        where = " for tensors that no filter fits" if said else ""
        message = f"parameter {parameter.name} is missing{where}; it must be {parameter.allowed}"
        raise BadParameter(message)
    return found


def from_canonical(document: Any) -> PinnedRecipe:
    """Read a canonical form back. Law: ``from_canonical(p.canonical()) == p``.

    A parameter that the document does not name has its default: it is younger than the document.

    Raises:
        UnknownMethod, BadRecipe, BadParameter: it is not the canonical form of a recipe.
    """
    fields = mapping(document, _WHERE)
    if fields.get("format") not in (FORMAT, _FORMAT_1):
        message = (
            f"{_WHERE} has the format {fields.get('format')!r:.200}; this version reads {FORMAT}"
        )
        raise BadRecipe(message, hint="pip install --upgrade homolog")
    method = methods.get(str(fields.get("method")))
    ids, base = fields.get("models"), fields.get("base")
    if not isinstance(ids, list) or not all(isinstance(i, str) for i in [*ids, base or ""]):
        message = (
            f"{_WHERE} has the models {ids!r:.200} and the base {base!r:.200}; they must be ids"
        )
        raise BadRecipe(message)
    if method.base == "needed" and not base:
        message = f"{_WHERE}: method {method.name} works on task vectors and needs a base"
        raise BadRecipe(message)
    out, seed = fields.get("out_dtype"), fields.get("seed")
    if out not in (None, *DTYPES.values()) or type(seed) is not int:
        message = f"{_WHERE} has the out_dtype {out!r:.200} and the seed {seed!r:.200}"
        raise BadRecipe(message)
    listed = (
        _old_modules(fields, len(ids)) if fields["format"] == _FORMAT_1 else fields.get("modules")
    )
    modules = [mapping(module, f"{_WHERE}, modules") for module in _list(listed, "modules")]
    stages = mapping(fields.get("stages") or {}, f"{_WHERE}, stages")
    pinned = PinnedRecipe(
        method=method,
        base=base,
        models=tuple(ids),
        modules=tuple(
            PinnedModule(
                str(module.get("name")),
                tuple(
                    _recorded(method, s, len(ids), base)
                    for s in _list(module.get("slices"), "slices")
                ),
            )
            for module in modules
        ),
        out_dtype=out,
        seed=seed,
        tokenizer=parse_choice(fields["tokenizer"], _WHERE) if "tokenizer" in fields else None,
        chat_template=fields.get("chat_template"),
        rounding=parse_rounding(fields.get("round"), _WHERE),
        align=parse_alignment(fields.get("align"), _WHERE),
        statistics=tuple(fields.get("statistics") or ()),
        stages={id_: from_canonical(stage) for id_, stage in stages.items()},
    )
    _refuse_varying_survey(pinned)
    _ = pinned.coefficients
    return pinned


def _old_modules(fields: Mapping[str, Any], n_models: int) -> list[dict[str, Any]]:
    """The modules of a record in the first format, whose parameters are lists where each model has its own."""
    values = mapping(fields.get("parameters"), f"{_WHERE}, parameters")
    own = {name: value for name, value in values.items() if isinstance(value, list)}
    if any(len(value) != n_models for value in own.values()):
        message = f"{_WHERE} must have one value for each of {n_models} models: {own!r:.200}"
        raise BadRecipe(message)
    sources = [
        {"model": i, "layers": None, "parameters": {name: value[i] for name, value in own.items()}}
        for i in range(n_models)
    ]
    shared = {name: value for name, value in values.items() if name not in own}
    return [{"name": "", "slices": [{"parameters": shared, "sources": sources}]}]


def _recorded(method: Method, document: Any, n_models: int, base: str | None) -> PinnedSlice:
    """One slice as it was recorded."""
    fields = mapping(document, f"{_WHERE}, slices")
    sources = []
    for entry in _list(fields.get("sources"), "sources"):
        source = mapping(entry, f"{_WHERE}, sources")
        place, layers = source.get("model"), source.get("layers")
        if type(place) is not int or not (0 <= place < n_models or (place == BASE and base)):
            message = f"{_WHERE} has the source {place!r:.200}; there are {n_models} models"
            raise BadRecipe(message)
        values = {} if place == BASE else _recorded_values(method, source, per_model=True)
        span = None if layers is None else layer_range(layers, _WHERE)
        sources.append(PinnedSource(place, span, values))
    found = PinnedSlice(tuple(sources), _recorded_values(method, fields, per_model=False))
    _refuse_number(method, len(found.models))
    return found


def _recorded_values(method: Method, fields: Settings, *, per_model: bool) -> dict[str, Setting]:
    """The parameters of a slice, or of one of its sources, as they were recorded."""
    said = mapping(fields.get("parameters"), f"{_WHERE}, parameters")
    for name in said:
        if _known(method, name).per_model is not per_model:
            message = (
                f"{_WHERE} has parameter {name!r:.200} of method {method.name} in the wrong place"
            )
            raise BadRecipe(message)
    fitting = [p for p in method.parameters if p.per_model is per_model]
    return {p.name: _chained(p, (said,), _defaults(method, None)) for p in fitting}


def _list(value: Any, what: str) -> list[Any]:
    """A list with something in it."""
    if not isinstance(value, list) or not value:
        message = f"{_WHERE}: {what} is {value!r:.200}; it must be a list of at least one"
        raise BadRecipe(message)
    return value


def _defaults(method: Method, compat: str | None) -> dict[str, Any]:
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


def _known(method: Method, name: str) -> Parameter:
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


def _refuse_number(method: Method, n_models: int) -> None:
    """Refuse more or fewer models than the method takes."""
    low, high = method.n_models
    if not low <= n_models <= high:
        many = str(low) if low == high else f"{low} to {high}"
        message = f"method {method.name} merges {many} models; the recipe has {n_models}"
        raise BadRecipe(message, hint=f"reg methods {method.name}")


def _refuse_varying_survey(pinned: PinnedRecipe) -> None:
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

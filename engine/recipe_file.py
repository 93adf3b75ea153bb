"""Recipe files: YAML with mergekit's keys, and a name for every mistake.

Every recipe that mergekit reads is read unchanged: ``models``, ``slices`` or ``modules``; parameters as values, gradients
over layers, or filters by tensor name; tokenizers; several documents in one file, of which the later ones name the
earlier ones as models. A key that is not known is refused with the nearest one that is.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.recipe import (
    Module,
    Part,
    Recipe,
    Slice,
    layer_range,
    mapping,
    out_dtype,
    parse_adapter,
    parse_alignment,
    parse_rounding,
    refuse_unknown,
)  # fmt: skip
from engine.vocabulary import TokenizerChoice, parse_choice
from registry.documents import parse_yaml_all, read_yaml_all
from registry.errors import BadRecipe

_KEYS = (
    "merge_method", "base_model", "models", "slices", "modules", "parameters", "dtype", "out_dtype", "seed",
    "tokenizer_source", "tokenizer", "chat_template", "compat", "round", "align", "adapter", "name",
)  # fmt: skip
_BODIES = ("models", "slices", "modules")
_IDLE = ("int8_mask",)  # saves memory in mergekit; changes no result


def read_recipe(path: Path) -> Recipe:
    """Read a recipe file; of several documents, the last that has no name, or the last, is what is made.

    Raises:
        BadRecipe: an unknown key (with the nearest known one), a missing key or a value of the wrong kind.
        BadDocument: not YAML.
    """
    return _from_documents(read_yaml_all(path), str(path))


def recipe_from_text(text: str) -> Recipe:
    """Read a recipe from YAML text."""
    return _from_documents(parse_yaml_all(text, where="the recipe"), "the recipe")


def parse_recipe(document: Any, where: str) -> Recipe:
    """Make a recipe of one parsed YAML document; ``where`` names it in errors."""
    top = mapping(document, where)
    refuse_unknown(top, _KEYS, where)
    method = top.get("merge_method")
    if "merge_method" not in top:
        message = f"{where}: key 'merge_method' is missing"
        raise BadRecipe(message, hint="reg methods lists the methods")
    if not isinstance(method, str):
        message = f"{where}: merge_method is {method!r:.200}; it must be a name"
        raise BadRecipe(message)
    bodies = [key for key in _BODIES if top.get(key) is not None]
    if len(bodies) != 1:
        found = f"has {' and '.join(bodies)}" if bodies else "lacks the key 'models'"
        message = f"{where} {found}; it must have one of models, slices and modules"
        raise BadRecipe(message)
    modules = _modules(top, where) if bodies != ["models"] else ()
    parts = _distinct(modules) if modules else _parts(top["models"], f"{where}, models")
    return Recipe(
        method=method,
        models=parts,
        base=_text(top, "base_model", where, "a name, an id or a path"),
        parameters=_parameters(top, where),
        out_dtype=out_dtype(top.get("dtype") if top.get("out_dtype") is None else top["out_dtype"]),
        seed=_seed(top, where),
        modules=modules,
        tokenizer=_tokenizer(top, where),
        chat_template=_text(top, "chat_template", where, "auto, chatml, a model or a template"),
        compat=_text(top, "compat", where, "the name of a tool, such as mergekit"),
        rounding=parse_rounding(top.get("round"), where),
        align=parse_alignment(top.get("align"), f"{where}, align"),
        adapter=parse_adapter(top.get("adapter"), f"{where}, adapter"),
    )


def _from_documents(documents: list[Any], where: str) -> Recipe:
    """The recipe that several documents make together."""
    if len(documents) <= 1:
        return parse_recipe(documents[0] if documents else None, where)
    recipes: dict[str, Recipe] = {}
    final: Recipe | None = None
    above: tuple[str, ...] = ()
    for i, document in enumerate(documents):
        place = f"{where}, document {i + 1}"
        recipe = parse_recipe(document, place)
        name = _text(mapping(document, place), "name", place, "a name")
        if name in recipes or (name is None and final is not None):
            message = f"{place}: " + (
                f"name {name!r:.200} comes twice" if name else "two documents have no name"
            )
            raise BadRecipe(message, hint="give each document but the last a name: of its own")
        if name is None:
            final = recipe
        else:
            recipes[name] = recipe
    if final is None:
        last = next(reversed(recipes))
        final, above = recipes[last], (last,)
    return _staged(final, recipes, above, where)


def _staged(
    recipe: Recipe, named: Mapping[str, Recipe], above: tuple[str, ...], where: str
) -> Recipe:
    """The recipe with the recipes that it names as models, and those with theirs."""
    used = [recipe.base, *(part.model for part in recipe.models)]
    names = [name for name in dict.fromkeys(used) if name is not None and name in named]
    stages = {}
    for name in names:
        if name in above:
            message = f"{where}: recipe {name!r:.200} needs its own result"
            raise BadRecipe(message)
        stages[name] = _staged(named[name], named, (*above, name), where)
    return replace(recipe, stages=stages)


def _modules(top: Mapping[str, Any], where: str) -> tuple[Module, ...]:
    """The modules of a recipe that has ``slices`` or ``modules``."""
    if top.get("slices") is not None:
        return (Module("", _slices(top["slices"], f"{where}, slices")),)
    found = []
    for name, body in mapping(top["modules"], f"{where}, modules").items():
        place = f"{where}, modules, {name}"
        fields = mapping(body, place)
        refuse_unknown(fields, ("models", "slices", "parameters"), place)
        given = [key for key in ("models", "slices") if fields.get(key) is not None]
        if len(given) != 1:
            message = f"{place} must have either models or slices"
            raise BadRecipe(message)
        if given == ["slices"]:
            slices = _slices(fields["slices"], f"{place}, slices")
        else:
            slices = (Slice(_parts(fields["models"], f"{place}, models")),)
        found.append(Module("" if name == "default" else name, slices, _parameters(fields, place)))
    if not found:
        message = f"{where}: modules is empty"
        raise BadRecipe(message)
    return tuple(found)


def _slices(value: Any, where: str) -> tuple[Slice, ...]:
    """The slices of one module."""
    if not isinstance(value, list) or not value:
        message = f"{where} is {value!r:.200}; it must be a list of at least one slice"
        raise BadRecipe(message)
    slices = []
    for i, entry in enumerate(value):
        place = f"{where}[{i}]"
        fields = mapping(entry, place)
        refuse_unknown(fields, ("sources", "parameters"), place)
        parts = _parts(fields.get("sources"), f"{place}, sources", layers=True)
        lengths = {last - first for part in parts if part.layers for first, last in [part.layers]}
        if len(lengths) > 1:
            message = f"{place}: its sources have {' and '.join(map(str, sorted(lengths)))} layers; they must have as many"
            raise BadRecipe(message)
        slices.append(Slice(parts, _parameters(fields, place)))
    return tuple(slices)


def _distinct(modules: Iterable[Module]) -> tuple[Part, ...]:
    """Every model that the modules name, once, in order."""
    parts = [part for module in modules for piece in module.slices for part in piece.parts]
    first = {part.model: Part(part.model, statistics=part.statistics) for part in reversed(parts)}
    return tuple(first[model] for model in dict.fromkeys(part.model for part in parts))


def _parts(value: Any, where: str, *, layers: bool = False) -> tuple[Part, ...]:
    """A list of models, or of the sources of a slice."""
    if not isinstance(value, list) or not value:
        message = f"{where} is {value!r:.200}; it must be a list of at least one model"
        raise BadRecipe(message)
    return tuple(_part(entry, f"{where}[{i}]", layers=layers) for i, entry in enumerate(value))


def _part(entry: Any, where: str, *, layers: bool) -> Part:
    """One model, or one source of a slice."""
    if isinstance(entry, str) and not layers:
        return Part(entry)
    fields = mapping(entry, where)
    keys = ("model", "parameters", "statistics")
    refuse_unknown(fields, (*keys, "layer_range") if layers else keys, where)
    model = _text(fields, "model", where, "a name, an id or a path")
    if model is None:
        message = f"{where}: model is None; it must be a name, an id or a path"
        raise BadRecipe(message)
    statistics = _text(fields, "statistics", where, "a name, an id or a path")
    span = layer_range(fields.get("layer_range"), where) if layers else None
    return Part(model, _parameters(fields, where), span, statistics)


def _text(fields: Mapping[str, Any], key: str, where: str, right: str) -> str | None:
    """A text, or None where the key is missing."""
    value = fields.get(key)
    if value is not None and not isinstance(value, str):
        message = f"{where}: {key} is {value!r:.200}; it must be {right}"
        raise BadRecipe(message)
    return value


def _seed(top: Mapping[str, Any], where: str) -> int:
    """The seed; 0 where there is none."""
    seed = top.get("seed", 0)
    if not isinstance(seed, int) or isinstance(seed, bool):
        message = f"{where}: seed is {seed!r:.200}; it must be a whole number"
        raise BadRecipe(message)
    return seed


def _tokenizer(top: Mapping[str, Any], where: str) -> TokenizerChoice | None:
    """How vocabularies are brought together."""
    given = [key for key in ("tokenizer_source", "tokenizer") if top.get(key) is not None]
    if len(given) > 1:
        message = f"{where} has tokenizer_source and tokenizer; it must have one of them"
        raise BadRecipe(message)
    return parse_choice(top[given[0]], f"{where}, {given[0]}") if given else None


def _parameters(fields: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The mapping below the key ``parameters`` without what changes no result; {} where there is none."""
    value = fields.get("parameters")
    found = {} if value is None else mapping(value, f"{where}, parameters")
    return {key: setting for key, setting in found.items() if key not in _IDLE}

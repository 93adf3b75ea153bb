"""Recorded recipes: the canonical form read back, as hostile as any other document."""

from collections.abc import Mapping
from typing import Any

from engine import methods
from engine.method import Method
from engine.pin import chained, defaults, known, refuse_number, refuse_varying_survey
from engine.pinned import BASE, FORMAT, PinnedModule, PinnedRecipe, PinnedSlice, PinnedSource
from engine.recipe import (
    DTYPES,
    layer_range,
    mapping,
    parse_adapter,
    parse_alignment,
    parse_rounding,
)
from engine.setting import Setting
from engine.vocabulary import parse_choice
from registry.errors import BadRecipe

_WHERE = "the recorded recipe"
_FORMAT_1 = "homolog-recipe-1"


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
    pinned = PinnedRecipe(
        method=method,
        base=base,
        models=tuple(ids),
        modules=_modules(method, fields, len(ids), base),
        out_dtype=out,
        seed=seed,
        **_options(fields),
    )
    refuse_varying_survey(pinned)
    _ = pinned.coefficients
    return pinned


def _modules(
    method: Method, fields: Mapping[str, Any], n_models: int, base: str | None
) -> tuple[PinnedModule, ...]:
    """The modules as they were recorded."""
    listed = fields.get("modules")
    if fields["format"] == _FORMAT_1:
        listed = _old_modules(fields, n_models)
    found = []
    for entry in _list(listed, "modules"):
        module = mapping(entry, f"{_WHERE}, modules")
        slices = _list(module.get("slices"), "slices")
        pieces = tuple(_recorded(method, piece, n_models, base) for piece in slices)
        found.append(PinnedModule(str(module.get("name")), pieces))
    return tuple(found)


def _options(fields: Mapping[str, Any]) -> dict[str, Any]:
    """What a recipe may say and need not, as it was recorded."""
    stages = mapping(fields.get("stages") or {}, f"{_WHERE}, stages")
    template, statistics = fields.get("chat_template"), fields.get("statistics") or []
    whole = isinstance(statistics, list) and all(isinstance(s, str | None) for s in statistics)
    if not whole or not isinstance(template, str | None):
        message = f"{_WHERE} has the statistics {statistics!r:.200} and the chat_template {template!r:.200}"
        raise BadRecipe(message)
    return {
        "tokenizer": parse_choice(fields["tokenizer"], _WHERE) if "tokenizer" in fields else None,
        "chat_template": template,
        "rounding": parse_rounding(fields.get("round"), _WHERE),
        "align": parse_alignment(fields.get("align"), _WHERE),
        "adapter": parse_adapter(fields.get("adapter"), _WHERE),
        "statistics": tuple(statistics),
        "stages": {id_: from_canonical(stage) for id_, stage in stages.items()},
    }


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
    refuse_number(method, len(found.models))
    return found


def _recorded_values(
    method: Method, fields: Mapping[str, Any], *, per_model: bool
) -> dict[str, Setting]:
    """The parameters of a slice, or of one of its sources, as they were recorded."""
    said = mapping(fields.get("parameters"), f"{_WHERE}, parameters")
    for name in said:
        if known(method, name).per_model is not per_model:
            message = (
                f"{_WHERE} has parameter {name!r:.200} of method {method.name} in the wrong place"
            )
            raise BadRecipe(message)
    fitting = [p for p in method.parameters if p.per_model is per_model]
    return {p.name: chained(p, (said,), defaults(method, None)) for p in fitting}


def _list(value: Any, what: str) -> list[Any]:
    """A list with something in it."""
    if not isinstance(value, list) or not value:
        message = f"{_WHERE}: {what} is {value!r:.200}; it must be a list of at least one"
        raise BadRecipe(message)
    return value

"""Recipes: what the user asks for.

Who makes one: a YAML file (mergekit's keys), or the options of `reg merge`. Who reads it: `engine.pinned`, which says
what is meant; here is only what was said.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from registry.documents import parse_yaml, read_yaml
from registry.errors import BadRecipe

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
    top = mapping(document, where)
    for key in top:
        if key in _LATER:
            message = f"{where}: key {key!r}: {_LATER[key]} is not supported yet"
            raise BadRecipe(message, hint="merge whole models with `models:`")
    _refuse_unknown(top, _KEYS, where)
    for key in ("merge_method", "models"):
        if key not in top:
            message = f"{where}: key {key!r} is missing"
            raise BadRecipe(message, hint="reg methods lists the methods")
    method, models = top["merge_method"], top["models"]
    if not isinstance(method, str):
        message = f"{where}: merge_method is {method!r:.200}; it must be a name"
        raise BadRecipe(message)
    if not isinstance(models, list) or not models:
        message = f"{where}: models is {models!r:.200}; it must be a list of at least one model"
        raise BadRecipe(message)
    parts = tuple(_part(entry, f"{where}, models[{i}]") for i, entry in enumerate(models))
    base = top.get("base_model")
    if base is not None and not isinstance(base, str):
        message = f"{where}: base_model is {base!r:.200}; it must be a name, an id or a path"
        raise BadRecipe(message)
    seed = top.get("seed", 0)
    if not isinstance(seed, int) or isinstance(seed, bool):
        message = f"{where}: seed is {seed!r:.200}; it must be a whole number"
        raise BadRecipe(message)
    return Recipe(
        method=method,
        models=parts,
        base=base,
        parameters=_parameters(top, where),
        out_dtype=out_dtype(top.get("dtype") if top.get("out_dtype") is None else top["out_dtype"]),
        seed=seed,
    )


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


def _part(entry: Any, where: str) -> Part:
    """One entry of ``models``."""
    if isinstance(entry, str):
        return Part(entry)
    fields = mapping(entry, where)
    _refuse_unknown(fields, ("model", "parameters"), where)
    if not isinstance(fields.get("model"), str):
        message = (
            f"{where}: model is {fields.get('model')!r:.200}; it must be a name, an id or a path"
        )
        raise BadRecipe(message)
    return Part(fields["model"], _parameters(fields, where))


def _refuse_unknown(fields: Mapping[str, Any], keys: Sequence[str], where: str) -> None:
    """Refuse a key that would be passed over, with the nearest one there is."""
    for key in fields:
        if key not in keys:
            near = get_close_matches(key, keys, n=1)
            message = f"{where}: unknown key {key!r:.200}; known keys are " + ", ".join(keys)
            raise BadRecipe(message, hint=f"did you mean {near[0]}?" if near else None)


def _parameters(fields: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The mapping below the key ``parameters``; {} where there is none."""
    value = fields.get("parameters")
    return {} if value is None else mapping(value, f"{where}, parameters")

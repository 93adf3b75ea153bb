"""mergekit's recipes: which models they name, in which role, and with what weight.

A recipe lies beside a merge as `mergekit_config.yml`, or stands in a block of its card. Models are named in `models`,
in the `sources` of `slices`, and in both of them below `modules`, each as a text `path@revision+lora` or spelled out.
A weight that differs from layer to layer or from tensor to tensor is no single coefficient.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from registry.card import Card

_FENCED = re.compile(r"^(`{3,})ya?ml[ \t]*\r?\n(.*?)^\1[ \t]*\r?$", re.MULTILINE | re.DOTALL)
_MAX_BLOCKS = 20
_SAYS_SO = "[mergekit]"


@dataclass(frozen=True)
class Mention:
    """One mention of a model.

    Attributes:
        value: its name, or what stands in the place of one.
        is_base: whether it is the base of what is merged.
        weight: number; None where there is none, or more than one.
        raw: what it was read from.
    """

    value: Any
    is_base: bool
    weight: float | None
    raw: Any


def mentions(document: Mapping[str, Any], wrong: list[str]) -> Iterator[Mention]:
    """Every mention of a model in one recipe, the models first, then the bases; what is no list is noted in ``wrong``.

    `tokenizer_source` names where tokens come from, and no parent.
    """
    bases = [document]
    for part, outer in _parts(document):
        yield from _models(part, "models", outer, wrong)
        for piece in _listed(part, "slices", wrong):
            if isinstance(piece, dict):
                bases.append(piece)
                yield from _models(piece, "sources", [piece, *outer], wrong)
    for part in bases:
        if part.get("base_model") is not None:
            raw = {"base_model": part["base_model"]}
            for value in references(part["base_model"]):
                yield Mention(value, is_base=True, weight=None, raw=raw)


def references(value: Any) -> list[Any]:
    """The model, and the adapter that it wears, of a reference; a value that is none, as it is."""
    if isinstance(value, str):
        model, plus, lora = value.partition("+")
        worn = plus and model.strip() and lora.strip() and "+" not in lora
        return [model, lora] if worn else [value]
    if not isinstance(value, dict):
        return [value]
    found = [_path(value.get("model", value)), _path(value.get("lora"))]
    return [path for path in found if path] or [value]


def recipes(card: Card) -> list[str]:
    """The recipes in the text of a card that says mergekit made the model."""
    tags = card.front_matter.get("tags")
    if _SAYS_SO not in card.body and not (isinstance(tags, list) and "mergekit" in tags):
        return []
    blocks = [match[2] for match in _FENCED.finditer(card.body)][:_MAX_BLOCKS]
    return [text for text in blocks if re.search(r"^(?:- )?merge_method\s*:", text, re.MULTILINE)]


def _parts(
    document: Mapping[str, Any],
) -> Iterator[tuple[Mapping[str, Any], list[Mapping[str, Any]]]]:
    """Whatever may list models, with what its parameters fall back on, nearest first."""
    yield document, [document]
    modules = document.get("modules")
    for module in modules.values() if isinstance(modules, dict) else ():
        if isinstance(module, dict):
            yield module, [module, document]


def _models(
    part: Mapping[str, Any], key: str, outer: list[Mapping[str, Any]], wrong: list[str]
) -> Iterator[Mention]:
    """The models of a list."""
    for item in _listed(part, key, wrong):
        own = item if isinstance(item, dict) else {}
        weight = _weight([own, *outer])
        found = references(item.get("model", item) if isinstance(item, dict) else item)
        for i, value in enumerate(found):  # an adapter that is worn has no weight of its own
            yield Mention(value, is_base=False, weight=None if i else weight, raw=item)


def _listed(part: Mapping[str, Any], key: str, wrong: list[str]) -> list[Any]:
    """The items of a list; none when it is absent or, which is noted, something else."""
    value = part.get(key)
    if value is None or isinstance(value, list):
        return value or []
    wrong.append(f"{key} is a {type(value).__name__}, it must be a list")
    return []


def _weight(places: list[Mapping[str, Any]]) -> float | None:
    """The weight from the first place that gives one."""
    for place in places:
        parameters = place.get("parameters")
        if isinstance(parameters, dict) and parameters.get("weight") is not None:
            weight: float | None = _constant(parameters["weight"])
            return weight
    return None


def _constant(value: Any) -> Any:
    """A value that is the same for all layers and tensors; None for one that is not."""
    if isinstance(value, dict):
        return None if value.get("filter") not in (None, "*") else _constant(value.get("value"))
    if isinstance(value, list):
        found = [_constant(item) for item in value]
        return found[0] if found and all(item == found[0] for item in found) else None
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _path(value: Any) -> str | None:
    """The path of a reference, with its revision."""
    if isinstance(value, str):
        return value
    path = value.get("path") if isinstance(value, dict) else None
    if not isinstance(path, str):
        return None
    revision = value.get("revision")
    return f"{path}@{revision}" if isinstance(revision, str) else path

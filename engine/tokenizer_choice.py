"""Tokenizer choices: what a recipe says of the output's vocabulary, in mergekit's two spellings.

``tokenizer_source: union | base | MODEL``, or ``tokenizer:`` with that as ``source``, with rules for single ``tokens``
and with ``pad_to_multiple_of``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any

from registry.errors import BadRecipe

UNION, BASE = "union", "base"

MAX_PADDING = 1 << 16
"""Largest ``pad_to_multiple_of``; common ones are 64 to 256."""

_KEYS = ("source", "tokens", "pad_to_multiple_of")
_RULE_KEYS = ("source", "force")
_KINDS = {"zero": ("kind",), "model_token": ("kind", "model", "token", "token_id")}


@dataclass(frozen=True)
class TokenRule:
    """Where the row of one token comes from, for models that lack the token.

    Attributes:
        model: whose row; None: as for a token without a rule, unless ``zero``.
        token: whose row of that model; None: the token's own, unless ``token_id``.
        token_id: number of the row of that model.
        zero: a row of zeros.
        force: for all models, also for those that have the token.
    """

    model: str | None = None
    token: str | None = None
    token_id: int | None = None
    zero: bool = False
    force: bool = False


@dataclass(frozen=True)
class TokenizerChoice:
    """Which tokens the output has, and where their rows come from.

    Attributes:
        source: "union": those of all models; "base": the base's, or the first model's; a model: that one's.
        tokens: token → rule; a token that is not in the vocabulary joins it.
        pad_to_multiple_of: of the number of rows; 0: any number.
    """

    source: str
    tokens: Mapping[str, TokenRule] = field(default_factory=dict)
    pad_to_multiple_of: int = 0

    def renamed(self, name: Callable[[str], str]) -> "TokenizerChoice":
        """The same choice with every model named anew, such as by its id."""
        rules = {
            token: rule if rule.model is None else replace(rule, model=name(rule.model))
            for token, rule in self.tokens.items()
        }
        source = self.source if self.source in (UNION, BASE) else name(self.source)
        return replace(self, source=source, tokens=rules)


def parse_choice(document: Any, where: str) -> TokenizerChoice:
    """Read the value of ``tokenizer_source`` or of ``tokenizer``; ``where`` names it in errors.

    Raises:
        BadRecipe: an unknown key (with the nearest known one), or a value of the wrong kind.
    """
    fields = {"source": document} if isinstance(document, str) else _mapping(document, where)
    _refuse_unknown(fields, _KEYS, where)
    source = fields.get("source", UNION)
    if not isinstance(source, str) or not source:
        message = f"{where}: source is {source!r:.200}; it must be union, base or a model"
        raise BadRecipe(message)
    pad = fields.get("pad_to_multiple_of")
    pad = 0 if pad is None else pad
    if type(pad) is not int or not 0 <= pad <= MAX_PADDING:
        message = f"{where}: pad_to_multiple_of is {pad!r:.200}; it must be a whole number in [0, {MAX_PADDING}]"
        raise BadRecipe(message)
    listed = fields.get("tokens")
    tokens = {} if listed is None else _mapping(listed, f"{where}, tokens")
    if "" in tokens:
        message = f"{where}, tokens: the empty text is no token"
        raise BadRecipe(message)
    rules = {
        token: _rule(rule, f"{where}, tokens, {token!r:.200}") for token, rule in tokens.items()
    }
    return TokenizerChoice(source, rules, pad)


def as_document(choice: TokenizerChoice) -> dict[str, Any]:
    """The choice as plain values.

    Law: ``parse_choice(as_document(choice), where) == choice``.
    """
    document: dict[str, Any] = {"source": choice.source}
    if choice.tokens:
        document["tokens"] = {token: _rule_document(rule) for token, rule in choice.tokens.items()}
    if choice.pad_to_multiple_of:
        document["pad_to_multiple_of"] = choice.pad_to_multiple_of
    return document


def _rule(value: Any, where: str) -> TokenRule:
    """One token's rule."""
    fields = _mapping(value, where)
    _refuse_unknown(fields, _RULE_KEYS, where)
    force = fields.get("force", False)
    if not isinstance(force, bool):
        message = f"{where}: force is {force!r:.200}; it must be true or false"
        raise BadRecipe(message)
    source = fields.get("source")
    if source is None or (isinstance(source, str) and source):
        return TokenRule(model=source, force=force)
    place = f"{where}, source"
    source = _mapping(source, place)
    kind = source.get("kind")
    if not isinstance(kind, str) or kind not in _KINDS:
        message = f"{place}: kind is {kind!r:.200}; it must be one of " + ", ".join(_KINDS)
        raise BadRecipe(message)
    _refuse_unknown(source, _KINDS[kind], place)
    if kind == "zero":
        return TokenRule(zero=True, force=force)
    model, token, token_id = (source.get(key) for key in ("model", "token", "token_id"))
    if not isinstance(model, str) or not model:
        message = f"{place}: model is {model!r:.200}; it must be one of the models"
        raise BadRecipe(message)
    by_id = type(token_id) is int and token_id >= 0
    if (token is None) == (token_id is None) or not (by_id or isinstance(token, str)):
        message = (
            f"{place}: token is {token!r:.200} and token_id {token_id!r:.200}; "
            "it must have one of them: a text, or a whole number from 0"
        )
        raise BadRecipe(message)
    return TokenRule(model, token, token_id, force=force)


def _rule_document(rule: TokenRule) -> dict[str, Any]:
    """One token's rule as plain values."""
    source: Any = rule.model
    if rule.zero:
        source = {"kind": "zero"}
    elif rule.token is not None:
        source = {"kind": "model_token", "model": rule.model, "token": rule.token}
    elif rule.token_id is not None:
        source = {"kind": "model_token", "model": rule.model, "token_id": rule.token_id}
    return {**({"source": source} if source else {}), **({"force": True} if rule.force else {})}


def _mapping(value: Any, where: str) -> dict[str, Any]:
    """A mapping with text keys."""
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        message = f"{where} is {value!r:.200}; it must be a mapping"
        raise BadRecipe(message)
    return value


def _refuse_unknown(fields: Mapping[str, Any], keys: tuple[str, ...], where: str) -> None:
    """Refuse a key that would be passed over, with the nearest one there is."""
    for key in fields:
        if key not in keys:
            near = get_close_matches(key, keys, n=1)
            message = f"{where}: unknown key {key!r:.200}; known keys are " + ", ".join(keys)
            raise BadRecipe(message, hint=f"did you mean {near[0]}?" if near else None)

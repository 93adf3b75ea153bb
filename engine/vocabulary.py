"""(being written by its owner; this part only holds the interface)"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class TokenizerChoice:
    source: str
    tokens: Mapping[str, Any] = field(default_factory=dict)
    pad_to_multiple_of: int = 0


def parse_choice(document: Any, where: str) -> TokenizerChoice:
    return TokenizerChoice(document if isinstance(document, str) else document["source"])


def as_document(choice: TokenizerChoice) -> Any:
    return {"source": choice.source}


@dataclass(frozen=True)
class Unified:
    parents: tuple[Any, ...]
    n_rows: int
    changes: tuple[Any, ...]
    notes: tuple[str, ...]
    files: Mapping[str, Any]
    config: Mapping[str, Any]


def unify(parents: Any, choice: TokenizerChoice, *, base: Any, names: Mapping[str, Any]) -> Unified:
    raise NotImplementedError


def chat_template_text(value: str, parents: Any) -> str:
    return value

"""Chat templates: the Jinja text that turns a conversation into the prompt a model was trained on."""

import json
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from registry.documents import open_file, read_json
from registry.errors import BadDocument, BadRecipe
from registry.file_ref import resolve_inside

TEMPLATE = "chat_template.jinja"
MAX_BYTES = 4_000_000
"""Larger than any template in use."""

CHATML = (
    "{%- for message in messages -%}\n"
    "{{- '<|im_start|>' ~ message['role'] ~ '\\n' ~ message['content'] ~ '<|im_end|>\\n' -}}\n"
    "{%- endfor -%}\n"
    "{%- if add_generation_prompt -%}\n"
    "{{- '<|im_start|>assistant\\n' -}}\n"
    "{%- endif -%}"
)
"""Every turn between <|im_start|> and <|im_end|>, its role in the first line."""

_BUILT_IN = {"chatml": CHATML}
_CONFIG = "tokenizer_config.json"


def read_chat_template(folder: Path) -> str | None:
    """The chat template of the tokenizer in a folder; None where it has none.

    From `chat_template.jinja`, else `tokenizer_config.json`, else `chat_template.json`; of several the one named default.

    Raises:
        BadDocument: a malformed or too large file.
        PathEscapes: a file that is a link out of the folder.
    """
    if (folder / TEMPLATE).is_file():
        return _text(resolve_inside(folder, TEMPLATE))
    for name in (_CONFIG, "chat_template.json"):
        if (folder / name).is_file():
            document = read_json(resolve_inside(folder, name))
            found = document.get("chat_template") if isinstance(document, dict) else None
            if isinstance(found, list):
                entries = [each for each in found if isinstance(each, dict)]
                found = next(
                    (e.get("template") for e in entries if e.get("name") == "default"), None
                )
            if isinstance(found, str) and found:
                return found
    return None


def write_chat_template(folder: Path, text: str) -> None:
    """Write a template into a folder that holds a tokenizer; no other template stays beside it.

    Raises:
        BadDocument: the folder's `tokenizer_config.json` is malformed.
    """
    (folder / TEMPLATE).write_text(text, encoding="utf-8")
    (folder / "chat_template.json").unlink(missing_ok=True)
    path = folder / _CONFIG
    config: Any = read_json(resolve_inside(folder, _CONFIG)) if path.is_file() else {}
    if isinstance(config, dict) and "chat_template" in config:
        del config["chat_template"]
        path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def choose_template(value: str, folders: Mapping[str, Path]) -> str | None:
    """The template that a recipe asks for.

    Args:
        value: ``auto`` for the one most models have, of several the one that comes first; the name of a built-in one;
            a model; or the template itself, which has a brace.
        folders: model → its folder, in order; the same folder under two names counts once.

    Returns:
        None where ``auto`` finds none.

    Raises:
        BadRecipe: none of these, or a model that has no template.
        BadDocument, PathEscapes: as `read_chat_template`.
    """
    if value == "auto":
        found = (read_chat_template(folder) for folder in dict.fromkeys(folders.values()))
        votes = Counter(text.strip() for text in found if text)
        return votes.most_common(1)[0][0] if votes else None
    if value in folders:
        template = read_chat_template(folders[value])
        if template is None:
            message = f"chat_template is {value!r:.200}, a model that has none"
            raise BadRecipe(message, hint="chat_template: auto takes the one most models have")
        return template
    if value in _BUILT_IN:
        return _BUILT_IN[value]
    if "{" in value:
        return value
    message = f"chat_template is {value!r:.200}; it must be auto, {', '.join(_BUILT_IN)}, one of the models, or a Jinja template"
    raise BadRecipe(message)


def _text(file: Path) -> str:
    """A whole text file."""
    with open_file(file) as (descriptor, status):
        if status.st_size > MAX_BYTES:
            message = f"{file}: has {status.st_size} bytes; at most {MAX_BYTES} are read"
            raise BadDocument(message)
        raw = os.pread(descriptor, status.st_size, 0)
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        message = f"{file}: is not UTF-8: {error.reason} at byte {error.start}"
        raise BadDocument(message) from error

"""One row of a listing: what it says of a model, told apart from what it does not.

Listings are dumps of what a hub's API answers, or tables that others made of them. Columns are known under their usual
names, whatever case and underscores. A row whose model has no name is refused; whatever else is wrong in it is left
out and noted, and the rest of the row stands.
"""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple

from registry.claims import MAX_OBJECT, RELATIONS, is_plain, name_text, snippet
from registry.errors import BadListing
from registry.named import plain
from registry.names import HUB, is_repository, printable

FIELDS = {
    "name": ("id", "modelid", "repoid", "fullname", "repo", "model", "name"),
    "base_model": ("basemodel", "basemodels"),
    "relation": ("basemodelrelation", "relation"),
    "tags": ("tags",),
    "license": ("license", "licence"),
    "license_name": ("licensename",),
    "downloads": ("downloads",),
    "likes": ("likes",),
    "published_at": ("createdat", "created", "publishedat"),
    "modified_at": ("lastmodified", "modified", "lastmodifiedat", "modifiedat", "updatedat"),
    "task": ("pipelinetag", "task"),
    "library": ("libraryname", "library"),
    "revision": ("sha", "latestsha", "revision", "commit"),
    "card": ("carddata",),
}
"""What is read → the names of columns that hold it, the first that is there counts; without case and underscores."""

MAX_PARENTS = 100
"""Models that one row may name as its parents."""

_NOTHING = frozenset(("", "nan", "none", "null", "n/a", "na", "[]", "{}"))
"""What tables write where nothing is said."""

_SHORT = 8
_MAX_TEXT = 200
_MAX_TAGS = 10_000
_MAX_COUNT = 2**63 - 1
_MAX_SECONDS = 1e11  # larger ones are milliseconds
_QUOTED = re.compile(r"'([^']*)'|\"([^\"]*)\"")
_plain = lru_cache(maxsize=1 << 16)(plain)  # few models are the parents of most
_PARENT_TAG, _LICENSE_TAG = "base_model:", "license:"


class Parent(NamedTuple):
    """One model that a row names as a parent.

    Attributes:
        object: its name, in the words of the row.
        name: what `registry.named.plain` leaves of it.
        relation: as the row says; None where it says nothing that the field has a word for.
        raw: the snippet that says so.
    """

    object: str
    name: str
    relation: str | None
    raw: str


class Listing(NamedTuple):
    """What one row says.

    Attributes:
        name: "org/name".
        kind: "adapter" where relation or library say so, else "model".
        parents: each once, in the order of the row.
        licenses: each once.
        revision: commit of the main branch.
        task: pipeline_tag.
        library: library_name.
        downloads: as the hub counts them.
        likes: as the hub counts them.
        published_at: when the repository was made, ISO 8601 with a zone.
        modified_at: when it was last changed, likewise.
        wrong: what could not be understood.
    """

    name: str
    kind: str
    parents: tuple[Parent, ...]
    licenses: tuple[str, ...]
    revision: str | None
    task: str | None
    library: str | None
    downloads: int | None
    likes: int | None
    published_at: str | None
    modified_at: str | None
    wrong: tuple[str, ...]


@lru_cache(maxsize=4096)
def _held(column: str) -> tuple[str, int] | None:
    """What a column holds, and how much its name counts among those that hold the same, 0 most; None: nothing read."""
    name = re.sub(r"[\s_-]", "", column.strip().lower())
    if column.startswith("_"):  # an inner key, like `_id`
        return None
    return next(
        ((what, names.index(name)) for what, names in FIELDS.items() if name in names), None
    )


@lru_cache(maxsize=256)  # most rows of a file have the same columns
def _places(columns: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """(what a column holds, the column) of those that are read; of several that hold the same, what counts most last."""
    held = [(found, column) for column in reversed(columns) if (found := _held(column))]
    return tuple((what, column) for (what, _), column in sorted(held, key=lambda h: -h[0][1]))


def names_models(columns: Iterable[str]) -> bool:
    """Tell whether one of the columns can hold the names of models."""
    return any(held[0] == "name" for column in columns if (held := _held(column)))


def read_listing(row: Mapping[str, Any]) -> Listing:
    """Read one row.

    Args:
        row: column → text, number, list, object or None, as JSON has them.

    Raises:
        BadListing: the row does not say which model it is about.
    """
    wrong: list[str] = []
    values = _by_field(row)
    name = _model(values.get("name"))
    tags = _tags(values.get("tags"), wrong)
    parents = _parents(values, tags, wrong)
    library = _text("library", values, wrong)
    is_adapter = library == "peft" or any(parent.relation == "adapter" for parent in parents)
    return Listing(
        name=name,
        kind="adapter" if is_adapter else "model",
        parents=parents,
        licenses=_licenses(values, tags, wrong),
        revision=_text("revision", values, wrong),
        task=_text("task", values, wrong),
        library=library,
        downloads=_count("downloads", values, wrong),
        likes=_count("likes", values, wrong),
        published_at=_time("published_at", values, wrong),
        modified_at=_time("modified_at", values, wrong),
        wrong=tuple(wrong),
    )


def _by_field(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row's values by what they hold, words for nothing left out; what only its card says stands in."""
    found: dict[str, Any] = {}
    for what, column in _places(tuple(row)):
        value = row[column]
        if value is not None and not (type(value) is str and _is_nothing(value)):
            found[what] = value
    card, bases = found.pop("card", None), found.get("base_model")
    if isinstance(card, dict):
        found = _by_field({str(key): value for key, value in card.items()} | {"card": None}) | found
    if isinstance(bases, dict) and "models" in bases:  # {"relation": …, "models": [{"id": …}]}
        found |= {"base_model": bases["models"], "relation": bases.get("relation")}
    return found


def _model(value: Any) -> str:
    """The name of the model that a row is about."""
    if not isinstance(value, str):
        said = "nothing" if value is None else f"a {type(value).__name__}"
        message = f"its model is {said}, it must be the name of a repository (org/name)"
        raise BadListing(message)
    name = value.strip().removeprefix(HUB) if len(value) <= _MAX_TEXT else ""
    if not is_repository(name):
        message = f"{printable(value[:_MAX_TEXT])!r} is not the name of a repository (org/name)"
        raise BadListing(message)
    return name


def _is_nothing(text: str) -> bool:
    """Tell whether a text is one of the words for nothing."""
    return len(text) <= _SHORT and text.strip().lower() in _NOTHING


def _items(value: Any) -> list[Any]:
    """The items of a list, of its JSON or Python text, or of words with commas between."""
    if value is None:
        return []
    if isinstance(value, list):
        return value
    if not isinstance(value, str):
        return [value]
    text = value.strip()
    if text.startswith("["):
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            found = [one or other for one, other in _QUOTED.findall(text)]
        return found if isinstance(found, list) else []
    return text.split(",") if "," in text else [text]


def _tags(value: Any, wrong: list[str]) -> list[str]:
    """The tags that are text."""
    found = _items(value)
    if len(found) > _MAX_TAGS:
        wrong.append(f"has {len(found):,} tags; the first {_MAX_TAGS:,} are read")
    return [tag.strip() for tag in found[:_MAX_TAGS] if isinstance(tag, str)]


def _parents(values: Mapping[str, Any], tags: list[str], wrong: list[str]) -> tuple[Parent, ...]:
    """The parents that columns and tags name, each once; a relation that only one of them tells counts."""
    stated = values.get("relation")
    stated = stated.strip().lower() if isinstance(stated, str) else None
    usual = stated if stated in RELATIONS else "merge" if "merge" in tags else None
    found: dict[str, tuple[str, str | None, Any]] = {}
    names: dict[str, str] = {}
    for value, relation, raw in _named(values.get("base_model"), tags):
        text = value if type(value) is str and value in names else _parent_name(value, wrong)
        if text is None:
            continue
        if text not in names:  # most are said more than once
            names[text] = _plain(text)
        name = names[text]
        if name in found:
            if relation and not found[name][1]:
                found[name] = (found[name][0], relation, found[name][2])
        elif len(found) < MAX_PARENTS:
            found[name] = (text, relation, raw)
        else:
            wrong.append(f"names more than {MAX_PARENTS} parents; the others are left out")
            break
    return tuple(
        Parent(text, name, relation or usual, snippet(raw))
        for name, (text, relation, raw) in found.items()
    )


def _named(bases: Any, tags: list[str]) -> Iterator[tuple[Any, str | None, Any]]:
    """(what should be a name, its relation, the words) of every parent that is named."""
    for item in _items(bases):
        value = item.get("id") or item.get("name") or item if isinstance(item, dict) else item
        yield value, None, item
    for tag in tags:
        if tag.startswith(_PARENT_TAG):
            text = tag.removeprefix(_PARENT_TAG)
            first, _, rest = text.partition(":")
            yield (rest, first, tag) if rest and first in RELATIONS else (text, None, tag)


def _parent_name(value: Any, wrong: list[str]) -> str | None:
    """A value as the name of a parent; None for nothing and, which is noted, for what cannot be a name."""
    text = name_text(value)
    if text is None:
        wrong.append(f"base_model is a {type(value).__name__}, it must be text")
    elif len(text) > MAX_OBJECT:
        wrong.append(f"base_model has {len(text)} characters; at most {MAX_OBJECT} are a name")
    elif not is_plain(text):
        wrong.append(f"base_model {printable(text[:80])!r} holds control characters or no UTF-8")
    elif not _is_nothing(text):
        return text
    return None


def _licenses(values: Mapping[str, Any], tags: list[str], wrong: list[str]) -> tuple[str, ...]:
    """What the column says, else the tags; its own name where the Hub has none for it."""
    said = _items(values.get("license"))
    if not said:
        said = [tag.removeprefix(_LICENSE_TAG) for tag in tags if tag.startswith(_LICENSE_TAG)]
    own = values.get("license_name")
    named = [own if own and item == "other" else item for item in said]
    texts = [item.strip() for item in named if isinstance(item, str)]
    good = [text for text in texts if len(text) <= _MAX_TEXT and is_plain(text)]
    if len(good) < len(said):
        wrong.append(f"license is no text of at most {_MAX_TEXT} plain characters")
    return tuple(dict.fromkeys(text for text in good if not _is_nothing(text)))[:MAX_PARENTS]


def _text(what: str, values: Mapping[str, Any], wrong: list[str]) -> str | None:
    """A short text."""
    value = values.get(what)
    if value is None:
        return None
    if isinstance(value, str) and len(value) <= _MAX_TEXT and is_plain(value):
        return value.strip()
    wrong.append(f"{what} is no text of at most {_MAX_TEXT} plain characters")
    return None


def _count(what: str, values: Mapping[str, Any], wrong: list[str]) -> int | None:
    """A whole number from 0."""
    value = values.get(what)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    try:
        number = _number(value)
        if number == int(number) and 0 <= number <= _MAX_COUNT:
            return int(number)
    except (ValueError, TypeError, OverflowError):
        pass
    wrong.append(f"{what} is {_shown(value)}, it must be a whole number from 0")
    return None


def _number(value: Any) -> int | float:
    """A number, or text that is one."""
    if isinstance(value, str):
        return int(value) if value.isdecimal() else float(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    raise TypeError


def _time(what: str, values: Mapping[str, Any], wrong: list[str]) -> str | None:
    """A time as ISO 8601: given so, or in seconds or milliseconds since 1970; UTC where no zone is named."""
    value = values.get(what)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    try:
        if isinstance(value, str):
            found = datetime.fromisoformat(value.strip())
            return str(found if found.tzinfo else found.replace(tzinfo=UTC))
        if isinstance(value, int | float) and not isinstance(value, bool):
            seconds = value / 1000 if value > _MAX_SECONDS else value
            return str(datetime.fromtimestamp(seconds, UTC))
    except (ValueError, OverflowError, OSError):
        pass
    wrong.append(f"{what} is {_shown(value)}, it must be a time (ISO 8601)")
    return None


def _shown(value: Any) -> str:
    """The beginning of a value for a message."""
    return repr(printable(snippet(value)[:40]))

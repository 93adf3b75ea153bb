"""Names of places: what a user types for a checkpoint, and how a foreign name is shown.

hf://org/name[@revision]            a repository on the Hugging Face Hub
hf://org/name@commit/folder         a checkpoint inside of it, at a commit in full
hf://org/*                          all of an organisation or a user
hf:search?author=…&filter=…         what the Hub finds; also search, base_model, limit
hf:collection/owner/title-id        a collection of the Hub
hf-cache:                           everything in the local Hugging Face cache
hf-cache:org/name[@revision]        one repository of that cache
@name                               where a model is asked for: the model that an alias of the catalog names
anything else                       a folder or a file; ~ is the home folder
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qsl, urlencode

from registry.errors import BadAddress, BadParameter

HUB = "hf://"
CACHE = "hf-cache:"

ALIAS = "@"
"""How an alias begins; a file or a folder of such a name is ``./@name``."""

SEARCH = "hf:search?"
COLLECTION = "hf:collection/"

Kind = Literal["hub", "owner", "search", "collection", "cache", "path"]

_SCHEMES: dict[Kind, str] = {
    "hub": HUB, "owner": HUB, "search": SEARCH, "collection": COLLECTION, "cache": CACHE, "path": "",
}  # fmt: skip
_ASKED = ("author", "base_model", "filter", "limit", "search")
"""What a search can ask for; filters are tags, and all of them must fit."""

_OWNER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_SLUG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*/[A-Za-z0-9_][A-Za-z0-9._-]*")
_IN_COMMIT = re.compile(r"([0-9a-f]{40})/(.+)", re.DOTALL)
_REPOSITORY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(?:/[A-Za-z0-9_][A-Za-z0-9._-]*)?")
_ALIAS = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/-]*")
_HINT = (
    "an address is hf://org/name[@revision], hf://org/*, hf:search?author=…&filter=…, hf:collection/owner/title-id, "
    "hf-cache:[org/name[@revision]], a folder or a file"
)


@dataclass(frozen=True)
class Address:
    """Where checkpoints can be found.

    Attributes:
        kind: "hub", "cache" or "path"; of several repositories of the Hub, what tells them: their "owner", a
            "search" or a "collection".
        name: "org/name" of a repository, "" for the whole cache, an absolute path; an owner, what is searched for
            (keys and values as in a URL, by name), "owner/title-id" of a collection.
        revision: branch, tag or commit of a repository; None where the user gave none.
        inside: folder or file in a repository of the Hub, whose revision is then a commit; "" for its root.
    """

    kind: Kind
    name: str
    revision: str | None = None
    inside: str = ""

    def __str__(self) -> str:
        rest = "/*" if self.kind == "owner" else f"@{self.revision}" if self.revision else ""
        return _SCHEMES[self.kind] + self.name + rest + (f"/{self.inside}" if self.inside else "")

    @property
    def is_remote(self) -> bool:
        """Whether it is on the Hub."""
        return self.kind in {"hub", "owner", "search", "collection"}

    @property
    def asked(self) -> list[tuple[str, str]]:
        """Keys and values of an address of kind "search"."""
        return parse_qsl(self.name, keep_blank_values=True)

    @property
    def path(self) -> Path:
        """The folder or file of an address of kind "path"."""
        return Path(self.name)


def parse(text: str) -> Address:
    """Read an address as typed; a relative path is relative to the current folder.

    Law: ``parse(str(address)) == address``.

    Raises:
        BadAddress: for an empty text, an unknown scheme, and a name or revision that cannot be.
    """
    if text.startswith((HUB, SEARCH, COLLECTION)):
        return _remote(text)
    if text == CACHE:
        return Address("cache", "")
    if text.startswith(CACHE):
        return _repository("cache", text, text.removeprefix(CACHE))
    if not text or "\0" in text:
        message = f"{printable(text)!r} is not an address"
        raise BadAddress(message, hint=_HINT)
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text):
        message = f"{printable(text)}: this kind of address is not known"
        raise BadAddress(message, hint=_HINT)
    return Address("path", os.path.abspath(os.path.expanduser(text)))  # noqa: PTH100, PTH111 (also drops `..`, follows no link)


def typed_path(text: str | os.PathLike[str]) -> Path:
    """The absolute path of what a user typed; ``~`` is a home folder where there is such a user, else a letter.

    Unlike `Path.expanduser`, never raises.
    """
    return Path(os.path.expanduser(text)).absolute()  # noqa: PTH111 - see above


def is_there(path: str | os.PathLike[str]) -> bool:
    """Tell whether something is at a path; nothing is where the operating system takes no such name, or lets nobody look.

    Unlike `Path.exists`, never raises.
    """
    return os.path.exists(path)  # noqa: PTH110 - see above


def is_repository(name: str) -> bool:
    """Tell whether a text can be the name of a repository: org/name or a name alone."""
    return bool(_REPOSITORY.fullmatch(name)) and ".." not in name and "--" not in name


def is_alias(text: str) -> bool:
    """Tell whether a text that names a model means an alias, whatever else is called so: it is no path and no repository."""
    return text.startswith(ALIAS) and "/" not in text


def alias_name(text: str) -> str:
    """The name of an alias that is to be, without the @ that may stand before it.

    Raises:
        BadParameter: it is not one word as paths, addresses and terminals bear it.
    """
    name = text.removeprefix(ALIAS)
    if not _ALIAS.fullmatch(name):
        message = (
            f"{text[:80]!r} cannot be an alias: it must be 1 to 64 of a-z, 0-9, '.', '_' and '-', "
            "the first a letter or a digit"
        )
        raise BadParameter(message, hint="for example: reg alias set prod MODEL")
    return name


def printable(text: str) -> str:
    """Show a foreign text safely: what is not printable becomes its escape, so no terminal obeys it.

    Laws: the result is printable; ``printable(printable(text)) == printable(text)``; printable text stays as it is.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _remote(text: str) -> Address:
    """Read an address of the Hub."""
    if text.startswith(SEARCH):
        return _search(text)
    if text.startswith(COLLECTION):
        return _named("collection", text, text.removeprefix(COLLECTION), _SLUG)
    if text.endswith("/*"):
        return _named("owner", text, text.removeprefix(HUB).removesuffix("/*"), _OWNER)
    return _repository("hub", text, text.removeprefix(HUB))


def _repository(kind: Literal["hub", "cache"], text: str, rest: str) -> Address:
    """Read ``org/name[@revision]``."""
    name, at, revision = rest.partition("@")
    if not is_repository(name):
        message = (
            f"{printable(text)}: {printable(name)!r} is not the name of a repository (org/name)"
        )
        raise BadAddress(message, hint=_HINT)
    inside = ""
    if kind == "hub" and (within := _IN_COMMIT.fullmatch(revision)):
        revision, inside = within[1], within[2]
    if inside and (not inside.isprintable() or {"", ".", ".."} & set(inside.split("/"))):
        message = (
            f"{printable(text)}: {printable(inside)!r} is not a folder or file of a repository"
        )
        raise BadAddress(message, hint=_HINT)
    if at and (not _REVISION.fullmatch(revision) or ".." in revision):
        message = f"{printable(text)}: {printable(revision)!r} is not a branch, a tag or a commit"
        raise BadAddress(message, hint=_HINT)
    return Address(kind, name, revision or None, inside)


def _named(
    kind: Literal["owner", "collection"], text: str, name: str, pattern: re.Pattern[str]
) -> Address:
    """Read the name of an owner or of a collection."""
    if not pattern.fullmatch(name) or ".." in name:
        message = f"{printable(text)}: {printable(name)!r} is not the name of {'an' if kind == 'owner' else 'a'} {kind}"
        raise BadAddress(message, hint=_HINT)
    return Address(kind, name)


def _search(text: str) -> Address:
    """Read what is searched for; equal searches become equal addresses."""
    asked = parse_qsl(text.removeprefix(SEARCH), keep_blank_values=True)
    for key, value in asked:
        if key not in _ASKED or not value:
            wrong = f"is not one of {', '.join(_ASKED)}" if value else "has no value"
            message = f"{printable(text)}: {printable(key)!r} {wrong}"
            raise BadAddress(message, hint=_HINT)
        if key == "limit" and not (value.isdecimal() and value.isascii() and int(value) > 0):
            message = f"{printable(text)}: limit is {printable(value)!r}; it must be a whole number above 0"
            raise BadAddress(message, hint=_HINT)
    if not asked:
        message = f"{printable(text)}: nothing is searched for"
        raise BadAddress(message, hint=_HINT)
    return Address("search", urlencode(sorted(asked)))

"""Names of places: what a user types for a checkpoint, and how a foreign name is shown.

hf://org/name[@revision]            a repository on the Hugging Face Hub
hf-cache:                           everything in the local Hugging Face cache
hf-cache:org/name[@revision]        one repository of that cache
anything else                       a folder or a file; ~ is the home folder
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from registry.errors import BadAddress

HUB = "hf://"
CACHE = "hf-cache:"

_SCHEMES = {"hub": HUB, "cache": CACHE, "path": ""}
_REPOSITORY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(?:/[A-Za-z0-9_][A-Za-z0-9._-]*)?")
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/-]*")
_HINT = "an address is hf://org/name[@revision], hf-cache:[org/name[@revision]], a folder or a file"


@dataclass(frozen=True)
class Address:
    """Where checkpoints can be found.

    Attributes:
        kind: "hub", "cache" or "path".
        name: "org/name" of a repository, "" for the whole cache, an absolute path.
        revision: branch, tag or commit of a repository; None where the user gave none.
    """

    kind: Literal["hub", "cache", "path"]
    name: str
    revision: str | None = None

    def __str__(self) -> str:
        return _SCHEMES[self.kind] + self.name + (f"@{self.revision}" if self.revision else "")

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
    if text.startswith(HUB):
        return _repository("hub", text, text.removeprefix(HUB))
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


def printable(text: str) -> str:
    """Show a foreign text safely: what is not printable becomes its escape, so no terminal obeys it.

    Laws: the result is printable; ``printable(printable(text)) == printable(text)``; printable text stays as it is.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _repository(kind: Literal["hub", "cache"], text: str, rest: str) -> Address:
    """Read ``org/name[@revision]``."""
    name, at, revision = rest.partition("@")
    if not _REPOSITORY.fullmatch(name) or ".." in name or "--" in name:
        message = (
            f"{printable(text)}: {printable(name)!r} is not the name of a repository (org/name)"
        )
        raise BadAddress(message, hint=_HINT)
    if at and (not _REVISION.fullmatch(revision) or ".." in revision):
        message = f"{printable(text)}: {printable(revision)!r} is not a branch, a tag or a commit"
        raise BadAddress(message, hint=_HINT)
    return Address(kind, name, revision or None)

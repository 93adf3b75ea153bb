"""The packages that Homolog needs and their licences, as their installed metadata say: the table data/dependencies.md.

python tests/dependencies.py > data/dependencies.md
"""

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

EXTRAS = ("", "score", "sign", "dev", "real")
"""What is installed of Homolog; the first is what everybody needs."""

OF_TORCH = re.compile(r"triton|(nvidia|cuda)-.*")
"""What torch brings where it was built for a GPU."""

ALLOWED = frozenset((
    "0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0",
    "CNRI-Python", "ISC", "MIT", "MIT-0", "MPL-2.0", "PSF-2.0", "Unlicense", "Zlib",
))  # fmt: skip
"""Licences of packages that an Apache-2.0 program may need: permissive ones, and one whose copyleft ends at its own files."""

_SPELLINGS = {
    "apache": "Apache-2.0", "apache 2.0": "Apache-2.0", "apache 2.0 license": "Apache-2.0", "apache license": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0", "apache software license": "Apache-2.0",
    "mit license": "MIT", "isc license": "ISC", "isc license (iscl)": "ISC", "psfl": "PSF-2.0",
    "python software foundation license": "PSF-2.0", "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "bsd license": "BSD", "bsd 2-clause license": "BSD-2-Clause", "3-clause bsd license": "BSD-3-Clause",
    "the unlicense (unlicense)": "Unlicense",
}  # fmt: skip
_UNKNOWN = "?"


@dataclass(frozen=True)
class Package:
    """One installed package.

    Attributes:
        name: as its maker spells it.
        license: SPDX expression as far as its metadata allow.
        extra: of Homolog that needs it; empty where everybody does.
    """

    name: str
    license: str
    extra: str


def packages() -> list[Package]:
    """All that Homolog needs and that is installed, by name; not Homolog itself, nor what torch brings for GPUs."""
    seen: set[tuple[str, str]] = set()
    found: dict[str, Package] = {}
    for extra in EXTRAS:
        for name in sorted(_needed("homolog", extra, seen)):
            dist = _installed(name)
            if dist is not None and name not in found and name != "homolog":
                found[name] = Package(dist.name, license_of(dist), extra)
    return [found[name] for name in sorted(found)]


def _needed(name: str, extra: str, seen: set[tuple[str, str]]) -> Iterator[str]:
    """The canonical names of a package and of all it needs here."""
    dist = _installed(name)
    if (name, extra) in seen or OF_TORCH.fullmatch(name) or dist is None:
        return
    seen.add((name, extra))
    yield name
    for line in dist.requires or ():
        asked = Requirement(line)
        needed_always = asked.marker is None or asked.marker.evaluate({"extra": ""})
        needed_by_extra = asked.marker is not None and asked.marker.evaluate({"extra": extra})
        if needed_by_extra if extra else needed_always:
            for inner in ("", *sorted(asked.extras)):
                yield from _needed(canonicalize_name(asked.name), inner, seen)


def _installed(name: str) -> Distribution | None:
    """A package, if it is here."""
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None


def license_of(dist: Distribution) -> str:
    """What a package says of its licence: an expression, else its classifiers, a short text, the head of its licence's file."""
    metadata = dist.metadata
    if expression := metadata.get("License-Expression"):
        return str(expression)
    classifiers = [
        text.rsplit(" :: ", 1)[-1]
        for text in metadata.get_all("Classifier") or ()
        if text.startswith("License ::")
    ]
    texts = [metadata.get("License") or "", *classifiers, *_heads(dist)]
    told = [spelled(text) for text in texts]
    exact = [each for each in told if not wrong(each)]
    return next((e for e in exact if e != "BSD"), exact[0] if exact else _UNKNOWN)


def _heads(dist: Distribution) -> Iterator[str]:
    """The first words of the files that hold a package's licence."""
    for name in dist.metadata.get_all("License-File") or ():
        text = dist.read_text(f"licenses/{name}") or dist.read_text(name) or ""
        yield from (line.strip() for line in text.splitlines()[:1] if line.strip())


def spelled(text: str) -> str:
    """A licence's name as SPDX has it, where that is known."""
    plain = " ".join(text.split())
    return _SPELLINGS.get(plain.lower(), plain)


def wrong(license_: str) -> list[str]:
    """Names in an expression that are not allowed."""
    parts = (part.strip() for part in re.split(r"\bAND\b|\bOR\b|[()]", license_))
    return [part for part in parts if part and part not in ALLOWED] or ([] if license_ else ["?"])


def table() -> str:
    """The page."""
    rows = [f"| {p.name} | {p.license} | {p.extra or 'everybody'} |" for p in packages()]
    return "\n".join([
        "# Packages that Homolog needs, and their licences", "",
        "As their own metadata say; `make dependencies` writes it, and a test holds it to what is installed. Where torch was built for",
        "a GPU it brings packages of that GPU's maker under the maker's terms; they are not needed and not listed.", "",
        "| package | licence | needed by |", "|---|---|---|", *rows, "",
    ])  # fmt: skip


if __name__ == "__main__":
    sys.stdout.write(table())

"""The table of licences: what each asks for, atom by atom, which edges an atom crosses, and where that is said.

`data/licenses.toml` holds the facts; this module reads and checks them once. An *atom* is one thing a licence asks
for (a notice, no commercial use, a use policy); a *rule* is an atom as one licence has it, with its source. Nothing
here is legal advice, and a licence that the table does not know stays unknown.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from registry.errors import BadDocument
from registry.resources import data_folder

Join = Literal["or", "union", "min", "equal"]
Value = str | int | None

UNKNOWN = "unknown"
"""The atom, and the licence, of those who do not say under which terms others may use their weights."""

WAIVED = "waived"
"""The atom of licences that ask for nothing."""

CHANGED, KEPT, OUTPUTS, NOTHING = "changed", "kept", "outputs", "nothing"
"""Groups of edges: other weights, the same weights written otherwise, trained on outputs, no weights at all."""

NOT_ADVICE = "not legal advice: obligations as far as cards and the table of licences tell"
"""Said wherever licences are judged."""

_JOINS: tuple[Join, ...] = ("or", "union", "min", "equal")
_FACTS = frozenset(("title", "date", "aliases", "family", "spdx", "hub", "joins"))
_TABLES = frozenset(("edges", "atoms", "conflicts", "versions", "licenses"))
_BLANKS = re.compile(r"[\s_]+")


@dataclass(frozen=True)
class Atom:
    """One thing that licences ask for.

    Attributes:
        name: as in the table.
        join: how it joins over parents: it is there or not, all values, the least number, or one value only.
        crosses: groups of edges.
        says: what is to be done, in words; a value may follow.
        restricts: more than copyleft licences let anybody add.
        beside: can be kept beside the text of any other licence.
    """

    name: str
    join: Join
    crosses: frozenset[str]
    says: str
    restricts: bool = False
    beside: bool = False


@dataclass(frozen=True, order=True)
class Rule:
    """An atom as one licence has it.

    Attributes:
        license: identifier of the licence.
        atom: name of the atom.
        value: a policy, a text or a number; None where the atom is there or not.
        at: section of the text.
        text: title and date.
        outputs: whether it also binds models that were trained on outputs.
    """

    license: str
    atom: str
    value: Value = field(compare=False)
    at: str = field(compare=False)
    text: str = field(compare=False)
    outputs: bool = field(compare=False)

    @property
    def id(self) -> str:
        """What the rule is called: `licence:atom`."""
        return f"{self.license}:{self.atom}"

    @property
    def source(self) -> str:
        """Title, date and section of the text."""
        return f"{self.text}, {self.at}"


@dataclass(frozen=True)
class License:
    """One licence.

    Attributes:
        id: identifier, as the Hub spells it.
        title: of its text.
        date: of its text, as far as known.
        rules: in order of the table of atoms.
        family: of models whose own licence it is; None for licences anybody may use.
        spdx: its identifier at SPDX; None where that has none.
        hub: whether the Hub knows the identifier; otherwise cards say `other` and this name.
        joins: copyleft licences under which what is made of it may be shared too.
    """

    id: str
    title: str
    date: str
    rules: tuple[Rule, ...]
    family: str | None = None
    spdx: str | None = None
    hub: bool = True
    joins: tuple[str, ...] = ()


@dataclass(frozen=True)
class Version:
    """A declared licence that means another one for models of some name.

    Attributes:
        license: as declared.
        name: regular expression on the model's name in lower case.
        means: the licence that holds.
        source: where that is said.
    """

    license: str
    name: re.Pattern[str]
    means: str
    source: str


@dataclass(frozen=True)
class Table:
    """All that is known of licences.

    Attributes:
        licenses: by identifier.
        atoms: by name, in order.
        conflicts: identifier → (what cannot be satisfied, source).
        versions: in order.
        edges: relation → group; a relation that is not there counts as `changed`.
        aliases: other spelling → identifier.
    """

    licenses: Mapping[str, License]
    atoms: Mapping[str, Atom]
    conflicts: Mapping[str, tuple[str, str]]
    versions: tuple[Version, ...]
    edges: Mapping[str, str]
    aliases: Mapping[str, str]

    def group(self, relation: str) -> str:
        """The group of an edge; what is not known to be harmless changes weights."""
        return self.edges.get(relation.lower(), CHANGED)

    def find(self, declared: str, name: str = "") -> License | None:
        """The licence that a text means for a model of this name; None where the table knows none."""
        plain = _plain(declared)
        found = self.aliases.get(plain)
        for version in self.versions:
            if version.license == found and version.name.search(name.lower()):
                found = version.means
        return self.licenses[found] if found else None

    def crosses(self, rule: Rule, relation: str) -> bool:
        """Whether a rule that binds a parent binds its child."""
        group = self.group(relation)
        return group in self.atoms[rule.atom].crosses or (group == OUTPUTS and rule.outputs)


def _plain(declared: str) -> str:
    """A licence's spelling without case and with one kind of blank."""
    return _BLANKS.sub("-", declared.strip().lower())


@cache
def license_table() -> Table:
    """The table that ships with the program."""
    return read_license_table(data_folder() / "licenses.toml")


def read_license_table(file: Path) -> Table:
    """Read and check a table.

    Raises:
        BadDocument: it is not TOML, or says something that cannot be.
    """
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        message = f"{file.name}: {error}"
        raise BadDocument(message) from error
    wrong = list(_wrong(document))
    if wrong:
        message = f"{file.name}: {'; '.join(wrong)}"
        raise BadDocument(message)
    atoms = {name: _atom(name, row) for name, row in document["atoms"].items()}
    licenses = {id_: _license(id_, row, atoms) for id_, row in document["licenses"].items()}
    return Table(
        licenses=licenses,
        atoms=atoms,
        conflicts={id_: (row["says"], row["source"]) for id_, row in document["conflicts"].items()},
        versions=tuple(
            Version(v["license"], re.compile(v["name"]), v["means"], v["source"])
            for v in document["versions"]
        ),
        edges={edge: group for group, edges in document["edges"].items() for edge in edges},
        aliases={
            _plain(name): id_
            for id_, row in document["licenses"].items()
            for name in (id_, *row.get("aliases", ()))
        },
    )


def _atom(name: str, row: Mapping[str, Any]) -> Atom:
    """An atom from its row."""
    rest = {key: row[key] for key in ("restricts", "beside") if key in row}
    return Atom(name, row["join"], frozenset(row["crosses"]), row["says"], **rest)


def _license(id_: str, row: Mapping[str, Any], atoms: Mapping[str, Atom]) -> License:
    """A licence from its row."""
    rules = []
    for atom in (name for name in atoms if name in row):
        said = row[atom] if isinstance(row[atom], dict) else {"at": row[atom]}
        text = f"{row['title']} ({row['date']})"
        outputs = said.get("outputs", False)
        rules.append(Rule(id_, atom, said.get("is"), said["at"], text, outputs))
    return License(
        id_, row["title"], row["date"], tuple(rules), family=row.get("family"),
        spdx=row.get("spdx"), hub=row.get("hub", True), joins=tuple(row.get("joins", ())),
    )  # fmt: skip


def _wrong(document: Mapping[str, Any]) -> Iterator[str]:
    """What in a document cannot be."""
    if set(document) != _TABLES:
        yield f"the tables are {sorted(document)}, they must be {sorted(_TABLES)}"
        return
    atoms, licenses = document["atoms"], document["licenses"]
    if set(document["edges"]) != {CHANGED, KEPT, OUTPUTS, NOTHING}:
        yield f"edges has groups {sorted(document['edges'])}"
    yield from _wrong_atoms(atoms)
    for version in document["versions"]:
        for key in ("license", "means"):
            if version[key] not in licenses:
                yield f"a version speaks of {version[key]!r}, which is no licence"
    known: dict[str, str] = {}
    for id_, row in licenses.items():
        yield from _wrong_license(id_, row, atoms, licenses)
        for name in (id_, *row.get("aliases", ())):
            if known.setdefault(_plain(name), id_) != id_:
                yield f"{name!r} is both {known[_plain(name)]} and {id_}"


def _wrong_atoms(atoms: Mapping[str, Any]) -> Iterator[str]:
    """What in the rows of the atoms cannot be."""
    for name, row in atoms.items():
        if row.get("join") not in _JOINS or not row.get("says"):
            yield f"atom {name} has no join of {_JOINS}, or says nothing"
        if not set(row.get("crosses", ["?"])) <= {CHANGED, KEPT}:
            yield f"atom {name} crosses {row.get('crosses')}"


def _wrong_license(
    id_: str, row: Mapping[str, Any], atoms: Mapping[str, Any], licenses: Mapping[str, Any]
) -> Iterator[str]:
    """What in the row of a licence cannot be."""
    if not row.get("title") or not row.get("date"):
        yield f"{id_} has no title or no date"
    if missing := set(row.get("joins", ())) - set(licenses):
        yield f"{id_} joins {sorted(missing)}, which are no licences"
    for key in sorted(set(row) - _FACTS):
        if key not in atoms:
            yield f"{id_} has {key!r}, which is no atom"
            continue
        said = row[key] if isinstance(row[key], dict) else {"at": row[key]}
        valued = atoms[key].get("join") != "or"
        if not said.get("at") or set(said) - {"at", "is", "outputs"}:
            yield f"{id_}:{key} has no section"
        if valued != ("is" in said):
            yield f"{id_}:{key} {'needs' if valued else 'takes no'} value"
        if atoms[key].get("join") == "min" and not isinstance(said.get("is"), int):
            yield f"{id_}:{key} is {said.get('is')!r}, it must be a whole number"

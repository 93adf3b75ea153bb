"""Blocks: what a command has to say to people, before anybody decides how it looks.

Commands make them from plain values and import nothing heavy; `cli.human` draws them. The other voices never look
at them: `--json` prints the command's document, `--quiet` its ids.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Row = Mapping[str, Any]
"""One row of the catalog or of a report: column → value."""

Kind = Literal["text", "id", "count", "params", "bytes", "number", "seconds"]
"""How a value is written: an id is cut to its first digits, params are rounded to three, the rest as its unit asks."""

Unit = Literal["bytes", "questions", "models", "repositories"]
"""What progress counts."""


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        key: of the row's value.
        title: above the column; empty: the key itself.
        kind: how values are written; all but text and ids stand on the right.
    """

    key: str
    title: str = ""
    kind: Kind = "text"


@dataclass(frozen=True)
class Table:
    """Rows under a header, the most telling columns first: a narrow terminal loses the last ones.

    Attributes:
        rows: in order.
        columns: shown, in order.
        title: above the header; empty: none.
        empty: what is said in the place of a table without rows; empty: nothing at all.
        limit: most rows shown; None: all.
        rest: where the rows beyond the limit are found.
    """

    rows: Sequence[Row]
    columns: tuple[Column, ...]
    title: str = ""
    empty: str = ""
    limit: int | None = None
    rest: str = "--json shows all"


@dataclass(frozen=True)
class Facts:
    """Names and values, one pair a line; pairs without a value are left out."""

    pairs: tuple[tuple[str, Any, Kind], ...]
    title: str = ""


@dataclass(frozen=True)
class Line:
    """One sentence; a verdict is good, bad or open."""

    text: str
    mood: Literal["plain", "title", "good", "bad", "open"] = "plain"


@dataclass(frozen=True)
class Text:
    """Text of several lines that is printed as it is, but for what a terminal could obey."""

    text: str


@dataclass(frozen=True)
class Tree:
    """A tree in order of reading: (depth from 0, name, what is said of it) of each node."""

    lines: Sequence[tuple[int, str, str]]


@dataclass(frozen=True)
class Csv:
    """Rows as comma-separated values with a header, never cut."""

    names: Sequence[str]
    rows: Iterable[Sequence[Any]]


Block = Table | Facts | Line | Text | Tree | Csv

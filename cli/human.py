"""The voice for people: aligned tables cut to the terminal, trees, a few colours.

A table that loses columns or characters to a narrow terminal says so on stderr. Into a pipe or a file everything is
written whole and plain. Tables are written line by line, without rich's own: a query may have 100,000 rows.
"""

import csv
import io
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text as Styled

from cli.block import Block, Column, Csv, Facts, Kind, Line, Table, Text, Tree
from cli.layout import GAP, fit
from cli.output import Output, lines
from registry.catalog import ID_DIGITS
from registry.names import printable

MOST_ROWS = 1_000
"""A terminal is shown this many rows of a table at most."""

_WIDE = 1_000_000
_STYLES = {"title": "bold", "good": "green", "bad": "red", "open": "yellow"}
_TOLD = {"error": "bold red", "warning": "yellow", "note": "cyan", "hint": "dim"}
_BYTES = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_PARAMS = ("", "K", "M", "B", "T")


class Human(Output):
    """Blocks on stdout, messages on stderr."""

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty()
        self._out = _console(sys.stdout, terminal=self._terminal)

    def answer(self, document: Any, *blocks: Block, ids: Iterable[object] = ()) -> None:
        """Print the blocks, those with a title set apart."""
        del document, ids
        for i, block in enumerate(blocks):
            if isinstance(block, Table) and not block.rows and not block.empty:
                continue
            if i and isinstance(block, Table | Facts) and block.title:
                self._say("")
            self._draw(block)

    def tell(self, what: str, text: str) -> None:
        """Write one message to stderr, its kind in colour."""
        sys.stdout.flush()
        message = Styled.assemble((f"{what}: ", _TOLD[what]), lines(text))
        _console(sys.stderr, terminal=sys.stderr.isatty()).print(message, soft_wrap=True)

    def _say(self, text: str, style: str = "") -> None:
        """Print one line, whatever its length."""
        if style:
            self._out.print(Styled(text, style), soft_wrap=True)
        else:
            print(text, file=self._out.file)  # rich takes a hundred times as long

    def _draw(self, block: Block) -> None:
        """Print one block."""
        match block:
            case Line():
                self._say(printable(block.text), _STYLES.get(block.mood, ""))
            case Text():
                self._say(lines(block.text))
            case Csv():
                self._csv(block)
            case Facts():
                self._facts(block)
            case Tree():
                self._tree(block)
            case Table():
                self._table(block)

    def _csv(self, block: Csv) -> None:
        """Print values with commas; as data, unless a terminal reads them."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(block.names)
        writer.writerows(block.rows)
        text = buffer.getvalue()
        self._out.file.write(lines(text) if self._terminal else text)

    def _facts(self, block: Facts) -> None:
        """Print pairs, values below each other."""
        if block.title:
            self._say(block.title, "bold")
        shown = [(name, cell(value, kind)) for name, value, kind in block.pairs]
        known = [(name, text) for name, text in shown if text]
        width = max((len(name) for name, _ in known), default=0)
        for name, text in known:
            self._out.print(Styled.assemble((name.ljust(width + GAP), "dim"), text), soft_wrap=True)

    def _tree(self, block: Tree) -> None:
        """Print each tree, lines cut to the terminal."""
        for branch, (_, name, detail) in zip(
            branches([d for d, _, _ in block.lines]), block.lines, strict=True
        ):
            said = f"  {printable(detail)}" if detail else ""
            line = Styled.assemble((branch, "dim"), printable(name), (said, "dim"))
            line.truncate(self._out.width, overflow="ellipsis")
            self._out.print(line, soft_wrap=True)

    def _table(self, block: Table) -> None:
        """Print rows below their titles, and say what was cut."""
        if not block.rows:
            self._say(block.empty)
            return
        if block.title:
            self._say(block.title, "bold")
        most = block.limit or (MOST_ROWS if self._terminal else None)
        rows = block.rows[:most]
        cells = [[cell(row[c.key], c.kind) for row in rows] for c in block.columns]
        titles = [printable(c.title or c.key) for c in block.columns]
        natural = [
            max(map(cell_len, [t, *column])) for t, column in zip(titles, cells, strict=True)
        ]
        widths = fit(natural, self._out.width)
        self._say(_joined(titles, block.columns, widths), "bold")
        for row in zip(*cells, strict=True):
            self._say(_joined(row, block.columns, widths))
        if len(rows) < len(block.rows):
            self._say(f"… {len(rows):,} of {len(block.rows):,} rows; {block.rest}", "dim")
        self._tell_what_is_cut(titles, natural, widths)

    def _tell_what_is_cut(
        self, titles: Sequence[str], natural: Sequence[int], widths: Sequence[int]
    ) -> None:
        """Say which columns a narrow terminal has lost."""
        cut = [t for t, n, w in zip(titles, natural, widths, strict=False) if w < n]
        parts = [f"cut {', '.join(cut)}"] if cut else []
        if len(widths) < len(titles):
            parts.append(f"left out {', '.join(titles[len(widths) :])}")
        if parts:
            self.hint(f"the terminal is narrow: {'; '.join(parts)}; --json shows all")


def cell(value: Any, kind: Kind) -> str:
    """A value as people read it, on one line; nothing for None."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return _number(value, kind)
    if isinstance(value, list | tuple):
        return ", ".join(cell(v, kind) for v in value)
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    text = "" if value is None else printable(str(value))
    return text[:ID_DIGITS] if kind == "id" else text


def _number(value: float, kind: Kind) -> str:
    """A number as its kind asks."""
    match kind:
        case "params":
            return _scaled(value, 1000, _PARAMS)
        case "bytes":
            return _scaled(value, 1024, _BYTES)
        case "count":
            return f"{value:,}"
        case "seconds":
            return f"{value:.1f} s"
        case _:
            return f"{value:.4g}" if isinstance(value, float) else str(value)


def branches(depths: Sequence[int]) -> list[str]:
    """What stands before each node of a tree given in order of reading: ``│   ├── ``.

    Args:
        depths: from 0; each at most one more than the one before.
    """
    found = []
    later: list[bool] = []  # depth → a sibling of the ancestor at that depth still comes
    for depth in reversed(depths):
        later = later[: depth + 1] + [False] * (depth + 1 - len(later))
        guides = "".join("│   " if more else "    " for more in later[1:depth])
        found.append(guides + ("" if depth == 0 else "├── " if later[depth] else "└── "))
        later[depth] = True
    return found[::-1]


def _scaled(value: float, base: int, units: Sequence[str]) -> str:
    """A number with three digits and the unit that suits it."""
    exponent = 0
    while abs(value) >= base and exponent < len(units) - 1:
        value /= base
        exponent += 1
    digits = f"{value:.0f}" if exponent == 0 or abs(value) >= 100 else f"{value:.3g}"  # noqa: PLR2004 - three digits
    return f"{digits} {units[exponent]}".rstrip()


def _joined(texts: Sequence[str], columns: Sequence[Column], widths: Sequence[int]) -> str:
    """One line of a table."""
    parts = []
    for text, column, width in zip(texts, columns, widths, strict=False):
        if cell_len(text) > width:
            parts.append(set_cell_size(text, width - 1) + "…")
        elif column.kind in ("text", "id"):
            parts.append(set_cell_size(text, width))
        else:
            parts.append(" " * (width - cell_len(text)) + text)
    return (" " * GAP).join(parts).rstrip()


def _console(file: Any, *, terminal: bool) -> Console:
    """A console that obeys no markup; what is no terminal is endlessly wide and gets no colour."""
    return Console(
        file=file, width=None if terminal else _WIDE, force_terminal=terminal,
        markup=False, emoji=False, highlight=False,
    )  # fmt: skip

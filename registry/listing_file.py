"""Files that list models: comma-separated values or JSON lines, plain or gzipped, read row by row as hostile.

Lines are bounded, so that a file of any size takes little memory. What is wrong with one row costs that row; what is
wrong with the file as a whole (another format, cut off) is an error.
"""

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple, get_args

from registry.documents import open_file
from registry.errors import BadListing
from registry.listing import names_models
from registry.names import printable
from registry.progress import Progress

Format = Literal["csv", "jsonl"]
FORMATS: tuple[str, ...] = get_args(Format)

MAX_LINE_BYTES = 1 << 20
"""Longer lines are no rows; the longest rows of real listings, with their cards, have some hundred kilobytes."""

_GZIP, _PARQUET = b"\x1f\x8b", b"PAR1"
_SEPARATORS = (",", "\t", ";", "|")
_OFTEN = 1_000
_SHOWN = 30


class FileRow(NamedTuple):
    """One row of a file.

    Attributes:
        line: where it begins, from 1.
        values: column → value; None for a row that cannot be read.
        wrong: why it cannot.
    """

    line: int
    values: dict[str, Any] | None
    wrong: str = ""


def read_rows(path: Path, form: Format | None, progress: Progress) -> Iterator[FileRow]:
    """The rows of a file, in its order.

    Args:
        path: of the file.
        form: None: told from the first bytes.
        progress: told of every byte read.

    Raises:
        Unreadable: it is missing, not a regular file, or may not be read.
        BadListing: it is of another format, has no column of names, or is cut off.
    """
    with _opened(path, progress) as (file, advance):
        lines = _Lines(file, advance)
        try:
            found = _format(path, file)
            yield from _json_rows(lines) if (form or found) == "jsonl" else _csv_rows(path, lines)
        except (EOFError, zlib.error, gzip.BadGzipFile, OSError) as error:
            message = f"{path}: cannot be read beyond line {lines.number}: {error}"
            raise BadListing(message, hint="fetch the file again; nothing was imported") from error


def _format(path: Path, file: io.BufferedReader) -> Format:
    """What the first bytes of a file say it is."""
    start = file.peek(1)[: 1 << 16].removeprefix(b"\xef\xbb\xbf").lstrip()
    if start.startswith((_PARQUET, b"[")):
        what = "Parquet" if start.startswith(_PARQUET) else "one JSON array"
        message = f"{path}: is {what}; {' and '.join(FORMATS)} are read"
        raise BadListing(message, hint=f"write one object a line: jq -c '.[]' {path}")
    return "jsonl" if start.startswith(b"{") else "csv"


@contextmanager
def _opened(path: Path, progress: Progress) -> Iterator[tuple[io.BufferedReader, Any]]:
    """The bytes of a file, unpacked, and a function that tells the progress of how many were read."""
    with open_file(path) as (descriptor, status), open(descriptor, "rb", closefd=False) as raw:
        progress.start(path.name, status.st_size)
        done = 0

        def advance() -> None:
            nonlocal done
            here = raw.tell()
            progress.advance(here - done)
            done = here

        packed = raw.peek(2).startswith(_GZIP)
        file: Any = io.BufferedReader(gzip.GzipFile(fileobj=raw)) if packed else raw
        yield file, advance
        advance()


class _Lines:
    """The lines of a file as text, those that are too long left out and noted.

    Attributes:
        number: of the line given last, from 1.
        first: of the first line given since this was 0.
        too_long: numbers of lines that were left out and that nobody was told of yet.
    """

    def __init__(self, file: IO[bytes], advance: Any) -> None:
        self._file = file
        self._advance = advance
        self.number = 0
        self.first = 0
        self.too_long: list[int] = []

    def __iter__(self) -> Iterator[str]:
        while line := self._file.readline(MAX_LINE_BYTES + 1):
            self.number += 1
            if self.number % _OFTEN == 0:
                self._advance()
            if len(line) > MAX_LINE_BYTES:
                while line and not line.endswith(b"\n"):
                    line = self._file.readline(MAX_LINE_BYTES)
                self.too_long.append(self.number)
                continue
            self.first = self.first or self.number
            text = line.decode(errors="replace")
            yield text.removeprefix("\ufeff") if self.number == 1 else text

    def left_out(self) -> Iterator[FileRow]:
        """Rows for the lines that were too long."""
        for number in self.too_long:
            yield FileRow(number, None, f"is longer than {MAX_LINE_BYTES:,} bytes")
        self.too_long.clear()


def _json_rows(lines: _Lines) -> Iterator[FileRow]:
    """One object a line."""
    for text in lines:
        if lines.too_long:
            yield from lines.left_out()
        if text.isspace():
            continue
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            said = error.msg if isinstance(error, json.JSONDecodeError) else type(error).__name__
            yield FileRow(lines.number, None, f"is no JSON: {said}")
            continue
        if isinstance(values, dict):
            yield FileRow(lines.number, values)
        else:
            yield FileRow(lines.number, None, f"is a {type(values).__name__}, it must be an object")
    yield from lines.left_out()


def _csv_rows(path: Path, lines: _Lines) -> Iterator[FileRow]:
    """Rows below a header; values may be quoted and hold line ends."""
    texts = iter(lines)
    header = next((text for text in texts if not text.isspace()), "")
    separator = max(_SEPARATORS, key=header.count)
    columns = [name.strip() for name in next(csv.reader([header], delimiter=separator), [])]
    if not names_models(columns):
        shown = ", ".join(printable(name[:80]) for name in columns[:_SHOWN]) or "none"
        message = f"{path}: no column holds the names of models (id, modelId, model_id, …); its columns are {shown}"
        raise BadListing(message, hint="rename that column, or name the format: --format csv|jsonl")
    reader = csv.reader(texts, delimiter=separator)
    while True:
        lines.first = 0
        try:
            values = next(reader, None)
        except csv.Error as error:
            yield FileRow(lines.first, None, f"to {lines.number}: {error}")
            continue
        yield from lines.left_out()
        if values is None:
            return
        if len(values) == len(columns):
            yield FileRow(lines.first, dict(zip(columns, values, strict=True)))
        elif values:
            yield FileRow(lines.first, None, f"has {len(values)} values, the header {len(columns)}")

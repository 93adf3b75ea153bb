"""The three voices: people, programs (`--json`), and shell loops (`--quiet`).

A command says everything once, to `Output.answer`: the document for programs, the blocks for people, the ids for
loops. It never asks which voice speaks. stdout carries data and nothing else; notes, hints, errors and progress go
to stderr, and none of them carries a character a terminal would obey.
"""

import json
import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any

import click

from cli.block import Block, Unit
from registry.errors import RegError
from registry.names import printable
from registry.progress import SILENT, Progress


class Output(ABC):
    """What every voice can say."""

    @abstractmethod
    def answer(self, document: Any, *blocks: Block, ids: Iterable[object] = ()) -> None:
        """Say the result of a command, once.

        Args:
            document: of plain values, for programs; its keys are stable.
            blocks: for people.
            ids: one a line, for loops.
        """

    def error(self, error: RegError) -> None:
        """Say why a command failed and what to type next."""
        self.tell("error", error.message)
        if error.hint:
            self.tell("hint", error.hint)

    def warning(self, text: str) -> None:
        """Say what went wrong without ending the command."""
        self.tell("warning", text)

    def note(self, text: str) -> None:
        """Say what is worth knowing."""
        self.tell("note", text)

    def hint(self, text: str) -> None:
        """Say what to type next."""
        self.tell("hint", text)

    def tell(self, what: str, text: str) -> None:
        """Write one message to stderr, below what stdout already has."""
        sys.stdout.flush()
        click.echo(f"{what}: {lines(text)}", err=True)

    @contextmanager
    def progress(self, unit: Unit = "bytes") -> Iterator[Progress]:
        """Show how far the work of the block is, if anybody watches."""
        if not sys.stderr.isatty():
            yield SILENT
            return
        from cli.progress import Bar  # noqa: PLC0415 - rich, only when somebody watches

        with Bar(unit) as bar:
            yield bar


class Json(Output):
    """One JSON document on stdout; an error is one on stderr."""

    def answer(self, document: Any, *blocks: Block, ids: Iterable[object] = ()) -> None:
        """Print the document."""
        del blocks, ids
        click.echo(as_json(document))

    def error(self, error: RegError) -> None:
        """Print the error as an object with its class, message and hint."""
        fields = {"error": error.kind, "message": error.message, "hint": error.hint}
        click.echo(as_json(fields), err=True)


class Quiet(Output):
    """Ids on stdout, errors and warnings on stderr, nothing else."""

    def answer(self, document: Any, *blocks: Block, ids: Iterable[object] = ()) -> None:
        """Print the ids."""
        del document, blocks
        for id_ in ids:
            click.echo(printable(str(id_)))

    def note(self, text: str) -> None:
        """Say nothing."""

    def hint(self, text: str) -> None:
        """Say nothing."""

    @contextmanager
    def progress(self, unit: Unit = "bytes") -> Iterator[Progress]:
        """Show nothing."""
        del unit
        yield SILENT


def lines(text: str) -> str:
    """A text of several lines with nothing in it that a terminal would obey."""
    return "\n".join(printable(line) for line in text.split("\n"))


def as_json(document: Any) -> str:
    """A document as JSON: ASCII only, so that no reader and no terminal can stumble over it."""
    return json.dumps(plain(document), indent=2, allow_nan=False)


def plain(value: Any) -> Any:
    """A value as JSON can hold it.

    Times become ISO 8601, durations seconds, decimals numbers, bytes hex, sets sorted lists; what is not finite
    becomes null.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, set | frozenset):
        return sorted((plain(v) for v in value), key=str)
    if isinstance(value, Iterable) and not isinstance(value, bytes | bytearray):
        return [plain(v) for v in value]
    return next((say(value) for kinds, say in _SCALARS if isinstance(value, kinds)), str(value))


def _decimal(value: Decimal) -> int | float | None:
    """A decimal as a number; null when it is not finite."""
    if not value.is_finite():
        return None
    return int(value) if value == value.to_integral_value() else float(value)


_SCALARS: tuple[tuple[Any, Callable[[Any], Any]], ...] = (
    (date | time, lambda value: value.isoformat()),
    (timedelta, timedelta.total_seconds),
    (Decimal, _decimal),
    (bytes | bytearray, lambda value: value.hex()),
)
"""Classes of values that JSON does not know → how they are written."""

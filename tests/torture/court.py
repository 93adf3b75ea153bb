"""How an input ended, and whether that end has a name.

An end with a name is a value or a `RegError` of a function, and of a command an exit code of 0, 1, 2 or 3 with the words that
belong to it. Everything else is a finding: another exception, time or memory without bound, a character that a terminal
would obey, output that is no JSON where JSON was asked for.
"""

import contextlib
import io
import json
import resource
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from cli.main import reg
from registry.errors import RegError

MOST_SECONDS = 10.0
"""Of the processor, for one input."""

MOST_BYTES = 700_000_000
"""By which the process may grow over one input; the database alone may take 512 MiB."""

CODES = (0, 1, 2, 3)
"""Exit codes with a meaning."""

_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Finding:
    """An end without a name.

    Attributes:
        what: of which kind it is, the same for all inputs that end so.
        detail: what was called and what came of it.
    """

    what: str
    detail: str


@dataclass
class Ended:
    """What a command said.

    Attributes:
        code: its exit code; None when it broke.
        out: all of stdout.
        err: all of stderr.
    """

    code: int | None
    out: str
    err: str


@dataclass
class Court:
    """Tries calls and keeps what counts against the project.

    Attributes:
        most_seconds: of the processor, for one call.
        findings: of the inputs so far.
        n_calls: of readers and commands.
        n_refused: ends that were errors with a name.
        half_models: folders that look like a model and should not be there.
        lost_rows: rows that should be in a catalog and are not.
    """

    most_seconds: float = MOST_SECONDS
    findings: list[Finding] = field(default_factory=list)
    n_calls: int = 0
    n_refused: int = 0
    half_models: list[str] = field(default_factory=list)
    lost_rows: list[str] = field(default_factory=list)

    def reads(self, what: str, read: Callable[[], Any]) -> Any:
        """Call a reader; its value, or None where it refused."""
        with self._bounded(what):
            try:
                return read()
            except RegError:
                self.n_refused += 1
            except (Exception, SystemExit) as error:  # noqa: BLE001 - this is what we look for
                self.finds(*_told(what, error))
        return None

    def types(self, *words: str, stdin: str = "", data: bool = False) -> Ended:
        """Type a command in this process; ``data``: its stdout is not meant for a terminal."""
        what = " ".join(["reg", *(repr(word)[1:-1] for word in words)])
        out, err = _Stream(), _Stream()
        ended = Ended(None, "", "")
        with self._bounded(what), _streams(stdin, out, err):
            try:
                reg.main(list(words), prog_name="reg", color=True)  # else click strips escapes
            except SystemExit as end:
                ended.code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
            except (Exception, click.ClickException) as error:  # noqa: BLE001 - this is what we look for
                self.finds(*_told(what, error))
        ended.out, ended.err = out.text(), err.text()
        if ended.code is not None:
            self._judge(what, words, ended, data=data)
        return ended

    def report(self) -> dict[str, Any]:
        """All of it as plain values."""
        return {
            "calls": self.n_calls, "refused": self.n_refused, "lost": self.lost_rows, "half": self.half_models,
            "findings": [[finding.what, finding.detail] for finding in self.findings],
        }  # fmt: skip

    def finds(self, what: str, detail: str) -> None:
        """Note an end without a name."""
        self.findings.append(Finding(what, detail))

    def _judge(self, what: str, words: tuple[str, ...], ended: Ended, *, data: bool) -> None:
        """What must hold of everything that a command says."""
        self.n_refused += ended.code != 0
        if ended.code not in CODES:
            self.finds(f"exit code {ended.code}", f"{what}\n{ended.err[-2000:]}")
        if ended.code == 1 and "error" not in ended.err:
            self.finds("exit code 1 without an error", f"{what}\n{ended.err[-2000:]}")
        if ended.code == 2 and "Error: " not in ended.err and "Usage: " not in ended.err:
            self.finds("exit code 2 without a word", f"{what}\n{ended.err[-2000:]}")
        if "Traceback (most recent call last)" in ended.err:
            self.finds("a traceback on stderr", f"{what}\n{ended.err[-2000:]}")
        self._printable(what, ended.err if data else ended.out + ended.err)
        if "--json" in words and ended.code in (0, 3) and "--help" not in words and not data:
            try:
                json.loads(ended.out, parse_constant=_refuse)
            except ValueError as error:
                self.finds(f"--json is no JSON: {error}", f"{what}\n{ended.out[-1000:]}")

    def _printable(self, what: str, text: str) -> None:
        """Nothing that a terminal would obey."""
        wrong = {c for c in text if not c.isprintable() and c != "\n"}
        if wrong:
            at = next(i for i, c in enumerate(text) if c in wrong)
            around = text[max(0, at - 80) : at + 80]
            self.finds("a terminal would obey it", f"{what}\n{sorted(wrong)!r} in {around!r}")

    @contextlib.contextmanager
    def _bounded(self, what: str) -> Iterator[None]:
        """Little time of the processor and little memory."""
        self.n_calls += 1
        before, start = _peak_bytes(), time.process_time()
        yield
        spent, grown = time.process_time() - start, _peak_bytes() - before
        if spent > self.most_seconds:
            self.finds("too slow", f"{what}\n{spent:.1f} s")
        if grown > MOST_BYTES:
            self.finds("too much memory", f"{what}\n{grown / 1e6:.0f} MB")


class _Stream(io.TextIOWrapper):
    """A stream such as the command has it when its output goes into a pipe."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", errors="backslashreplace", write_through=True)  # fmt: skip

    def text(self) -> str:
        self.flush()
        found = self.buffer.getvalue()  # type: ignore[attr-defined]
        return found.decode()


@contextlib.contextmanager
def _streams(stdin: str, out: io.TextIOBase, err: io.TextIOBase) -> Iterator[None]:
    """Streams of one's own for a while."""
    old = sys.stdin
    sys.stdin = io.TextIOWrapper(io.BytesIO(stdin.encode(errors="surrogateescape")))
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            yield
    finally:
        sys.stdin = old


def _told(what: str, error: BaseException) -> tuple[str, str]:
    """An exception that is not ours: its class and the last line of our own code it passed, and all of it."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if Path(f.filename).is_relative_to(_ROOT) and "/tests/" not in f.filename]  # fmt: skip
    place = f"{Path(ours[-1].filename).relative_to(_ROOT)}:{ours[-1].name}" if ours else "?"
    whole = "".join(traceback.format_exception(error))
    return f"{type(error).__name__} from {place}", f"{what}\n{whole[-3000:]}"


def _peak_bytes() -> int:
    """The most memory that this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _refuse(constant: str) -> Any:
    """JSON has no such constant."""
    message = f"{constant} is no JSON"
    raise ValueError(message)

"""Every bad input by name, what is typed and what a user sees: `data/hostile.md`.

    PYTHONPATH=tests python -m torture.hostile_list [--write]

What lies in a folder is scanned with all the rest in one tree, as it would be in life; what is given to a command has a
folder of its own, with a catalog that knows a small family.
"""

import argparse
import importlib
import json
import os
import re
import shlex
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from torture.attempts import alone
from torture.bad_input import Bad
from torture.court import Court
from torture.ground import Ground

LIST = Path(__file__).parents[2] / "data" / "hostile.md"

TABLES = ("headers", "ggufs", "places", "companions", "typed", "numbers")
"""Modules of `torture.bad`, in the order of the list."""

_MOST = 240
_USAGE = 2
_MOST_SECONDS = 60.0  # of the scan of them all
_HEAD = """# Bad input, and what a user sees

Written by `PYTHONPATH=tests python -m torture.hostile_list --write`; `tests/hostile/test_list.py` holds it true. Names stand before
messages; of folders that are scanned together, one is one row of the view `problems`, and the scan ends with exit code 0.
"""


@dataclass(frozen=True)
class Told:
    """What a user was told of one bad input.

    Attributes:
        bad: the input.
        code: exit code.
        error: class of the error or of the first problem; "" where there is none.
        message: its sentence; of wrong usage the last line.
    """

    bad: Bad
    code: int | None
    error: str
    message: str


def cases() -> list[Bad]:
    """All of them, in the order of the list."""
    return [case for name in TABLES for case in importlib.import_module(f"torture.bad.{name}").CASES]  # fmt: skip


def told(court: Court, ground: Ground, tried: Sequence[Bad]) -> Iterator[Told]:
    """What users are told of each, in the same order."""
    scanned = _scanned(court, ground, [case for case in tried if not case.words])
    for case in tried:
        yield scanned[id(case)] if not case.words else _typed(court, ground, case)


def _scanned(court: Court, ground: Ground, tried: Sequence[Bad]) -> dict[int, Told]:
    """Scan one tree of all folders."""
    folder = ground.clear()
    for i, case in enumerate(tried):
        place = folder / "tree" / f"{i:03}"
        place.mkdir(parents=True)
        case.make(place)
    ground.catalog(known=False)
    ended = court.types("scan", "tree", "--json")
    problems = json.loads(ended.out)["problems"] if ended.code == 0 else []
    rows = court.types("sql", "select unnest(addresses) as at from models", "--json").out
    models = [row["at"] for row in json.loads(rows or "[]")]
    found = {}
    for i, case in enumerate(tried):
        place = str(folder / "tree" / f"{i:03}")
        own = [p for p in problems if p["address"] == place or p["address"].startswith(place + "/")]
        first = own[0] if own else {"error": "", "detail": ""}
        is_model = any(at == place or at.startswith(place + "/") for at in models)
        if not own:
            first["detail"] = "" if is_model else "no checkpoint, passed over"
        message = first["detail"].replace(f"{place}/", "").replace(place, "the folder")
        found[id(case)] = Told(case, ended.code, first["error"], _plain(ground, message))
    return found


def _typed(court: Court, ground: Ground, case: Bad) -> Told:
    """Type one command."""
    folder = ground.clear()
    ground.catalog()
    case.make(folder)
    ended = court.types(*case.words, "--json", stdin=case.stdin)
    if ended.code == 0 and case.words[0] == "scan":
        first = next(iter(json.loads(ended.out)["problems"]), {"error": "", "detail": ""})
        return Told(case, ended.code, first["error"], _plain(ground, first["detail"]))
    if ended.code != 1:
        last = (ended.err.strip().splitlines() or [""])[-1]
        return Told(case, ended.code, "", _plain(ground, last if ended.code == _USAGE else ""))
    said = json.loads(ended.err[ended.err.index("{\n") :])
    hint = f" (hint: {said['hint']})" if said["hint"] else ""
    return Told(case, ended.code, said["error"], _plain(ground, said["message"] + hint))


def _plain(ground: Ground, text: str) -> str:
    """A message as the list has it: without places of one machine, and short."""
    text = text.replace(f"{ground.folder}/", "").replace(str(ground.folder), "the folder")
    text = text.replace(f"{ground.models.parent}/", "").replace(str(Path.cwd().parent), "")
    text = re.sub(r"\b[\d,]+ free\b", "… free", text)
    return text if len(text) <= _MOST else text[:_MOST] + "…"


_OTHERS = re.compile(
    r"(not valid JSON|not valid YAML|is no JSON|value that cannot be read|beyond line \d+|is not there|[A-Z][a-z]+ Error|\| 2 \| Error): "
    r"[^|]*"
)
"""Words of Python, click, DuckDB and torch, which differ from version to version."""


def stable(text: str) -> str:
    """What must be the same of a list with every version of the libraries."""
    return _OTHERS.sub(r"\1", text)


def rendered(found: Sequence[Told]) -> str:
    """The list as Markdown."""
    text = _HEAD
    kind = ""
    for one in found:
        if one.bad.kind != kind:
            kind = one.bad.kind
            text += f"\n## {kind[0].upper()}{kind[1:]}\n\n| input | command | exit | message |\n|---|---|---|---|\n"
        command = "reg " + (_shown(one.bad.words) if one.bad.words else "scan")
        message = f"{one.error}: {one.message}" if one.error else one.message or "taken as it is"
        cells = one.bad.what, f"`{command}`", str(one.code), message
        text += f"| {' | '.join(_cell(cell) for cell in cells)} |\n"
    return text + f"\n{len(found)} inputs.\n"


def _shown(words: Sequence[str]) -> str:
    """Words as they would be typed, long ones cut, without what a terminal would obey."""
    cut = (word if len(word) <= 40 else f"{word[:12]}…({len(word)})" for word in words)
    text = shlex.join(cut)
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)  # fmt: skip


def _cell(text: str) -> str:
    """A cell of a table."""
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)  # fmt: skip
    return safe.replace("|", "\\|").replace("<", "&lt;")


def main() -> None:
    """Print the list, write it, or report what it was made of."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--write", action="store_true", help="to data/hostile.md")
    parser.add_argument(
        "--report", type=Path, help="JSON: the list, each end, and what has no name"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="homolog-hostile-") as folder:
        root = Path(folder).resolve()
        alone(root)
        court = Court(most_seconds=_MOST_SECONDS)
        found = list(told(court, Ground(root), cases()))
        os.chdir("/")
    text = rendered(found)
    if options.write:
        LIST.write_text(text, encoding="utf-8")
    elif options.report:
        ends = [
            {"kind": t.bad.kind, "what": t.bad.what, "code": t.code, "error": t.error}
            for t in found
        ]
        document = {"text": text, "told": ends, "findings": court.report()["findings"]}
        options.report.write_text(json.dumps(document), encoding="utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()

"""Raw results, one JSON line each, in a file that outlives the bench: what is in it is not measured again."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from process import Run

Tool = Literal["reg", "plain", "inside", "inside plain", "mergekit"]


@dataclass(frozen=True)
class Result:
    """One run of one tool.

    Attributes:
        size: of the family.
        case: its name.
        tool: who did it.
        code: digest of our sources, or mergekit's version.
        turn: number of the round; runs of the same turn were made side by side.
        run: what it came to.
    """

    size: str
    case: str
    tool: Tool
    code: str
    turn: int
    run: Run


class Results:
    """Everything measured in a folder."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._all = list(self._stored())

    def _stored(self) -> Iterator[Result]:
        """What the file has; a last line that was cut off does not count."""
        if not self.file.exists():
            return
        for line in self.file.read_text(encoding="utf-8").splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                continue
            yield Result(**{**record, "run": Run(**record["run"])})

    def add(self, *results: Result) -> None:
        """Keep the results of one turn."""
        lines = "".join(json.dumps(asdict(result)) + "\n" for result in results)
        before = self.file.read_bytes() if self.file.exists() else b""
        with self.file.open("a", encoding="utf-8") as out:
            out.write("\n" + lines if before and not before.endswith(b"\n") else lines)
        self._all.extend(results)

    def sizes(self) -> set[str]:
        """Sizes of which there is a case."""
        return {r.size for r in self._all if not r.case.startswith("start-")}

    def cases(self, size: str) -> list[str]:
        """Names of the cases of a size, as they were first measured."""
        return list(dict.fromkeys(r.case for r in self._all if r.size == size))

    def codes(self, tool: Tool) -> list[str]:
        """Versions of a tool that were measured."""
        return sorted({r.code for r in self._all if r.tool == tool})

    def turns(self, size: str, case: str, tool: Tool, code: str | None = None) -> list[Result]:
        """Runs of one tool, one a turn: those of ``code``, else those of the code last measured."""
        found = [r for r in self._all if (r.size, r.case, r.tool) == (size, case, tool)]
        wanted = code or (found[-1].code if found else "")
        return list({r.turn: r for r in found if r.code == wanted}.values())

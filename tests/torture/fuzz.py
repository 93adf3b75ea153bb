"""Bad input of every kind, by the thousand: each must end in an answer or in an error with a name.

The inputs are tried in a process of their own (`torture.attempts`), so that a crash of the interpreter, an endless wait or a
bomb counts as a finding and stops nothing but itself.
"""

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from torture.attempts import KINDS, kind_of
from torture.trial import Trial

MOST_SECONDS = 120.0
"""Without a word from the process: more than any input may take on a machine that is busy."""

_MOST_DETAILS = 20
_TESTS = Path(__file__).parents[1]


def trials(seed: int, seconds: float, folder: Path) -> Iterator[Trial]:
    """Try inputs of all kinds for about so many seconds; a line for each kind."""
    waiting, first, worth = list(KINDS), 0, seconds
    found = {kind: Trial("fuzz", kind_of(kind).WHAT) for kind in KINDS}
    seen: set[tuple[str, str]] = set()
    while waiting:
        tries = _Tries(folder, waiting, seed=seed, first=first, seconds=worth)
        for line in tries.lines():
            _count(found[line["kind"]], line, seed, seen)
            while waiting[0] != line["kind"]:
                yield found[waiting.pop(0)]
        if tries.ending is None:
            yield from (found[kind] for kind in waiting)
            return
        kind, number = tries.at
        _count(found[kind], {**_NOTHING, "number": number, "findings": [tries.ending]}, seed, seen)
        while waiting[0] != kind:
            yield found[waiting.pop(0)]
        first = number + 1
        worth = seconds * len(waiting) / len(KINDS) / 2


_NOTHING: dict[str, Any] = {"calls": 1, "refused": 0, "lost": [], "half": []}


def _count(trial: Trial, line: dict[str, Any], seed: int, seen: set[tuple[str, str]]) -> None:
    """Add what became of one input."""
    trial.tries += line["calls"]
    trial.faults += line["refused"]
    trial.unnamed_errors += len(line["findings"])
    trial.lost_rows += len(line["lost"])
    trial.half_models += len(line["half"])
    wrong = [*line["findings"], *(("rows lost", text) for text in line["lost"])]
    for what, detail in [*wrong, *(("half a model", text) for text in line["half"])]:
        if (trial.what, what) not in seen and len(trial.details) < _MOST_DETAILS:
            trial.details.append(f"seed {seed}, input {line['number']}: {what}\n{detail}")
        seen.add((trial.what, what))


@dataclass
class _Tries:
    """One process that tries inputs, for as long as it lives.

    Attributes:
        at: kind and number of the input that it tries.
        ending: what ended it and what it said last; None for a good end.
    """

    folder: Path
    kinds: list[str]
    seed: int
    first: int
    seconds: float
    at: tuple[str, int] = ("", 0)
    ending: tuple[str, str] | None = None
    _said: queue.SimpleQueue[str | None] = field(default_factory=queue.SimpleQueue)

    def lines(self) -> Iterator[dict[str, Any]]:
        """What became of each input."""
        self.at = (self.kinds[0], self.first)
        words = [
            sys.executable, "-m", "torture.attempts", str(self.folder / "ground"), "--seed", str(self.seed),
            "--first", str(self.first), "--kinds", ",".join(self.kinds), "--seconds", str(self.seconds),
        ]  # fmt: skip
        complaints = self.folder / "stderr"
        paths = [str(_TESTS), str(_TESTS.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        with complaints.open("wb") as err:
            process = subprocess.Popen(
                words, stdout=subprocess.PIPE, stderr=err, text=True, cwd=self.folder,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
            )  # fmt: skip
        assert process.stdout is not None
        threading.Thread(target=self._listen, args=(process.stdout,), daemon=True).start()
        try:
            yield from self._heard()
            code = process.wait(MOST_SECONDS)
            if code:
                last = complaints.read_text(errors="replace")[-3000:]
                self.ending = f"the process ended with {code}", last
        except (queue.Empty, subprocess.TimeoutExpired):
            self.ending = "no end", f"nothing in {MOST_SECONDS:g} seconds"
        finally:
            process.kill()
            process.wait()

    def _listen(self, out: IO[str]) -> None:
        """Pass on what the process says."""
        with out:
            for line in out:
                self._said.put(line)
        self._said.put(None)

    def _heard(self) -> Iterator[dict[str, Any]]:
        """Lines of inputs that ended."""
        while (text := self._said.get(timeout=MOST_SECONDS)) is not None:
            line = json.loads(text)
            self.at = line["kind"], line["number"]
            if "calls" in line:
                yield line

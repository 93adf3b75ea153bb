"""Python code in processes of its own, without the seconds that each would need to load torch and the methods."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]

PARENT = """
import json, os, sys, traceback
import engine.journal, engine.merge, engine.provenance
from engine.methods import all_methods
from huggingface_hub import ModelCard
all_methods()
for line in sys.stdin:
    begun = []
    for code, *words in json.loads(line):
        begun.append(os.fork())
        if not begun[-1]:
            os.dup2(2, 1)
            sys.argv[1:] = words
            try:
                exec(code, {})
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
    codes = [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in begun]
    print(json.dumps(codes), flush=True)
"""


class Forks:
    """Runs processes, each forked by one that has loaded what they need."""

    def __init__(self, parent: subprocess.Popen[str]) -> None:
        self._parent = parent

    def run(self, *commands: tuple[object, ...]) -> list[int]:
        """Run code, each with its arguments, all at once to their ends; exit codes, negative after a signal."""
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        texts = [list(map(str, command)) for command in commands]
        self._parent.stdin.write(json.dumps(texts) + "\n")
        self._parent.stdin.flush()
        codes: list[int] = json.loads(self._parent.stdout.readline())
        return codes


@contextmanager
def forks() -> Iterator[Forks]:
    """Start the process that forks the others."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], env=environment, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as parent:  # fmt: skip
        yield Forks(parent)

"""Real `reg` processes without the seconds that each would need to load torch: forked by one that has loaded everything.

A killed child is really killed. Scans write a few checkpoints at a time here, so that a small tree is many transactions.
"""

import contextlib
import gc
import json
import os
import re
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1]

BATCHES = {
    "registry.scan": {"_BATCH": 7},
    "registry.hub_scan": {"_BATCH": 3, "_SECONDS": 0.0},
    "engine.descent.shelf": {"_BATCH": 2},
    "registry.intake": {"_BATCH": 256},
}
"""How much is written at once by these modules: little, so that there is much to kill."""

HANGS_SECONDS = 120.0
"""A command that takes longer is said to hang; the small ones here take a second."""


@dataclass
class Process:
    """One run of `reg`.

    Attributes:
        pid: of the process.
        words: after `reg`.
        out: file with what it said on its standard output; what it said of errors lies beside it.
        code: its exit status, negative after a signal; None while it runs.
    """

    pid: int
    words: tuple[str, ...]
    out: Path
    code: int | None = None

    @property
    def answer(self) -> Any:
        """What it answered, when it was asked for JSON."""
        return json.loads(self.out.read_text())

    @property
    def error(self) -> str:
        """The name of the error with which it ended, when it was asked for JSON; "" where it has none."""
        found = re.search(r'^{\n  "error": "(\w+)"', self.said, re.MULTILINE)
        return found[1] if found and self.code == 1 and "Traceback" not in self.said else ""

    @property
    def said(self) -> str:
        """What it said on both streams."""
        both = (self.out, self.out.with_suffix(".err"))
        return "".join(file.read_text(errors="replace") for file in both if file.exists())

    def kill(self) -> None:
        """Kill it, as the system does when memory is short: nothing of it runs any more."""
        os.kill(self.pid, signal.SIGKILL)


@dataclass
class Warm:
    """The process that forks the others."""

    server: "subprocess.Popen[str]"
    folder: Path
    _n: int = field(default=0)

    def start(self, words: Sequence[str], cwd: Path, wait_seconds: float | None = None) -> Process:
        """Run `reg` with these words in a folder; ``wait_seconds``: for the catalog, where not as long as it always does."""
        self._n += 1
        out = self.folder / f"{self._n}.out"
        asked = {"start": list(words), "cwd": str(cwd), "out": str(out), "wait": wait_seconds}
        return Process(self._ask(asked), tuple(words), out)

    def is_over(self, process: Process) -> bool:
        """Look whether a process ended, without waiting."""
        if process.code is None:
            process.code = self._ask({"poll": process.pid})
        return process.code is not None

    def wait(self, process: Process, seconds: float = HANGS_SECONDS) -> int:
        """Wait for the end of a process; one that hangs is killed, and its exit status is that of `timeout`."""
        end = time.monotonic() + seconds
        while not self.is_over(process):
            if time.monotonic() > end:
                process.kill()
                while not self.is_over(process):
                    time.sleep(0.01)
                process.code = 124
            time.sleep(0.002)
        assert process.code is not None
        return process.code

    def run(self, words: Sequence[str], cwd: Path) -> Process:
        """Run `reg` to its end."""
        process = self.start(words, cwd)
        self.wait(process)
        return process

    def _ask(self, asked: Mapping[str, Any]) -> Any:
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        self.server.stdin.write(json.dumps(asked) + "\n")
        self.server.stdin.flush()
        return json.loads(self.server.stdout.readline())


@contextlib.contextmanager
def warm(folder: Path, environment: Mapping[str, str] | None = None) -> Iterator[Warm]:
    """Start the process that forks the others; all of them end with the block.

    Args:
        folder: for what the processes say, and for a home of their own.
        environment: of all of them, beside ours; a Hub must be known when the library is loaded.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = os.pathsep.join((str(TESTS.parent), str(TESTS)))
    surroundings = {
        **os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "HF_HOME": str(folder / "hf"),
        "XDG_DATA_HOME": str(folder / "data"), "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "0",
        **(environment or {}),
    }  # fmt: skip
    for name in ("REG_CATALOG", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        surroundings.pop(name, None)
    with subprocess.Popen(
        [sys.executable, "-m", "torture.warm"], env=surroundings, cwd=folder, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0,
    ) as server:  # fmt: skip
        assert server.stdout is not None
        assert server.stdout.readline() == "warm\n"
        try:
            yield Warm(server, folder)
        finally:
            os.killpg(server.pid, signal.SIGKILL)  # its own group: it and what it forked


def _load() -> None:
    """Load all that commands load, and let them write little at once."""
    from cli.main import MODULES, SUMMARIES  # noqa: PLC0415 - in the server alone

    for name in SUMMARIES:
        import_module(f"cli.commands.{MODULES.get(name, name)}")
    import homolog  # noqa: PLC0415 - in the server alone

    for name in homolog.__all__:
        getattr(homolog, name)
    homolog.methods()
    for name in (
        "cli.human",
        "numpy",
        "networkx",
        "pytz",
        "huggingface_hub.hf_api",
        "engine.kernels",
    ):
        import_module(name)
    for module, values in BATCHES.items():
        for name, value in values.items():
            assert hasattr(import_module(module), name)
            setattr(import_module(module), name, value)
    gc.collect()
    gc.freeze()


def _be(asked: Mapping[str, Any]) -> None:
    """Be one run of `reg`; does not return."""
    code = 70
    try:
        made = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(os.open(asked["out"], made, 0o644), 1)
        os.dup2(os.open(Path(asked["out"]).with_suffix(".err"), made, 0o644), 2)
        os.chdir(asked["cwd"])
        if asked["wait"] is not None:
            from registry.catalog import Catalog  # noqa: PLC0415 - loaded before the fork

            Catalog.__init__.__kwdefaults__["wait_seconds"] = asked["wait"]
        sys.argv = ["reg", *asked["start"]]
        from cli.main import main  # noqa: PLC0415 - loaded before the fork

        main()
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:  # noqa: BLE001 - a child must not become a second server
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _serve() -> None:
    """Fork and look after children, as asked on the standard input."""
    _load()
    print("warm", flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        if "start" in asked:
            pid = os.fork()
            if not pid:
                _be(asked)
            answer: int | None = pid
        else:
            pid, status = os.waitpid(asked["poll"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    _serve()

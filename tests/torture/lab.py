"""Where disks are tried: real `reg` processes, forked by one that has all loaded, with faults of the system made on purpose.

`Server` starts that process with `faults.c` preloaded and, where the system allows it, with mounts of its own. Each try is a
function of a `Lab`, run in a fork; each command of the try is a fork of that.
"""

import contextlib
import ctypes
import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).parents[2]
MOST_SECONDS = 60.0
"""That a command may take before it counts as hanging."""

MOST_SAID = 1200
"""Characters of what a command said that are told."""

NAMED = (0, 1, 2, 3, 130)
"""Exit codes that the command line speaks of."""


@dataclass
class Ended:
    """One command that has ended; a negative code is a signal."""

    words: tuple[str, ...]
    code: int
    out: str
    err: str
    n_reads: int

    def __str__(self) -> str:
        said = self.err.strip()
        tail = (
            said
            if len(said) < MOST_SAID
            else f"{said[: MOST_SAID // 2]} … {said[-MOST_SAID // 2 :]}"
        )
        return f"reg {' '.join(self.words)} -> {self.code}: {tail}"


Case = tuple[str, Callable[..., None], tuple[str, ...]]
"""What is tried, the function of a lab that tries it, and what else that is given."""


@dataclass
class Found:
    """What one try found, as `torture.trial.Trial` counts it."""

    faults: int = 0
    lost_rows: list[str] = field(default_factory=list)
    unnamed_errors: list[str] = field(default_factory=list)
    half_models: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Fault:
    """What the system does to one command: see `faults.c`.

    Attributes:
        prefix: of the files that it is about.
        room: bytes that may yet be written there.
        read: which read there is paused before or, with an ``error``, fails like all after it.
        error: number of it.
        counts: count the reads there and do nothing.
        tears: which write there is cut in half, and is the last thing that happens.
        later: seconds that the clock is wrong by.
    """

    prefix: Path = Path("/")
    room: int | None = None
    read: int | None = None
    error: int = 0
    counts: bool = False
    tears: int | None = None
    later: int = 0


NONE = Fault()


class Lab:
    """What a try is given: a place of its own, chance, and commands.

    Attributes:
        folder: at the same path in every try; what is in it lasts.
        rng: decides what is done.
        may_mount: whether `small_disk` is a real one.
        found: what is wrong so far.
        n_each: commands of a try that may take several.
    """

    def __init__(self, folder: Path, seed: str, *, may_mount: bool) -> None:
        self.folder = folder
        self.rng = random.Random(seed)
        self.may_mount = may_mount
        self.found = Found()
        self.n_each = int(os.environ.get("TORTURE_EACH", "1"))

    def reg(
        self, *words: object, fault: Fault = NONE, env: Mapping[str, str | None] | None = None,
        cwd: Path | None = None, stdout: Path | None = None, plain: bool = False,
        meanwhile: Callable[[], object] | None = None,
    ) -> Ended:  # fmt: skip
        """Run a command to its end and judge how it ended.

        Args:
            words: behind `reg`.
            fault: of the system, for it alone.
            env: variables to set, or to unset.
            cwd: where it runs.
            stdout: a file that it writes its answer to.
            plain: without the rights of root, which no permission keeps out.
            meanwhile: done in the pause that ``fault`` makes before a read; never done where there are fewer reads.
        """
        texts = tuple(map(str, words))
        out, err, count = (self.folder / f"{name}.txt" for name in ("out", "err", "count"))
        asked, go = os.pipe(), os.pipe()
        process = os.fork()
        if not process:
            code = 70
            try:
                os.setpgid(0, 0)
                _become(env or {}, cwd, stdout or out, err, fault, (asked[1], go[0]), plain=plain)
                code = _command(texts)
            except BaseException:  # noqa: BLE001 - what a traceback is for
                traceback.print_exc()
            finally:
                with contextlib.suppress(OSError, ValueError):
                    sys.stderr.flush()
                count.write_text(str(_shim().faults_counted()))
                os._exit(code)
        os.close(asked[1])
        os.close(go[0])
        deadline = time.monotonic() + MOST_SECONDS
        if meanwhile and select.select([asked[0]], [], [], MOST_SECONDS)[0]:
            if os.read(asked[0], 1):
                meanwhile()
                self.found.faults += 1
            with contextlib.suppress(BrokenPipeError):
                os.write(go[1], b"g")
        code = _waited(process, deadline)
        os.close(asked[0])
        os.close(go[1])
        n_reads = int(count.read_text() or 0) if count.exists() else 0
        answer = "" if stdout else out.read_text(errors="replace")
        ended = Ended(texts, code, answer, err.read_text(errors="replace"), n_reads)
        if code != -signal.SIGKILL or fault.tears is None:
            self._judge(ended)
        return ended

    def _judge(self, ended: Ended) -> None:
        """Count an end that has no name."""
        named = ended.code in NAMED and "Traceback (most recent call last)" not in ended.err
        if ended.code == 1 and not any(
            said in ended.err for said in ("error: ", '"error"', "warning: ")
        ):
            named = False
        if not named:
            self.found.unnamed_errors.append(str(ended))

    def check(self, holds: object, what: object) -> None:
        """Note what must hold and does not."""
        if not holds:
            self.found.wrong.append(str(what))

    def ask(self, question: Callable[[], Any]) -> Any:
        """The answer to a question that is asked in a fork, as JSON; an exception is noted as an unnamed error."""
        answer = self.folder / "answer.json"
        answer.unlink(missing_ok=True)
        process = os.fork()
        if not process:
            try:
                answer.write_text(json.dumps(question()))
            except BaseException:  # noqa: BLE001
                (self.folder / "err.txt").write_text(traceback.format_exc())
                os._exit(1)
            os._exit(0)
        if _waited(process, time.monotonic() + MOST_SECONDS):
            self.found.unnamed_errors.append((self.folder / "err.txt").read_text()[-600:])
            return None
        return json.loads(answer.read_text())

    @contextlib.contextmanager
    def small_disk(self, place: Path) -> Iterator[None]:
        """A disk of 64 MB of its own at ``place``, or only a folder where the system does not let us mount one."""
        place.mkdir(parents=True, exist_ok=True)
        if not self.may_mount:
            yield
            shutil.rmtree(place)
            return
        words = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(place)]
        subprocess.run(words, check=True)
        try:
            yield
        finally:
            subprocess.run(["umount", "-l", str(place)], check=False)
            place.rmdir()


def _shim() -> Any:
    """What `faults.c` exports."""
    library = ctypes.CDLL(None)
    library.faults_counted.restype = ctypes.c_long
    library.faults_disk.argtypes = (ctypes.c_char_p, ctypes.c_long)
    library.faults_tear.argtypes = (ctypes.c_char_p, ctypes.c_long)
    library.faults_clock.argtypes = (ctypes.c_long,)
    library.faults_read.argtypes = (ctypes.c_char_p, ctypes.c_long, *(ctypes.c_int,) * 3)
    return library


def _become(
    env: Mapping[str, str | None], cwd: Path | None, out: Path, err: Path, fault: Fault,
    pipes: tuple[int, int], *, plain: bool,
) -> None:  # fmt: skip
    """Make a fork the process of a command."""
    for place, target in ((out, 1), (err, 2)):
        handle = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(handle, target)
    for name, value in env.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    os.chdir(cwd or err.parent)
    prefix = f"{fault.prefix}{'/' if fault.prefix.is_dir() else ''}".encode()
    if fault.room is not None:
        _shim().faults_disk(prefix, fault.room)
    if fault.tears is not None:
        _shim().faults_tear(prefix, fault.tears)
    if fault.read is not None or fault.counts:
        told = (-1, -1) if fault.error or fault.counts else pipes
        _shim().faults_read(prefix, fault.read or 0, fault.error, *told)
    _shim().faults_clock(fault.later)
    if plain:
        _drop_rights()


def _drop_rights() -> None:
    """Be an owner like any other: permission bits keep a root without capabilities out."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    if ctypes.CDLL(None, use_errno=True).capset(header, (ctypes.c_uint32 * 6)()):
        raise OSError(ctypes.get_errno(), "capset")


def _command(words: tuple[str, ...]) -> int:
    """Run a command as its entry point does; its exit code."""
    from cli.main import main  # noqa: PLC0415 - in the fork

    sys.argv = ["reg", *words]
    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1 if end.code else 0
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
    return 0


def _waited(process: int, deadline: float) -> int:
    """The exit code of a fork; one that hangs is killed."""
    pause = 0.0005
    while True:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            return 99
        time.sleep(pause)
        pause = min(0.01, pause * 1.5)


class Server:
    """The process that forks, for the main one; a context manager.

    Attributes:
        may_mount: whether tries get disks of their own.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        library = folder / "faults.so"
        source = Path(__file__).with_name("faults.c")
        words = ["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"]
        subprocess.run(words, check=True)
        before = mounting() or []
        self.may_mount = bool(before)
        home = folder / "home"
        for name in ("home", "tmp", "lab"):
            (folder / name).mkdir()
        hidden = (
            "REG_CATALOG",
            "HF_TOKEN",
            "HF_HUB_CACHE",
            "XDG_DATA_HOME",
            "HTTP_PROXY",
            "http_proxy",
        )
        cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        env = {k: v for k, v in os.environ.items() if k not in hidden} | {
            "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests", *sys.path[1:]))), "HOME": str(home),
            "XDG_CACHE_HOME": cache, "TMPDIR": str(folder / "tmp"), "HF_HOME": str(folder / "hf"),
            "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "0",
            "OMP_NUM_THREADS": "1", "LD_PRELOAD": str(library), "COLUMNS": "200",
        }  # fmt: skip
        words = [
            *before,
            sys.executable,
            "-m",
            "torture.lab",
            str(folder),
            str(int(self.may_mount)),
        ]
        self._process = subprocess.Popen(
            words, env=env, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def run(self, case: Callable[..., None], words: Sequence[str], seed: str) -> Found:
        """Try a case once, as ``case(lab, *words)``."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        asked = {"module": case.__module__, "name": case.__name__, "words": words, "seed": seed}
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        return Found(**json.loads(self._process.stdout.readline()))


def mounting() -> list[str] | None:
    """What to write before a command that may mount disks of its own; None where the system allows none."""
    for words in (["unshare", "-m"], ["unshare", "-rm"]):
        try:
            done = subprocess.run(
                [*words, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, check=False
            )
        except OSError:
            return None
        if done.returncode == 0:
            return words
    return None


def _serve(folder: Path, *, may_mount: bool) -> None:
    """Load everything, and fork for every line of stdin."""
    import cli.main  # noqa: PLC0415 - the server's work
    import engine.merge  # noqa: PLC0415
    from engine.compiler import library  # noqa: PLC0415
    from engine.methods import all_methods  # noqa: PLC0415

    for name in cli.main.SUMMARIES:
        import_module(f"cli.commands.{cli.main.MODULES.get(name, name)}")
    import_module("huggingface_hub").HfApi()
    all_methods()
    library()
    os.environ.pop("LD_PRELOAD")  # not for those that commands start
    del engine
    answer = folder / "found.json"
    for line in sys.stdin:
        asked = json.loads(line)
        process = os.fork()
        if not process:
            lab = Lab(folder / "lab", asked["seed"], may_mount=may_mount)
            try:
                os.dup2(2, 1)
                getattr(import_module(asked["module"]), asked["name"])(lab, *asked["words"])
            except BaseException:  # noqa: BLE001
                lab.found.wrong.append(f"the try itself: {traceback.format_exc()[-1500:]}")
            answer.write_text(json.dumps(asdict(lab.found)))
            os._exit(0)
        os.waitpid(process, 0)
        print(answer.read_text(), flush=True)


if __name__ == "__main__":
    _serve(Path(sys.argv[1]), may_mount=sys.argv[2] == "1")

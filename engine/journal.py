"""Journals: what is finished of a result, so that a run that was stopped goes on where it stopped.

A merge writes into a folder beside its output whose name follows from its plan, so that the same plan finds it again.
In it lies an append-only file of JSON lines: which plan the folder is for, which runs worked on it, and each finished
tensor with the digest of its bytes and what was counted of it. A line is believed only while the bytes have that
digest; a line that was torn is none. The file is gone before the folder takes its final name.

A lock on the folder keeps living processes apart. Where the file system has no locks, two of them write the same
bytes to the same places, and the slower one fails.
"""

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from engine.output import hidden, place, refusals, sync_all, take_name
from engine.plan import Plan
from registry.documents import MAX_JSON_BYTES, parse_json
from registry.errors import (
    BadDocument,
    CatalogLocked,
    Interrupted,
    NotEnoughDisk,
    NothingToResume,
    OutputExists,
)
from registry.fingerprint import digest_text
from registry.sources import JOURNAL
from registry.version import VERSION
from registry.whole_file import put_in_place, sync
from registry.workroom import locked

FORMAT = "homolog-journal-1"
"""What its first line says that it is."""

_DIGEST_DIGITS = 64
_DATA = ".safetensors"


@dataclass(frozen=True)
class Finished:
    """One finished tensor.

    Attributes:
        digest: of dtype, shape and bytes (`registry.fingerprint.TENSOR_DIGEST`).
        numbers: what was counted of it, by name; every bit of a number is kept.
    """

    digest: str
    numbers: Mapping[str, float]


class Journal:
    """The journal of one unfinished folder, which this process has for itself; made by `begun`.

    Attributes:
        folder: the result is written into it.
        finished: tensor name → its last line. What an earlier run wrote is a claim until the bytes are compared.
        runs: ids of the earlier runs that worked on the folder; all of them have ended.
        process: of the last of them; None where it is not known.
        taken: whether the folder has its final name.
    """

    def __init__(self, folder: Path, plan: str) -> None:
        """Read what is there.

        Args:
            folder: may be empty.
            plan: digest of what the folder must be for; lines of another plan are no lines.
        """
        self.folder = folder
        self.finished: dict[str, Finished] = {}
        self.runs: tuple[str, ...] = ()
        self.process: int | None = None
        self.taken = False
        self._plan = plan
        self._lines: list[dict[str, Any]] = list(_lines(folder / JOURNAL))
        self._handle = -1
        self._lock = Lock()
        for line in self._lines:
            self._read(line)
        if not self.is_of_plan:
            self.finished = {}

    @property
    def is_of_plan(self) -> bool:
        """Tell whether an earlier run of the same plan began in this folder."""
        return self._lines[:1] == [self._head]

    def begin(self, run: str) -> None:
        """Let a run go on with the folder, cleared of all but the shards; of another plan's too.

        Raises:
            OSError: the operating system refuses.
        """
        for path in self.folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif (path.suffix != _DATA or not self.is_of_plan) and path.name != JOURNAL:
                path.unlink()
        new = self.folder / f"{JOURNAL}.new"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        self._handle = os.open(new, flags, 0o644)
        lines = [self._head, *({"run": each} for each in self.runs)]
        lines.append({"run": run, "process": os.getpid()})
        self._append(*lines, *(_line(name, line) for name, line in self.finished.items()))
        put_in_place(new, self.folder / JOURNAL)  # at no moment is there less than there was

    def note(self, name: str, digest: str, numbers: Mapping[str, float]) -> None:
        """Write that a tensor is finished; safe from any thread.

        Raises:
            NotEnoughDisk, RunFailed: the operating system refuses; the journal is as it was.
        """
        finished = Finished(digest, dict(numbers))
        with refusals(self.folder / JOURNAL):
            self._append(_line(name, finished))
        self.finished[name] = finished

    def keep(self, names: Iterable[str]) -> None:
        """Believe the lines of these tensors and no others."""
        self.finished = {name: self.finished[name] for name in names}

    def take_name(self, output: Path) -> None:
        """Put all on the disk, leave the journal behind and give the folder its final name.

        Raises:
            OSError: as `engine.output.take_name`.
        """
        sync_all(self.folder)
        (self.folder / JOURNAL).unlink()
        sync(self.folder)
        take_name(self.folder, output)
        self.taken = True

    def close(self) -> None:
        """Close the file."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    @property
    def _head(self) -> dict[str, Any]:
        """The first line."""
        return {"journal": FORMAT, "plan": self._plan}

    def _read(self, line: Mapping[str, Any]) -> None:
        """Take in one line, if it is one of ours."""
        run, process = line.get("run"), line.get("process")
        name, digest, numbers = line.get("tensor"), line.get("digest"), line.get("numbers")
        if isinstance(run, str):
            self.runs = (*self.runs, run)
            self.process = process if isinstance(process, int) else None
        elif isinstance(name, str) and isinstance(digest, str) and isinstance(numbers, dict):
            whole = len(digest) == _DIGEST_DIGITS
            if whole and all(type(number) in (int, float) for number in numbers.values()):
                self.finished[name] = Finished(digest, numbers)

    def _append(self, *lines: Mapping[str, Any]) -> None:
        """Write whole lines at the end, or none."""
        data = "".join(json.dumps(line) + "\n" for line in lines).encode()
        with self._lock:
            before, done = os.fstat(self._handle).st_size, 0
            try:
                while done < len(data):
                    done += os.write(self._handle, data[done:])
            except OSError:
                os.ftruncate(self._handle, before)
                raise


def folder_of(output: Path, plan: Plan, shard_bytes: int) -> Path:
    """The folder in which a plan's result is made: the same for the same plan, output and size of shards."""
    ids = [parent.id for parent in (*plan.parents, *plan.statistics)]
    what = [plan.recipe.text, VERSION, shard_bytes, ids, output.name]
    return hidden(output, digest_text(json.dumps(what)))


@contextmanager
def begun(
    output: Path,
    plan: Plan,
    *,
    metadata: Mapping[str, str],
    shard_bytes: int,
    run: str,
    insist: bool = False,
) -> Iterator[Journal]:
    """The journal of a plan's folder beside ``output``, for this process alone until the block ends.

    Who makes the result calls `Journal.take_name`. A block that is interrupted, or finds the disk full or the catalog
    held, leaves the folder when a tensor in it is finished; any other error takes it away.

    Args:
        output: as `engine.output.place` gives it.
        plan: what is carried out.
        metadata: of every shard.
        shard_bytes: largest shard.
        run: id of the run.
        insist: refuse to begin anew.

    Raises:
        OutputExists: the output is there, or a living process is making it by the same plan.
        NothingToResume: ``insist``, and no run of this plan, on the parents as they are now, was stopped.
        Interrupted: Ctrl-C in the block, and the run can be resumed.
        NotEnoughDisk, RunFailed: the operating system refuses.
    """
    folder = folder_of(output, plan, shard_bytes)
    if insist and not folder.is_dir():
        raise _nothing(output)
    with refusals(output):
        lock = _locked(folder, output)
    try:
        journal = Journal(folder, _identity(plan, metadata, shard_bytes))
        if insist and not journal.is_of_plan:
            with suppress(OSError):
                folder.rmdir()  # only an empty one goes
            raise _nothing(output)
        with _kept(journal, len(plan.steps)), refusals(output):
            place(output)
            journal.begin(run)
            yield journal
    finally:
        os.close(lock)


@contextmanager
def _kept(journal: Journal, n_tensors: int) -> Iterator[None]:
    """Leave the folder of a block that fails, when it can be resumed."""
    try:
        yield
    except BaseException as error:
        stopped = isinstance(error, KeyboardInterrupt | NotEnoughDisk | CatalogLocked)
        if journal.taken:
            raise
        if not stopped or not journal.finished:
            shutil.rmtree(journal.folder, ignore_errors=True)
            raise
        if isinstance(error, NotEnoughDisk):
            error.hint = "free some space and type the same command again: it goes on from there"
        if not isinstance(error, KeyboardInterrupt):
            raise
        message = f"{len(journal.finished)} of {n_tensors} tensors are finished and kept"
        raise Interrupted(message) from error
    finally:
        journal.close()


def _locked(folder: Path, output: Path) -> int:
    """Make the folder if need be and lock it; return the descriptor that holds the lock."""
    handle = locked(folder)
    if handle is None:
        who = Journal(folder, "").process
        message = f"process {who or 'unknown'} is making {output} by the same plan"
        raise OutputExists(message, hint="wait until it is done, or choose another -o")
    return handle


def _identity(plan: Plan, metadata: Mapping[str, str], shard_bytes: int) -> str:
    """Digest of what decides the bytes: the plan, and the files of the parents as they were when it was made.

    Models are known by their weights alone; here configs and tokenizers count too.
    """
    parents = [each for one in (*plan.parents, *plan.statistics) for each in one.read_from]
    files = [
        [str(parent.checkpoint.root), file.path, file.size_bytes, file.mtime_ns]
        for parent in parents
        for file in parent.checkpoint.files
        if file.format != "card"
    ]
    steps = [[s.name, s.action, s.dtype, s.shape] for s in plan.steps]
    return digest_text(json.dumps([FORMAT, dict(metadata), shard_bytes, steps, files]))


def _line(name: str, finished: Finished) -> dict[str, Any]:
    """The line of a finished tensor."""
    return {"tensor": name, "digest": finished.digest, "numbers": dict(finished.numbers)}


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a journal that are JSON objects; none where it cannot be read."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as file:
            data = file.read(MAX_JSON_BYTES)
    except OSError:
        return
    for line in data.split(b"\n")[:-1]:  # what follows the last newline was torn
        with suppress(BadDocument, UnicodeDecodeError):
            document = parse_json(line.decode())
            if isinstance(document, dict):
                yield document


def _nothing(output: Path) -> NothingToResume:
    """The error for a run that was not stopped."""
    message = f"no unfinished run of this plan into {output} is there"
    return NothingToResume(
        message, hint="leave out --resume to begin; recipe, parents and sizes must be the same"
    )

"""Commands killed at any moment: nothing that was committed is lost, nothing half is left, and the same command goes on.

Half of the kills come after a delay, drawn over the time that the whole command takes; half at an event in the folder
where it writes, drawn over all that happen there: a file made, written, renamed. A run may be killed several times in a row.
"""

import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

from torture.ledger import Ledger
from torture.scene import Scene, Stage, scenes, stage
from torture.trial import Trial
from torture.warm import Process
from torture.watch import watch

MOST_IN_A_ROW = 3


@dataclass(frozen=True)
class Whole:
    """What a run leaves that nobody stopped.

    Attributes:
        ledger: its catalog.
        files: path → bytes of all files but the catalog's.
        seconds: it took.
        n_events: that its folder saw.
        pushed: files of the repositories of the Hub.
    """

    ledger: Ledger
    files: dict[str, bytes]
    seconds: float
    n_events: int
    pushed: dict[str, dict[str, str]]


def trials(seed: int, seconds: float, folder: Path) -> Iterator[Trial]:
    """Kill each command for its share of the time, and once at least."""
    end = time.monotonic() + seconds
    with stage(folder) as on:
        kinds = list(scenes(on).items())
        for i, (name, some) in enumerate(kinds):
            share = (end - time.monotonic()) / (len(kinds) - i)
            yield killed(on, name, some, random.Random(f"{seed} {name}"), share)


def killed(
    on: Stage, name: str, some: Sequence[Callable[[], Scene]], draw: random.Random, seconds: float
) -> Trial:
    """Kill the commands of one kind, one after the other, for so many seconds."""
    found, end = Trial("kills", name), time.monotonic() + seconds
    made: dict[int, tuple[Scene, Whole]] = {}
    for i in cycle(range(len(some))):
        if i not in made:
            scene = some[i]()
            made[i] = scene, uninterrupted(on, scene)
        _once(on, *made[i], draw, found)
        if time.monotonic() > end:
            break
    return found


def uninterrupted(on: Stage, scene: Scene) -> Whole:
    """Run a command that nobody kills."""
    on.set(scene)
    began = time.monotonic()
    with watch(on.place) as watching:
        process = on.start(*scene.words)
        while not on.warm.is_over(process):
            if watching is not None:
                watching.look(0.002)
        took = time.monotonic() - began
        n_events = watching.look(0.0) if watching is not None else 0
    assert process.code == 0, process.said
    ledger = Ledger(on.catalog)
    assert not ledger.wrong, ledger.wrong
    return Whole(ledger, _files(on.place), took, n_events, _pushed(on))


def _once(on: Stage, scene: Scene, whole: Whole, draw: random.Random, found: Trial) -> None:
    """Kill a command up to three times, look each time, and let it end."""
    on.set(scene)
    known = Ledger(on.catalog) if on.catalog.exists() else None
    story = []
    for _ in range(draw.randint(1, MOST_IN_A_ROW)):
        process = on.start(*scene.words)
        story.append(_kill(on, process, whole, draw))
        found.tries += 1
        found.faults += process.code == -signal.SIGKILL
        if process.code not in (0, -signal.SIGKILL) and not _was_done(process, known, whole):
            _note(found, "unnamed_errors", story, f"ended {process.code}: {process.said}")
        known = _look(on, whole, known, story, found)
        if process.code != -signal.SIGKILL:
            break
    _finish(on, scene, whole, known, story, found)


def _kill(on: Stage, process: Process, whole: Whole, draw: random.Random) -> str:
    """Kill a process at a moment that is drawn; returns when, in words."""
    by_event = whole.n_events and draw.random() < 0.5
    at = draw.randint(1, whole.n_events) if by_event else draw.uniform(0, whole.seconds)
    began = time.monotonic()
    with watch(on.place) as watching:
        while not on.warm.is_over(process):
            passed = time.monotonic() - began
            seen = watching.look(0.001 if by_event else 0.0) if watching else 0
            if not by_event:
                time.sleep(max(0.0, min(0.002, at - passed)))
            if (seen if by_event else passed) >= at:
                process.kill()
                break
    on.warm.wait(process)
    return f"killed at event {at} of {whole.n_events}" if by_event else f"killed after {at:.3f} s"


def _look(
    on: Stage, whole: Whole, known: Ledger | None, story: list[str], found: Trial
) -> Ledger | None:
    """Look at what a kill left: the rows from before, no half rows, no half model."""
    for wrong in _half_models(on, whole):
        _note(found, "half_models", story, wrong)
    if not on.catalog.exists() or not on.catalog.stat().st_size:
        if known is not None:
            _note(found, "lost_rows", story, "the catalog is gone")
        return None
    try:
        now = Ledger(on.catalog)
    except Exception as error:  # noqa: BLE001 - whatever it is, the catalog does not open
        _note(found, "lost_rows", story, f"the catalog does not open: {error}")
        return known
    for wrong in now.wrong:
        _note(found, "half_models", story, wrong)
    for lost in now.lost(known) if known is not None else ():
        if not _leaves(whole, lost):
            _note(found, "lost_rows", story, " ".join(map(str, lost)))
    return now


def _half_models(on: Stage, whole: Whole) -> Iterator[str]:
    """What shows under a final name and is not, or not all of, what it becomes."""
    files = _files(on.place)
    shown = {name for name in files if not any(part.startswith(".") for part in name.split("/"))}
    for name in sorted(shown):
        if files[name] != whole.files.get(name):
            yield f"{name} is not what it becomes"
    for folder in sorted({name.rpartition("/")[0] for name in shown}):
        if missing := {name for name in whole.files if name.startswith(f"{folder}/")} - shown:
            yield f"{folder} lacks {sorted(missing)}"


def _was_done(process: Process, known: Ledger | None, whole: Whole) -> bool:
    """Tell whether a command only found that the one before was killed when all was done but its last words."""
    refused = "exists and is not empty" in process.said
    return refused and known is not None and not known.differs(whole.ledger)


def _leaves(whole: Whole, lost: tuple[str, tuple[Any, ...]]) -> bool:
    """Tell whether a whole run takes a row away too; runs it knows under other names."""
    table, key = lost
    return table != "run" and key not in whole.ledger.keys().get(table, set())


def _finish(
    on: Stage, scene: Scene, whole: Whole, known: Ledger | None, story: list[str], found: Trial
) -> None:
    """Give the command once more; all must be as if nobody had been killed."""
    if scene.resume and any(on.place.glob("*/.*.partial/journal.jsonl")):
        process = on.run(*scene.words, *scene.resume)
        story.append("resumed")
    else:
        process = on.run(*scene.words)
    if process.code and not _was_done(process, known, whole):
        _note(found, "unnamed_errors", story, f"the next run ended {process.code}: {process.said}")
        return
    now = Ledger(on.catalog)
    for wrong in (*now.wrong, *now.differs(whole.ledger)):
        _note(found, "lost_rows", story, wrong)
    files = _files(on.place)
    if files != whole.files:
        wrong = sorted(
            k for k in files.keys() | whole.files.keys() if files.get(k) != whole.files.get(k)
        )
        _note(found, "half_models", story, f"other files than of a whole run: {wrong}")
    if (pushed := _pushed(on)) != whole.pushed:
        _note(found, "half_models", story, f"on the Hub there is {pushed}, not {whole.pushed}")


def _files(place: Path) -> dict[str, bytes]:
    """All files below a folder with their bytes, but those that are the catalog."""
    return {
        str(path.relative_to(place)): path.read_bytes()
        for path in sorted(place.rglob("*"))
        if path.is_file() and not path.name.startswith("catalog.duckdb")
    }


def _pushed(on: Stage) -> dict[str, dict[str, str]]:
    """Repository → files of its main branch with their digests."""
    return {
        repo.id: {
            entry.path: entry.etag for entry in repo.commits[repo.branches["main"]].entries.values()
        }
        for repo in on.hub.store
    }


def _note(found: Trial, what: str, story: list[str], detail: str) -> None:
    """Count something that counts against us, with what led to it."""
    setattr(found, what, getattr(found, what) + 1)
    found.details.append(f"{'; '.join(story)}: {detail}"[:3000])

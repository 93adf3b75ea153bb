"""Many processes on one catalog at once: each gets its turn, and whatever one was told is done is there at the end.

A crowd is drawn, so that the same seed starts the same commands in the same order; who is faster is up to the machine.
"""

import os
import random
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import duckdb
from scanned import tiny
from torture.ledger import Ledger
from torture.scene import CATALOG, Scene, Stage, old, stage
from torture.trial import Trial
from torture.warm import HANGS_SECONDS, Process
from torture.watch import watch

from registry.database import WAIT_SECONDS
from registry.resources import migrations

N_AT_ONCE = 8
METHODS = ("linear", "ties", "dare_linear", "task_arithmetic")
PAIRS = (("chat", "math"), ("math", "cpt"), ("chat", "cpt"))
_IMPATIENT_SECONDS = 1.0


class Crowd:
    """Processes that run at once, and what came of them.

    Attributes:
        on: where they run.
        found: the line of the table.
        story: what was started.
    """

    def __init__(self, on: Stage, found: Trial) -> None:
        self.on, self.found, self.story = on, found, [""]

    def all(self, *commands: Sequence[str]) -> list[Process]:
        """Start commands at once and wait for the end of all."""
        processes = [self.start(words) for words in commands]
        for process in processes:
            self.ended(process)
        return processes

    def start(self, words: Sequence[str]) -> Process:
        """Start one command, which answers in JSON."""
        self.found.tries += 1
        self.story.append(" ".join(words))
        return self.on.start("--json", *words)

    def ended(self, process: Process) -> None:
        """Wait for the end of a command, which must be one with a name."""
        code = self.on.warm.wait(process)
        if code not in (0, 3, -signal.SIGKILL) and not process.error:
            self.note("unnamed_errors", f"{process.words} ended {code}: {process.said}")

    def expect(self, process: Process, *errors: str) -> None:
        """Note a command that ended otherwise than well or with one of these errors."""
        if process.code != 0 and process.error not in errors:
            self.note("unnamed_errors", f"{process.words} ended {process.code}: {process.said}")

    def note(self, what: str, detail: str) -> None:
        """Count something that counts against us."""
        setattr(self.found, what, getattr(self.found, what) + 1)
        self.found.details.append(f"{detail} (of {'; '.join(self.story)[-600:]})"[:3000])

    def same(self, expected: Ledger) -> None:
        """Note what a catalog holds otherwise than another."""
        now = Ledger(self.on.catalog)
        for wrong in (*now.wrong, *now.differs(expected)):
            self.note("lost_rows", wrong)


Play = Callable[[Stage, Trial, random.Random], None]


def trials(seed: int, seconds: float, folder: Path) -> Iterator[Trial]:
    """Play each kind of crowd, half of the time the one of all commands together."""
    end = time.monotonic() + seconds
    with stage(folder) as on:
        plays: list[tuple[str, Play]] = [
            ("merges into one folder", _merges),
            ("scans of one folder", _scans),
            ("an import beside scans", _import),
            ("a process killed while it holds the lock", _killed),
            ("a process stopped while it holds the lock", _stopped),
            ("migrations raced", _migrations),
        ]
        for i, (name, play) in enumerate(plays):
            share = (end - time.monotonic()) / (2 * (len(plays) - i) + len(plays) // 2)
            found, draw = Trial("crowd", name), random.Random(f"{seed} {name}")
            until = time.monotonic() + share
            while not found.tries or time.monotonic() < until:
                play(on, found, draw)
            yield found
        yield _all(on, random.Random(f"{seed} all"), end - time.monotonic())


def _family(on: Stage) -> Path:
    """A folder with a catalog of the family."""
    return on.before("family", ["scan", str(on.models / "family")])


def _merges(on: Stage, found: Trial, draw: random.Random) -> None:
    """Two or five merges into one folder, by one recipe or several: one wins, the others say so."""
    on.set(Scene((), _family(on)))
    crowd = Crowd(on, found)
    same = draw.random() < 0.5
    methods = [METHODS[0 if same else i % 2] for i in range(draw.choice((2, 5)))]
    made = crowd.all(*(["merge", "--method", m, "-o", "made/out", "chat", "math"] for m in methods))
    for process in made:
        crowd.expect(process, "OutputExists")
    found.faults += sum(process.error == "OutputExists" for process in made)
    won = [process for process in made if process.code == 0]
    if len(won) != 1:
        crowd.note(
            "half_models", f"{len(won)} of {len(made)} merges into one folder say that they won"
        )
        return
    verified = on.run("--json", "verify", "made/out")
    if verified.code != 0 or [p.name for p in (on.place / "made").iterdir()] != ["out"]:
        crowd.note("half_models", f"{sorted(os.listdir(on.place / 'made'))}: {verified.said}")
    now = Ledger(on.catalog)
    runs = [row for row in now.tables["run"] if row["status"] == "COMPLETE"]
    if now.wrong or [row["model_id"] for row in runs] != [won[0].answer["digest"]]:
        crowd.note("lost_rows", f"runs {runs}; {now.wrong}")


def _scans(on: Stage, found: Trial, draw: random.Random) -> None:
    """Several scans of one folder leave what one of them leaves."""
    many = str(on.models / "many")
    expected = Ledger(on.before("many", ["scan", many]) / CATALOG)
    on.set(Scene((), on.before("empty")))
    crowd = Crowd(on, found)
    for process in crowd.all(*[["scan", many]] * draw.choice((2, 4))):
        crowd.expect(process)
    crowd.same(expected)


def _import(on: Stage, found: Trial, draw: random.Random) -> None:
    """An import beside scans and readers leaves what both leave one after the other."""
    many, listing = str(on.models / "many"), on.models / "crowd.csv"
    listing.write_text(
        "id,base_model\n" + "".join(f"lab/x{i},lab/m{i % 20:02}\n" for i in range(300))
    )
    one, two = ["scan", many], ["import", str(listing)]
    expected = Ledger(on.before("both", one, two) / CATALOG)
    on.set(Scene((), on.before("empty")))
    crowd = Crowd(on, found)
    commands = [one, two, ["scan", str(on.models / "many" / "m03")], one]
    draw.shuffle(commands)
    for process in crowd.all(*commands):
        crowd.expect(process)
    crowd.all(one)
    crowd.same(expected)


def _held(on: Stage, process: Process) -> bool:
    """Tell whether a process that is stopped holds the catalog's lock."""
    try:
        with duckdb.connect(str(on.catalog), read_only=True):
            return False
    except duckdb.IOException as error:
        return f"PID {process.pid}" in str(error)


def _stop_with_lock(on: Stage, process: Process, draw: random.Random) -> bool:
    """Stop a process at a moment at which it holds the lock; False where it ended before."""
    with watch(on.place) as watching:
        while not on.warm.is_over(process):
            if watching is not None:
                watching.look(0.01)
            time.sleep(draw.uniform(0, 0.01))
            os.kill(process.pid, signal.SIGSTOP)
            if _held(on, process):
                return True
            os.kill(process.pid, signal.SIGCONT)
    return False


def _killed(on: Stage, found: Trial, draw: random.Random) -> None:
    """Who waits for a lock gets it when its holder is killed, and nothing whole is missing."""
    many = str(on.models / "many")
    on.set(Scene((), _family(on)))
    crowd = Crowd(on, found)
    victim = crowd.start(["scan", many])
    held = _stop_with_lock(on, victim, draw)
    others = [crowd.start(words) for words in (["ls"], ["scan", many], ["sql", "from models"])]
    time.sleep(draw.uniform(0.0, 0.3))
    if held:
        victim.kill()
        found.faults += 1
    crowd.ended(victim)
    for process in others:
        crowd.ended(process)
        crowd.expect(process)
    crowd.all(["scan", many])
    crowd.same(
        Ledger(
            on.before("family and many", ["scan", str(on.models / "family")], ["scan", many])
            / CATALOG
        )
    )


def _stopped(on: Stage, found: Trial, draw: random.Random) -> None:
    """Who waits in vain says for whom, and after how long it was to be."""
    on.set(Scene((), _family(on)))
    crowd = Crowd(on, found)
    holder = crowd.start(["scan", str(on.models / "many")])
    if not _stop_with_lock(on, holder, draw):
        crowd.ended(holder)
        return
    for words in (
        ["ls"],
        ["score", "add", "chat", "--task", "t", "--metric", "acc", "--value", "1"],
    ):
        began = time.monotonic()
        found.tries += 1
        waiting = on.warm.start(
            ["--catalog", str(on.catalog), "--json", *words], on.place, _IMPATIENT_SECONDS
        )
        on.warm.wait(waiting)
        took = time.monotonic() - began
        found.faults += 1
        if waiting.error != "CatalogLocked" or f"process {holder.pid} " not in waiting.said:
            crowd.note("unnamed_errors", f"{words} ended {waiting.code}: {waiting.said}")
        if took < _IMPATIENT_SECONDS:
            crowd.note("unnamed_errors", f"{words} waited {took:.2f} s only")
    os.kill(holder.pid, signal.SIGCONT)
    crowd.ended(holder)
    crowd.expect(holder)


def _migrations(on: Stage, found: Trial, draw: random.Random) -> None:
    """Several processes that find an old catalog bring it to today's version once."""
    version = draw.choice([number for number, _ in migrations()[:-1]])
    before = old(on, version).before
    commands = [["ls"], ["show", "base"], ["sql", "from edges"], ["ls"], ["score", "add", "chat", "--task", "t", "--metric", "acc", "--value", "1"]]  # fmt: skip
    scored = on.before(f"version {version}, scored", commands[-1], start=before)
    expected = Ledger(scored / CATALOG)
    on.set(Scene((), before))
    crowd = Crowd(on, found)
    draw.shuffle(commands)
    for process in crowd.all(*commands):
        crowd.expect(process)
    crowd.same(expected)


class Bustle:
    """Eight processes at any moment that scan, read, measure, infer, merge and extract.

    Attributes:
        crowd: all of them.
        draw: what they do.
        trees: folder with all models that are made meanwhile; some scan all of it.
        done: kind → what those answered that ended well.
        longest: seconds that a reader took.
    """

    def __init__(self, crowd: Crowd, draw: random.Random) -> None:
        self.crowd, self.draw = crowd, draw
        self.trees = crowd.on.place / "trees"
        self.done: dict[str, list[tuple[str, Any]]] = defaultdict(list)
        self.longest = 0.0
        self._n = count()
        self._kinds = [
            "own",
            "merge",
            "all",
            "stats",
            "infer",
            "read",
            "score",
            "extract",
            "headers",
        ]

    def go_on(self, until: float) -> None:
        """Keep eight of them at it, each kind at least once."""
        running: list[tuple[str, str, float, Process]] = []
        started = 0
        while running or started < len(self._kinds) or time.monotonic() < until:
            more = started < len(self._kinds) or time.monotonic() < until
            if more and len(running) < N_AT_ONCE:
                kind = self._kinds[started] if started < len(self._kinds) else self.draw.choice(self._kinds)  # fmt: skip
                name, words = self._words(kind)
                running.append((kind, name, time.monotonic(), self.crowd.start(words)))
                started += 1
                continue
            for one in [one for one in running if self.crowd.on.warm.is_over(one[3])]:
                running.remove(one)
                self._ended(*one)
            if running and time.monotonic() - running[0][2] > HANGS_SECONDS:
                self.crowd.ended(running[0][3])
            time.sleep(0.005)

    def _words(self, kind: str) -> tuple[str, list[str]]:
        """A command of a kind, and the name of what it makes."""
        name = f"{kind}{next(self._n)}"
        folder = str(self.trees / name)
        if kind in ("own", "headers"):
            tiny(self.trees / name, self.draw.random())
        a, b = self.draw.choice(PAIRS)
        words = {
            "own": ["scan", folder],
            "headers": ["scan", "--headers-only", folder],
            "all": ["scan", str(self.trees)],
            "merge": ["merge", "--method", self.draw.choice(METHODS), "-o", folder, a, b],
            "stats": ["stats", a, "--base", b],
            "infer": ["infer"],
            "read": self.draw.choice([["ls"], ["show", a], ["sql", "from edges"], ["lineage", b]]),
            "score": ["score", "add", a, "--task", name, "--metric", "acc", "--value", "1"],
            "extract": ["extract", a, "--base", "base", "--rank", "1", "-o", folder],
        }
        return name, words[kind]

    def _ended(self, kind: str, name: str, began: float, process: Process) -> None:
        """Take in what a process said."""
        self.crowd.ended(process)
        self.crowd.expect(process, *(["CatalogChanged"] if kind in ("infer", "stats") else []))
        if kind == "read":
            self.longest = max(self.longest, time.monotonic() - began)
        if process.code == 0:
            self.done[kind].append((name, process.answer))

    def missing(self, now: Ledger) -> Iterator[str]:
        """What one was told is done, and is not there."""
        at = {row["uri"]: row["model_id"] for row in now.tables["address"]}
        runs = {row["id"]: row for row in now.tables["run"] if row["status"] == "COMPLETE"}
        made = Counter(row["child"] for row in now.tables["edge"] if row["status"] == "recorded")
        pairs = {(row["child"], row["base"]) for row in now.tables["pair"]}
        scores = {row["task"] for row in now.tables["score"]}
        for name, said in self.done["own"]:
            if at.get(str(self.trees / name)) != said["models"][0]["id"]:
                yield f"the scanned model {name}"
        yield from (
            f"the place {name}"
            for name, _ in self.done["headers"]
            if str(self.trees / name) not in at
        )
        for name, said in self.done["merge"]:
            right = at.get(str(self.trees / name)) == said["digest"] and said["run"] in runs
            if not right or made[said["digest"]] < 2:
                yield f"the merge {name}: {said}"
        for name, said in self.done["extract"]:
            if not made[at.get(str(self.trees / name), "")]:
                yield f"the adapter {name}: {said}"
        for _, said in self.done["stats"]:
            yield from (f"the pair {row}" for row in said if (row["child_id"], row["base_id"]) not in pairs)  # fmt: skip
        yield from (f"the score {name}" for name, _ in self.done["score"] if name not in scores)


def _all(on: Stage, draw: random.Random, seconds: float) -> Trial:
    """All commands at once; afterwards all that was reported as done is there."""
    found = Trial("crowd", "eight processes that do everything")
    until = time.monotonic() + seconds
    on.set(Scene((), _family(on)))
    crowd = Crowd(on, found)
    bustle = Bustle(crowd, draw)
    bustle.trees.mkdir()
    bustle.go_on(until)
    now = Ledger(on.catalog)
    for lost in bustle.missing(now):
        crowd.note("lost_rows", lost)
    for wrong in now.wrong:
        crowd.note("half_models", wrong)
    if left := [path.name for path in bustle.trees.iterdir() if path.name.startswith(".")]:
        crowd.note("half_models", f"left over: {left}")
    if bustle.longest > WAIT_SECONDS:
        crowd.note("unnamed_errors", f"a reader took {bustle.longest:.1f} s")
    found.faults = sum(map(len, bustle.done.values()))
    return found

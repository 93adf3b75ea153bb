"""A process that ends in the middle of a write to the catalog: what was committed stays, and the next run ends as if nothing was."""

import signal

from torture.full import STAGES, Room, wanted
from torture.lab import Case, Fault, Lab
from torture.world import begin, keeps, rows

MOST_WRITES = 12
"""Of more than a page, that one of the commands makes to the catalog before we give up; most make fewer."""


def try_torn(lab: Lab, name: str) -> None:
    """Let a command end in the middle of one of its writes, up to three times; then let it end by itself."""
    stage = STAGES[name]
    want = wanted(lab, name, stage)
    begin(lab)
    room = Room(lab, stage)
    with lab.small_disk(room.small):
        room.prepare()
        for _ in range(lab.rng.randint(1, 3)):
            before = rows(lab, room.catalog)
            torn = Fault(room.small / "catalog.duckdb", tears=lab.rng.randint(1, MOST_WRITES))
            ended = room.run(torn)
            lab.found.faults += ended.code == -signal.SIGKILL
            keeps(lab, before, room.catalog, f"write {torn.tears}: {ended}")
            if ended.code != -signal.SIGKILL:
                break
        again = room.run()
        lab.check(again.code == 0, f"{name}, after it was cut off: {again}")
        have = room.outcome()["rows"]
        lab.check(have == want["rows"], f"{name}, after it was cut off: other rows")
        left = {path.name for path in room.small.iterdir()} - {
            "catalog.duckdb",
            "catalog.duckdb.wal",
        }
        lab.check(not left, f"{name}, after it was cut off: left {left}")


NAMES = ("scan", "scan --sketch", "stats", "infer", "import", "import into nothing", "score add")

CASES: tuple[Case, ...] = tuple((f"torn write: {name}", try_torn, (name,)) for name in NAMES)

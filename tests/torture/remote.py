"""A full disk between this machine and the Hub: a download that does not fit, a push without room for what it puts aside."""

import json
import shutil

from torture.lab import Case, Fault, Lab
from torture.world import begin, keeps, no_half, rows, tree


def try_download(lab: Lab) -> None:
    """Merge models of the Hub with a cache, or a folder for what is put aside, that has too little room."""
    from hub.server import LocalHub  # noqa: PLC0415 - in the fork

    models = begin(lab)
    catalog = lab.folder / "catalog.duckdb"
    catalog.unlink()
    shutil.rmtree(lab.folder.parent / "hf", ignore_errors=True)
    where = lab.rng.choice(("hf", "tmp"))
    with LocalHub(lab.folder / "hub") as hub:
        for name in ("base", "chat"):
            hub.add(f"org/{name}", models / name)
        env = {"REG_CATALOG": str(catalog), "HF_ENDPOINT": hub.endpoint}
        words = (
            "merge",
            "--method",
            "linear",
            "hf://org/base",
            "hf://org/chat",
            "-o",
            "out/made",
            "--allow-unrelated",
        )
        scanned = lab.reg("scan", "hf://org/base", "hf://org/chat", env=env)
        lab.check(scanned.code == 0, scanned)
        before = rows(lab, catalog)
        place = lab.folder.parent / where
        place.mkdir(exist_ok=True)
        room = lab.rng.randrange(2_000_000 if where == "hf" else 20_000)
        ended = lab.reg(*words, env=env, fault=Fault(place, room=room))
        lab.found.faults += ended.code != 0
        if ended.code:  # else models of which headers were known are known whole
            keeps(lab, before, catalog, ended)
            no_half(lab, lab.folder / "out" / "made", None, ended)
        again = lab.reg(*words, env=env) if ended.code else ended
        lab.check(again.code == 0, f"{room} in {where}: {ended}, then {again}")
        made = tree(lab.folder / "out" / "made") or {}
        cached = lab.reg("verify", "out/made", env=env)
        lab.check(cached.code == 0 and made, f"{room} in {where}: {cached}")


def try_push(lab: Lab) -> None:
    """Push with no room where files are put aside: all of it is on the Hub, or nothing is."""
    from hub.server import LocalHub  # noqa: PLC0415 - in the fork

    begin(lab)
    catalog = lab.folder / "catalog.duckdb"
    with LocalHub(lab.folder / "hub") as hub:
        env = {"REG_CATALOG": str(catalog), "HF_ENDPOINT": hub.endpoint, "HF_TOKEN": hub.token}
        before = rows(lab, catalog)
        fault = Fault(lab.folder.parent / "tmp", room=lab.rng.choice((0, lab.rng.randrange(8_000))))
        ended = lab.reg("push", "chat", "org/chat", env=env, fault=fault)
        lab.found.faults += 1
        keeps(lab, before, catalog, ended)
        again = lab.reg("push", "chat", "org/chat", "--json", env=env)
        lab.check(again.code == 0, f"{ended}, then {again}")
        if ended.code == 0 and again.code == 0:
            lab.check(json.loads(again.out)["unchanged"], f"{ended}, then pushed again")


CASES: tuple[Case, ...] = (
    ("full disk: download into the cache", try_download, ()),
    ("full disk: push, what is put aside", try_push, ()),
)

"""Aliases: what they name now is what the last of their events says, whatever happens to models, processes and rows."""

import os
import subprocess
import sys
from itertools import count, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scanned import orphans, tiny

from registry import alias as module
from registry.alias import alias_events, aliases, held_by, remove_alias, set_alias
from registry.catalog import Catalog
from registry.doctor import examine
from registry.errors import (
    AliasTaken,
    BadParameter,
    CatalogChanged,
    StillNeeded,
    UnknownAlias,
    UnknownModel,
)
from registry.integrity import check_rows
from registry.place import place
from registry.removal import collect_garbage, remove
from registry.scan import ensure, scan

NAMES = ("one", "two", "three")


@pytest.fixture(scope="module")
def scanned_once(tmp_path_factory):
    """A catalog that knows three models; only for copies."""
    folder = tmp_path_factory.mktemp("shop")
    for i, name in enumerate(NAMES):
        tiny(folder / "models" / name, float(i + 1))
    catalog = Catalog(folder / "catalog.duckdb")
    scan(catalog, [str(folder / "models")])
    return catalog.path.read_bytes()


@pytest.fixture(scope="module")
def shop(scanned_once, tmp_path_factory):
    """A catalog that knows three models; who writes takes names of their own."""
    path = tmp_path_factory.mktemp("shop") / "catalog.duckdb"
    path.write_bytes(scanned_once)
    return Catalog(path)


@pytest.fixture
def mine(scanned_once, tmp_path):
    """A catalog of one's own that knows three models."""
    path = tmp_path / "catalog.duckdb"
    path.write_bytes(scanned_once)
    return Catalog(path)


def told(catalog, name):
    """Every change of an alias: step, from, to, why."""
    return [(e.step, e.old_model, e.new_model, e.why) for e in alias_events(catalog, name)]


def assert_whole(catalog):
    """The law: an alias is there if and only if its last event names a model, and names that one; events hang together."""
    last = {}
    for event in alias_events(catalog):
        before = last.get(event.alias)
        assert event.step == (before.step + 1 if before else 1)
        assert event.old_id == (before.new_id if before else None)
        last[event.alias] = event
    now = {name: event.new_id for name, event in last.items() if event.new_id}
    assert {a.alias: a.model_id for a in aliases(catalog)} == now
    with catalog.read() as reader:
        assert [f for f in check_rows(reader) if f.is_damage] == []


# --- By hand


def test_a_history_by_hand(mine, monkeypatch):
    monkeypatch.setattr(module, "getuser", lambda: "ada")
    one, two = mine.find("one"), mine.find("two")
    found, event = set_alias(mine, "prod", one, why="passed the review")
    assert (found.alias, found.model, found.model_id) == ("@prod", "one", one)
    assert (found.who, found.why, found.n_changes) == ("ada", "passed the review", 1)
    assert (event.old_id, event.new_id, event.changed_at) == (None, one, found.since)
    assert mine.find("@prod") == ensure(mine, "@prod") == one
    with pytest.raises(AliasTaken, match=rf"^@prod names one \({one[:12]}\)$") as caught:
        set_alias(mine, "@prod", two)
    assert caught.value.hint == "reg alias set prod two --move takes it from there"
    monkeypatch.setattr(module, "getuser", lambda: "bob")
    found, _ = set_alias(mine, "@prod", two, move=True)
    assert (found.model, found.who, found.why, found.n_changes) == ("two", "bob", None, 2)
    gone = remove_alias(mine, "prod", why="done")
    assert (gone.old_model, gone.new_model) == ("two", None)
    set_alias(mine, "prod", one)
    assert told(mine, "prod") == told(mine, "@prod") == [
        (1, None, "one", "passed the review"), (2, "one", "two", None), (3, "two", None, "done"), (4, None, "one", None),
    ]  # fmt: skip
    assert_whole(mine)


def test_set_again_writes_nothing(mine):
    one = mine.find("one")
    first, _ = set_alias(mine, "prod", one, why="first")
    before = mine.path.read_bytes()
    again, event = set_alias(mine, "prod", one, move=True, why="second")
    assert (again, event) == (first, None)
    assert mine.path.read_bytes() == before


def test_who_has_no_account_is_a_number(mine, monkeypatch):
    def nobody():
        raise OSError

    monkeypatch.setattr(module, "getuser", nobody)
    assert set_alias(mine, "prod", mine.find("one"))[0].who == f"uid {os.getuid()}"


# --- The law


DONE = st.lists(
    st.tuples(st.sampled_from(["set", "move", "rm"]), st.sampled_from("ab"), st.sampled_from(NAMES)), max_size=5
)  # fmt: skip
FRESH = count()


@settings(max_examples=6)
@given(DONE)
def test_an_alias_is_what_was_last_done_to_it(shop, done):
    mark, now, n_events = next(FRESH), {}, 0
    ids = {name: shop.find(name) for name in NAMES}
    for what, letter, model in done:
        name, held = f"{letter}{mark}", now.get(letter)
        if what == "rm" and held is None:
            with pytest.raises(UnknownAlias):
                remove_alias(shop, name)
        elif what == "set" and held not in (None, model):
            with pytest.raises(AliasTaken, match=f"@{name} names {held}"):
                set_alias(shop, name, ids[model])
        else:
            n_events += held != model or what == "rm"
            if what == "rm":
                remove_alias(shop, name)
                del now[letter]
            else:
                set_alias(shop, name, ids[model], move=what == "move")
                now[letter] = model
    found = {a.alias: a.model for a in aliases(shop) if a.alias.endswith(str(mark))}
    assert found == {f"@{letter}{mark}": model for letter, model in now.items()}
    events = [e for e in alias_events(shop) if e.alias.removeprefix("@")[1:] == str(mark)]
    assert len(events) == n_events
    for letter in "ab":
        story = [e for e in events if e.alias == f"@{letter}{mark}"]
        assert [e.step for e in story] == list(range(1, len(story) + 1))
        assert all(a.new_id == b.old_id for a, b in pairwise(story))
        assert (story[-1].new_model if story else None) == now.get(letter)


# --- Names


HOSTILE = (
    "", "@", "@@prod", "Prod", "a/b", "../prod", "hf://org/name", "hf-cache:", "~", ".prod", "-prod", "_prod", "pr od", "prod\n",
    "pr\x1b[2Jod", "pr\x00od", "a+b", "a=b", "a,b", "x" * 65, "x" * 10_000, "\u0440rod", "\uff50rod", "pro\u0301d", "\u202eprod", "\udc80prod",
)  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_what_cannot_be_an_alias_is_refused_in_words_that_no_terminal_obeys(shop, name):
    with pytest.raises(BadParameter, match="cannot be an alias") as caught:
        set_alias(shop, name, shop.find("one"))
    assert len(caught.value.message) < 1000
    with pytest.raises(UnknownAlias, match="no alias in catalog"):
        remove_alias(shop, name)
    with pytest.raises(UnknownAlias):
        alias_events(shop, name)
    if "/" not in name:
        with pytest.raises(UnknownAlias):
            shop.find(f"@{name}")


def test_what_looks_like_an_id_or_a_model_shadows_nothing(mine):
    one, two = mine.find("one"), mine.find("two")
    for name in (two, two[:8], "two", "1.0-rc.1", "0"):
        set_alias(mine, name, one)
        assert mine.find(f"@{name}") == one
    assert mine.find(two) == mine.find(two[:8]) == mine.find("two") == two
    assert_whole(mine)


def test_an_alias_is_no_folder_and_a_folder_is_no_alias(mine, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tiny(tmp_path / "@prod", 9.0)
    for ask in (mine.find, lambda text: ensure(mine, text), lambda text: place(mine, text)):
        with pytest.raises(UnknownAlias) as caught:
            ask("@prod")
        assert caught.value.hint == "./@prod is the file or folder of that name"
    one = mine.find("one")
    set_alias(mine, "prod", one)
    assert mine.find("@prod") == ensure(mine, "@prod") == one
    assert place(mine, "@prod") == (mine.checkpoint(one).root, one)
    assert ensure(mine, "./@prod") == mine.find(str(folder)) != one
    assert place(mine, "./@prod")[0] == folder


def test_the_nearest_alias_is_named(mine):
    set_alias(mine, "production", mine.find("one"))
    for text, hint in (("@producton", "did you mean @production?"), ("@PRODUCTION", "did you mean @production?")):  # fmt: skip
        with pytest.raises(UnknownAlias) as caught:
            mine.find(text)
        assert caught.value.hint == hint
    with pytest.raises(UnknownModel) as caught:
        mine.find("production")
    assert caught.value.hint == "did you mean @production?"
    with pytest.raises(UnknownAlias) as caught:
        mine.find("@x")
    assert caught.value.hint == "reg alias ls lists them"


def test_what_is_only_a_name_has_no_weights_to_stand_for(tmp_path):
    catalog = Catalog(tmp_path / "catalog.duckdb")
    folder = tiny(tmp_path / "a", 1.0, _name_or_path="org/unseen")
    scan(catalog, [str(folder)])
    with pytest.raises(BadParameter, match=r"org/unseen is latent, a name alone") as caught:
        set_alias(catalog, "prod", catalog.find("org/unseen"))
    assert caught.value.hint.startswith("reg scan hf://org/unseen")
    with pytest.raises(CatalogChanged):
        set_alias(catalog, "prod", "0" * 64)
    assert aliases(catalog) == []


# --- Models that change or go


def test_it_stays_with_its_weights_when_files_change(tmp_path):
    catalog = Catalog(tmp_path / "catalog.duckdb")
    folder = tiny(tmp_path / "a", 1.0)
    scan(catalog, [str(folder)])
    old = catalog.find("a")
    set_alias(catalog, "prod", old)
    tiny(folder, 2.0)
    scan(catalog, [str(folder)])
    assert catalog.find("@prod") == old != catalog.find("a")
    assert collect_garbage(catalog).models == ()
    remove_alias(catalog, "prod")
    assert collect_garbage(catalog).models == (old,)
    assert told(catalog, "prod")[-1] == (2, "a", None, None)


def test_it_follows_a_model_that_is_read_whole(tmp_path):
    catalog = Catalog(tmp_path / "catalog.duckdb")
    folders = [str(tiny(tmp_path / name, i)) for i, name in enumerate("ab")]
    scan(catalog, folders, headers_only=True)
    header = catalog.find("a")
    set_alias(catalog, "prod", header)
    set_alias(catalog, "other", catalog.find("b"))
    scan(catalog, folders[:1])
    assert catalog.find("@prod") == catalog.find("a") != header
    assert told(catalog, "prod")[1:] == [(2, "a", "a", "the same files, read whole")]
    assert len(told(catalog, "other")) == 1
    assert orphans(catalog) == []
    assert_whole(catalog)


def test_headers_of_a_place_that_is_gone_stay_as_long_as_an_alias_names_them(tmp_path):
    catalog = Catalog(tmp_path / "catalog.duckdb")
    for i, name in enumerate("ab"):
        tiny(tmp_path / "models" / name, i)
    scan(catalog, [str(tmp_path / "models")], headers_only=True)
    model = catalog.find("a")
    set_alias(catalog, "prod", model)
    for name in "ab":
        for file in (tmp_path / "models" / name).iterdir():
            file.unlink()
    scan(catalog, [str(tmp_path / "models")])
    assert [r["id"] for r in catalog.rows("select id from store.model")] == [model]
    assert catalog.find("@prod") == model
    remove_alias(catalog, "prod")
    assert collect_garbage(catalog).models == (model,)


def test_a_model_with_an_alias_is_removed_only_with_it(mine):
    one, two = mine.find("one"), mine.find("two")
    set_alias(mine, "prod", one)
    with pytest.raises(StillNeeded, match=r"^one has an alias: @prod$") as caught:
        remove(mine, [two, one])
    assert caught.value.hint.startswith("reg alias rm prod, or --force")
    assert mine.find("two") == two
    assert remove(mine, [one], force=True, dry_run=True).aliases == ("@prod",)
    assert mine.find("@prod") == one
    assert remove(mine, [one], force=True).aliases == ("@prod",)
    assert told(mine, "prod")[1:] == [(2, "one", None, "its model was removed")]
    assert alias_events(mine, "prod")[1].old_id == one
    assert orphans(mine) == []
    assert_whole(mine)


def test_an_alias_that_comes_while_its_model_is_removed_is_seen(mine, monkeypatch):
    one = mine.find("one")
    asked = []

    def meanwhile(reader, models):
        asked.append(models)
        return {} if len(asked) == 1 else held_by(reader, models)

    set_alias(mine, "prod", one)
    monkeypatch.setattr("registry.removal.held_by", meanwhile)
    with pytest.raises(StillNeeded):
        remove(mine, [one])
    assert mine.find("@prod") == one


# --- Several processes, damage


SETS = """
import sys
from pathlib import Path
from registry.alias import set_alias
from registry.catalog import Catalog
from registry.errors import AliasTaken
catalog = Catalog(Path(sys.argv[1]))
model = catalog.find(sys.argv[2])
sys.stdin.read()
for i in range(4):
    set_alias(catalog, "both", model, move=True, why=f"{sys.argv[2]} {i}")
try:
    set_alias(catalog, "first", model)
except AliasTaken:
    print("taken")
"""


def test_two_processes_lose_nothing_of_each_other(mine):
    path = os.pathsep.join(sys.path)
    started = [
        subprocess.Popen(
            [sys.executable, "-c", SETS, str(mine.path), name], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": path}, text=True,
        )
        for name in NAMES[:2]
    ]  # fmt: skip
    for process in started:
        process.stdin.close()  # both begin
    for process in started:
        process.stdin = None
    said = [process.communicate()[0] for process in started]
    assert [process.returncode for process in started] == [0, 0]
    assert sorted(said) == ["", "taken\n"]
    assert [a.alias for a in aliases(mine)] == ["@both", "@first"]
    assert_whole(mine)
    wrote = {event.why for event in alias_events(mine, "both")}
    assert {"one 0", "two 0"} & wrote
    assert all(e.old_model != e.new_model for e in alias_events(mine, "both"))


def broken(catalog, *statements):
    """Do what nobody should to the rows of a catalog, and let the doctor mend it."""
    with catalog.write() as transaction:
        for sql in statements:
            transaction.execute(sql)
    mended = examine(catalog, repair=True)
    assert mended.ok
    assert_whole(catalog)
    return {(f.kind, f.where, f.n) for f in mended.findings}


def test_the_doctor_makes_aliases_and_events_agree(mine):
    one, two = mine.find("one"), mine.find("two")
    for name, model in (("a", one), ("b", two), ("c", one)):
        set_alias(mine, name, model)
    found = broken(
        mine, "delete from store.alias where name = 'a'", "delete from store.alias_event where name = 'b'",
        f"update store.alias set model_id = '{two}' where name = 'c'",
    )  # fmt: skip
    assert found == {("derived", "alias_event", 1), ("derived", "alias.model_id", 2)}
    assert (mine.find("@a"), mine.find("@b")) == (one, two)
    assert told(mine, "a") == [(1, None, "one", None)]
    assert [(e.who, e.new_model) for e in alias_events(mine, "b")] == [("reg doctor", "two")]
    assert told(mine, "c")[-1][:3] == (2, "one", "two")


def test_the_doctor_takes_aliases_of_models_that_are_lost(mine):
    one = mine.find("one")
    set_alias(mine, "a", one)
    tables = [
        f"delete from store.{t} where model_id = '{one}'" for t in ("tensor", "address", "claim")
    ]
    assert ("orphans", "alias.model_id", 1) in broken(mine, *tables, f"delete from store.model where id = '{one}'")  # fmt: skip
    assert aliases(mine) == []
    assert told(mine, "a")[-1] == (2, "one", None, "its model is not in the catalog")

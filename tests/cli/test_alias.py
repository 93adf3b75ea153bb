"""`reg alias` at the command line, and @aliases wherever a model is asked for."""

import json
import subprocess
import sys

import pytest


def test_a_story(scanned, monkeypatch):
    for name in ("LOGNAME", "USER"):
        monkeypatch.setenv(name, "ada")
    assert scanned.run("alias").stdout == "no aliases\n"
    assert scanned.run("alias", "history").stdout == "no alias was ever set\n"
    said = scanned.run("alias", "set", "prod", "chat", "--why", "passed the review")
    assert said.stdout == "@prod names chat\n"
    again = scanned.run("alias", "set", "prod", "chat")
    assert again.stderr == "note: it did so already; nothing is written\n"
    refused = scanned.run("alias", "set", "prod", "math", code=1).stderr
    assert "error: @prod names chat (" in refused
    assert "hint: reg alias set prod math --move" in refused
    moved = scanned.run("alias", "set", "prod", "math", "--move")
    assert moved.stdout == "@prod names math, and no longer chat\n"
    header, row = scanned.run("alias").stdout.splitlines()
    assert header.split() == ["alias", "model", "id", "since", "who", "why", "changes"]
    assert row.split()[:2] == ["@prod", "math"]
    assert scanned.run("alias", "-q").stdout == scanned.run("alias", "ls", "-q").stdout == "@prod\n"
    rows = scanned.json("alias", "history", "prod")
    told = [(r["step"], r["who"], r["old_model"], r["new_model"], r["why"]) for r in rows]
    assert told == [(1, "ada", None, "chat", "passed the review"), (2, "ada", "chat", "math", None)]
    gone = scanned.run("alias", "rm", "@prod", "--why", "done").stdout
    assert gone == "@prod names nothing any more; it named math\n"
    assert "no alias" in scanned.run("alias", "rm", "prod", code=1).stderr
    assert len(scanned.run("alias", "history", "prod").stdout.splitlines()) == 4


def test_all_who_tell_of_an_alias_tell_the_same(scanned):
    set_, *_ = (scanned.json("alias", "set", name, "chat") for name in ("prod", "best"))
    listed = scanned.json("alias")
    assert [row["alias"] for row in listed] == ["@best", "@prod"]
    assert listed == scanned.json("alias", "ls") == scanned.json("alias", "ls", "@prod")
    assert set_ in listed
    assert listed == scanned.json("sql", "from aliases order by alias")
    shown = scanned.json("show", "@best")
    assert shown["aliases"] == ["@best", "@prod"]
    assert scanned.json("ls", "--where", "len(aliases) > 0")[0] | shown == shown
    events = scanned.json("sql", "from alias_events order by alias desc, step")
    assert events == scanned.json("alias", "history")
    assert "@best, @prod" in scanned.run("ls").stdout
    assert "aliases" in scanned.run("show", "@prod").stdout


@pytest.mark.parametrize(
    "words",
    [
        ("show", "{}"), ("lineage", "{}"), ("licenses", "{}"), ("candidates", "{}"), ("stats", "{}", "--base", "base"),
        ("mergeable", "{}", "math"), ("verify", "{}"), ("rm", "{}", "--dry-run", "--force"), ("push", "{}", "org/name", "--dry-run"),
        ("plan", "--method", "ties", "--weight", "{}=0.5", "{}", "math"), ("alias", "ls", "{}"),
        ("score", "add", "{}", "--task", "t", "--metric", "acc", "--value", "1"),
    ],
    ids=lambda words: words[0],
)  # fmt: skip
def test_an_alias_stands_wherever_a_model_is_asked_for(words, scanned):
    scanned.run("alias", "set", "prod", "chat")
    by_name, by_alias = (
        scanned.json(*(word.format(name) for word in words)) for name in ("chat", "@prod")
    )
    drop = ("seconds", "measured_at", "read_bytes", "reused", "free_bytes")
    assert _without(by_alias, drop) == _without(by_name, drop)


def _without(value, keys):
    """A document without what differs from run to run."""
    if isinstance(value, dict):
        return {k: _without(v, keys) for k, v in value.items() if k not in keys}
    return [_without(v, keys) for v in value] if isinstance(value, list) else value


def test_what_is_recorded_of_a_merge_is_the_digest_and_not_the_alias(scanned):
    for name, model in (("first", "chat"), ("second", "math"), ("ground", "base")):
        scanned.run("alias", "set", name, model)
    recipe = 'merge_method: linear\nmodels: [{model: "@first"}, {model: "@second"}]\n'
    (scanned.folder / "recipe.yaml").write_text(recipe)
    made = scanned.json("merge", "recipe.yaml", "-o", "merged")
    sidecar = (scanned.folder / "merged" / "homolog.json").read_text()
    ids = [scanned.json("show", name)["id"] for name in ("chat", "math")]
    assert "@" not in sidecar
    assert "@" not in scanned.run("sql", "select canonical from recipes").stdout
    assert all(id_ in json.dumps(json.loads(sidecar)) for id_ in ids)
    scanned.run("alias", "set", "first", "base", "--move")
    scanned.run("alias", "rm", "second")
    again = scanned.json("reproduce", "merged", "-o", "again")
    assert again["digest" if "digest" in again else "model"] in json.dumps(made)


def test_a_recipe_says_that_an_alias_needs_quotes(scanned):
    recipe = "merge_method: linear\nmodels: [{model: @first}, {model: math}]\n"
    (scanned.folder / "recipe.yaml").write_text(recipe)
    said = scanned.run("plan", "recipe.yaml", code=1).stderr
    assert 'hint: what begins with @ stands in quotes: "@prod"' in said


def test_a_model_with_an_alias_is_removed_by_force_and_told(scanned):
    scanned.run("alias", "set", "prod", "chat")
    said = scanned.run("rm", "chat", code=1).stderr
    assert "error: chat has an alias: @prod\n" in said
    assert "hint: reg alias rm prod, or --force takes aliases along; their history stays" in said
    assert scanned.json("rm", "@prod", "--force")["aliases"] == ["@prod"]
    assert scanned.run("alias").stdout == "no aliases\n"
    assert scanned.json("alias", "history")[-1]["why"] == "its model was removed"


def test_hostile_words_reach_no_terminal(scanned):
    evil = "\x1b]0;t\x07 \u202e\n[red]"
    for words in (("alias", "set", evil, "chat"), ("alias", "rm", evil), ("alias", "history", evil), ("show", f"@{evil}")):  # fmt: skip
        assert _harmless(scanned.run(*words, code=1))
    scanned.run("alias", "set", "prod", "chat", "--why", evil)
    for words in (("alias",), ("alias", "history"), ("alias", "--json"), ("show", "@prod")):
        assert _harmless(scanned.run(*words))
    assert scanned.json("alias")[0]["why"] == evil


def _harmless(said):
    """Whether nothing was printed that a terminal would obey."""
    return all(c.isprintable() or c == "\n" for c in said.stdout + said.stderr)


def test_without_a_catalog_there_is_nothing_to_name(place):
    (place.folder / ".reg" / "catalog.duckdb").unlink()
    for words in (("alias",), ("alias", "rm", "prod"), ("alias", "history"), ("show", "@prod")):
        assert "error: there is no catalog" in place.run(*words, code=1).stderr
    assert not (place.folder / ".reg" / "catalog.duckdb").exists()


def test_without_torch(scanned):
    program = (
        "import sys; from cli.main import run; assert run(['alias', 'set', 'prod', 'chat']) == 0; assert run(['alias']) == 0; "
        "assert not {'torch', 'sqlmodel', 'networkx'} & set(sys.modules)"
    )
    subprocess.run(
        [sys.executable, "-c", program], cwd=scanned.folder, check=True, capture_output=True
    )

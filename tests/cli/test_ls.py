"""`reg ls`."""

import json


def test_ls_gives_programs_the_columns_of_the_view(known):
    rows = known.json("ls")
    assert [row["name"] for row in rows] == ["base", "chat", "math", "merged"]
    promised = {
        "id",
        "name",
        "names",
        "family",
        "n_params",
        "dtype",
        "status",
        "relation",
        "parents",
        "addresses",
    }
    assert promised <= rows[0].keys()
    chat = rows[1]
    assert chat["parents"] == ["base"]
    assert chat["relation"] == "finetune"
    assert chat["addresses"] == [str(known.folder / "models" / "chat")]


def test_ls_shows_people_a_table(known):
    header, *rows = known.run("ls").stdout.splitlines()
    assert header.split()[:4] == ["name", "family", "params", "dtype"]
    assert [row.split()[0] for row in rows] == ["base", "chat", "math", "merged"]
    assert "BF16" in rows[0]


def test_where_and_sort_are_sql(known):
    assert [r["name"] for r in known.json("ls", "--where", "base = 'base'", "--sort", "name desc")] == [
        "merged", "math", "chat",
    ]  # fmt: skip
    assert known.json("ls", "--where", "name = 'chat' -- or not") != []


def test_where_can_read_nothing_but_the_catalog(known):
    for evil in (
        "1 = (select count(*) from read_csv('/etc/passwd'))",
        "1=1); drop table x; select (1",
    ):
        assert "error: " in known.run("ls", "--where", evil, code=1).stderr


def test_no_models_is_no_error(known):
    assert known.json("ls", "--where", "false") == []
    assert known.run("ls", "--where", "false").stdout == "no models\n"
    assert known.run("ls", "--where", "false", "-q").stdout == ""


def test_quiet_prints_ids(known):
    assert known.run("ls", "-q").stdout.split() == [row["id"] for row in known.json("ls")]


def test_hostile_names_are_harmless(place):
    models = place.folder / "models"
    evil = models / "x\x1b[2J[red]\u202e"
    (models / "chat").rename(evil)
    config = json.loads((evil / "config.json").read_text())
    (evil / "config.json").write_text(json.dumps({**config, "model_type": "\x1b]0;t\x07"}))
    for words in (
        ("scan", "models"),
        ("ls",),
        ("ls", "--json"),
        ("show", evil.name),
        ("sql", "from models"),
        ("lineage",),
    ):
        said = place.run(*words)
        assert all(c.isprintable() or c == "\n" for c in said.stdout + said.stderr)
    assert "[red]" in place.run("ls").stdout
    for form in ("dot", "mermaid", "graphml"):
        out = place.run("lineage", "--format", form).stdout
        assert all(c.isprintable() or c == "\n" for c in out)

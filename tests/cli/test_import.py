"""`reg import`."""

import json

ROWS = [
    {"id": "lab/chat", "base_model": "lab/base", "downloads": 9},
    {"id": "lab/math", "base_model": "lab/base"},
    {"id": "../escape\x1b[31m"},
]


def listing(place, rows=ROWS, name="hub.jsonl"):
    (place.folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return name


def test_people_and_programs_are_told_what_came_in(place):
    result = place.run("import", listing(place))
    assert result.stdout.splitlines()[0] == "3 rows: 2 new, 1 left out"
    assert "rows left out" in result.stdout
    assert "\x1b" not in result.stdout + result.stderr
    report = place.json("import", "hub.jsonl")
    assert (report["n_rows"], report["n_new"], report["n_unchanged"], report["n_bad"]) == (
        3,
        0,
        2,
        1,
    )
    assert [row["n_rows"] for row in report["problems"]] == [1]
    assert place.json("sql", "select name, downloads from models where status = 'listed' order by name") == [
        {"name": "lab/chat", "downloads": 9}, {"name": "lab/math", "downloads": None}
    ]  # fmt: skip


def test_a_file_that_is_no_listing_is_an_error_with_a_name(place):
    (place.folder / "x.csv").write_text("title,likes\na,1\n")
    result = place.run("import", "x.csv", code=1)
    assert "its columns are title, likes" in result.stderr
    place.run("import", "gone.csv", code=2)


def test_lineage_of_a_listed_model_is_cut_and_counted(place):
    rows = [{"id": f"lab/m{i}", "base_model": "lab/root", "downloads": i} for i in range(30)]
    place.run(
        "import",
        listing(place, [{"id": "lab/root"}, *rows, {"id": "lab/deep", "base_model": "lab/m3"}]),
    )
    graph = place.json("lineage", "lab/root", "--descendants", "--limit", "4")
    assert (graph["n_descendants"], len(graph["models"])) == (31, 5)
    assert {m["name"] for m in graph["models"]} == {
        "lab/root",
        "lab/m29",
        "lab/m28",
        "lab/m27",
        "lab/m26",
    }
    result = place.run("lineage", "lab/root", "--descendants", "--limit", "4")
    assert "4 of 31 descendants are shown" in result.stderr
    assert place.json("lineage", "lab/root", "--depth", "1")["n_descendants"] == 30
    assert "32 models known only from listings are left out" in place.run("lineage").stderr
    place.run("lineage", "--depth", "1", code=2)


def test_listed_models_are_no_merge_partners_and_say_why(place):
    place.run("import", listing(place))
    verdict = place.json("mergeable", "lab/chat", "lab/math", code=3)
    assert "known by name alone" in verdict["reasons"][0]["detail"]
    assert place.json("candidates", "lab/chat") == []


def test_ls_and_licenses_are_of_models_that_were_read_unless_others_are_asked_for(place):
    place.run("scan", "models")
    before = place.json("ls")
    place.run(
        "import",
        listing(
            place, [{"id": "lab/chat", "license": "mit", "base_model": "lab/x"}, {"id": "lab/x"}]
        ),
    )
    assert [m["name"] for m in place.json("ls")] == [m["name"] for m in before]
    assert "2 models are known only from listings" in place.run("ls").stderr
    assert {m["name"] for m in place.json("ls", "--where", "status = 'listed'")} == {
        "lab/chat",
        "lab/x",
    }
    licensed = place.json("licenses")["models"]
    assert {m["model"] for m in licensed} == {m["name"] for m in before}
    (one,) = place.json("licenses", "lab/chat")["models"]
    assert one["declared"] == ["mit"]

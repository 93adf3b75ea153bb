"""`reg plan`."""

RECIPE = "merge_method: linear\nmodels:\n  - {model: chat, parameters: {weight: 3}}\n  - {model: math, parameters: {weight: 1}}\n"


def test_a_plan_says_what_it_costs_and_does_nothing(known):
    (known.folder / "plain.yaml").write_text(RECIPE)
    plan = known.json("plan", "plain.yaml", "-o", "nowhere/planned")
    assert {"steps", "read_bytes", "write_bytes", "peak_bytes", "notes"} <= plan.keys()
    assert [m["coefficient"] for m in plan["models"]] == [0.75, 0.25]
    assert len(plan["steps"]) == 19
    assert (
        plan["read_bytes"] == 2 * plan["write_bytes"] == sum(s["read_bytes"] for s in plan["steps"])
    )
    assert plan["free_bytes"] > 0
    assert {"name", "action", "dtype", "shape", "why"} <= plan["steps"][0].keys()
    assert not (known.folder / "nowhere").exists()


def test_people_see_equal_steps_as_one(known):
    out = known.run("plan", "--method", "ties", "--set", "density=0.5", "chat", "math").stdout
    assert "model.layers.*.mlp.up_proj.weight" in out
    assert "steps (19)" in out
    assert "density [0.5, 0.5]" in out
    assert "peak memory" in out
    assert out.count("model.layers.") == 8


def test_quiet_prints_the_recipes_digest(known):
    words = ("plan", "--method", "linear", "chat", "math")
    assert known.run(*words, "-q").stdout.strip() == known.json(*words)["recipe"]


def test_less_memory_lowers_the_peak(known):
    words = ("plan", "--method", "ties", "chat", "math", "--jobs", "8")
    assert known.json(*words, "--memory", "1KiB")["peak_bytes"] < known.json(*words)["peak_bytes"]


def test_what_needs_more_memory_than_it_may_have_is_said_before_anything_is_done(scanned):
    words = ("--method", "iso_c", "chat", "math", "--memory", "1KiB")
    (note,) = scanned.json("plan", *words)["notes"]
    assert note.startswith("iso_c works on whole tensors: ")
    assert note.endswith(" bytes of memory at once, more than 1,024")
    assert note in scanned.run("plan", *words).stdout
    assert f"note: {note}" in scanned.run("merge", *words, "-o", "too-large").stderr

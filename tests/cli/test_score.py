"""`reg score`."""

import json

import pytest

RESULTS = {
    "results": {
        "gsm8k": {"acc,none": 0.41, "acc_stderr,none": 0.01, "f1,none": "?", "alias": "gsm8k"}
    },
    "config": {"model_args": "pretrained=models/math"},
    "n-shot": {"gsm8k": 5},
    "lm_eval_version": "0.4.8",
}


def _write(place, document):
    file = place.folder / "results.json"
    file.write_text(json.dumps(document))
    return str(file)


def test_a_claimed_score_is_stored_and_replaced(scanned):
    words = ("score", "add", "chat", "--task", "t", "--metric", "acc", "--source", "a paper")
    (row,) = scanned.json(
        *words, "--value", "0.5", "--stderr", "0.1", "--n", "10", "--shots", "0", "--harness", "h"
    )
    promised = {
        "model",
        "task",
        "metric",
        "value",
        "n",
        "stderr",
        "harness",
        "harness_version",
        "shots",
        "origin",
    }
    assert promised <= row.keys()
    assert (row["model"], row["origin"], row["n"]) == ("chat", "claimed", 10)
    scanned.run(*words, "--value", "0.6", "--shots", "0", "--harness", "h")
    assert scanned.json("sql", "select model, value, source from scores") == [
        {"model": "chat", "value": 0.6, "source": "a paper"}
    ]


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_a_score_is_a_finite_number(known, value):
    words = ("score", "add", "chat", "--task", "t", "--metric", "m", f"--value={value}")
    assert "finite" in known.run(*words, code=1).stderr


def test_results_are_imported_for_the_model_they_name(scanned):
    result = scanned.run("score", "import", _write(scanned, RESULTS))
    assert "warning: " in result.stderr
    assert "f1" in result.stderr
    (row,) = scanned.json("score", "import", _write(scanned, RESULTS))
    assert (row["model"], row["task"], row["value"], row["stderr"], row["shots"]) == (
        "math",
        "gsm8k",
        0.41,
        0.01,
        5,
    )
    assert (row["harness"], row["harness_version"]) == ("lm-evaluation-harness", "0.4.8")


def test_results_that_name_no_model_need_one(scanned):
    file = _write(scanned, {"results": RESULTS["results"]})
    assert "--model MODEL" in scanned.run("score", "import", file, code=1).stderr
    assert (
        scanned.run("score", "import", file, "--model", "chat", "-q").stdout.strip()
        == scanned.json("show", "chat")["id"]
    )


def test_a_file_that_holds_no_results_is_an_error(place):
    assert "BadSuite" in place.run("score", "import", _write(place, {}), "--json", code=1).stderr


def test_running_needs_models_and_suites(known):
    known.run("score", "run", "chat", code=2)
    known.run("score", "run", "suite.jsonl", code=2)
    assert "nowhere.jsonl" in known.run("score", "run", "chat", "nowhere.jsonl", code=1).stderr

"""Measured scores in the forms of the Hub."""

import pytest
from huggingface_hub import ModelCardData, parse_eval_result_entries

from registry.catalog import Columns
from registry.documents import parse_yaml
from registry.errors import BadParameter
from registry.hub_scores import (
    Benchmark,
    benchmark_of,
    is_our_file,
    measured,
    model_index,
    parse_benchmarks,
    result_files,
)
from registry.scan import scan
from registry.scores import Score, score_row, scores_from_eval_results, scores_from_model_index


def score(task, value=0.5, **other):
    fields = {
        "metric": "exact_match", "stderr": 0.1, "n": 25, "harness": "homolog", "harness_version": "0.1.0",
        "shots": 0, "origin": "measured", "source": "suite.jsonl#abc", "date": None, "raw": "",
    }  # fmt: skip
    return Score(task=task, value=value, **{**fields, **other})


def row(task, value=0.5, **other):
    made = score(task, value, **other)
    return {
        name: getattr(made, name)
        for name in (
            "task",
            "metric",
            "value",
            "stderr",
            "n",
            "harness",
            "harness_version",
            "shots",
            "source",
        )
    } | {"scored_at": made.date}


def test_only_what_was_measured_is_told(catalog, family):
    scan(catalog, [str(family.chat)])
    model = catalog.find("chat")
    columns = Columns()
    columns.add([score_row(model, score("b")), score_row(model, score("a")),
                 score_row(model, score("a", 0.9, origin="claimed"))])  # fmt: skip
    with catalog.write() as transaction:
        columns.insert(transaction, "replace")
    assert [(s["task"], s["value"]) for s in measured(catalog, model)] == [("a", 0.5), ("b", 0.5)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("cais/hle", Benchmark("cais/hle", "default")),
        ("Idavidrein/gpqa:gpqa_diamond", Benchmark("Idavidrein/gpqa", "gpqa_diamond")),
        ("Idavidrein/gpqa/gpqa_diamond", Benchmark("Idavidrein/gpqa", "gpqa_diamond")),
        ("gsm8k", None),
        ("../etc", None),
        ("", None),
    ],
)
def test_a_benchmark_is_a_dataset_of_the_hub(text, found):
    assert Benchmark.parse(text) == found


def test_the_user_says_which_benchmark_a_suite_is():
    said = parse_benchmarks(["sums=me/sums:hard", "a=b/c"])
    assert said == {"sums": Benchmark("me/sums", "hard"), "a": Benchmark("b/c")}
    assert benchmark_of(row("sums"), said) == Benchmark("me/sums", "hard")
    assert benchmark_of(row("cais/hle"), said) == Benchmark("cais/hle")
    assert benchmark_of(row("other"), said) is None
    for bad in ("sums", "=b/c", "sums=c", "sums="):
        with pytest.raises(BadParameter):
            parse_benchmarks([bad])


def test_a_file_for_each_score_of_a_benchmark_as_the_library_reads_it():
    said = {"sums": Benchmark("me/sums")}
    scores = [
        row("sums", 0.25),
        row("sums", 0.5, source="other.jsonl#1"),
        row("own"),
        row("cais/hle", 20.9, date="2026-01-15"),
    ]
    files = result_files(scores, said)
    assert list(files) == [
        ".eval_results/homolog-me-sums-default-exact_match.yaml",
        ".eval_results/homolog-me-sums-default-exact_match-2.yaml",
        ".eval_results/homolog-cais-hle-default-exact_match.yaml",
    ]
    assert all(is_our_file(path) for path in files)
    assert not is_our_file(".eval_results/gpqa.yaml")
    entries = [parse_eval_result_entries(parse_yaml(text))[0] for text in files.values()]
    assert [(e.dataset_id, e.task_id, e.value, e.date) for e in entries] == [
        ("me/sums", "default", 0.25, None), ("me/sums", "default", 0.5, None), ("cais/hle", "default", 20.9, "2026-01-15"),
    ]  # fmt: skip
    assert "suite suite.jsonl#abc" in entries[0].notes
    (read,) = scores_from_eval_results(files[list(files)[2]], "x")[0]
    assert (read.task, read.value, read.origin) == ("cais/hle", 20.9, "claimed")


def test_a_suite_of_one_s_own_stands_in_the_model_index():
    index = model_index(None, [row("sums", 0.25), row("sums", 0.75, source="s#def")], "merged")
    (found, wrong) = scores_from_model_index({"model-index": index})
    assert [(s.task, s.metric, s.value, s.shots) for s in found] == [
        ("sums", "exact_match", 0.25, 0), ("sums", "exact_match", 0.75, 0),
    ]  # fmt: skip
    assert not wrong
    assert ModelCardData(**{"model-index": index}).eval_results


def test_what_others_wrote_stays_and_what_we_wrote_is_replaced():
    theirs = [{"name": "x", "results": [{"task": {"type": "t"}, "dataset": {"name": "d", "type": "d"},
                                         "metrics": [{"type": "acc", "value": 1}]}]}]  # fmt: skip
    once = model_index(theirs, [row("sums", 0.25)], "merged")
    assert [len(m["results"]) for m in once] == [2]
    assert once[0]["name"] == "x"
    twice = model_index(once, [row("sums", 0.5)], "merged")
    assert [r["metrics"][0]["value"] for r in twice[0]["results"]] == [1, 0.5]
    assert model_index(twice, [], "merged") == theirs
    assert model_index(model_index(None, [row("sums")], "m"), [], "m") is None
    assert model_index("nonsense", [], "m") == "nonsense"
    assert model_index(None, [], "m") is None

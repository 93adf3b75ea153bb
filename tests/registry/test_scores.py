"""Scores are read from cards, `.eval_results` and the harness, each number as its source wrote it."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.numpy
from huggingface_hub import (
    EvalResultEntry,
    ModelCard,
    eval_result_entries_to_yaml,
    parse_eval_result_entries,
)
from numpy import zeros

from registry.checkpoint import Checkpoint, read_checkpoint
from registry.documents import dump_yaml
from registry.errors import BadDocument, BadSuite, Unreadable
from registry.scores import (
    HARNESS,
    Score,
    read_harness,
    read_scores,
    score_row,
    scores_from_eval_results,
    scores_from_harness,
    scores_from_model_index,
)

LEADERBOARD = """---
license: apache-2.0
model-index:
- name: chat
  results:
  - task: {type: text-generation, name: Text Generation}
    dataset:
      name: AI2 Reasoning Challenge (25-Shot)
      type: ai2_arc
      config: ARC-Challenge
      split: test
      args: {num_few_shot: 25}
    metrics:
    - {type: acc_norm, value: 64.59, name: normalized accuracy}
    - {type: acc, value: 0.612, name: accuracy}
    source:
      url: https://huggingface.co/spaces/open-llm-leaderboard
      name: Open LLM Leaderboard
  - task: {type: Retrieval}
    dataset: {name: MTEB ArguAna, type: mteb/arguana, config: default, split: validation}
    metrics:
    - {type: map_at_10, value: '38.5'}
---
# chat
"""

HUB = [
    EvalResultEntry(
        dataset_id="cais/hle", task_id="default", value=20.9, date="2025-01-15T10:30:00Z",
        source_url="https://example.org/hle", source_name="HLE", notes="no-tools",
    ),
    EvalResultEntry(dataset_id="Idavidrein/gpqa", task_id="gpqa_diamond", value=0.412),
]  # fmt: skip

RESULT = {
    "results": {
        "arc_easy": {
            "alias": "arc_easy",
            "sample_len": 2376,
            "acc,none": 0.75,
            "acc_stderr,none": 0.0089,
            "acc_norm,none": 0.71,
            "acc_norm_stderr,none": "N/A",
        },
        "gsm8k": {
            "alias": "gsm8k",
            "exact_match,strict-match": 0.40,
            "exact_match_stderr,strict-match": 0.0135,
            "exact_match,flexible-extract": 0.43,
            "exact_match_stderr,flexible-extract": 0.0136,
        },
        "mmlu": {" ": " ", "alias": "mmlu"},
    },
    "groups": {"mmlu": {"acc,none": 0.1}},
    "configs": {"arc_easy": {"task": "arc_easy", "num_fewshot": 0}, "gsm8k": {"num_fewshot": 5}},
    "versions": {"arc_easy": 1.0, "gsm8k": 3.0},
    "n-shot": {"arc_easy": 0, "gsm8k": 5},
    "higher_is_better": {"arc_easy": {"acc": True}},
    "n-samples": {
        "arc_easy": {"original": 2376, "effective": 100},
        "gsm8k": {"original": 1319, "effective": 1319},
    },
    "config": {"model": "hf", "model_args": "pretrained=org/chat,dtype=bfloat16", "limit": 100.0},
    "git_hash": "abc1234",
    "date": 1731655933.5,
    "lm_eval_version": "0.4.9.1",
    "model_name": "org/chat",
}

OLD_RESULT = {
    "results": {
        "hellaswag": {
            "acc": 0.57,
            "acc_stderr": 0.0049,
            "acc_norm": 0.76,
            "acc_norm_stderr": 0.0043,
        }
    },
    "versions": {"hellaswag": 0},
    "config": {
        "model": "hf-causal",
        "model_args": "pretrained=huggyllama/llama-7b",
        "num_fewshot": 10,
    },
}


def make(folder: Path, **files: str) -> Checkpoint:
    """A checkpoint with text files whose names have `__` for the dot and `___` for the slash."""
    folder.mkdir(parents=True, exist_ok=True)
    safetensors.numpy.save_file({"w": zeros(1, "float32")}, folder / "model.safetensors")
    for name, content in files.items():
        path = folder / name.replace("___", "/").replace("__", ".")
        path.parent.mkdir(exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return read_checkpoint(folder)


def numbers(scores: tuple[Score, ...]) -> list[tuple[str, str, float]]:
    return [(s.task, s.metric, s.value) for s in scores]


def test_the_model_index_of_a_card_is_read_entry_by_entry(tmp_path):
    scores, problems = read_scores(make(tmp_path, README__md=LEADERBOARD))
    assert problems == ()
    assert numbers(scores) == [
        ("ai2_arc/ARC-Challenge", "acc_norm", 64.59),
        ("ai2_arc/ARC-Challenge", "acc", 0.612),
        ("mteb/arguana/validation", "map_at_10", 38.5),
    ]
    first, last = scores[0], scores[-1]
    assert (first.shots, first.source) == (25, "https://huggingface.co/spaces/open-llm-leaderboard")
    assert (last.shots, last.source) == (None, "README.md")
    assert {s.origin for s in scores} == {"claimed"}
    assert json.loads(first.raw)["metrics"] == [
        {"type": "acc_norm", "value": 64.59, "name": "normalized accuracy"}
    ]


def test_we_find_in_a_good_card_what_the_hub_finds():
    card = ModelCard(LEADERBOARD)
    ours, _ = scores_from_model_index(card.data.to_dict())
    theirs = [(r.metric_type, float(r.metric_value)) for r in card.data.eval_results or []]
    assert [(s.metric, s.value) for s in ours] == theirs


@pytest.mark.parametrize(
    "metric",
    [
        "{type: acc}",
        "{value: 0.5}",
        "{type: acc, value: null}",
        "{type: acc, value: N/A}",
        "{type: acc, value: .nan}",
        "{type: acc, value: .inf}",
        "{type: acc, value: true}",
        "{type: acc, value: 20.0 ± 1.2}",
        "{type: acc, value: [0.5]}",
        "{type: acc, value: 0xF" + "F" * 400 + "}",
        '{type: "a\\e[31m", value: 0.5}',
        "text",
        "null",
    ],
)
def test_one_malformed_entry_costs_that_entry_only(tmp_path, metric):
    broken = LEADERBOARD.replace(
        "    - {type: acc, value: 0.612, name: accuracy}", f"    - {metric}"
    )
    scores, (problem,) = read_scores(make(tmp_path, README__md=broken))
    assert [s.value for s in scores] == [64.59, 38.5]
    assert (problem.file, problem.error) == ("README.md", "BadSuite")


@pytest.mark.parametrize("index", ["7", "{a: 1}", "[7]", "[{results: 7}]", "[{results: [7]}]"])
def test_a_model_index_of_another_form_is_a_problem(tmp_path, index):
    scores, (problem,) = read_scores(make(tmp_path, README__md=f"---\nmodel-index: {index}\n---\n"))
    assert scores == ()
    assert problem.error == "BadSuite"


def test_a_card_that_cannot_be_read_is_left_to_the_claims(tmp_path):
    assert read_scores(make(tmp_path, README__md="---\nmodel-index: [\n---\n")) == ((), ())


def test_eval_results_of_the_hub_are_read(tmp_path):
    text = dump_yaml(eval_result_entries_to_yaml(HUB))
    scores, problems = read_scores(make(tmp_path, __eval_results___all__yaml=text))
    assert problems == ()
    assert numbers(scores) == [
        ("cais/hle", "value", 20.9),
        ("Idavidrein/gpqa/gpqa_diamond", "value", 0.412),
    ]
    assert [s.source for s in scores] == ["https://example.org/hle", ".eval_results/all.yaml"]
    assert [s.date for s in scores] == ["2025-01-15T10:30:00Z", None]
    assert [s.value for s in scores] == [
        entry.value for entry in parse_eval_result_entries(eval_result_entries_to_yaml(HUB))
    ]


def test_a_single_entry_and_files_beside_each_other_are_read(tmp_path):
    one, two = (dump_yaml(eval_result_entries_to_yaml([entry])[0]) for entry in HUB)
    checkpoint = make(tmp_path, __eval_results___a__yaml=one, __eval_results___b__yml=two)
    assert [s.value for s in read_scores(checkpoint)[0]] == [20.9, 0.412]


@pytest.mark.parametrize(
    "entry",
    [
        "{value: 1}",
        "{dataset: cais/hle, value: 1}",
        "{dataset: {task_id: x}, value: 1}",
        "{dataset: {id: [1], task_id: x}, value: 1}",
        "{dataset: {id: a/b, task_id: x}}",
        "7",
    ],
)
def test_a_malformed_eval_entry_costs_no_other(tmp_path, entry):
    text = f"- {entry}\n- {{dataset: {{id: a/b, task_id: c}}, value: 3}}\n"
    scores, (problem,) = read_scores(make(tmp_path, __eval_results___x__yaml=text))
    assert numbers(scores) == [("a/b/c", "value", 3.0)]
    assert (problem.file, problem.error) == (".eval_results/x.yaml", "BadSuite")


def test_a_broken_eval_file_costs_no_other_file(tmp_path):
    good = dump_yaml(eval_result_entries_to_yaml(HUB))
    checkpoint = make(tmp_path, __eval_results___a__yaml="[", __eval_results___b__yaml=good)
    scores, (problem,) = read_scores(checkpoint)
    assert len(scores) == 2
    assert (problem.file, problem.error) == (".eval_results/a.yaml", "BadDocument")


def write(path: Path, document: object) -> Path:
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def test_a_result_of_the_harness_keeps_filter_shots_samples_and_version(tmp_path):
    hint, scores, problems = read_harness(write(tmp_path / "results_x.json", RESULT))
    assert (hint, problems) == ("org/chat", ())
    assert numbers(scores) == [
        ("arc_easy", "acc", 0.75),
        ("arc_easy", "acc_norm", 0.71),
        ("gsm8k", "exact_match,strict-match", 0.40),
        ("gsm8k", "exact_match,flexible-extract", 0.43),
    ]
    assert [s.stderr for s in scores] == [0.0089, None, 0.0135, 0.0136]
    assert [s.n for s in scores] == [100, 100, 1319, 1319]
    assert [s.shots for s in scores] == [0, 0, 5, 5]
    assert {(s.harness, s.harness_version) for s in scores} == {(HARNESS, "0.4.9.1")}
    assert {s.date for s in scores} == {"2024-11-15T07:32:13+00:00"}
    assert {s.source for s in scores} == {"results_x.json"}
    assert json.loads(scores[2].raw)["version"] == 3.0


def test_the_older_form_of_the_harness_is_read(tmp_path):
    hint, scores, problems = read_harness(write(tmp_path / "llama.json", OLD_RESULT))
    assert (hint, problems) == ("huggyllama/llama-7b", ())
    assert numbers(scores) == [("hellaswag", "acc", 0.57), ("hellaswag", "acc_norm", 0.76)]
    assert [(s.stderr, s.shots, s.n, s.date) for s in scores] == [
        (0.0049, 10, None, None),
        (0.0043, 10, None, None),
    ]


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ("pretrained=a/b,peft=c/d", "c/d"),
        ({"pretrained": "a/b", "dtype": "auto"}, "a/b"),
        ("dtype=auto", "name"),
        ([], "name"),
    ],
)
def test_the_hint_is_the_adapter_else_the_model_else_its_name(tmp_path, arguments, hint):
    document = {**RESULT, "config": {"model_args": arguments}, "model_name": "name"}
    assert read_harness(write(tmp_path / "r.json", document))[0] == hint


def test_a_result_without_any_name_has_an_empty_hint(tmp_path):
    assert read_harness(write(tmp_path / "r.json", {"results": {}})) == ("", (), ())


def test_values_that_are_no_numbers_are_left_out_and_named(tmp_path):
    results = {"t": {"a,none": math.nan, "b,none": "N/A", "c,none": 0.5, "d,none": None}, "u": 7}
    _, scores, (problem,) = read_harness(write(tmp_path / "r.json", {"results": results}))
    assert numbers(scores) == [("t", "c", 0.5)]
    for named in ("t a", "t b", "t d", "u"):
        assert named in problem.detail


@pytest.mark.parametrize("document", [[], {}, {"results": []}, 7, None])
def test_json_without_results_is_refused(tmp_path, document):
    with pytest.raises(BadSuite, match="results"):
        read_harness(write(tmp_path / "r.json", document))


def test_a_result_that_is_no_json_or_missing_is_refused(tmp_path):
    (tmp_path / "r.json").write_text('{"results": {"a": 1, "a": 2}}')
    for name, error in (("r.json", BadDocument), ("none.json", Unreadable)):
        with pytest.raises(error):
            read_harness(tmp_path / name)


def test_a_result_beside_the_weights_is_read_and_other_json_is_not(tmp_path):
    checkpoint = make(
        tmp_path,
        results_2024__json=json.dumps(RESULT),
        results__json='{"epoch": 3}',
        all_results__json='{"results": {"t": {"acc": 1}}}',
    )
    scores, problems = read_scores(checkpoint)
    assert problems == ()
    assert {s.source for s in scores} == {"results_2024.json"}


def test_a_result_given_twice_counts_once_and_two_values_are_a_problem(tmp_path):
    entry = "- {dataset: {id: a/b, task_id: c}, value: 3}\n"
    same = make(tmp_path / "a", __eval_results___x__yaml=entry * 2)
    other = make(tmp_path / "b", __eval_results___x__yaml=entry + entry.replace("3", "4"))
    assert [s.value for s in read_scores(same)[0]] == [3.0]
    assert read_scores(same)[1] == ()
    scores, (problem,) = read_scores(other)
    assert [s.value for s in scores] == [3.0]
    assert "a/b/c" in problem.detail


def test_percent_and_fraction_are_kept_as_written():
    text = "- {dataset: {id: a/b, task_id: c}, value: 64.0}\n- {dataset: {id: a/b, task_id: d}, value: 0.64}\n"
    assert [s.value for s in scores_from_eval_results(text, "x.yaml")[0]] == [64.0, 0.64]


def test_a_row_is_identified_by_what_was_measured_and_not_by_the_value():
    score = scores_from_harness(RESULT, "r.json")[0][0]
    row = score_row("model", score)
    assert (row.task, row.value, row.scored_at, row.n) == ("arc_easy", 0.75, score.date, 100)
    assert score_row("model", replace(score, value=0.5, stderr=None, raw="")).id == row.id
    others = [
        score_row("other", score),
        *(
            score_row("model", replace(score, **{name: value}))
            for name, value in (
                ("task", "x"), ("metric", "x"), ("harness", None), ("harness_version", "x"),
                ("shots", None), ("origin", "measured"), ("source", "x"),
            )
        ),
    ]  # fmt: skip
    assert len({row.id, *(other.id for other in others)}) == 9

"""Result files of lm-evaluation-harness, and suites of prompts and answers."""

import json

from torture.chance import Chance
from torture.court import Court
from torture.ground import Ground

from engine.suite import read_suite
from registry.scores import read_harness

WHAT = "results and suites"

_RESULTS = {
    "results": {
        "gsm8k": {"alias": "gsm8k", "exact_match,strict-match": 0.41, "exact_match_stderr,strict-match": 0.013},
        "mmlu": {"acc,none": 0.6, "acc_stderr,none": "N/A", "acc_norm,none": 61.5},
    },
    "groups": {"mmlu": {"acc,none": 0.6}},
    "configs": {"gsm8k": {"task": "gsm8k", "num_fewshot": 5, "metric_list": [{"metric": "exact_match"}]}},
    "versions": {"gsm8k": 3, "mmlu": "2"},
    "n-shot": {"gsm8k": 5, "mmlu": 0},
    "higher_is_better": {"gsm8k": {"exact_match": True}},
    "n-samples": {"gsm8k": {"original": 1319, "effective": 1319}},
    "config": {"model": "hf", "model_args": "pretrained=chat,dtype=bfloat16", "limit": None},
    "git_hash": "abc", "date": 1718000000.5, "lm_eval_version": "0.4.9", "model_name": "chat", "model_source": "hf",
}  # fmt: skip
_WORDS = ("results", "acc,none", "acc_stderr,none", "n-shot", "n-samples", "effective", "config", "model_args", "pretrained=chat", "versions", "date", "model_name")  # fmt: skip
_QUESTION = {"prompt": "2+2=", "answer": "4"}


def attempt(chance: Chance, court: Court, ground: Ground) -> None:
    """Read results and suites; now and then import some."""
    folder = ground.clear()
    file = folder / "results.json"
    if chance.now_and_then(0.1):
        ground.catalog()
        file.write_bytes(_made(chance))
        court.types("score", "import", "results.json", *chance.one(((), ("--model", "chat"), ("--json",))))  # fmt: skip
        court.types("show", "chat", *chance.one(((), ("--json",))))
        court.types("candidates", "chat")
        return
    suite = folder / "suite.jsonl"
    for _ in range(8):
        file.write_bytes(_made(chance))
        court.reads("read_harness", lambda: read_harness(file))
        lines = [chance.json(chance.damaged(_QUESTION) if chance.now_and_then(0.3) else _QUESTION) for _ in range(3)]  # fmt: skip
        suite.write_bytes(chance.one((b"\n", b"\r\n", b"", b"\n\n")).join(lines))
        court.reads("read_suite", lambda: read_suite(suite))


def _made(chance: Chance) -> bytes:
    """A result file, most often with damage."""
    found = chance.damaged(_RESULTS, vocabulary=_WORDS) if chance.now_and_then(0.85) else _RESULTS
    return chance.json(found) if chance.now_and_then(0.5) else json.dumps(found).encode()

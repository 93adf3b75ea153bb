"""Measured scores in the forms that the Hub shows. A door to huggingface_hub's evaluation results.

A file of `.eval_results` holds one score of one benchmark, and a benchmark is a dataset of the Hub. A suite of one's own
is none until its owner says which dataset it is; its scores stand in the card's `model-index`. Only what was measured here is told,
never what somebody claims.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from registry.card import hub_ids
from registry.catalog import Catalog
from registry.database import Row
from registry.documents import dump_yaml
from registry.errors import BadParameter
from registry.names import printable

FOLDER = ".eval_results"
"""Where the Hub looks for files of results."""

_WHOLE = "default"
"""The task of a dataset that has one only."""

_OURS = "homolog"
_PARTS = re.compile(r"(?P<dataset>[^/:]+/[^/:]+)(?:[/:](?P<task>.+))?")


@dataclass(frozen=True)
class Benchmark:
    """A benchmark as the Hub knows it.

    Attributes:
        dataset: "org/name".
        task: of that dataset.
    """

    dataset: str
    task: str = _WHOLE

    @classmethod
    def parse(cls, text: str) -> "Benchmark | None":
        """Read "org/name", "org/name:task" or "org/name/task"; None for anything else."""
        found = _PARTS.fullmatch(text)
        if found is None or hub_ids([found["dataset"]]) != [found["dataset"]]:
            return None
        return cls(found["dataset"], found["task"] or _WHOLE)


def measured(catalog: Catalog, model: str) -> list[Row]:
    """The scores that were measured on a model's weights, by task, metric and source."""
    return catalog.rows(
        "select task, metric, value, stderr, n, harness, harness_version, shots, source, scored_at from scores "
        "where model_id = ? and origin = 'measured' order by task, metric, source, shots",
        [model],
    )


def parse_benchmarks(texts: Iterable[str]) -> dict[str, Benchmark]:
    """Read SUITE=ORG/DATASET[:TASK] texts: suite → benchmark.

    Raises:
        BadParameter: for a text of another form.
    """
    found = {}
    for text in texts:
        suite, _, named = text.partition("=")
        benchmark = Benchmark.parse(named)
        if not suite or benchmark is None:
            message = f"{printable(text)!r} is not SUITE=ORG/DATASET or SUITE=ORG/DATASET:TASK"
            raise BadParameter(message, hint="reg push --help shows one")
        found[suite] = benchmark
    return found


def benchmark_of(score: Row, said: Mapping[str, Benchmark]) -> Benchmark | None:
    """The benchmark of a score: as the user says, else as its task is called; None for a suite of one's own."""
    return said.get(score["task"]) or Benchmark.parse(score["task"])


def result_files(scores: Sequence[Row], said: Mapping[str, Benchmark]) -> dict[str, str]:
    """Path → text of a file for each score of a benchmark."""
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml  # noqa: PLC0415 (0.1 s)

    files: dict[str, str] = {}
    for score in scores:
        benchmark = benchmark_of(score, said)
        if benchmark is None:
            continue
        entry = EvalResultEntry(
            dataset_id=benchmark.dataset, task_id=benchmark.task, value=score["value"],
            date=score["scored_at"], notes=_notes(score),
        )  # fmt: skip
        words = [benchmark.dataset, benchmark.task, score["metric"]]
        stem = re.sub(r"[^A-Za-z0-9._]+", "-", "-".join(words)).strip("-.")
        path, n = f"{FOLDER}/{_OURS}-{stem}.yaml", 1
        while path in files:
            n += 1
            path = f"{FOLDER}/{_OURS}-{stem}-{n}.yaml"
        files[path] = dump_yaml(eval_result_entries_to_yaml([entry]))
    return files


def is_our_file(path: str) -> bool:
    """Whether a file of results is one that `result_files` wrote."""
    return path.startswith(f"{FOLDER}/{_OURS}-")


def model_index(own: Any, scores: Sequence[Row], name: str) -> Any:
    """The `model-index` of a card with scores of suites; what others wrote in it stays.

    Args:
        own: the card's; None without one. Results that an earlier push wrote are left out.
        scores: that go there.
        name: of the model, where the card gives none.
    """
    from huggingface_hub import EvalResult  # noqa: PLC0415 (as above)
    from huggingface_hub.repocard_data import eval_results_to_model_index  # noqa: PLC0415 (as above)

    models = [_without_ours(model) for model in own] if isinstance(own, list) else []
    kept = [m for m in models if not isinstance(m, dict) or m.get("results") or len(m) > 2]  # noqa: PLR2004 - name and results
    if not scores:
        return (kept or None) if isinstance(own, list) else own
    results = [
        EvalResult(
            task_type="text-generation", dataset_type=score["task"], dataset_name=score["task"],
            dataset_revision=score["source"].partition("#")[2] or None,
            dataset_args={"suite": score["source"], "num_few_shot": score["shots"]},
            metric_type=score["metric"], metric_value=score["value"], metric_name=score["metric"],
            metric_args={"harness": _harness(score), "n": score["n"], "stderr": score["stderr"]},
        )
        for score in scores
    ]  # fmt: skip
    (ours,) = eval_results_to_model_index(name, results)
    first = kept[0] if kept and isinstance(kept[0], dict) else None
    if first is None or not isinstance(first.get("results", []), list):
        return [ours, *kept]
    return [{**first, "results": [*first.get("results", []), *ours["results"]]}, *kept[1:]]


def _without_ours(model: Any) -> Any:
    """An entry of a `model-index` without the results that we once wrote."""
    results = model.get("results") if isinstance(model, dict) else None
    if not isinstance(results, list):
        return model
    return {**model, "results": [result for result in results if not _is_ours(result)]}


def _is_ours(result: Any) -> bool:
    """Whether we wrote a result."""
    metrics = result.get("metrics") if isinstance(result, dict) else None
    arguments = (
        [m.get("args") for m in metrics if isinstance(m, dict)] if isinstance(metrics, list) else []
    )
    harnesses = [a.get("harness") for a in arguments if isinstance(a, dict)]
    return any(isinstance(h, str) and h.startswith(f"{_OURS} ") for h in harnesses)


def _harness(score: Row) -> str:
    """The program that measured, with its version."""
    return f"{score['harness'] or _OURS} {score['harness_version'] or ''}".strip()


def _notes(score: Row) -> str:
    """How a score came about, in words."""
    said = [score["metric"], _harness(score), f"suite {score['source']}"]
    said += [f"{key} = {score[key]}" for key in ("shots", "n") if score[key] is not None]
    if score["stderr"] is not None:
        said.append(f"stderr = {score['stderr']:.4g}")
    return ", ".join(said)

"""Benchmark results: what cards and result files say a model scored.

Three forms are read: the `model-index` of a card, the Hub's `.eval_results/*.yaml`, and the result JSON of
lm-evaluation-harness, old and new. A value is kept as its source wrote it, in the source's unit: 0.64 and 64.0 are
never made one another, because nothing in a file says which of the two was meant. One malformed entry costs that
entry only.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from registry.card import read_card, read_text
from registry.checkpoint import Checkpoint, Problem
from registry.claims import is_plain, name_text, snippet, some
from registry.documents import parse_yaml, read_json
from registry.errors import BadDocument, BadSuite, PathEscapes, RegError, Unreadable
from registry.file_ref import FileRef, resolve_inside
from registry.fingerprint import digest_text
from registry.records import Score as ScoreRow

HARNESS = "lm-evaluation-harness"
"""The `harness` of scores that were read from its result files."""

MAX_HARNESS_BYTES = 64_000_000
"""Result files that also hold every sample are this large."""

Readings = tuple[tuple["Score", ...], tuple[str, ...]]
"""Scores, in the order of their source, and one sentence for every entry that was left out."""

_MAX_NAME = 300
_MAX_SCORES = 20_000
_MAX_COUNT = 2**63
_YEAR_10000_SECONDS = 253_402_300_800
_NO_METRICS = ("alias", "name", "sample_len", "sample_count")


@dataclass(frozen=True, slots=True)
class Score:
    """One number that a model got.

    Attributes:
        task: benchmark; a configuration other than the default one follows after a slash.
        metric: as its source names it.
        value: finite, in the unit of its source.
        stderr: standard error in the unit of ``value``.
        n: examples that were scored.
        harness: program that measured, where the source says so.
        harness_version: its version, or the commit it was built from.
        shots: examples shown in the prompt.
        origin: "claimed" by a source, or "measured" here, on these weights.
        source: address the source gives for the result, else the file it was read from.
        date: when it was measured, as the source writes it; the harness's seconds since 1970 as ISO 8601 in UTC.
        raw: the entry it was read from, at most 2,000 characters.
    """

    task: str
    metric: str
    value: float
    stderr: float | None
    n: int | None
    harness: str | None
    harness_version: str | None
    shots: int | None
    origin: Literal["claimed", "measured"]
    source: str
    date: str | None
    raw: str

    @property
    def subject(self) -> tuple[str, ...]:
        """What was measured and by whom: two scores of one model with one subject must be one."""
        fields = (self.task, self.metric, self.harness, self.harness_version, self.shots)
        return (*("" if f is None else str(f) for f in fields), self.origin, self.source)


def score_row(model_id: str, score: Score) -> ScoreRow:
    """The catalog's row of a score of the weights ``model_id``; its id is the digest of what was measured."""
    return ScoreRow(
        id=digest_text("\0".join(("score", model_id, *score.subject))),
        model_id=model_id, task=score.task, metric=score.metric, value=score.value,
        stderr=score.stderr, n=score.n, harness=score.harness,
        harness_version=score.harness_version, shots=score.shots, origin=score.origin,
        source=score.source, scored_at=score.date, raw=score.raw,
    )  # fmt: skip


def read_scores(checkpoint: Checkpoint) -> tuple[tuple[Score, ...], tuple[Problem, ...]]:
    """Read all scores that a checkpoint's own files claim.

    Returns:
        The scores, one for each `Score.subject` (the first that was met), and one problem for each file of which
        something could not be understood. A card that cannot be read at all is left to `read_claims`.
    """
    scores: dict[tuple[str, ...], Score] = {}
    problems = []
    for ref in checkpoint.files:
        if ref.dangling:
            continue
        trouble: RegError | None = None
        try:
            found, wrong = _read_file(checkpoint, ref)
        except PathEscapes:
            continue  # among the checkpoint's own problems
        except (BadDocument, Unreadable) as error:
            if ref.format == "card":
                continue
            trouble, found, wrong = error, (), ()
        twice = [s for s in found if scores.setdefault(s.subject, s).value != s.value]
        sentences = [*wrong, *(f"{s.task} {s.metric} is there with two values" for s in twice)]
        if sentences:
            trouble = BadSuite(f"{ref.path}: {some(sentences)}")
        if trouble is not None:
            root = str(checkpoint.root)
            problems.append(Problem(root, ref.path, trouble.kind, trouble.message[:2_000]))
    return tuple(scores.values()), tuple(problems)


def read_harness(path: Path) -> tuple[str, tuple[Score, ...], tuple[Problem, ...]]:
    """Read a result file of lm-evaluation-harness.

    Returns:
        What the file calls the model ("" when it does not), the scores, and at most one problem: the entries that
        are no numbers.

    Raises:
        BadSuite: when the file is JSON and holds no results.
        BadDocument: when it is missing, larger than `MAX_HARNESS_BYTES`, or no JSON.
    """
    document = read_json(path, max_bytes=MAX_HARNESS_BYTES)
    if not _is_harness(document):
        message = f"{path}: holds no object 'results'; a result file of {HARNESS} does"
        raise BadSuite(message, hint="reg score import takes the results_*.json it writes")
    scores, wrong = scores_from_harness(document, path.name)
    problems = (Problem(str(path), path.name, BadSuite.__name__, some(list(wrong))),)
    return _model_hint(document), scores, problems if wrong else ()


def scores_from_model_index(front_matter: dict[str, Any], source: str = "README.md") -> Readings:
    """The scores in the `model-index` of a card's front matter.

    The task is the dataset's type, with its configuration and, other than test, its split.
    """
    book = _Book()
    for model in _items(front_matter.get("model-index"), book):
        for result in _items(model.get("results"), book):
            dataset, task = _object(result.get("dataset")), _object(result.get("task"))
            name = dataset.get("type") or dataset.get("name") or task.get("type")
            split = dataset.get("split")
            parts = (name, dataset.get("config"), None if split == "test" else split)
            shots = _object(dataset.get("args")).get("num_few_shot")
            where = _object(result.get("source")).get("url")
            for metric in _items(result.get("metrics"), book):
                book.add(
                    _joined(parts),
                    metric.get("type") or metric.get("name"),
                    metric.get("value"),
                    shots=shots,
                    source=_text(where) or source,
                    raw={**result, "metrics": [metric]},
                )
    return book.readings


def scores_from_eval_results(text: str, source: str) -> Readings:
    """The scores in a file of the Hub's `.eval_results`: one entry, or a list of them.

    The form names no metric (it is the benchmark's own), so the metric is called "value".

    Raises:
        BadDocument: when it is not YAML as `parse_yaml` wants it.
    """
    book = _Book()
    document = parse_yaml(text, where=source)
    for entry in _items([document] if isinstance(document, dict) else document, book):
        dataset = _object(entry.get("dataset"))
        book.add(
            _joined((dataset.get("id"), dataset.get("task_id"))),
            "value",
            entry.get("value"),
            date=entry.get("date"),
            source=_text(_object(entry.get("source")).get("url")) or source,
            raw=entry,
        )
    return book.readings


def scores_from_harness(document: Any, source: str) -> Readings:
    """The scores in a parsed result file of lm-evaluation-harness.

    Both forms are read: keys `acc,none` and `acc_stderr,none` with a filter after the comma (the filter "none" is
    left out of the metric), and the older `acc` and `acc_stderr`.
    """
    book = _Book()
    top = _object(document)
    version = _text(top.get("lm_eval_version")) or _text(top.get("git_hash"))
    for task, entry in _object(top.get("results")).items():
        if not isinstance(entry, dict):
            book.wrong.append(f"the result of {snippet(task)[:80]} is a {type(entry).__name__}")
            continue
        task_version = _object(top.get("versions")).get(task)
        for key, value in entry.items():
            metric, _, filtered = str(key).partition(",")
            if metric in _NO_METRICS or metric.endswith("_stderr") or not metric.strip():
                continue
            stderr = entry.get(f"{metric}_stderr,{filtered}" if filtered else f"{metric}_stderr")
            book.add(
                task,
                metric if filtered == "none" else key,
                value,
                stderr=stderr,
                n=_object(_object(top.get("n-samples")).get(task)).get("effective"),
                harness=HARNESS,
                version=version,
                shots=_shots(top, task),
                date=top.get("date"),
                source=source,
                raw={"task": task, "version": task_version, key: value, "stderr": stderr},
            )
    return book.readings


class _Book:
    """Collects scores; what is no score is noted with the reason."""

    def __init__(self) -> None:
        self.scores: list[Score] = []
        self.wrong: list[str] = []

    @property
    def readings(self) -> Readings:
        """All that was collected."""
        return tuple(self.scores), tuple(self.wrong)

    def add(
        self,
        task: Any,
        metric: Any,
        value: Any,
        *,
        source: str,
        raw: Any,
        stderr: Any = None,
        n: Any = None,
        harness: str | None = None,
        version: str | None = None,
        shots: Any = None,
        date: Any = None,
    ) -> None:
        """Take one entry; only its task, metric and value must be right, the rest is kept where it is."""
        task_name, metric_name, number = _text(task), _text(metric), _number(value)
        if task_name is None or metric_name is None:
            self.wrong.append(f"an entry names no task or no metric: {snippet(raw)[:80]!r}")
        elif number is None:
            shown = snippet(value)[:40]
            self.wrong.append(f"{task_name} {metric_name} is {shown!r}, it must be a finite number")
        elif len(self.scores) >= _MAX_SCORES:
            self.wrong.append(f"holds more than {_MAX_SCORES} scores; the others are left out")
        else:
            error = _number(stderr)
            self.scores.append(
                Score(
                    task_name, metric_name, number,
                    stderr=error if error is not None and error >= 0 else None,
                    n=_count(n), harness=harness, harness_version=version, shots=_count(shots),
                    origin="claimed", source=source, date=_date(date), raw=snippet(raw),
                )
            )  # fmt: skip


def _read_file(checkpoint: Checkpoint, ref: FileRef) -> Readings:
    """The scores of one file of a checkpoint; most files hold none."""
    if ref.format == "card":
        text = read_text(resolve_inside(checkpoint.root, ref.path))
        if "model-index" not in text:
            return (), ()  # most cards; spares a scan from parsing them twice
        return scores_from_model_index(read_card(text, where=ref.path).front_matter, ref.path)
    if ref.format == "eval":
        path = resolve_inside(checkpoint.root, ref.path)
        return scores_from_eval_results(read_text(path), ref.path)
    if ref.path.startswith("results") and ref.path.endswith(".json"):
        path = resolve_inside(checkpoint.root, ref.path)
        return scores_from_harness(read_json(path, max_bytes=MAX_HARNESS_BYTES), ref.path)
    return (), ()


def _is_harness(document: Any) -> bool:
    """Tell whether a parsed JSON file has the form of the harness's results."""
    return isinstance(document, dict) and isinstance(document.get("results"), dict)


def _model_hint(document: dict[str, Any]) -> str:
    """What a result file calls the model: the adapter, else the model it was asked to load."""
    arguments = _object(document.get("config")).get("model_args")
    if isinstance(arguments, str):
        pairs = (part.partition("=") for part in arguments.split(","))
        arguments = {key.strip(): value.strip() for key, _, value in pairs}
    named = [_object(arguments).get(key) for key in ("peft", "pretrained", "model")]
    return next(
        (name for hint in (*named, document.get("model_name")) if (name := _text(hint))), ""
    )


def _shots(top: dict[str, Any], task: str) -> Any:
    """How many examples the prompt showed: of this task, else, in the older form, of all."""
    for value in (
        _object(top.get("n-shot")).get(task),
        _object(_object(top.get("configs")).get(task)).get("num_fewshot"),
        _object(top.get("config")).get("num_fewshot"),
    ):
        if value is not None:
            return value
    return None


def _items(value: Any, book: _Book) -> Iterator[dict[str, Any]]:
    """The objects of a list; what is none of both is noted."""
    if value is not None and not isinstance(value, list):
        book.wrong.append(f"{snippet(value)[:80]!r} is a {type(value).__name__}, it must be a list")
        return
    for item in value or ():
        if isinstance(item, dict):
            yield item
        else:
            book.wrong.append(f"{snippet(item)[:80]!r} must be an object")


def _object(value: Any) -> dict[str, Any]:
    """An object, or an empty one in the place of anything else."""
    return value if isinstance(value, dict) else {}


def _joined(parts: tuple[Any, ...]) -> str | None:
    """A task's name from its parts; a part "default" says nothing. None when the first part is missing."""
    named = [_text(part) for part in parts]
    if named[0] is None:
        return None
    return "/".join(name for name in named if name is not None and name != "default")


def _text(value: Any) -> str | None:
    """A text of one line and of bearable length, blanks around it left out; None for everything else."""
    text = name_text(value)
    return text if text and len(text) <= _MAX_NAME and is_plain(text) else None


def _number(value: Any) -> float | None:
    """A finite number, also when it is written as text (YAML reads 1e-3 so); None for everything else."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _count(value: Any) -> int | None:
    """A whole number from 0 that a catalog can hold; None for everything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _MAX_COUNT:
        return None
    return int(value) if value == int(value) else None


def _date(value: Any) -> str | None:
    """A date as text; seconds since 1970 as ISO 8601 in UTC."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not 0 <= value < _YEAR_10000_SECONDS:
            return None
        return datetime.fromtimestamp(value, UTC).isoformat(timespec="seconds")
    return _text(value)

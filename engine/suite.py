"""The use case `score run`: exact match over a suite of prompts and answers.

A suite is JSONL: one object per line with ``prompt`` and ``answer``, both text. The model is loaded by
transformers as users load it, decodes greedily, and an answer counts when its first line, blanks at the ends
left out, equals the expected one. The result belongs to the digest of the weights and names the suite's digest.
"""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from engine.network import load_network
from registry.catalog import ID_DIGITS, Catalog
from registry.documents import MAX_JSON_BYTES, open_file, parse_json
from registry.errors import BadDocument, BadSuite, Unreadable
from registry.fingerprint import digest_text
from registry.progress import SILENT, Progress
from registry.scores import Score
from registry.version import VERSION

BATCH = 64
"""Prompts decoded at once; results may differ by rounding between batch sizes, so it is fixed."""

_SPARE_TOKENS = 4
_SHOWN = 5
_EXAMPLE = '{"prompt": "2+2=", "answer": "4"}'


@dataclass(frozen=True)
class Question:
    """One line of a suite."""

    prompt: str
    answer: str


@dataclass(frozen=True)
class Outcome:
    """A suite's result.

    Attributes:
        score: exact match in [0, 1], with n and standard error.
        wrong: up to five (prompt, expected, given) of the questions that failed.
    """

    score: Score
    wrong: tuple[tuple[str, str, str], ...]


def read_suite(path: Path) -> tuple[Question, ...]:
    """Read a suite.

    Raises:
        BadSuite: naming the line and what is wrong with it.
    """
    questions = []
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            entry = parse_json(line, where=where)
        except BadDocument as error:
            raise BadSuite(error.message, hint=_EXAMPLE) from error
        fields = entry if isinstance(entry, dict) else {}
        prompt, answer = fields.get("prompt"), fields.get("answer")
        if not isinstance(prompt, str) or not isinstance(answer, str) or not prompt:
            message = f"{where}: needs `prompt` and `answer`, both text"
            raise BadSuite(message, hint=_EXAMPLE)
        questions.append(Question(prompt, answer))
    if not questions:
        message = f"{path} has no line"
        raise BadSuite(message, hint=_EXAMPLE)
    return tuple(questions)


def _lines(path: Path) -> list[str]:
    """The lines of a suite."""
    try:
        with open_file(path) as (descriptor, status):
            if status.st_size > MAX_JSON_BYTES:
                message = f"{path} has {status.st_size} bytes; at most {MAX_JSON_BYTES} are read"
                raise BadSuite(message)
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                return file.read(MAX_JSON_BYTES).decode("utf-8-sig").split("\n")
    except Unreadable as error:
        raise BadSuite(
            error.message, hint="a suite is a JSONL file of prompt and answer"
        ) from error
    except UnicodeDecodeError as error:
        message = f"{path}: is not UTF-8: {error.reason} at byte {error.start}"
        raise BadSuite(message) from error


def run_suite(
    catalog: Catalog,
    model: str,
    path: Path,
    *,
    limit: int | None = None,
    progress: Progress = SILENT,
) -> Outcome:
    """Measure a model on a suite.

    Args:
        catalog: knows the model's files, and the base of an adapter.
        model: id.
        path: of the suite.
        limit: only the first questions; None: all.
        progress: told of questions, not bytes.

    Raises:
        BadSuite: as `read_suite`.
        MissingExtra: transformers (for adapters also peft) is not installed.
        Unreadable: transformers cannot load it.
        UnknownModel: an adapter whose base nobody has shown.
    """
    questions = read_suite(path)[:limit]
    tokenizer, network = load_network(catalog, model)
    longest = max(len(tokenizer(q.answer)["input_ids"]) for q in questions) + _SPARE_TOKENS
    progress.start("score", len(questions))
    given: list[str] = []
    for start in range(0, len(questions), BATCH):
        batch = questions[start : start + BATCH]
        given += _answers(tokenizer, network, [q.prompt for q in batch], longest)
        progress.advance(len(batch))
    wrong = [
        (q.prompt, q.answer, g)
        for q, g in zip(questions, given, strict=True)
        if not _matches(q.answer, g)
    ]
    n = len(questions)
    value = 1.0 - len(wrong) / n
    digest = digest_text("\n".join(f"{q.prompt}\0{q.answer}" for q in questions))
    score = Score(
        task=path.stem, metric="exact_match", value=value, stderr=math.sqrt(value * (1.0 - value) / n), n=n,
        harness="homolog", harness_version=VERSION, shots=0, origin="measured",
        source=f"{path.name}#{digest[:ID_DIGITS]}", date=None, raw="",
    )  # fmt: skip
    return Outcome(score, tuple(wrong[:_SHOWN]))


def _matches(expected: str, given: str) -> bool:
    """Compare an answer with what was decoded: whole if the answer has several lines, else its first line."""
    text = given.strip()
    if "\n" not in expected.strip():
        text = text.split("\n", 1)[0].strip()
    return text == expected.strip()


def _answers(tokenizer: Any, network: Any, prompts: Sequence[str], n_tokens: int) -> list[str]:
    """What a model says after each prompt, decoded greedily."""
    batch = tokenizer(list(prompts), return_tensors="pt", padding=True)
    batch.pop("token_type_ids", None)
    with torch.inference_mode():
        out = network.generate(
            **batch, max_new_tokens=n_tokens, do_sample=False, num_beams=1,
            pad_token_id=tokenizer.pad_token_id,
        )  # fmt: skip
    new = out[:, batch["input_ids"].shape[1] :]
    texts: list[str] = tokenizer.batch_decode(new, skip_special_tokens=True)
    return texts

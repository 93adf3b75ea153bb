"""The use case `score run`: exact match over a suite of prompts and answers.

A suite is JSONL: one object per line with ``prompt`` and ``answer``, both text. The model is loaded by
transformers as users load it, decodes greedily, and an answer counts when its first line, blanks at the ends
left out, equals the expected one. The result belongs to the digest of the weights and names the suite's digest.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from registry.catalog import ID_DIGITS, Catalog
from registry.errors import BadSuite, MissingExtra, UnknownModel
from registry.fingerprint import digest_text
from registry.progress import SILENT, Progress
from registry.scores import Score
from registry.version import VERSION

BATCH = 64
"""Prompts decoded at once; results may differ by rounding between batch sizes, so it is fixed."""

_SPARE_TOKENS = 4
_SHOWN = 5


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
    if not path.is_file():
        raise BadSuite(
            f"there is no suite at {path}", hint="a suite is a JSONL file of prompt and answer"
        )
    questions = []
    for number, line in enumerate(
        path.read_text(encoding="utf-8", errors="replace").splitlines(), 1
    ):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except json.JSONDecodeError as error:
            raise BadSuite(f"{path}, line {number}: not JSON: {error.msg}") from error
        fields = entry if isinstance(entry, dict) else {}
        prompt, answer = fields.get("prompt"), fields.get("answer")
        if not isinstance(prompt, str) or not isinstance(answer, str) or not prompt:
            message = f"{path}, line {number}: needs `prompt` and `answer`, both text"
            raise BadSuite(message, hint='{"prompt": "2+2=", "answer": "4"}')
        questions.append(Question(prompt, answer))
    if not questions:
        raise BadSuite(f"{path} has no line", hint='{"prompt": "2+2=", "answer": "4"}')
    return tuple(questions)


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
    """
    questions = read_suite(path)[:limit]
    tokenizer, network = _load(catalog, model)
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


def _load(catalog: Catalog, model: str) -> tuple[Any, Any]:
    """Tokenizer and network of a model, in float32, ready to decode."""
    try:
        from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415 - an extra, slow to load
    except ImportError as error:
        message = "measuring scores needs transformers"
        raise MissingExtra(message, hint="pip install 'homolog[score]'") from error
    checkpoint = catalog.checkpoint(model)
    root, adapter = checkpoint.root, None
    if checkpoint.kind == "adapter":
        root, adapter = catalog.checkpoint(_base_of_adapter(catalog, model)).root, root
    network = AutoModelForCausalLM.from_pretrained(root, dtype=torch.float32, local_files_only=True)
    if adapter is not None:
        try:
            from peft import PeftModel  # noqa: PLC0415 - an extra, slow to load
        except ImportError as error:
            raise MissingExtra(
                "measuring an adapter needs peft", hint="pip install peft"
            ) from error
        network = PeftModel.from_pretrained(network, adapter)
    tokenizer = AutoTokenizer.from_pretrained(root, padding_side="left", local_files_only=True)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer, network.eval()


def _base_of_adapter(catalog: Catalog, adapter: str) -> str:
    """The shown model an adapter belongs to."""
    rows = catalog.rows(
        "select parent from store.edge e join store.model m on m.id = e.parent "
        "where child = ? and relation = 'adapter' and m.status = 'full' order by confidence desc, parent",
        [adapter],
    )
    if not rows:
        message = f"the base of adapter {catalog.name(adapter)} is not in the catalog"
        raise UnknownModel(message, hint="reg scan the folder of its base")
    return str(rows[0]["parent"])


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

"""Whatever stands in cards, configs, recipes, metadata and results, reading them ends, and ends well."""

import json
import math
import os
import time
from pathlib import Path

import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy import zeros

from registry.card import read_card
from registry.checkpoint import Checkpoint, read_checkpoint
from registry.claims import MAX_RAW, METADATA_KEY, SIDECAR_FORMAT, read_claims
from registry.documents import dump_yaml
from registry.errors import BadDocument, BadSuite
from registry.scores import (
    read_harness,
    read_scores,
    scores_from_eval_results,
    scores_from_harness,
    scores_from_model_index,
)

WORDS = st.sampled_from(
    [
        "base_model", "base_model_relation", "license", "license_name", "tags", "model-index", "name",
        "results", "task", "type", "dataset", "metrics", "value", "source", "url", "config", "split",
        "models", "slices", "sources", "modules", "model", "path", "revision", "lora", "parameters",
        "weight", "parents", "digest", "role", "coefficient", "format", "id", "task_id", "date", "args",
        "num_few_shot", "acc,none", "acc_stderr,none", "n-shot", "n-samples", "effective", "versions",
        "model_args", "_name_or_path", "base_model_name_or_path", "primary_model_hash", "lm_eval_version",
    ]
)  # fmt: skip
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=10**300, max_value=10**310)
    | st.floats()
    | st.text(max_size=8)
    | WORDS
    | st.sampled_from([SIDECAR_FORMAT, "ab" * 32, "a" * 1_001, "merge", "default", "/etc/passwd"])
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=5),
    max_leaves=25,
)
OBJECT = st.dictionaries(WORDS, JSON, max_size=6)
METADATA = st.dictionaries(
    st.sampled_from(
        [
            METADATA_KEY,
            "sd_merge_recipe",
            "sd_merge_models",
            "modelspec.merged_from",
            "ss_sd_model_name",
        ]
    ),
    JSON.map(json.dumps) | st.text(max_size=20),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint")
    safetensors.numpy.save_file({"w": zeros(1, "float32")}, path / "model.safetensors")
    (path / ".eval_results").mkdir()
    return path


def check(checkpoint: Checkpoint) -> None:
    """What holds of the claims and scores of every checkpoint."""
    claims, claim_problems = read_claims(checkpoint)
    scores, score_problems = read_scores(checkpoint)
    assert len({(c.source, c.predicate, c.object) for c in claims}) == len(claims)
    for claim in claims:
        assert 1 <= len(claim.object) <= 1_000
        assert len(claim.raw) <= MAX_RAW
        assert claim.coefficient is None or math.isfinite(claim.coefficient)
        assert not any(c < " " for c in claim.object)
        (claim.object + claim.raw + str(claim.relation)).encode()
    assert len({s.subject for s in scores}) == len(scores)
    for score in scores:
        assert math.isfinite(score.value)
        assert score.stderr is None or score.stderr >= 0
        assert score.n is None or 0 <= score.n < 2**63
        (score.raw + str(score)).encode()
    problems = [*checkpoint.problems, *claim_problems, *score_problems]
    assert len({(p.file, p.error) for p in problems}) == len(problems)
    assert all(len(p.detail) <= 2_500 for p in problems)


@settings(max_examples=60, deadline=None)
@given(st.tuples(OBJECT, OBJECT, OBJECT), JSON, METADATA)
def test_any_values_in_the_right_files_give_claims_scores_or_problems(
    folder, objects, value, metadata
):
    card, config, adapter = objects
    tensors = {"w": zeros(1, "float32")}
    safetensors.numpy.save_file(tensors, folder / "model.safetensors", metadata=metadata)
    (folder / "README.md").write_text(f"---\n{dump_yaml(card)}---\n", encoding="utf-8")
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "adapter_config.json").write_text(json.dumps(adapter))
    (folder / "homolog.json").write_text(json.dumps({"format": SIDECAR_FORMAT, **adapter}))
    (folder / "mergekit_config.yml").write_text(dump_yaml(value), encoding="utf-8")
    (folder / ".eval_results" / "a.yaml").write_text(dump_yaml(value), encoding="utf-8")
    (folder / "results_a.json").write_text(json.dumps(config))
    check(read_checkpoint(folder))


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=60), st.sampled_from([b"", b"---\n", b"---\nbase_model: "]))
def test_any_bytes_in_text_files_give_claims_or_problems(folder, content, start):
    for name in (
        "README.md",
        "homolog.json",
        "mergekit_config.yml",
        "config.json",
        "results_a.json",
    ):
        (folder / name).write_bytes(start + content)
    (folder / ".eval_results" / "a.yaml").write_bytes(content)
    check(read_checkpoint(folder))


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="-\n\r :#[]{}&*!|>ab'\"\t\ufeff\\", max_size=60))
def test_any_text_is_a_card_or_a_bad_document(text):
    try:
        card = read_card(text)
    except BadDocument:
        return
    assert text.endswith(card.body)
    assert isinstance(card.front_matter, dict)


@settings(max_examples=100, deadline=None)
@given(JSON)
def test_readers_of_parsed_results_never_raise(value):
    readings = [
        scores_from_model_index({"model-index": value}),
        scores_from_model_index({"model-index": [{"results": [value]}]}),
        scores_from_harness(value, "r.json"),
        scores_from_harness({"results": value, "n-samples": value, "config": value}, "r.json"),
        scores_from_eval_results(dump_yaml(value), "e.yaml"),
    ]
    for scores, wrong in readings:
        assert all(math.isfinite(score.value) for score in scores)
        assert all(isinstance(sentence, str) for sentence in wrong)


BOMBS = {
    "aliases": "a: &a [x]\n" + "".join(f"b{i}: &b{i} [*a, *a]\n" for i in range(50)),
    "nesting": "base_model: " + "[" * 5_000 + "]" * 5_000,
    "nested within bounds": "base_model: " + "[" * 90 + "a/b" + "]" * 90,
    "duplicate keys": "base_model: a/b\nbase_model: c/d\n",
    "objects": "base_model: !!python/object/apply:os.system [id]\n",
    "a number without end": "base_model: [0x" + "f" * 1_000_000 + "]\n",
    "a name without end": "base_model: " + "a" * 1_000_000 + "\n",
    "keys that are no text": "? [a]\n: b\n5: c\n",
    "never closed": "base_model: a/b\n---x\n" + "- x\n" * 1_000,
    "blanks without end": "base_model: a/b\n" + " " * 500_000,
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_bombs_in_front_matter_are_a_matter_of_moments(folder, bomb):
    (folder / "README.md").write_text(f"---\n{BOMBS[bomb]}\n---\n", encoding="utf-8")
    start = time.monotonic()
    check(read_checkpoint(folder))
    assert time.monotonic() - start < 5


def test_a_card_of_many_megabytes_is_a_problem_and_not_a_wait(folder):
    (folder / "README.md").write_bytes(b"---\nbase_model: a/b\n---\n" + b"x" * 5_000_000)
    claims, problems = read_claims(read_checkpoint(folder))
    assert [c for c in claims if c.source == "card"] == []
    assert "README.md" in [p.file for p in problems]


def test_a_large_body_behind_the_front_matter_costs_no_claim(folder):
    (folder / "README.md").write_bytes(b"---\nbase_model: a/b\n---\n" + b"x" * 3_000_000)
    claims, _ = read_claims(read_checkpoint(folder))
    assert ("a/b", "card") in [(c.object, c.source) for c in claims]


@pytest.mark.parametrize(
    "name", ["README.md", "homolog.json", "mergekit_config.yml", "results_a.json"]
)
def test_links_that_leave_the_folder_are_not_read(folder, tmp_path, name):
    secret = tmp_path / "secret"
    secret.write_text('---\nbase_model: "s3cret"\n---\n')
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(secret)
    try:
        checkpoint = read_checkpoint(folder)
        check(checkpoint)
        claims, problems = read_claims(checkpoint)
        assert "s3cret" not in str(claims) + str(problems) + str(read_scores(checkpoint))
        assert (name, "PathEscapes") in [(p.file, p.error) for p in checkpoint.problems]
    finally:
        (folder / name).unlink()


@pytest.mark.parametrize(
    "name", ["README.md", "homolog.json", "mergekit_config.yml", "results_a.json"]
)
def test_a_pipe_or_a_folder_in_the_place_of_a_file_never_blocks(folder, name):
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    try:
        check(read_checkpoint(folder))
    finally:
        (folder / name).unlink()
    (folder / name).mkdir()
    try:
        check(read_checkpoint(folder))
    finally:
        (folder / name).rmdir()


def test_a_file_that_vanishes_after_the_listing_is_a_problem(folder):
    names = ("README.md", "homolog.json", "mergekit_config.yml")
    for name in names:
        (folder / name).write_text("a: 1")
    checkpoint = read_checkpoint(folder)
    for name in names:
        (folder / name).unlink()
    check(checkpoint)
    assert {p.file for p in read_claims(checkpoint)[1]} >= set(names)


@settings(max_examples=40, deadline=None)
@given(JSON)
def test_a_result_file_is_read_or_refused_by_name(folder, value):
    file = folder / "imported.json"
    file.write_text(json.dumps({"results": value}))
    if not isinstance(value, dict):
        with pytest.raises(BadSuite):
            read_harness(file)
        return
    hint, scores, problems = read_harness(file)
    assert hint == ""
    assert len(problems) <= 1
    assert all(math.isfinite(score.value) for score in scores)


def test_results_nested_a_thousand_deep_are_read_or_refused(folder):
    file = folder / "imported.json"
    for depth in (50, 900, 100_000):
        deep = "[" * depth + "]" * depth
        file.write_text(f'{{"results": {{"t": {{"acc": {deep}, "b": 0.5}}}}}}')
        try:
            _, scores, problems = read_harness(file)
        except BadDocument:
            assert depth > 800
        else:
            assert [s.value for s in scores] == [0.5]
            assert len(problems) == 1

"""Configs and tokenizers of models that are merged."""

import json
from pathlib import Path
from typing import Any

from conftest import CONFIG, TOKENIZER
from torture.chance import Chance
from torture.court import Court
from torture.ground import Ground
from torture.neighbourhood import damaged_few

WHAT = "configs and tokenizers"

_TOKEN = {
    "id": 48,
    "content": "<x>",
    "single_word": False,
    "lstrip": False,
    "rstrip": False,
    "normalized": False,
    "special": True,
}
_TEMPLATE = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}{% endfor %}"
_FILES: dict[str, Any] = {
    "config.json": {**CONFIG, "text_config": {"vocab_size": 48}, "quantization_config": {"quant_method": "gptq", "bits": 4}, "eos_token_id": [1, 2],
        "rope_scaling": {"type": "linear", "factor": 2.0}, "_name_or_path": "base", "transformers_version": "5.0.0"},
    "generation_config.json": {"eos_token_id": 2, "temperature": 0.7, "max_length": 20},
    "tokenizer.json": {**TOKENIZER, "added_tokens": [_TOKEN], "normalizer": {"type": "NFC"}, "pre_tokenizer": {"type": "ByteLevel"}, "decoder": None,
        "post_processor": None, "truncation": None},
    "tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast", "added_tokens_decoder": {"48": {"content": "<x>", "special": True}},
        "chat_template": _TEMPLATE, "bos_token": "t1", "eos_token": {"content": "t2"}, "model_max_length": 10**30},
    "special_tokens_map.json": {"bos_token": "t1", "additional_special_tokens": ["<x>"]},
    "added_tokens.json": {"<x>": 48},
    "chat_template.json": {"chat_template": _TEMPLATE},
}  # fmt: skip
_TEXTS = {
    "vocab.txt": "a\nb\nc\n", "merges.txt": "#version: 0.2\na b\n", "chat_template.jinja": _TEMPLATE, "tokenizer.model": "\n\x05\n\x01a\x15\0\0\0\0",
    "vocab.json": '{"a": 0, "b": 1}',
}  # fmt: skip
_WORDS = (*CONFIG, "vocab", "merges", "model", "type", "BPE", "Unigram", "WordPiece", "WordLevel", "t1", "t47", "t48", "content", "id", "special", "tie_word_embeddings")  # fmt: skip
_RECIPE = """
merge_method: {method}
base_model: base
models: [{{model: ./a}}, {{model: ./b}}]
dtype: bfloat16
{tokenizer}
{template}
"""
_TOKENIZERS = ("", "tokenizer_source: union", "tokenizer_source: base", "tokenizer: {source: union, tokens: {t1: {source: ./a}}}", "tokenizer: {source: ./b, pad_to_multiple_of: 8}")  # fmt: skip
_TEMPLATES = ("", "", "chat_template: auto", "chat_template: chatml", "chat_template: ./a")


def attempt(chance: Chance, court: Court, ground: Ground) -> None:
    """Plan or make a merge of two such models; now and then scan a few."""
    folder = ground.clear()
    if chance.now_and_then(0.3):
        damaged_few(court, ground, chance, "chat", _damage, most=4)
        return
    _damage(chance, ground.copy("chat", "a"))
    if chance.now_and_then(0.6):
        _damage(chance, ground.copy("math", "b"))
    else:
        ground.copy("math", "b")
    ground.catalog()
    recipe = _RECIPE.format(
        method=chance.one(("task_arithmetic", "linear", "ties", "slerp")),
        tokenizer=chance.one(_TOKENIZERS), template=chance.one(_TEMPLATES),
    )  # fmt: skip
    (folder / "recipe.yaml").write_text(recipe)
    if chance.now_and_then(0.7):
        court.types("plan", "recipe.yaml", *chance.one(((), ("--json",))))
        return
    ended = court.types("merge", "recipe.yaml", "-o", "out")
    if ended.code == 0:
        verified = court.types("verify", "out")
        if verified.code != 0:
            court.finds("a merge that does not verify", verified.out + verified.err)
    elif Path("out").exists():
        court.half_models.append(f"merge left {sorted(Path('out').rglob('*'))}")


def _damage(chance: Chance, folder: Path) -> None:
    """Write some of the files, damaged or not."""
    for name in chance.sample(sorted(_FILES), chance.randrange(1, 4)):
        found = chance.damaged(_FILES[name], vocabulary=_WORDS) if chance.now_and_then(0.8) else _FILES[name]  # fmt: skip
        raw = chance.json(found) if chance.now_and_then(0.3) else json.dumps(found).encode()
        (folder / name).write_bytes(raw)
    if chance.now_and_then(0.3):
        name = chance.one(sorted(_TEXTS))
        (folder / name).write_bytes(chance.spoilt(_TEXTS[name].encode()))
    if chance.now_and_then(0.1):
        (folder / "tokenizer.json").unlink()

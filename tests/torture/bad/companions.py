"""Cards, configs, tokenizers, adapters' configs, recipes and sidecars beside good weights."""

from typing import Any

from hostile.test_documents import JSON, YAML
from torture.bad_input import Bad, files, safetensors

CARDS, CONFIGS, OTHERS = (
    "cards",
    "configs and tokenizers",
    "sidecars, recipes and results beside weights",
)
_DEEP = "[" * 100_000
_TOKENS = {"model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []}, "added_tokens": []}


def _tokens(**changed: Any) -> dict[str, Any]:
    return {**_TOKENS, "model": {**_TOKENS["model"], **changed}}


def _card(text: str | bytes) -> dict[str, str | bytes]:
    raw = text if isinstance(text, bytes) else text.encode()
    return {"README.md": b"---\n" + raw + b"\n---\n# M\n"}


_OF_CARDS: dict[str, tuple[str, dict[str, Any]]] = {
    **{what: ("BadDocument", _card(text)) for what, (text, _) in YAML.items() if "documents" not in what},
    "not UTF-8": ("BadDocument", _card(b"license: \xff\xfe")),
    "a card of 5 MB": ("BadDocument", {"README.md": b"---\na: b\n---\n" + b"x" * 5_000_000}),
    "4 MB of empty lists": ("BadDocument", _card("a: [" + "[]," * 600_000 + "]")),
    "front matter that never ends": ("BadDocument", {"README.md": "---\nbase_model: a/b\n" + "- x\n" * 100}),
    "front matter that is a list": ("BadDocument", _card("- a\n- b")),
    "a base_model that is a number": ("", _card("base_model: 7")),
    "a base_model that is a map": ("BadDocument", _card("base_model: {a: b}")),
    "a base_model of a million characters": ("BadDocument", _card("base_model: " + "a" * 1_000_000)),
    "a base_model that steers the terminal": ("BadDocument", _card('base_model: "\\e[2Ja/b"')),
    "a base_model that is itself": ("", _card("base_model: .")),
    "a base_model that is a path of this machine": ("", _card("base_model: /etc/passwd")),
    "a licence that is a list of lists": ("", _card("license: [[mit]]")),
    "a licence of 10,000 characters": ("BadDocument", _card("license: " + "x" * 10_000)),
    "a relation that nobody knows": ("", _card("base_model: a/b\nbase_model_relation: cousin")),
    "scores that are words": ("BadSuite", _card("model-index: [{results: [{dataset: {type: d}, metrics: [{type: acc, value: high}]}]}]")),
    "a score of 10^400": ("BadSuite", _card(f"model-index: [{{results: [{{dataset: {{type: d}}, metrics: [{{type: acc, value: {10**400}}}]}}]}}]")),
    "a score that is infinite": ("BadSuite", _card("model-index: [{results: [{dataset: {type: d}, metrics: [{type: acc, value: .inf}]}]}]")),
}  # fmt: skip
_OF_CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    **{f"config.json: {what}": ("BadDocument", {"config.json": text}) for what, (text, _) in JSON.items()},
    "config.json: an empty file": ("BadDocument", {"config.json": b""}),
    "config.json: a list": ("BadDocument", {"config.json": []}),
    "config.json: Latin-1": ("BadDocument", {"config.json": b'{"a": "\xe4"}'}),
    "config.json: 99 MB of empty lists": ("BadDocument", {"config.json": b'{"a": [' + b"[]," * 33_000_000 + b"[]]}"}),
    "config.json: 100,000,001 bytes": ("BadDocument", {"config.json": b" " * 99_999_999 + b"{}"}),
    "config.json: model_type is a map, NaN and 1e999 within": ("", {"config.json": '{"model_type": {"a": 1}, "x": NaN, "y": 1e999, "architectures": 7}'}),
    "tokenizer.json: cut": ("BadDocument", {"tokenizer.json": b'{"model": {"vocab"'}),
    "tokenizer.json: two tokens with one id": ("", {"tokenizer.json": _tokens(vocab={"a": 0, "b": 0})}),
    "tokenizer.json: an id of 2^63": ("", {"tokenizer.json": _tokens(vocab={"a": 2**63})}),
    "tokenizer.json: an id that is a text": ("", {"tokenizer.json": _tokens(vocab={"a": "0"})}),
    "tokenizer.json: a negative id": ("", {"tokenizer.json": _tokens(vocab={"a": -1})}),
    "tokenizer.json: a vocabulary that is a number": ("BadDocument", {"tokenizer.json": _tokens(vocab=7)}),
    "tokenizer.json: nested 100,000 deep": ("BadDocument", {"tokenizer.json": _DEEP}),
    "adapter_config.json: nested 100,000 deep": ("BadDocument", {"adapter_config.json": _DEEP}),
    "adapter_config.json: a base that is a list": ("BadDocument", {"adapter_config.json": {"base_model_name_or_path": ["a"]}}),
    "adapter_config.json: a base of control characters": ("BadDocument", {"adapter_config.json": {"base_model_name_or_path": "\x1b[2J"}}),
}  # fmt: skip
_OF_OTHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "homolog.json: cut": ("BadDocument", {"homolog.json": b'{"format"'}),
    "homolog.json: another format": ("BadDocument", {"homolog.json": {"format": 7}}),
    "homolog.json: parents that are a number": ("BadDocument", {"homolog.json": {"format": "homolog-sidecar-1", "parents": 7}}),
    "homolog.json: a digest that is none": ("BadDocument", {"homolog.json": {"format": "homolog-sidecar-1", "parents": [{"digest": "xyz", "role": "model"}]}}),
    "homolog.json: a coefficient that is NaN": ("", {"homolog.json": '{"format": "homolog-sidecar-1", "parents": [{"digest": "' + "0" * 64 + '", "role": "model", "coefficient": NaN}]}'}),
    "homolog.json: nested 100,000 deep": ("BadDocument", {"homolog.json": _DEEP}),
    "mergekit_config.yml: a billion laughs": ("BadDocument", {"mergekit_config.yml": YAML["a billion laughs"][0]}),
    "mergekit_config.yml: an endless circle": ("BadDocument", {"mergekit_config.yml": "&a [*a]"}),
    "mergekit_config.yml: models that are a number": ("BadDocument", {"mergekit_config.yml": "models: 7"}),
    "mergekit_config.yml: nested 100,000 deep": ("BadDocument", {"mergekit_config.yml": _DEEP}),
    "results.json: results that are a list": ("", {"results.json": {"results": [1], "config": {}}}),
    "__metadata__: a record that is no JSON": ("BadDocument", {"model.safetensors": safetensors({"__metadata__": {"homolog": "{"}, "w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}})}),
}  # fmt: skip

CASES = [
    *(Bad(CARDS, what, error, files(contents)) for what, (error, contents) in _OF_CARDS.items()),
    *(Bad(CONFIGS, what, error, files(contents)) for what, (error, contents) in _OF_CONFIGS.items()),
    *(Bad(OTHERS, what, error, files(contents)) for what, (error, contents) in _OF_OTHERS.items()),
]  # fmt: skip

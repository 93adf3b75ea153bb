"""Measuring suites with a network whose every answer is known: it is a chain from one letter to the next."""

import json
import math
import shutil
import sys

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from engine.suite import Question, read_suite, run_suite
from registry.errors import BadSuite, MissingExtra, UnknownModel, Unreadable
from registry.scan import ensure, scan

LETTERS = ["<pad>", "<eos>", "a", "b", "c", "d", "e", "f", " ", "\n"]
NEXT = {"a": "b", "b": "c", "c": "<eos>", "d": " ", " ": "e", "e": "\n", "\n": "a", "f": "<eos>"}
SIZE = 16


def tokenizer(*, pad="<pad>", eos="<eos>"):
    made = Tokenizer(
        models.WordLevel({letter: i for i, letter in enumerate(LETTERS)}, unk_token=LETTERS[0])
    )
    made.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    made.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token=pad, eos_token=eos)


def chain():
    """A network that says `NEXT` of the last letter, whatever stood before."""
    config = LlamaConfig(
        vocab_size=len(LETTERS), hidden_size=SIZE, intermediate_size=4, num_hidden_layers=1,
        num_attention_heads=2, tie_word_embeddings=False, eos_token_id=1, bos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    network = LlamaForCausalLM(config)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            weight.fill_(1.0 if "norm" in name else 0.0)
        network.model.embed_tokens.weight.copy_(torch.eye(len(LETTERS), SIZE))
        for letter, following in NEXT.items():
            network.lm_head.weight[LETTERS.index(following), LETTERS.index(letter)] = 1.0
    return network


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """The folder of the network and its tokenizer."""
    folder = tmp_path_factory.mktemp("suite") / "chain"
    chain().save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def suite(folder, *pairs):
    file = folder / "letters.jsonl"
    lines = (json.dumps({"prompt": p, "answer": a}) for p, a in pairs)
    file.write_text("\n".join(lines) + "\n\n", encoding="utf-8")
    return file


RIGHT = [
    ("a", "bc"),
    ("fffa", "bc"),
    ("b", "c"),
    ("f", ""),
    ("d", "e"),
    ("d", " e "),
    ("e", "abc"),
    ("d", "e\nabc"),
]
WRONG = [("a", "b", "bc"), ("b", "bc", "c"), ("d", "e a", "e\nabc")]


def test_exact_matches_are_counted(network, catalog, tmp_path):
    model = ensure(catalog, str(network))
    pairs = [*RIGHT, *((p, a) for p, a, _ in WRONG)]
    outcome = run_suite(catalog, model, suite(tmp_path, *pairs))
    score = outcome.score
    n = len(pairs)
    assert [(p, a, g.strip()) for p, a, g in outcome.wrong] == WRONG
    assert (score.task, score.metric, score.n, score.shots) == ("letters", "exact_match", n, 0)
    assert score.value == pytest.approx(len(RIGHT) / n)
    assert score.stderr == pytest.approx(math.sqrt(score.value * (1 - score.value) / n))
    assert (score.origin, score.harness) == ("measured", "homolog")
    assert score.source.startswith("letters.jsonl#")


def test_the_result_names_the_questions_that_were_asked(network, catalog, tmp_path):
    model = ensure(catalog, str(network))

    class Counts:
        seen = 0

        def start(self, what, total_bytes):
            self.total = total_bytes

        def advance(self, n_bytes):
            self.seen += n_bytes

    progress = Counts()
    file = suite(tmp_path, *[("a", "bc")] * 70, ("a", "x"))
    whole = run_suite(catalog, model, file, progress=progress)
    assert (progress.total, progress.seen) == (71, 71)
    assert whole.score.value == pytest.approx(70 / 71)
    part = run_suite(catalog, model, file, limit=3)
    assert (part.score.n, part.score.value, part.score.stderr, part.wrong) == (3, 1.0, 0.0, ())
    assert part.score.source != whole.score.source


@pytest.mark.parametrize(("pad", "eos"), [(None, "<eos>"), (None, None)])
def test_a_tokenizer_without_padding_will_do(pad, eos, catalog, tmp_path):
    chain().save_pretrained(tmp_path / "chain")
    tokenizer(pad=pad, eos=eos).save_pretrained(tmp_path / "chain")
    model = ensure(catalog, str(tmp_path / "chain"))
    outcome = run_suite(catalog, model, suite(tmp_path, ("a", "bc"), ("fffda", "bc")))
    said = [g for _, _, g in outcome.wrong]
    assert said == (
        [] if eos else ["bc<eos>", "bc<eos>"]
    )  # which is no end to a tokenizer without one


@pytest.fixture
def adapter(network, tmp_path):
    """A LoRA of the head that leads from a to d."""
    base = chain()
    base.config._name_or_path = str(network)
    tuned = get_peft_model(base, LoraConfig(r=1, lora_alpha=1, target_modules=["lm_head"]))
    tuned.peft_config["default"].base_model_name_or_path = str(network)
    with torch.no_grad():
        lora = tuned.base_model.model.lm_head
        lora.lora_A["default"].weight.zero_()[0, LETTERS.index("a")] = 1.0
        lora.lora_B["default"].weight.zero_()[LETTERS.index("d"), 0] = 9.0
    tuned.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    return tmp_path / "adapter"


def test_an_adapter_is_measured_on_its_base(network, adapter, catalog, tmp_path):
    scan(catalog, [str(network), str(adapter)])
    model = ensure(catalog, str(adapter))
    outcome = run_suite(catalog, model, suite(tmp_path, ("a", "d e"), ("b", "c")))
    assert outcome.wrong == ()


def test_an_adapter_whose_base_nobody_has_shown_is_named(adapter, catalog, tmp_path):
    model = ensure(catalog, str(adapter))
    with pytest.raises(UnknownModel, match="the base of adapter adapter is not in the catalog"):
        run_suite(catalog, model, suite(tmp_path, ("a", "b")))


def test_a_model_that_is_no_decoder_is_named(catalog, tmp_path):
    chain().save_pretrained(tmp_path / "mute")  # without a tokenizer
    model = ensure(catalog, str(tmp_path / "mute"))
    with pytest.raises(
        Unreadable, match="transformers cannot load mute as a causal language model"
    ):
        run_suite(catalog, model, suite(tmp_path, ("a", "b")))


def test_a_model_that_lacks_weights_is_named_and_not_filled_with_random_ones(
    network, catalog, tmp_path, capfd
):
    shutil.copytree(network, tmp_path / "hollow")
    file = tmp_path / "hollow" / "model.safetensors"
    tensors = load_file(file)
    del tensors["lm_head.weight"]
    save_file(tensors, file, metadata={"format": "pt"})
    model = ensure(catalog, str(tmp_path / "hollow"))
    with pytest.raises(Unreadable, match=r"no weights for 1 tensors, among them lm_head\.weight"):
        run_suite(catalog, model, suite(tmp_path, ("a", "b")))
    assert "\x1b" not in capfd.readouterr().err


@pytest.mark.parametrize("package", ["transformers", "peft"])
def test_a_missing_package_is_named(package, network, adapter, catalog, tmp_path, monkeypatch):
    scan(catalog, [str(network), str(adapter)])
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match=f"needs {package}") as caught:
        run_suite(catalog, ensure(catalog, str(adapter)), suite(tmp_path, ("a", "b")))
    assert "pip install" in caught.value.hint


def test_a_suite_is_read_line_by_line(tmp_path):
    file = tmp_path / "s.jsonl"
    file.write_text(
        '\ufeff{"prompt": "a\u2028b", "answer": ""}\r\n\n{"answer": "y", "prompt": "x", "more": 1}',
        "utf-8",
    )
    assert read_suite(file) == (Question("a\u2028b", ""), Question("x", "y"))


BAD = [
    ("{", "line 2: is not valid JSON"),
    ("[1]", "line 2: needs `prompt` and `answer`, both text"),
    ('{"prompt": "a"}', "line 2: needs"),
    ('{"prompt": "", "answer": "b"}', "line 2: needs"),
    ('{"prompt": "a", "answer": 4}', "line 2: needs"),
    (
        '{"prompt": "a", "prompt": "b", "answer": "c"}',
        "line 2: is not valid JSON: the key 'prompt' comes twice",
    ),
    ("[" * 5000, "line 2: is nested too deeply"),
]


@pytest.mark.parametrize(("line", "message"), BAD)
def test_a_bad_line_is_named(line, message, tmp_path):
    file = tmp_path / "s.jsonl"
    file.write_text('{"prompt": "a", "answer": "b"}\n' + line + "\n", encoding="utf-8")
    with pytest.raises(BadSuite, match=message) as caught:
        read_suite(file)
    assert "prompt" in caught.value.hint


def test_a_file_that_is_no_suite_is_named(tmp_path):
    with pytest.raises(BadSuite, match=r"gone\.jsonl"):
        read_suite(tmp_path / "gone.jsonl")
    with pytest.raises(BadSuite, match="not a regular file"):
        read_suite(tmp_path)
    (tmp_path / "empty.jsonl").write_text("\n \n", encoding="utf-8")
    with pytest.raises(BadSuite, match="has no line"):
        read_suite(tmp_path / "empty.jsonl")
    (tmp_path / "latin.jsonl").write_bytes(b'{"prompt": "\xe9", "answer": ""}')
    with pytest.raises(BadSuite, match=r"is not UTF-8: .* at byte 12"):
        read_suite(tmp_path / "latin.jsonl")
    with (tmp_path / "huge.jsonl").open("wb") as file:
        file.truncate(200_000_000)
    with pytest.raises(BadSuite, match="has 200000000 bytes; at most 100000000 are read"):
        read_suite(tmp_path / "huge.jsonl")

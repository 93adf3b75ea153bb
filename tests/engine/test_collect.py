"""Fisher information and Gram matrices of a trained model, and the merges that use them."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from engine.collect import collect
from engine.merge import merge
from engine.recipe_file import recipe_from_text
from engine.suite import read_suite
from registry.errors import OutputExists
from registry.scan import scan

ZOO = Path(__file__).parents[2] / "data" / "zoo"
SUITE = ZOO / "suites" / "reverse.jsonl"


@pytest.fixture
def zoo(catalog):
    scan(catalog, [str(ZOO / name) for name in ("base", "arithmetic", "reverse")], jobs=1)
    return catalog


@pytest.fixture(scope="module")
def network():
    return AutoModelForCausalLM.from_pretrained(ZOO / "reverse", dtype=torch.float32)


def encoded(tokenizer, question):
    prompt = len(tokenizer(question.prompt)["input_ids"])
    return torch.tensor([tokenizer(question.prompt + question.answer)["input_ids"]]), prompt


def test_fisher_information_is_the_mean_of_squared_gradients(zoo, network, tmp_path):
    collect(zoo, zoo.find("reverse"), SUITE, tmp_path / "fisher", kind="fisher", limit=2)
    found = load_file(tmp_path / "fisher" / "model.safetensors")
    tokenizer = AutoTokenizer.from_pretrained(ZOO / "reverse")
    expected = {name: 0 for name, _ in network.named_parameters()}
    for question in read_suite(SUITE)[:2]:
        network.zero_grad()
        ids, n_prompt = encoded(tokenizer, question)
        chances = network(ids).logits.log_softmax(-1)[0]
        answer = range(n_prompt, ids.shape[1])
        sum(chances[i - 1, ids[0, i]] for i in answer).backward()
        for name, parameter in network.named_parameters():
            expected[name] = expected[name] + parameter.grad**2 / 2
    assert found.keys() == expected.keys()
    for name, right in expected.items():
        torch.testing.assert_close(found[name], right, rtol=1e-3, atol=1e-9)


def test_gram_matrices_are_those_of_the_layers_inputs(zoo, network, tmp_path):
    collect(zoo, zoo.find("reverse"), SUITE, tmp_path / "gram", kind="gram", limit=1)
    found = load_file(tmp_path / "gram" / "model.safetensors")
    ids, _ = encoded(AutoTokenizer.from_pretrained(ZOO / "reverse"), read_suite(SUITE)[0])
    hidden = network.model.embed_tokens(ids)
    inputs = network.model.layers[0].input_layernorm(hidden)[0].detach()
    expected = inputs.T @ inputs / len(inputs)
    torch.testing.assert_close(found["model.layers.0.self_attn.q_proj.weight"], expected)
    linear = [n for n, m in network.named_modules() if isinstance(m, torch.nn.Linear)]
    assert found.keys() == {f"{name}.weight" for name in linear}


@pytest.mark.parametrize(("method", "kind"), [("fisher", "fisher"), ("regmean", "gram")])
def test_recipes_name_statistics_of_their_models(method, kind, zoo, tmp_path):
    for model in ("arithmetic", "reverse"):
        suite = ZOO / "suites" / f"{model}.jsonl"
        collect(zoo, zoo.find(model), suite, tmp_path / f"{model}-{kind}", kind=kind, limit=4)
    models = "\n".join(
        f"- {{model: {ZOO / m}, statistics: {tmp_path / f'{m}-{kind}'}}}"
        for m in ("arithmetic", "reverse")
    )
    text = f"merge_method: {method}\nmodels:\n{models}\ndtype: float32\n"
    merge(zoo, recipe_from_text(text), tmp_path / "made")
    plain = (
        f"merge_method: linear\nmodels: [{ZOO / 'arithmetic'}, {ZOO / 'reverse'}]\ndtype: float32\n"
    )
    merge(zoo, recipe_from_text(plain), tmp_path / "plain")
    made, mean = (load_file(tmp_path / name / "model.safetensors") for name in ("made", "plain"))
    name = "model.layers.0.mlp.up_proj.weight"
    assert not torch.allclose(made[name], mean[name], atol=1e-5)
    assert (made[name] - mean[name]).norm() < 0.5 * mean[name].norm()


def test_nothing_is_overwritten(zoo, tmp_path):
    with pytest.raises(OutputExists):
        collect(zoo, zoo.find("reverse"), SUITE, ZOO / "base", kind="gram", limit=1)

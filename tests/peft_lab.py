"""Real adapters of real networks, made with the real library, and merges of them."""

import json
import shutil

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from engine.adapter_merge import merge_adapters
from engine.parent import Parent
from engine.pin import pin
from engine.pinned import ZERO
from engine.recipe import Part, Recipe
from registry.checkpoint import read_checkpoint
from registry.fingerprint import digest_tensors

TOKENS = torch.arange(10)[None]


def llama(**options):
    """A tiny decoder with grouped queries."""
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, **{"vocab_size": 40, "tie_word_embeddings": False, **options},
    )  # fmt: skip
    return LlamaForCausalLM(config)


def gpt2():
    """A tiny network that stores weights (in, out)."""
    torch.manual_seed(0)
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=40, n_embd=16, n_layer=1, n_head=2, n_positions=32)
    )


class Lab:
    """Real adapters of one real network."""

    def __init__(self, folder):
        self.folder, self._network = folder, None

    def base(self, network=llama, **options):
        """Choose the network that all later adapters are trained on."""
        self._network = lambda: network(**options)
        self._network().save_pretrained(self.folder / "base")
        return self.read("base")

    def fresh(self):
        """The network without adapters."""
        return self._network().eval()

    def adapter(self, name, seed, scale=0.1, **config):
        """Train, that is shake, an adapter."""
        network = self.fresh()
        network.name_or_path = str(self.folder / "base")
        config = {"target_modules": ["q_proj", "v_proj"], "r": 4, **config}
        adapted = get_peft_model(network, LoraConfig(task_type="CAUSAL_LM", **config))
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in adapted.parameters():
                if parameter.requires_grad:
                    parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
        adapted.save_pretrained(self.folder / name)
        return self.read(name)

    def read(self, name):
        """The parent in a folder."""
        checkpoint = read_checkpoint(self.folder / name)
        return Parent(f"id of {name}", name, checkpoint, digest_tensors(checkpoint.tensors, jobs=1))

    def spoilt(self, name, change=None, **config):
        """A copy of an adapter with another config, or with tensors changed in place."""
        folder = self.folder / f"spoilt-{name}"
        shutil.copytree(self.folder / name, folder)
        path = folder / "adapter_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
        tensors = load_file(folder / "adapter_model.safetensors")
        if change:
            change(tensors)
        save_file(tensors, folder / "adapter_model.safetensors")
        return self.read(folder.name)

    def write(self, new, name="merged"):
        """Write what a merge made."""
        (self.folder / name).mkdir()
        new.write(self.folder / name, made_by="# Made\n", metadata={})
        return self.folder / name

    def in_peft(self, *names):
        """The network with adapters loaded by the real library; the first one is on."""
        model = PeftModel.from_pretrained(self.fresh(), self.folder / names[0], names[0])
        for name in names[1:]:
            model.load_adapter(self.folder / name, name)
        return model.eval()


def three_adapters(lab):
    return [
        lab.adapter("one", 1, r=3, lora_alpha=7),
        lab.adapter("two", 2, r=2, use_rslora=True, target_modules=["q_proj", "gate_proj"]),
        lab.adapter(
            "three", 3, r=4, lora_alpha=2, target_modules="all-linear",
            rank_pattern={"q_proj": 1}, alpha_pattern={"layers.1.mlp.gate_proj": 9},
        ),
    ]  # fmt: skip


def pinned(method, adapters, *, dtype=None, seed=0, **parameters):
    """A recipe of adapters; a list of values is one per adapter."""
    parts = [{} for _ in adapters]
    shared = {}
    for name, value in parameters.items():
        key = name.rstrip("_")
        if isinstance(value, list):
            for part, own in zip(parts, value, strict=True):
                part[key] = own
        else:
            shared[key] = value
    parts = tuple(Part(a.name, part) for a, part in zip(adapters, parts, strict=True))
    recipe = Recipe(method, parts, parameters=shared, out_dtype=dtype, seed=seed)
    return pin(recipe, ZERO, [a.id for a in adapters])


def run(method, adapters, base=None, *, rank=0, energy=0.0, jobs=1, **options):
    """Merge adapters, as `merge_adapters` does."""
    recipe = pinned(method, adapters, **options)
    return merge_adapters(recipe, adapters, base, rank=rank, energy=energy, jobs=jobs)


def dense(new):
    """What a new adapter adds, by tensor: float64."""
    found = {}
    for pair in new.pairs:
        product = pair.b.flatten(1).double() @ pair.a.flatten(1).double()
        turned = new.transposed or pair.embedding
        found[f"{pair.path}.weight"] = product.T if turned else product
    return found


def deltas(adapter, names):
    """What an adapter adds to each of some tensors, worked out by hand: float64."""
    config = adapter.checkpoint.adapter_config
    tensors = load_file(adapter.checkpoint.root / "adapter_model.safetensors")
    found = {}
    for name in names:
        at = "base_model.model." + name.removesuffix(".weight")
        if f"{at}.lora_A.weight" not in tensors:
            found[name] = None
            continue
        a, b = (tensors[f"{at}.lora_{side}.weight"].double() for side in "AB")
        keys = [k for k in config["alpha_pattern"] if k in name]
        alpha = config["alpha_pattern"][keys[0]] if keys else config["lora_alpha"]
        found[name] = b @ a * (alpha / (len(a) ** 0.5 if config["use_rslora"] else len(a)))
    return {
        name: torch.zeros(1, dtype=torch.float64) if d is None else d for name, d in found.items()
    }


def stacked(adapters, names):
    """Per tensor the dense deltas of all adapters, float32, zeros where one has none."""
    each = [deltas(adapter, names) for adapter in adapters]
    found = {}
    for name in names:
        shape = max((d[name].shape for d in each), key=lambda s: (len(s), s))
        found[name] = [d[name].expand(shape).float().contiguous() for d in each]
    return found


def close(found, expected, tolerance=1e-6):
    """Two tensors are the same, but for rounding."""
    torch.testing.assert_close(found.double(), expected.double(), rtol=tolerance, atol=tolerance)


def relative(found, expected):
    """‖found - expected‖ / ‖expected‖."""
    return float((found - expected).norm() / expected.norm().clamp(min=1e-30))


def sum_in_peft(lab, names, weights=None):
    """The network with the sum of what the real library's adapters change."""
    network = lab.fresh()
    plain = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    total = {name: tensor.double() for name, tensor in plain.items()}
    for name, weight in zip(names, weights or [1.0] * len(names), strict=True):
        for key, tensor in lab.in_peft(name).merge_and_unload().state_dict().items():
            total[key] = total[key] + weight * (tensor.double() - plain[key].double())
    network.load_state_dict(total)
    return network


N_PLAIN = 270
END = "<|end|>"
LINES = ["the cat sat on the mat and the dog sat on the log", "a cat and a dog sat"] * 4


def tokenizer(special):
    """A byte-level BPE with these special tokens behind its own."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=N_PLAIN, initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(LINES, trainer)
    assert made.get_vocab_size() == N_PLAIN
    made.add_special_tokens(special)
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token=END)

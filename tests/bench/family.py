"""Families of Llama-shaped checkpoints for the benches: a base, and children that training moved a little.

Every weight follows from size, member and tensor name alone. A member that is already in the folder is taken as it is,
so a folder made by another program serves too; children that lack are made from the base that lies there.
"""

import hashlib
import json
import math
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

BASE = "base"
CHILDREN = tuple(f"ft-{letter}" for letter in "abcdefgh")
SPREAD = 1e-4
"""Standard deviation of the first child's task vector; the n-th has n times as much."""

INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class Shape:
    """What decides the tensors of a family.

    Attributes:
        hidden: width of the residual stream.
        inner: width of the feed-forward layers.
        n_layers: how many layers.
        heads: query heads.
        key_heads: key and value heads.
        vocabulary: tokens.
        shard: most bytes of one file.
    """

    hidden: int
    inner: int
    n_layers: int
    heads: int
    key_heads: int
    vocabulary: int
    shard: int

    def tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Name and shape of every tensor, in the order of the network."""
        keys = self.hidden // self.heads * self.key_heads
        square, narrow = (self.hidden, self.hidden), (keys, self.hidden)
        yield "model.embed_tokens.weight", (self.vocabulary, self.hidden)
        for i in range(self.n_layers):
            attention, network = f"model.layers.{i}.self_attn", f"model.layers.{i}.mlp"
            for letter, shape in zip("qkvo", (square, narrow, narrow, square), strict=True):
                yield f"{attention}.{letter}_proj.weight", shape
            for side in ("gate", "up"):
                yield f"{network}.{side}_proj.weight", (self.inner, self.hidden)
            yield f"{network}.down_proj.weight", (self.hidden, self.inner)
            for place in ("input", "post_attention"):
                yield f"model.layers.{i}.{place}_layernorm.weight", (self.hidden,)
        yield "model.norm.weight", (self.hidden,)
        yield "lm_head.weight", (self.vocabulary, self.hidden)


SIZES = {
    "tiny": Shape(64, 160, 2, 4, 2, 512, 100_000),
    "0.25b": Shape(1152, 3072, 12, 18, 6, 32_768, 200_000_000),
    "1b": Shape(2048, 5632, 22, 32, 4, 32_000, 800_000_000),
}


def members(folder: Path, size: str, n_children: int) -> list[Path]:
    """The base and its first children, in ``folder/size``; those that are not there are made."""
    place = folder / size
    for name in (BASE, *CHILDREN[:n_children]):
        if (place / name / "config.json").is_file():
            continue
        part = place / f".{name}.part"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        if name == BASE:
            _make_base(part, size)
        else:
            _make_child(part, size, place / BASE, name)
        part.rename(place / name)
    return [place / name for name in (BASE, *CHILDREN[:n_children])]


def weights(member: Path) -> list[Path]:
    """The files that hold a member's tensors."""
    return sorted(member.glob("*.safetensors"))


def _noise(shape: tuple[int, ...], spread: float, *key: str) -> torch.Tensor:
    """Normal numbers that follow from ``key``."""
    digest = hashlib.sha256("/".join(key).encode()).digest()
    random = torch.Generator().manual_seed(int.from_bytes(digest[:6], "little"))
    return torch.empty(shape).normal_(0.0, spread, generator=random)


def _make_base(folder: Path, size: str) -> None:
    """Random weights, as a network has before its first step."""
    shape = SIZES[size]
    shards = list(_shards(shape))
    where: dict[str, str] = {}
    for i, shard in enumerate(shards, 1):
        file = f"model-{i:05}-of-{len(shards):05}.safetensors"
        tensors = {
            name: (torch.ones(s) if len(s) == 1 else _noise(s, 0.02, size, BASE, name)).bfloat16()
            for name, s in shard
        }
        save_file(tensors, folder / file, metadata={"format": "pt"})
        where |= dict.fromkeys(tensors, file)
    total = sum(2 * math.prod(s) for _, s in shape.tensors())
    _write(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": where})
    _write(folder / "config.json", _config(shape))
    _write_tokenizer(folder, shape.vocabulary)


def _make_child(folder: Path, size: str, base: Path, name: str) -> None:
    """The stored base plus a dense random task vector, in the base's own files."""
    spread = SPREAD * (1 + CHILDREN.index(name))
    for file in base.iterdir():
        if file.suffix != ".safetensors":
            shutil.copyfile(file, folder / file.name)
            continue
        tensors = {
            key: (t.float() + _noise(tuple(t.shape), spread, size, name, key)).to(t.dtype)
            for key, t in load_file(file).items()
        }
        save_file(tensors, folder / file.name, metadata={"format": "pt"})


def _shards(shape: Shape) -> Iterable[list[tuple[str, tuple[int, ...]]]]:
    """The tensors in groups of at most a shard's bytes."""
    group: list[tuple[str, tuple[int, ...]]] = []
    filled = 0
    for name, one in shape.tensors():
        n_bytes = 2 * math.prod(one)
        if group and filled + n_bytes > shape.shard:
            yield group
            group, filled = [], 0
        group.append((name, one))
        filled += n_bytes
    yield group


def _config(shape: Shape) -> dict[str, object]:
    """What transformers needs to know of the network."""
    return {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "torch_dtype": "bfloat16",
        "hidden_size": shape.hidden, "intermediate_size": shape.inner,
        "num_hidden_layers": shape.n_layers, "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.key_heads, "vocab_size": shape.vocabulary,
        "max_position_embeddings": 4096, "rms_norm_eps": 1e-6, "hidden_act": "silu",
        "tie_word_embeddings": False, "bos_token_id": 1, "eos_token_id": 2,
    }  # fmt: skip


def _write_tokenizer(folder: Path, n: int) -> None:
    """A tokenizer of ``n`` made-up words."""
    special = ("<unk>", "<s>", "</s>")
    vocabulary = {word: i for i, word in enumerate((*special, *(f"w{i}" for i in range(3, n))))}
    added = [
        {
            "id": i, "content": word, "special": True, "normalized": False,
            "single_word": False, "lstrip": False, "rstrip": False,
        }
        for i, word in enumerate(special)
    ]  # fmt: skip
    model = {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>"}
    _write(
        folder / "tokenizer.json",
        {
            "version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
            "normalizer": None, "pre_tokenizer": {"type": "WhitespaceSplit"},
            "post_processor": None, "decoder": None, "model": model,
        },
    )  # fmt: skip
    named = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    _write(
        folder / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", **named}
    )


def _write(file: Path, value: object) -> None:
    """One JSON document."""
    file.write_text(json.dumps(value), encoding="utf-8")

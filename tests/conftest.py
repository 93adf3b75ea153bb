"""What all tests share: a small family of checkpoints, a catalog of one's own, and quiet surroundings.

The family is made with the real `safetensors` library, once per session, and is read-only: a test that wants to
change a checkpoint, or to write beside it, copies it into its own ``tmp_path`` first.
"""

import gc
import json
import shutil
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import torch
from catalogs.keep import unpacked
from hub.server import LocalHub
from safetensors.torch import save_file

from registry import catalog_file
from registry.catalog import Catalog

hypothesis.settings.register_profile("house", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("house")

# Who is started in the background by a shell ignores Ctrl-C, and so would all that tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

LONGEST = (
    "test_torture.py", "test_list.py", "test_docs.py", "test_demo.py", "test_bench.py", "test_resume.py", "test_doctor.py", "test_mergekit.py",
)  # fmt: skip
"""Files of a minute and more: they come first, for a process that works on one of them at the end works alone."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files before all others, in that order."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))


def pytest_collection_finish() -> None:
    """Spare Python the search for garbage among all that was imported, again and again."""
    gc.collect()
    gc.freeze()


REALLY_FILL = catalog_file.fill


@pytest.fixture(scope="session", autouse=True)
def _catalogs_are_made_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """New catalogs are copies of the first one that this process made: that takes a third of a second, for thousands."""
    made = tmp_path_factory.mktemp("made") / "catalog.duckdb"

    def copy(new: Path, path: Path) -> None:
        if not made.exists():
            REALLY_FILL(made, path)
        shutil.copyfile(made, new)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalog_file, "fill", copy)
        yield


@pytest.fixture
def _catalogs_are_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for users, for tests of how they are made."""
    monkeypatch.setattr(catalog_file, "fill", REALLY_FILL)


VOCABULARY, HIDDEN, INNER, LAYERS = 48, 16, 24, 2

Tensors = dict[str, torch.Tensor]

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": HIDDEN,
    "intermediate_size": INNER,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "vocab_size": VOCABULARY,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}

TOKENIZER: dict[str, Any] = {
    "version": "1.0",
    "added_tokens": [],
    "model": {"type": "BPE", "vocab": {f"t{i}": i for i in range(VOCABULARY)}, "merges": []},
}


def shapes(vocabulary: int = VOCABULARY) -> dict[str, tuple[int, ...]]:
    """The tensors of a tiny decoder, in the order in which they are stored."""
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocabulary, HIDDEN)}
    for layer in range(LAYERS):
        at = f"model.layers.{layer}"
        found |= {
            f"{at}.self_attn.q_proj.weight": (HIDDEN, HIDDEN),
            f"{at}.self_attn.k_proj.weight": (HIDDEN // 2, HIDDEN),
            f"{at}.self_attn.v_proj.weight": (HIDDEN // 2, HIDDEN),
            f"{at}.self_attn.o_proj.weight": (HIDDEN, HIDDEN),
            f"{at}.mlp.gate_proj.weight": (INNER, HIDDEN),
            f"{at}.mlp.up_proj.weight": (INNER, HIDDEN),
            f"{at}.mlp.down_proj.weight": (HIDDEN, INNER),
            f"{at}.input_layernorm.weight": (HIDDEN,),
        }
    return found | {"model.norm.weight": (HIDDEN,), "lm_head.weight": (vocabulary, HIDDEN)}


def weights(seed: int, scale: float = 0.05, vocabulary: int = VOCABULARY) -> Tensors:
    """Gaussian weights in float32; norms lie around 1."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: (1.0 if "norm" in name else 0.0) + scale * torch.randn(shape, generator=generator)
        for name, shape in shapes(vocabulary).items()
    }


def moved(base: Tensors, seed: int, scale: float) -> Tensors:
    """``base`` plus a Gaussian task vector of standard deviation ``scale``, in the dtype of ``base``."""
    noise = weights(seed, 1.0)
    return {
        name: (tensor.float() + scale * (noise[name] - float("norm" in name))).to(tensor.dtype)
        for name, tensor in base.items()
    }


def save_model(
    folder: Path,
    tensors: Tensors,
    *,
    config: Mapping[str, Any] | None = None,
    card: str = "",
    shards: int = 1,
    tokenizer: bool = True,
) -> Path:
    """Write a checkpoint as `save_pretrained` lays it out; ``config`` changes `CONFIG`, ``card`` is YAML."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({**CONFIG, **(config or {})}), encoding="utf-8")
    if tokenizer:
        (folder / "tokenizer.json").write_text(json.dumps(TOKENIZER), encoding="utf-8")
    if card:
        (folder / "README.md").write_text(f"---\n{card}\n---\n# A model\n", encoding="utf-8")
    if shards == 1:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return folder
    weight_map: dict[str, str] = {}
    for i in range(shards):
        file = f"model-{i + 1:05}-of-{shards:05}.safetensors"
        part = {name: tensors[name] for name in list(tensors)[i::shards]}
        save_file(part, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, file)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    return folder


def save_adapter(folder: Path, base: str, *, seed: int = 0, rank: int = 2) -> Path:
    """Write a LoRA of all query projections as PEFT lays it out."""
    folder.mkdir(parents=True)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": 2 * rank,
        "target_modules": ["q_proj"],
        "bias": "none",
        "fan_in_fan_out": False,
    }
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for layer in range(LAYERS):
        at = f"base_model.model.model.layers.{layer}.self_attn.q_proj"
        tensors[f"{at}.lora_A.weight"] = 0.1 * torch.randn((rank, HIDDEN), generator=generator)
        tensors[f"{at}.lora_B.weight"] = 0.1 * torch.randn((HIDDEN, rank), generator=generator)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    return folder


@dataclass(frozen=True)
class Family:
    """Checkpoints on disk, all below ``root``, and their weights as stored.

    Attributes:
        root: the folder of them all.
        original: float32 weights of which ``base`` is the bfloat16 cast.
        base: bfloat16; says nothing about its descent.
        sharded: the weights of ``base`` in three shards.
        chat: ``base`` plus a task vector of scale 0.001; its card names ``base``.
        math: ``base`` plus a task vector of scale 0.002; its config names ``base``.
        cpt: ``base`` plus a task vector of scale 0.01; its card names ``base``.
        stranger: the shapes of ``base``, nothing else in common.
        adapter: a LoRA of ``base``.
        weights: name of one of these folders → its tensors, as stored.
        deltas: "chat", "math", "cpt" → float32 task vectors against ``base``, as stored.
    """

    root: Path
    original: Path
    base: Path
    sharded: Path
    chat: Path
    math: Path
    cpt: Path
    stranger: Path
    adapter: Path
    weights: Mapping[str, Tensors]
    deltas: Mapping[str, Tensors]


@pytest.fixture(scope="session")
def family(tmp_path_factory: pytest.TempPathFactory) -> Family:
    """The family, made once; read-only."""
    root = tmp_path_factory.mktemp("family")
    original = weights(1)
    base = {name: t.to(torch.bfloat16) for name, t in original.items()}
    made = {
        "original": original,
        "base": base,
        "chat": moved(base, 2, 0.001),
        "math": moved(base, 3, 0.002),
        "cpt": moved(base, 4, 0.01),
        "stranger": {name: t.to(torch.bfloat16) for name, t in weights(5).items()},
    }
    says_base = "base_model: base\nbase_model_relation: finetune"
    return Family(
        root=root,
        original=save_model(
            root / "original",
            original,
            config={"torch_dtype": "float32"},
            card="license: apache-2.0",
        ),
        base=save_model(root / "base", base, card="license: apache-2.0"),
        sharded=save_model(root / "sharded", base, shards=3),
        chat=save_model(root / "chat", made["chat"], card=f"license: apache-2.0\n{says_base}"),
        math=save_model(
            root / "math",
            made["math"],
            config={"_name_or_path": "base"},
            card="license: apache-2.0",
        ),
        cpt=save_model(root / "cpt", made["cpt"], card=f"license: apache-2.0\n{says_base}"),
        stranger=save_model(root / "stranger", made["stranger"], card="license: mit"),
        adapter=save_adapter(root / "adapter", "base"),
        weights=made,
        deltas={
            child: {name: t.float() - base[name].float() for name, t in made[child].items()}
            for child in ("chat", "math", "cpt")
        },
    )


@pytest.fixture(scope="session")
def _empty_catalog(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The file of a catalog without any model; making one takes a fifth of a second."""
    made = Catalog(tmp_path_factory.mktemp("empty") / "catalog.duckdb")
    with made.write():
        pass
    return made.path.read_bytes()


@pytest.fixture(scope="session")
def _rich_catalog(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The file of a catalog of today with rows in every table; the files of its models are nowhere."""
    file = unpacked(9, tmp_path_factory.mktemp("rich") / "catalog.duckdb")
    with Catalog(file).write():
        pass
    return file.read_bytes()


@pytest.fixture
def catalog(tmp_path: Path, _empty_catalog: bytes) -> Catalog:
    """An empty catalog of one's own."""
    path = tmp_path / "catalog" / "catalog.duckdb"
    path.parent.mkdir()
    path.write_bytes(_empty_catalog)
    return Catalog(path, wait_seconds=10.0)


@pytest.fixture(autouse=True, scope="session")
def _quiet_surroundings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the tests away from the user's own catalog and cache."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("REG_CATALOG", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
            patch.delenv(name, raising=False)
        patch.setenv("HF_HOME", str(home / "hf"))
        patch.setenv("XDG_DATA_HOME", str(home / "data"))
        patch.setitem(catalog_file.CONFIG, "threads", 1)  # of DuckDB; the cores have tests to do
        yield


@pytest.fixture
def hub(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LocalHub]:
    """A Hub of one's own on the loopback, empty, asked by this process and by those that it starts.

    Nobody has a token unless the test gives one; the client's cache is empty. `huggingface_hub` reads the environment when
    it is imported, so what it has read is changed too, all but the endpoint: code has to pass that.
    """
    from huggingface_hub import constants  # noqa: PLC0415 - few tests need it

    root = tmp_path_factory.mktemp("hub")
    places = {
        "HF_HOME": root / "home",
        "HF_HUB_CACHE": root / "home" / "hub",
        "HF_TOKEN_PATH": root / "home" / "token",
    }
    switches = {
        "HF_HUB_DISABLE_XET": True,
        "HF_HUB_DISABLE_TELEMETRY": True,
        "HF_HUB_OFFLINE": False,
    }
    with LocalHub(root / "objects") as started:
        for name, place in places.items():
            monkeypatch.setenv(name, str(place))
            monkeypatch.setattr(constants, name, str(place))
        for name, on in switches.items():
            monkeypatch.setenv(name, str(int(on)))
            monkeypatch.setattr(constants, name, on)
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HTTP_PROXY", "http_proxy"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HF_ENDPOINT", started.endpoint)
        yield started

"""LoRA adapters written as PEFT stores them: a config, one file of tensors and a card."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from engine.lora import PREFIX
from engine.reader import DTYPES
from engine.writer import OutputTensor, Shard, Writer
from registry.documents import dump_yaml

WEIGHTS = "adapter_model.safetensors"

_HUB_ID = re.compile(r"(?=.{1,96}$)[A-Za-z0-9][\w.-]*(?:/[A-Za-z0-9][\w.-]*)?", re.ASCII)
_CODES = {dtype: code for code, dtype in DTYPES.items()}


@dataclass(frozen=True)
class Pair:
    """The factors of one module, scale 1: its weight changes by B A.

    Attributes:
        path: of the module in its network.
        a: (r, in, …) float32; of an embedding (r, tokens).
        b: (out, r, …) float32; of an embedding (width, r).
        embedding: whether the module is an embedding.
    """

    path: str
    a: torch.Tensor
    b: torch.Tensor
    embedding: bool = False

    @property
    def rank(self) -> int:
        """Number of rows of A."""
        return len(self.a)

    @property
    def tensors(self) -> dict[str, torch.Tensor]:
        """Its tensors by their names in the file."""
        at = f"{PREFIX}{self.path}."
        if self.embedding:
            return {at + "lora_embedding_A": self.a, at + "lora_embedding_B": self.b}
        return {at + "lora_A.weight": self.a, at + "lora_B.weight": self.b}


@dataclass(frozen=True)
class NewAdapter:
    """An adapter that is not yet written.

    Attributes:
        pairs: one per adapted module, at least one.
        base: name of the model it belongs to.
        task: PEFT's word for what the model does; None: any.
        transposed: whether the network stores weights (in, out).
        whole: tensor name → a tensor that stands in place of the base's, of any dtype.
        modules_to_save: modules that ``whole`` replaces.
        biases: whether ``whole`` holds biases of other modules.
    """

    pairs: Sequence[Pair]
    base: str
    task: str | None = None
    transposed: bool = False
    whole: Mapping[str, torch.Tensor] = field(default_factory=dict)
    modules_to_save: Sequence[str] = ()
    biases: bool = False

    @property
    def config(self) -> dict[str, Any]:
        """What `adapter_config.json` says: the commonest rank, and the others by module."""
        ranks = Counter(pair.rank for pair in self.pairs)
        rank = max(ranks, key=lambda r: (ranks[r], r))
        others = {re.escape(p.path): p.rank for p in self.pairs if p.rank != rank}
        return {
            "alpha_pattern": others,
            "base_model_name_or_path": self.base,
            "bias": "all" if self.biases else "none",
            "fan_in_fan_out": self.transposed,
            "inference_mode": True,
            "init_lora_weights": True,
            "lora_alpha": rank,
            "lora_dropout": 0.0,
            "modules_to_save": sorted(self.modules_to_save) or None,
            "peft_type": "LORA",
            "r": rank,
            "rank_pattern": others,
            "target_modules": sorted(pair.path for pair in self.pairs),
            "task_type": self.task,
            "use_dora": False,
            "use_rslora": False,
        }

    @property
    def tensors(self) -> dict[str, torch.Tensor]:
        """Every tensor by its name in the file, sorted."""
        adapted = {pair.path for pair in self.pairs}
        found = {name: t for pair in self.pairs for name, t in pair.tensors.items()}
        for name, tensor in self.whole.items():
            module, _, part = name.rpartition(".")
            inside = "base_layer." if module in adapted else ""
            found[f"{PREFIX}{module}.{inside}{part}" if module else PREFIX + name] = tensor
        return dict(sorted(found.items()))

    @property
    def n_bytes(self) -> int:
        """Bytes of its tensors."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    def write(
        self,
        folder: Path,
        *,
        made_by: str,
        metadata: Mapping[str, str],
        license_: str | None = None,
    ) -> None:
        """Write config, tensors and card.

        Args:
            folder: exists and holds none of them.
            made_by: body of the card, Markdown.
            metadata: of the file of tensors.
            license_: that the card states.

        Raises:
            NotEnoughDisk, RunFailed: as `engine.writer.Writer`.
        """
        text = json.dumps(self.config, indent=2) + "\n"
        (folder / "adapter_config.json").write_text(text, encoding="utf-8")
        tensors = self.tensors
        outputs = tuple(
            OutputTensor(name, _CODES[t.dtype], tuple(t.shape), t.nbytes)
            for name, t in sorted(tensors.items(), key=lambda item: -item[1].itemsize)
        )
        with Writer(folder, [Shard(WEIGHTS, outputs)], {"format": "pt", **metadata}) as writer:
            for name, tensor in tensors.items():
                data = tensor.contiguous().reshape(-1).view(torch.uint8)
                writer.write(name, 0, data.numpy().data)
            writer.finish()
        front: dict[str, Any] = {"library_name": "peft", "tags": ["lora", "homolog"]}
        if _HUB_ID.fullmatch(self.base):
            front = {"base_model": self.base, "base_model_relation": "adapter", **front}
        if license_ is not None:
            front["license"] = license_
        card = f"---\n{dump_yaml(front)}---\n\n{made_by}"
        (folder / "README.md").write_text(card, encoding="utf-8")

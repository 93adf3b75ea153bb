"""A commit: what a repository held at one moment, and what it said of itself."""

import hashlib
import json
import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from math import prod
from typing import Any

import yaml
from hub.objects import Content, Objects, git_oid

FRONT_MATTER = re.compile(r"\A---[ \t]*\r?\n(.*?)(?:\r?\n)?---[ \t]*(?:\r?\n|\Z)", re.DOTALL)

LARGEST_HEADER = 100_000_000
"""Bytes of a safetensors header that are read at most."""


@dataclass(frozen=True)
class Entry:
    """One file of a commit.

    Attributes:
        path: from the repository's root, with slashes.
        content: its bytes.
        lfs: whether git holds only a pointer to them.
    """

    path: str
    content: Content
    lfs: bool

    @property
    def pointer(self) -> bytes:
        """What git holds of a large file."""
        return b"version https://git-lfs.github.com/spec/v1\noid sha256:%b\nsize %d\n" % (
            self.content.sha256.encode(),
            self.content.size,
        )

    @cached_property
    def oid(self) -> str:
        """Of the git blob."""
        return git_oid(self.pointer) if self.lfs else self.content.git_oid

    @property
    def etag(self) -> str:
        """What tells this content from another, as downloads quote it."""
        return self.content.sha256 if self.lfs else self.content.git_oid


@dataclass(frozen=True)
class Commit:
    """What a repository held at one moment.

    Attributes:
        sha: 40 hexadecimal digits, over the parent, the title and all entries.
        parent: sha of the commit before; "" of the first.
        entries: path → entry, sorted by path.
        title: first line of the message.
        description: the rest of it.
        date: when it was made.
        objects: where the contents lie.
    """

    sha: str
    parent: str
    entries: Mapping[str, Entry]
    title: str
    description: str
    date: datetime
    objects: Objects

    @classmethod
    def make(
        cls,
        objects: Objects,
        entries: Iterable[Entry],
        *,
        parent: str,
        root: str,
        title: str,
        description: str,
        date: datetime,
    ) -> "Commit":
        """A commit whose name follows from what it holds and from what came before.

        Args:
            objects: where the contents lie.
            entries: in any order.
            parent: sha of the commit before, "" of the first.
            root: told of in the first commit's sha, so that repositories with equal beginnings differ.
            title: first line of the message.
            description: the rest of it.
            date: when it is made; not part of the sha.
        """
        found = {entry.path: entry for entry in sorted(entries, key=lambda e: e.path)}
        lines = [parent or root, title, description, *(f"{e.oid} {p}" for p, e in found.items())]
        sha = hashlib.sha1(
            "\0".join(lines).encode("utf-8", "surrogatepass"), usedforsecurity=False
        ).hexdigest()
        return cls(sha, parent, found, title, description, date, objects)

    def read(self, path: str) -> bytes:
        """The bytes of a file; none when there is no such file."""
        entry = self.entries.get(path)
        return b"" if entry is None else self.objects.read(entry.content.sha256)

    @cached_property
    def card(self) -> dict[str, Any]:
        """The front matter of README.md; empty without a readable one."""
        found = FRONT_MATTER.match(self.read("README.md").decode("utf-8", "replace"))
        if found is None:
            return {}
        try:
            card = yaml.safe_load(found[1])
        except yaml.YAMLError:
            return {}
        return card if isinstance(card, dict) else {}

    @cached_property
    def config(self) -> dict[str, Any]:
        """The part of config.json that the Hub shows."""
        shown = ("architectures", "model_type", "quantization_config")
        config = _object(self.read("config.json"))
        return {key: config[key] for key in shown if key in config}

    @cached_property
    def base_models(self) -> list[str]:
        """As the card names them."""
        named = self.card.get("base_model") or self._adapter_base or []
        return [str(name) for name in (named if isinstance(named, list) else [named])]

    @cached_property
    def _adapter_base(self) -> str:
        named = _object(self.read("adapter_config.json")).get("base_model_name_or_path")
        return named if isinstance(named, str) else ""

    @cached_property
    def relation(self) -> str:
        """To the base models, as the card says or as the files show."""
        said = self.card.get("base_model_relation")
        if isinstance(said, str):
            return said
        if "adapter_config.json" in self.entries:
            return "adapter"
        if any(path.endswith(".gguf") for path in self.entries) or (
            "quantization_config" in self.config
        ):
            return "quantized"
        return "merge" if len(self.base_models) > 1 else "finetune"

    @cached_property
    def library(self) -> str | None:
        """What loads the model, as the card says or as the files show."""
        said = self.card.get("library_name")
        if said is not None:
            return str(said)
        if "adapter_config.json" in self.entries:
            return "peft"
        return "transformers" if "model_type" in self.config else None

    @cached_property
    def tags(self) -> list[str]:
        """What lists filter by, sorted, without doubles."""
        said = self.card.get("tags") or []
        tags = [str(tag) for tag in (said if isinstance(said, list) else [said])]
        seen = (self.library, self.config.get("model_type"), self.card.get("pipeline_tag"))
        tags += [str(tag) for tag in seen if tag]
        if "license" in self.card:
            tags.append(f"license:{self.card['license']}")
        for base in self.base_models:
            tags += [f"base_model:{base}", f"base_model:{self.relation}:{base}"]
        kinds = ("safetensors", "gguf")
        tags += [k for k in kinds if any(path.endswith(f".{k}") for path in self.entries)]
        return sorted({*tags, "region:us"})

    @cached_property
    def n_parameters(self) -> dict[str, int]:
        """Numbers of entries by dtype, over all safetensors files at the root that can be read."""
        counts: dict[str, int] = {}
        for path in self.entries:
            if path.endswith(".safetensors") and "/" not in path:
                for name, tensor in (self.header(path) or {}).items():
                    if name != "__metadata__" and isinstance(tensor, dict):
                        dtype, shape = str(tensor.get("dtype")), tensor.get("shape")
                        if isinstance(shape, list) and all(isinstance(n, int) for n in shape):
                            counts[dtype] = counts.get(dtype, 0) + prod(shape)
        return counts

    def index(self, path: str) -> dict[str, Any]:
        """A file of JSON; empty when it cannot be read."""
        return _object(self.read(path))

    def header(self, path: str) -> dict[str, Any] | None:
        """The header of a safetensors file; None when it cannot be read."""
        entry = self.entries.get(path)
        if entry is None or entry.content.size < 8:
            return None
        (size,) = struct.unpack("<Q", self.objects.read(entry.content.sha256, 0, 8))
        if size > min(LARGEST_HEADER, entry.content.size - 8):
            return None
        return _object(self.objects.read(entry.content.sha256, 8, size)) or None


def _object(text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}

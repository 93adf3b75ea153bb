"""The zoo's three architectures: how one is made, fed and named on disk.

Everywhere else in the zoo a model is its `State`: the tensors by the names they have on disk, in float32.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM, ViTConfig, ViTForImageClassification
from zoo_lineage.lessons import LENGTH, VOCABULARY, Batch

State = dict[str, torch.Tensor]
"""Name on disk → float32 tensor."""


@dataclass(frozen=True)
class Shape:
    """An architecture and its sizes.

    Attributes:
        architecture: "llama", "vit" or "mlp".
        width: of the residual stream; of the hidden layers of an MLP.
        inner: of the feed-forward layers; unused by an MLP.
        depth: layers; those of an MLP between hidden neurons.
        heads: attention heads.
        kv_heads: key and value heads; llama only.
        vocabulary: rows of the embedding; llama only.
        tied: whether the head is the embedding; llama only.
    """

    architecture: str
    width: int = 64
    inner: int = 160
    depth: int = 4
    heads: int = 4
    kv_heads: int = 2
    vocabulary: int = VOCABULARY
    tied: bool = False

    @property
    def layer(self) -> str:
        """What the tensors of a layer begin with, to be formatted with its number."""
        return {
            "llama": "model.layers.{}.",
            "vit": "vit.encoder.layer.{}.",
            "mlp": "layers.{}.",
        }[self.architecture]


class Perceptron(nn.Module):
    """Pixels to classes by ReLU layers: one in, ``depth`` square ones, one out."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        sizes = [64, *[width] * (depth + 1), 10]
        pairs = pairwise(sizes)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairs)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """(n, 8, 8) → (n, 10)."""
        hidden = pixels.flatten(1)
        for layer in self.layers[:-1]:
            hidden = functional.relu(layer(hidden))
        return self.layers[-1](hidden)


def config(shape: Shape) -> dict[str, Any]:
    """What config.json says: the sizes, and nothing of where the model comes from."""
    if shape.architecture == "mlp":
        return {"model_type": "mlp", "hidden_size": shape.width, "num_hidden_layers": shape.depth}
    return _settings(shape).to_dict()


def new_model(shape: Shape) -> nn.Module:
    """A model with random weights, drawn from torch's global generator."""
    if shape.architecture == "mlp":
        return Perceptron(shape.width, shape.depth)
    if shape.architecture == "vit":
        return ViTForImageClassification(_settings(shape))
    return LlamaForCausalLM(_settings(shape))


def _settings(shape: Shape) -> LlamaConfig | ViTConfig:
    if shape.architecture == "vit":
        return ViTConfig(
            hidden_size=shape.width,
            intermediate_size=shape.inner,
            num_hidden_layers=shape.depth,
            num_attention_heads=shape.heads,
            image_size=8,
            patch_size=2,
            num_channels=1,
            num_labels=10,
            initializer_range=0.05,
            architectures=["ViTForImageClassification"],
        )
    return LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.depth,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=LENGTH,
        tie_word_embeddings=shape.tied,
        initializer_range=0.05,
        architectures=["LlamaForCausalLM"],
    )


def logits(model: Callable[..., Any], shape: Shape, batch: Batch) -> torch.Tensor:
    """(n, classes), or for text (n, length, vocabulary)."""
    if shape.architecture == "llama":
        return model(input_ids=batch[0], use_cache=False).logits
    if shape.architecture == "vit":
        return model(pixel_values=batch[0][:, None]).logits
    return model(batch[0])


def loss(given: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Mean cross entropy in nats; of the next character where the labels are text."""
    labels = batch[1]
    if labels.dim() == 2:
        given, labels = given[:, :-1].flatten(0, 1), labels[:, 1:].flatten()
    return functional.cross_entropy(given, labels)


_NAMES = (
    ("attention.q_proj", "attention.attention.query"),
    ("attention.k_proj", "attention.attention.key"),
    ("attention.v_proj", "attention.attention.value"),
    ("attention.o_proj", "attention.output.dense"),
    ("mlp.fc1", "intermediate.dense"),
    ("mlp.fc2", "output.dense"),
)
"""What ViT calls its layers in memory since transformers 5, and on disk as ever."""


def disk_name(name: str) -> str:
    """The name on disk of a parameter in memory."""
    if not name.startswith("vit.layers."):
        return name
    name = re.sub(r"^vit\.layers\.", "vit.encoder.layer.", name)
    for live, stored in _NAMES:
        name = name.replace(f".{live}.", f".{stored}.")
    return name


def state_of(model: nn.Module) -> State:
    """The learned tensors by their names on disk; a tied head appears once, as the embedding."""
    return {disk_name(name): p.detach().clone() for name, p in model.named_parameters()}


@torch.no_grad()
def model_of(shape: Shape, state: State) -> nn.Module:
    """A model with the weights of a state, in float32."""
    model = new_model(shape)
    for name, parameter in model.named_parameters():
        parameter.copy_(state[disk_name(name)])
    return model

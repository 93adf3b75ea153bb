"""Symmetries: the units of a network that may change places without changing what it computes.

Neurons of an MLP: rows of what makes them, columns of what reads them. Heads: of one group of keys and values, the
queries that share it move along; within a group query heads may change places, and within a head the dimensions of
values. Rotary embeddings turn pairs of dimensions of queries and keys by angles of their own, so those stay where
they are; without rotary embeddings they may change places too. The residual stream: every tensor that reads or
writes it, arXiv:2209.04836 section 3.

Nothing is moved whose layout is not known for certain: heads whose number no config tells, heads with a bias for
their position, modules with tensors of unknown meaning.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from registry.errors import NotMergeable
from registry.tensor_name import CONV1D_MODELS, EMBEDDING, HEAD

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Span:
    """Where the units of a group are along one axis of a tensor: unit u at [start + u · block, start + (u + 1) · block).

    Attributes:
        tensor: its name.
        axis: of it.
        start: of the first unit.
        block: entries per unit.
        makes: whether these entries make the units; else they read them.
    """

    tensor: str
    axis: int
    start: int
    block: int
    makes: bool


@dataclass(frozen=True)
class Inner:
    """Units within each unit of a group.

    Attributes:
        n: units, in each outer unit.
        places: (number of the outer group's span, start within a unit of it, entries per inner unit).
    """

    n: int
    places: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True)
class Group:
    """Units that may change places.

    Attributes:
        name: of the module.
        n: units.
        spans: all that moves.
        inner: groups within each unit, to be brought into order one after the other.
    """

    name: str
    n: int
    spans: tuple[Span, ...]
    inner: tuple[Inner, ...] = ()


@dataclass
class _Network:
    """What is known of a network."""

    config: Mapping[str, Any]
    shapes: Shapes
    found: list[Group] = field(default_factory=list)
    stream: list[Span] = field(default_factory=list)

    @property
    def transposed(self) -> bool:
        """Whether projections are stored (in, out)."""
        return self.config.get("model_type") in CONV1D_MODELS

    def spans(self, path: str, axis: int, start: int, block: int) -> list[Span]:
        """Outputs (``axis`` 0) or inputs (1) of a projection; its bias belongs to the outputs."""
        weight, bias = f"{path}.weight", f"{path}.bias"
        stored = 1 - axis if self.transposed else axis
        found = [Span(weight, stored, start, block, makes=axis == 0)]
        if axis == 0 and bias in self.shapes:
            found.append(Span(bias, 0, start, block, makes=True))
        return found

    def size(self, path: str, axis: int) -> int:
        """Number of outputs (``axis`` 0) or inputs (1) of a projection; 0 where there is none."""
        shape = self.shapes.get(f"{path}.weight", ())
        if len(shape) != 2:  # noqa: PLR2004
            return 0
        return shape[1 - axis if self.transposed else axis]


def groups(config: Mapping[str, Any], shapes: Shapes, *, residual: bool = False) -> list[Group]:
    """The groups of units of a network, in the order of their names; the residual stream comes first.

    Args:
        config: of the model.
        shapes: of its tensors.
        residual: also the residual stream, which two models share unless they were trained from different seeds.

    Raises:
        NotMergeable: no unit is known, or with ``residual`` a tensor of which it is not known whether it reads or
            writes the residual stream.
    """
    network = _Network(config, shapes)
    for name in sorted(shapes):
        _find_mlp(network, name)
        _find_attention(network, name)
    if residual:
        network.found.insert(0, _residual(network))
    if not network.found:
        kind = config.get("model_type", "unknown")
        message = (
            f"no neurons or heads that may change places are known in a model of type {kind!r:.80}"
        )
        raise NotMergeable(message, hint="Llama-, BERT- and GPT-2-like blocks are known")
    return network.found


_MLPS = (
    ("down_proj", ("gate_proj", "up_proj")),
    ("down_proj", ("gate_up_proj",)),
    ("down_proj", ("up_proj",)),
    ("w2", ("w1", "w3")),
    ("fc2", ("fc1",)),
    ("lin2", ("lin1",)),
    ("fc_out", ("fc_in",)),
    ("c_proj", ("c_fc",)),
    ("dense_4h_to_h", ("dense_h_to_4h",)),
    ("output.dense", ("intermediate.dense",)),
)
"""What reads the neurons, what makes them."""

_SAME_PLACE = re.compile(r"(?:mlp|ffn|ff|feed_forward|experts\.[0-9]+)\.$")


def _find_mlp(network: _Network, name: str) -> None:
    """Add the neurons that tensor ``name`` reads."""
    for out, makers in _MLPS:
        prefix = _prefix(name, out)
        if prefix is None or not all(network.size(prefix + made, 0) for made in makers):
            continue
        known = {f"{prefix}{path}.{part}" for path in (out, *makers) for part in ("weight", "bias")}
        own = {n for n in network.shapes if n.startswith(prefix)}
        n = network.size(prefix + out, 1)
        halves = network.size(prefix + makers[0], 0) // n if n else 0
        fused = makers == ("gate_up_proj",)
        fits = halves == (2 if fused else 1)
        if not fits or (_SAME_PLACE.search(prefix) and own - known):
            return
        spans = network.spans(prefix + out, 1, 0, 1)
        network.stream += network.spans(prefix + out, 0, 0, 1)
        for made in makers:
            for half in range(halves):
                spans += network.spans(prefix + made, 0, half * n, 1)
            network.stream += network.spans(prefix + made, 1, 0, 1)
        network.found.append(Group(prefix + "neurons", n, tuple(spans)))
        return


_ATTENTIONS = (
    ("o_proj", "q_proj", "k_proj", "v_proj"),
    ("out_proj", "q_proj", "k_proj", "v_proj"),
    ("out_lin", "q_lin", "k_lin", "v_lin"),
    ("output.dense", "self.query", "self.key", "self.value"),
    ("output.dense", "attention.query", "attention.key", "attention.value"),
    ("o_proj", "qkv_proj", "qkv_proj", "qkv_proj"),
    ("c_proj", "c_attn", "c_attn", "c_attn"),
)
"""What reads the heads; what makes queries, keys and values. One name three times: one after the other in one tensor."""

_HEAD_NORMS = ("q_norm.weight", "k_norm.weight")
_BUFFERS = re.compile(r"(?:inv_freq|masked_bias|(?:^|\.)attn\.bias)$")


def _find_attention(network: _Network, name: str) -> None:
    """Add the heads that tensor ``name`` reads."""
    for out, *makers in _ATTENTIONS:
        prefix = _prefix(name, out)
        if prefix is None or not all(network.size(prefix + made, 0) for made in makers):
            continue
        query, key, value = (prefix + made for made in makers)
        fused = query == key
        width = network.size(prefix + out, 1)
        for path in dict.fromkeys((query, key, value)):
            network.stream += network.spans(path, 1, 0, 1)
        network.stream += network.spans(prefix + out, 0, 0, 1)
        found = _head_counts(network, query, width)
        paths = [out, *makers]
        known = {f"{prefix}{path}.{part}" for path in paths for part in ("weight", "bias")}
        strange = [
            n
            for n in network.shapes
            if n.startswith(prefix)
            and n not in known
            and not n.endswith(_HEAD_NORMS)
            and not _BUFFERS.search(n)
            and not n.startswith(prefix + "output.LayerNorm")
        ]
        if found is None or strange or _places_matter(network):
            return
        layout = _Attention(prefix, prefix + out, (query, key, value), *found)
        rows = layout.starts[2] + layout.n_groups * layout.size
        if network.size(value, 0) == rows and (fused or network.size(key, 0) == rows):
            network.found.append(_heads(network, layout))
        return


@dataclass(frozen=True)
class _Attention:
    """A module whose heads are known.

    Attributes:
        prefix: of its tensors' names.
        out: what reads the heads.
        makers: of queries, keys and values; the same three times where one tensor makes all.
        n_heads: of queries.
        n_groups: of keys and values.
        size: dimensions of a head.
    """

    prefix: str
    out: str
    makers: tuple[str, str, str]
    n_heads: int
    n_groups: int
    size: int

    @property
    def shared(self) -> int:
        """Query heads that share keys and values."""
        return self.n_heads // self.n_groups

    @property
    def blocks(self) -> tuple[int, int, int]:
        """Rows of queries, keys and values in a group."""
        return self.shared * self.size, self.size, self.size

    @property
    def starts(self) -> tuple[int, int, int]:
        """Where queries, keys and values begin."""
        if self.makers[0] != self.makers[1]:
            return 0, 0, 0
        queries = self.n_heads * self.size
        return 0, queries, queries + self.n_groups * self.size


def _heads(network: _Network, layout: _Attention) -> Group:
    """Groups of heads that share keys and values; within them query heads, dimensions of keys, and of values."""
    prefix, size, shared = layout.prefix, layout.size, layout.shared
    spans: list[Span] = []
    numbers = []
    for path, norm, start, block in zip(
        layout.makers, (*_HEAD_NORMS, ""), layout.starts, layout.blocks, strict=True
    ):
        made = network.spans(path, 0, start, block)
        length = layout.n_groups * block
        if norm and length > size and network.shapes.get(prefix + norm) == (length,):
            made.append(Span(prefix + norm, 0, 0, block, makes=True))
        numbers.append(range(len(spans), len(spans) + len(made)))
        spans += made
    queries, keys, values = numbers
    reads = len(spans)
    spans += network.spans(layout.out, 1, 0, shared * size)
    inner = [Inner(shared, tuple((i, 0, size) for i in (*queries, reads)))]
    if _dimensions_are_free(network, prefix):
        in_turn = ((i, h * size, 1) for i in queries for h in range(shared))
        inner.append(Inner(size, (*in_turn, *((i, 0, 1) for i in keys))))
    out_turn = ((reads, h * size, 1) for h in range(shared))
    inner.append(Inner(size, (*((i, 0, 1) for i in values), *out_turn)))
    return Group(prefix + "heads", layout.n_groups, tuple(spans), tuple(inner))


def _head_counts(network: _Network, query: str, width: int) -> tuple[int, int, int] | None:
    """(heads, groups of keys and values, dimensions of a head) of a module, where configs leave no doubt."""
    hidden = network.size(query, 1)
    configs = [network.config, *(c for c in network.config.values() if isinstance(c, dict))]
    found = set()
    for config in configs:
        sizes = (config.get(key) for key in ("hidden_size", "d_model", "n_embd", "dim"))
        heads = next(
            (config[key] for key in ("num_attention_heads", "n_head", "n_heads") if key in config),
            None,
        )
        if hidden not in sizes or type(heads) is not int or heads < 1:
            continue
        groups_ = config.get("num_key_value_heads") or heads
        size = config.get("head_dim") or hidden // heads
        if type(groups_) is int and type(size) is int and heads * size == width:
            found.add((heads, groups_, size))
    if len(found) != 1:
        return None
    heads, groups_, size = found.pop()
    return (heads, groups_, size) if heads % groups_ == 0 else None


def _places_matter(network: _Network) -> bool:
    """Tell whether what a head does depends on its number."""
    alibi = network.config.get("alibi") or network.config.get("model_type") in ("bloom", "mpt")
    return bool(alibi) or any("relative_attention_bias" in name for name in network.shapes)


_POSITIONS = re.compile(r"(?:^|\.)(?:position_embeddings?|wpe|embed_positions)(?:\.weight)?$")
_PER_DIMENSION = re.compile(r"distance_embedding|rotary|inv_freq|rel_pos")


def _dimensions_are_free(network: _Network, prefix: str) -> bool:
    """Tell whether dimensions of queries and keys may change places: positions are added to the stream, by a table."""
    names = network.shapes
    norms = any(prefix + norm in names for norm in _HEAD_NORMS)
    rotary = any(key.startswith("rope") for key in network.config)
    learned = any(_POSITIONS.search(name) for name in names)
    return learned and not norms and not rotary and not any(map(_PER_DIMENSION.search, names))


_NORM = re.compile(
    r"(?:norm|(?:^|\.)ln_[0-9f]|LayerNorm|layer_?norm\w*)\.(?:weight|bias)$", re.IGNORECASE
)
_TABLES = re.compile(
    r"(?:^|\.)(?:position_embeddings?|token_type_embeddings|wpe|embed_positions|cls_token|mask_token|score)(?:\.weight)?$"
)
_PATCHES = re.compile(r"patch_embeddings\.projection\.(?:weight|bias)$")
_BOTH = re.compile(r"predictions\.transform\.dense\.weight$")
_BOTH_BIAS = re.compile(r"predictions\.transform\.dense\.bias$")
_READER = re.compile(r"(?:^|\.)(?:pooler\.dense|pre_classifier|predictions\.decoder)\.weight$")
_BEYOND = re.compile(
    r"(?:^|\.)(?:pooler\.dense|pre_classifier|classifier|(?:lm_head|predictions|decoder))\.bias$|[qk]_norm\.weight$|_ids$|inv_freq$"
)


def _residual(network: _Network) -> Group:
    """The residual stream.

    Raises:
        NotMergeable: a tensor of which it is not known whether it reads or writes it.
    """
    read = [network.shapes[span.tensor][span.axis] for span in network.stream]
    hidden = read[0] if read else 0
    spans = list(network.stream)
    between = any(_READER.search(name) and "predictions" not in name for name in network.shapes)
    moved = {s.tensor for s in (*spans, *(s for group in network.found for s in group.spans))}
    for name, shape in sorted(network.shapes.items()):
        axes = _stream_axes(name, shape, between=between)
        spans += [Span(name, axis, 0, 1, makes=_makes(name, axis)) for axis in axes]
        known = axes or name in moved or _BEYOND.search(name) or (between and "classifier" in name)
        if not known and hidden in shape:
            message = f"tensor {name} of shape {list(shape)} has a dimension of the residual stream's size; whether it belongs to it is not known"
            raise NotMergeable(message, hint="leave out residual: true")
    wrong = [s for s in spans if network.shapes[s.tensor][s.axis] != hidden]
    if wrong or not hidden:
        what = f"tensor {wrong[0].tensor} does not fit it" if wrong else "nothing known reads it"
        message = f"the residual stream has {hidden} dimensions; {what}"
        raise NotMergeable(message, hint="leave out residual: true")
    return Group("residual", hidden, tuple(spans))


def _stream_axes(name: str, shape: Sequence[int], *, between: bool) -> tuple[int, ...]:
    """The axes of a tensor outside of attention and MLP that are the residual stream; ``between``: classifiers do not read it."""
    last = len(shape) - 1
    if _NORM.search(name) and not name.endswith(_HEAD_NORMS):
        return (0,)
    if _BOTH.search(name):
        return (0, 1)
    if _BOTH_BIAS.search(name) or _PATCHES.search(name):
        return (0,)
    reads = EMBEDDING.search(name) or HEAD.search(name) or _TABLES.search(name)
    if reads or _READER.search(name) or (name.endswith("classifier.weight") and not between):
        return (last,)
    return ()


def _makes(name: str, axis: int) -> bool:
    """Tell whether a tensor outside of attention and MLP writes the residual stream, or scales it, along an axis."""
    reads = HEAD.search(name) or _READER.search(name) or re.search(r"(?:score|classifier)\.", name)
    return not reads and not (_BOTH.search(name) and axis == 1)


def _prefix(name: str, out: str) -> str | None:
    """What stands before projection ``out`` where tensor ``name`` is its weight."""
    ending = f"{out}.weight"
    whole = name.endswith(ending) and name[: -len(ending)][-1:] in ("", ".")
    return name[: -len(ending)] if whole else None

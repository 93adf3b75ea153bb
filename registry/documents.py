"""JSON and YAML from disk, read as hostile: bounded in size and depth, without duplicate keys or aliases.

The only door to yaml. Values are those of JSON (YAML dates stay text), so that whatever was read can be stored
as JSON. Infinity and NaN are allowed, because real configs hold them.
"""

import json
import os
import re
import stat
from collections import Counter
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from registry.errors import BadDocument, Unreadable

MAX_JSON_BYTES = 100_000_000
"""Larger than any index or tokenizer in use (the largest tokenizers have about 35 MB)."""

MAX_YAML_BYTES = 4_000_000
"""Larger than any recipe or model card in use."""

MAX_JSON_VALUES = 10_000_000
"""Values of one JSON document; the largest tokenizers have two million. Each may take 25 times the memory of its text."""

MAX_YAML_VALUES = 300_000
"""Values of one YAML text; the longest lists of results in cards have some ten thousand."""

MAX_NODES = 100_000
"""Values that aliases in a document may make."""

MAX_DEPTH = 100
"""Nesting of objects and lists; leaves room for everything that walks through them."""

_MERGE_KEY = "tag:yaml.org,2002:merge"
_OLD_WORDS = {"bool", "timestamp", "value"}
_PLAIN_TAGS = {
    f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "map", "seq")
}


@contextmanager
def open_file(path: Path) -> Iterator[tuple[int, os.stat_result]]:
    """Open a regular file for reading, giving its descriptor and its status; links are followed.

    Never waits: a pipe or a device in the place of a file is refused.

    Raises:
        Unreadable: when the file is missing, is not a regular file, or may not be read.
    """
    descriptor = -1
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            message = f"{path}: is not a regular file"
            raise Unreadable(message)
        yield descriptor, status
    except OSError as error:
        message = f"{path}: cannot be read: {error.strerror}"
        raise Unreadable(message) from error
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def read_bytes(path: Path, max_bytes: int = MAX_JSON_BYTES) -> bytes:
    """All of a file of at most ``max_bytes`` bytes.

    Raises:
        BadDocument: when it is too large.
        Unreadable: when it is missing, or the operating system refuses; another time it may be read.
    """
    with open_file(path) as (descriptor, status):
        if status.st_size > max_bytes:
            message = f"{path}: has {status.st_size} bytes; at most {max_bytes} are read"
            raise BadDocument(message)
        return _read_all(descriptor, max_bytes)


def decoded(content: bytes, *, where: str = "text") -> str:
    """UTF-8, with or without a byte order mark, as text; ``where`` names the source in messages.

    Raises:
        BadDocument: when it is something else.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        message = f"{where}: is not UTF-8: {error.reason} at byte {error.start}"
        raise BadDocument(message) from error


def read_json(path: Path, *, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """Read a JSON file of at most ``max_bytes`` bytes.

    Raises:
        BadDocument: when it is too large, or not JSON as `parse_json` wants it.
        Unreadable: as `read_bytes`.
    """
    return parse_json(decoded(read_bytes(path, max_bytes), where=str(path)), where=str(path))


def parse_json(text: str, *, where: str = "text") -> Any:
    """Parse JSON; ``where`` names the source in messages.

    Raises:
        BadDocument: when malformed, nested too deeply or of more than `MAX_JSON_VALUES` values, when an object has one
            key twice, or when a string is not Unicode (half of a surrogate pair).
    """
    n_values = count_values(text)
    if n_values > MAX_JSON_VALUES:
        message = f"{where}: holds about {n_values} values; at most {MAX_JSON_VALUES} are read"
        raise BadDocument(message)
    try:
        value = json.loads(text, object_pairs_hook=_unique)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
        _check_depth(value)
    except UnicodeEncodeError as error:
        message = f"{where}: a string is not Unicode: {error}"
        raise BadDocument(message) from error
    except ValueError as error:
        message = f"{where}: is not valid JSON: {error}"
        raise BadDocument(message) from error
    except RecursionError as error:
        message = f"{where}: is nested too deeply"
        raise BadDocument(message) from error
    return value


def count_values(text: str) -> int:
    """About how many values a JSON text holds, told from its signs in no time; those within strings count too."""
    return text.count(",") + text.count("[") + text.count("{")


def read_yaml(path: Path, *, max_bytes: int = MAX_YAML_BYTES) -> Any:
    """Read a YAML file of at most ``max_bytes`` bytes.

    Raises:
        BadDocument: when it is too large, or not YAML as `parse_yaml` wants it.
        Unreadable: as `read_bytes`.
    """
    return parse_yaml(decoded(read_bytes(path, max_bytes), where=str(path)), where=str(path))


def parse_yaml(text: str, *, where: str = "text") -> Any:
    """Parse one YAML document of plain values; ``where`` names the source in messages.

    Law: ``parse_yaml(dump_yaml(value)) == value`` for every JSON value.

    Raises:
        BadDocument: when malformed, longer than `MAX_YAML_BYTES` characters, of more than `MAX_YAML_VALUES` values or
            nested deeper than `MAX_DEPTH`, and for aliases, tags of other than plain values, and duplicate keys.
    """
    with _named(text, where):
        _check_events(text, max_nodes=0)
        return yaml.load(text, Loader=_Loader)  # noqa: S506 (a subclass of the safe loader)


def read_yaml_all(path: Path, *, max_bytes: int = MAX_YAML_BYTES) -> list[Any]:
    """Read a file of YAML documents that people write by hand; as `read_yaml` and `parse_yaml_all`."""
    return parse_yaml_all(decoded(read_bytes(path, max_bytes), where=str(path)), where=str(path))


def parse_yaml_all(text: str, *, where: str = "text") -> list[Any]:
    """Parse YAML documents that people write by hand: several in one text, and aliases, within bounds.

    Raises:
        BadDocument: as `parse_yaml`; for aliases that make more than `MAX_NODES` values of it, or never end.
    """
    with _named(text, where):
        _check_events(text, max_nodes=MAX_NODES)
        return list(yaml.load_all(text, Loader=_MergingLoader))


@contextmanager
def _named(text: str, where: str) -> Iterator[None]:
    """Refuse what is too long, and translate what goes wrong in the block."""
    if len(text) > MAX_YAML_BYTES:
        message = f"{where}: has {len(text)} characters; at most {MAX_YAML_BYTES} are read"
        raise BadDocument(message)
    try:
        yield
    except yaml.YAMLError as error:
        message = f"{where}: is not valid YAML: {_one_line(error)}"
        is_sign = "cannot start any token" in message
        hint = 'what begins with @ stands in quotes: "@prod"' if is_sign else None
        raise BadDocument(message, hint=hint) from error
    except (ValueError, RecursionError) as error:  # numbers that Python cannot hold
        message = f"{where}: holds a value that cannot be read: {error}"
        raise BadDocument(message) from error


def dump_yaml(value: Any) -> str:
    """Write a JSON value as YAML in block style, keys in their own order, without aliases."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def _read_all(descriptor: int, max_bytes: int) -> bytes:
    """Read to the end of the file, or to ``max_bytes`` should it grow meanwhile."""
    blocks = []
    while max_bytes > 0 and (block := os.read(descriptor, min(max_bytes, 1 << 20))):
        blocks.append(block)
        max_bytes -= len(block)
    return b"".join(blocks)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object, refusing a key that comes twice."""
    built = dict(pairs)
    if len(built) == len(pairs):
        return built
    twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
    message = f"the key {twice!r} comes twice in one object"
    raise ValueError(message)


def _check_depth(value: Any) -> None:
    """Refuse what is nested deeper than `MAX_DEPTH`, looking at one level after the other."""
    level: list[Any] = [[value]]
    for _ in range(MAX_DEPTH + 1):
        level = [
            child
            for item in level
            for child in (item.values() if isinstance(item, dict) else item)
            if isinstance(child, dict | list)
        ]
    if level:
        raise RecursionError


def _check_events(text: str, max_nodes: int) -> None:
    """Refuse, before anything is built, what could grow: aliases, deep nesting, tags that make objects.

    With ``max_nodes`` aliases are read, as long as no more values than that come of them.
    """
    count = _Count()
    for event in yaml.parse(text, Loader=_Loader):
        tag = getattr(event, "tag", None)
        problem = None
        if isinstance(event, yaml.AliasEvent) and not (max_nodes and event.anchor in count.sizes):
            problem = f"aliases (*{event.anchor}) are not read" + (
                " inside themselves" if max_nodes else ""
            )
        elif tag not in (None, "!") and tag not in _PLAIN_TAGS:
            problem = f"the tag {tag!r} is not read"
        else:
            count.add(event)
            if len(count.open) > MAX_DEPTH:
                problem = f"nested deeper than {MAX_DEPTH}"
            elif count.n_nodes - count.n_expanded > MAX_YAML_VALUES:
                problem = f"more than {MAX_YAML_VALUES} values"
            elif count.n_expanded > max_nodes:
                problem = f"aliases make more than {max_nodes} values"
        if problem:
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)  # type: ignore[arg-type]


class _Count:
    """How many values a document has when its aliases are written out.

    Attributes:
        sizes: anchor → number of values it stands for, once it is closed.
        open: (anchor, values before it) of the collections that are not closed yet.
        n_nodes: values so far.
        n_expanded: those of them that aliases made.
    """

    def __init__(self) -> None:
        self.sizes: dict[str, int] = {}
        self.open: list[tuple[str | None, int]] = []
        self.n_nodes = self.n_expanded = 0

    def add(self, event: yaml.Event) -> None:
        """Count one event."""
        if isinstance(event, yaml.AliasEvent) and event.anchor:
            self.n_nodes += self.sizes[event.anchor]
            self.n_expanded += self.sizes[event.anchor]
        elif isinstance(event, yaml.CollectionStartEvent):
            self.open.append((event.anchor, self.n_nodes))
            self.n_nodes += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = self.open.pop()
            if anchor:
                self.sizes[anchor] = self.n_nodes - before
        elif isinstance(event, yaml.ScalarEvent):
            self.n_nodes += 1
            if event.anchor:
                self.sizes[event.anchor] = 1


def _one_line(error: yaml.YAMLError) -> str:
    """What is wrong and where, on one line."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}: {error.problem}"
    return " ".join(str(error).split())


class _Loader(yaml.CSafeLoader):
    """The safe loader with the words of YAML 1.2: dates and `no` are text, `true` and `false` are not."""

    merges = False

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002 (the parent's signature)
        """Build a mapping, refusing a key that comes twice or is not plain text."""
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == _MERGE_KEY and self.merges:
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str | int | float | None) or key in seen:
                problem = (
                    f"the key {key!r} comes twice"
                    if isinstance(key, str)
                    else "a key is not plain text"
                )
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            seen.add(key)
        built: dict[Hashable, Any] = super().construct_mapping(node, deep=deep)
        return built


_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern) for tag, pattern in resolvers if tag.rpartition(":")[2] not in _OLD_WORDS
    ]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile("^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)


class _MergingLoader(_Loader):
    """The same, with `<<: *alias`, which takes over the keys of another mapping."""

    merges = True


class _Dumper(yaml.CSafeDumper):
    """The safe dumper, which repeats a shared value instead of referring to it."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write every value in full."""
        del data
        return True

"""The model card: read as the Hub reads it, written for a merge.

The only door to huggingface_hub's card classes. A card is a `README.md`: front matter (YAML between two lines
`---`), then text. Reading does not go through that package, whose YAML loader follows aliases and lets a later
key hide an earlier one; writing does, so that the Hub's own code judges what we upload.
"""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

from registry.checkpoint import Checkpoint
from registry.documents import MAX_YAML_BYTES, dump_yaml, open_file, parse_yaml
from registry.errors import BadDocument, PathEscapes, Unreadable
from registry.file_ref import resolve_inside

_OPENING = re.compile(r"\s*---(?:\r\n|\n|\r)")
_CLOSING = re.compile(r"(?:\A|(?<=[\r\n]))---[ \t]*(?:\r\n|\n|\r|\Z)")
_DOCUMENT_MARK = re.compile(r"^---(?=\s|\Z)", re.MULTILINE)

_PATH_START = re.compile(r"(?:file:)?~?/|file:|[A-Za-z]:[\\/]|\\\\")
_PATH = re.compile(
    r"""
    (?: (?<![\w/.:~]) | (?<=:)(?!//) ) (?:file://)? ~? / [^\s'"`,;|()\[\]{}<>+]+  # /a/b, ~/a, not hf://a/b
    | (?<!\w) (?: [A-Za-z]:[\\/](?!/) | \\\\ ) [^\s'"`,;|()\[\]{}<>+]+             # C:\a, \\host\a
    """,
    re.VERBOSE,
)
_DIGEST_SHOWN = 16


@dataclass(frozen=True)
class Card:
    """A model card.

    Attributes:
        front_matter: the metadata, {} when there is none; values are those of JSON.
        body: the text after it, line ends as they were.
    """

    front_matter: dict[str, Any]
    body: str


@dataclass(frozen=True, slots=True)
class ParentLine:
    """One parent in the card of a merge.

    Attributes:
        name: what people call it; of a path only the last part is shown.
        digest: of its weights, hex.
        role: "base" or "model".
        coefficient: its weight in the merge; None where it has none.
    """

    name: str
    digest: str
    role: str
    coefficient: float | None


@dataclass(frozen=True)
class MergeCard:
    """What the card of a merge says.

    Attributes:
        title: the model's name.
        parents: in the recipe's order.
        method: name of the merge method.
        recipe_yaml: the recipe, one or more YAML documents.
        license: identifier of the licence; None when nobody could tell.
        measured: (what, value) rows, already words.
        version: of Homolog.
        model_digest: of the merged weights, hex.
        recipe_digest: of the canonical recipe, hex.
        is_adapter: whether adapters became an adapter.
        license_name: name of a licence that the Hub has no identifier for; ``license`` is `other` then.
        license_notes: why that licence, then what it asks, line by line.
    """

    title: str
    parents: tuple[ParentLine, ...]
    method: str
    recipe_yaml: str
    license: str | None
    measured: tuple[tuple[str, str], ...]
    version: str
    model_digest: str
    recipe_digest: str
    is_adapter: bool = False
    license_name: str | None = None
    license_notes: tuple[str, ...] = ()


def read_card(text: str, *, where: str = "README.md") -> Card:
    """Split a card into front matter and body; ``where`` names the source in messages.

    As on the Hub, front matter is what stands between `---` and `---` before anything but blank lines: a card that
    starts with HTML has none. A byte order mark and any line ends are accepted.

    Raises:
        BadDocument: when the front matter is never closed, is not YAML as `parse_yaml` wants it, or is no mapping.
    """
    text = text.removeprefix("\ufeff")
    opening = _OPENING.match(text)
    if opening is None:
        return Card({}, text)
    closing = _CLOSING.search(text, opening.end())
    if closing is None:
        message = f"{where}: the front matter opens with --- and is never closed"
        raise BadDocument(message)
    block = text[opening.end() : closing.start()]
    front_matter = parse_yaml(block, where=f"{where}: front matter")
    if front_matter is None:
        front_matter = {}
    if not isinstance(front_matter, dict):
        message = (
            f"{where}: the front matter is a {type(front_matter).__name__}, it must be a mapping"
        )
        raise BadDocument(message)
    return Card(front_matter, text[closing.end() :])


def card_of(checkpoint: Checkpoint) -> Card:
    """Read the card of a checkpoint; an empty one when there is none, or when the file is a link that leads out.

    Such links are among the checkpoint's own problems.

    Raises:
        Unreadable: when the file may not be read.
        BadDocument: when it is too large, or its front matter is malformed.
    """
    for ref in checkpoint.files:
        if ref.format == "card" and not ref.dangling:
            try:
                path = resolve_inside(checkpoint.folder, ref.path)
            except PathEscapes:
                continue
            return read_card(read_text(path), where=ref.path)
    return Card({}, "")


def read_text(path: Path, *, max_bytes: int = MAX_YAML_BYTES) -> str:
    """Read a text file of at most ``max_bytes`` bytes; what is not UTF-8 becomes U+FFFD.

    Raises:
        Unreadable: when it is missing, not a regular file, or may not be read.
        BadDocument: when it is larger.
    """
    with open_file(path) as (descriptor, _):
        try:
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                content = file.read(max_bytes + 1)
        except OSError as error:
            message = f"{path}: cannot be read: {error.strerror}"
            raise Unreadable(message) from error
    if len(content) > max_bytes:
        message = f"{path}: is larger than {max_bytes} bytes, the most that is read"
        raise BadDocument(message)
    return content.decode("utf-8", errors="replace").removeprefix("\ufeff")


def parse_yaml_documents(text: str, *, where: str = "text") -> list[Any]:
    """Parse a stream of YAML documents, leaving out the empty ones.

    Raises:
        BadDocument: when one of them is not YAML as `parse_yaml` wants it.
    """
    documents = [parse_yaml(piece, where=where) for piece in _DOCUMENT_MARK.split(text)]
    return [document for document in documents if document is not None]


def write_card(card: MergeCard) -> str:
    """Word the `README.md` of a merge, with front matter that the Hub accepts.

    Every parent is in the table; `base_model` names those whose name can be a Hub id (`name` or `org/name`).
    Of local paths, wherever they stand, only the last part is kept: a card travels, a path does not.

    Law: ``read_card(write_card(card)).front_matter["base_model_relation"] == "merge"`` when a parent can be named.

    Raises:
        BadDocument: when ``recipe_yaml`` is not YAML.
    """
    sections = [
        f"---\n{_front_matter(card)}\n---\n",
        f"# {words(card.title)}\n",
        f"A merge of {_count(card.parents)} by {code(card.method)}, made with Homolog {words(card.version)}.\n",
        f"Digest of the weights: {code(card.model_digest)}\n",
        "## Parents\n",
        table(
            ("role", "model", "digest", "coefficient"),
            ((words(p.role), code(p.name), code(p.digest[:_DIGEST_SHOWN]), number(p.coefficient))
             for p in card.parents),
        ),
        "## Recipe\n",
        _fenced("yaml", _portable_recipe(card.recipe_yaml)),
        f"Digest of the canonical recipe: {code(card.recipe_digest)}\n",
    ]  # fmt: skip
    if card.measured:
        rows = ((words(what), words(value)) for what, value in card.measured)
        sections += ["## Measured\n", table(("what", "value"), rows)]
    if card.license_notes:
        first, *rest = map(words, card.license_notes)
        sections += ["## Licence\n", f"{first}\n", "".join(f"- {line}\n" for line in rest)]
    sections += [
        "## Reproduce\n",
        "The same recipe on the same parents gives the same bytes:\n",
        _fenced("console", f"$ reg reproduce {_one_line(card.model_digest)[:_DIGEST_SHOWN]} -o again/"),
    ]  # fmt: skip
    return "\n".join(sections)


def render_card(front_matter: Mapping[str, Any], body: str) -> str:
    """The text of a card, its front matter as the Hub's own classes write it.

    Law: ``read_card(render_card(m, b)).front_matter == m`` for the keys that those classes can hold (`can_hold`), of
    values that are not null.
    """
    from huggingface_hub import ModelCardData  # noqa: PLC0415 (as below)

    data = ModelCardData()
    for key, value in front_matter.items():
        if can_hold(key):
            data[key] = value
    return f"---\n{data.to_yaml(original_order=list(front_matter))}\n---\n\n{body.lstrip()}"


def can_hold(key: Any) -> bool:
    """Whether the Hub's classes can hold a key of front matter: they keep keys where their own methods are."""
    from huggingface_hub import ModelCardData  # noqa: PLC0415 (as below)

    return isinstance(key, str) and key != "eval_results" and not hasattr(ModelCardData, key)


def without_paths(text: str) -> str:
    """Replace every absolute path of this machine in ``text`` by its last part; addresses (`hf://…`) stay.

    A line that starts as a path is taken for one path, blanks and all.
    """
    return re.sub(r"[^\n+]+", lambda part: _without_paths(part.group()), text)


def _without_paths(text: str) -> str:
    """The same for one line, or for one of two paths joined by a plus as recipes join a model and an adapter."""
    if _PATH_START.match(text):
        return _last_part(text)
    return _PATH.sub(lambda match: _last_part(match.group()), text)


def _last_part(path: str) -> str:
    """The last part of a path of either kind of slash."""
    return PureWindowsPath(path.removeprefix("file:")).name


def _front_matter(card: MergeCard) -> str:
    """The metadata as YAML, worded and checked by the Hub's own classes."""
    from huggingface_hub import ModelCardData  # noqa: PLC0415 (half a second that only writers pay)

    names = hub_ids(parent.name for parent in card.parents)
    data = ModelCardData(
        base_model=names or None,
        library_name="peft" if card.is_adapter else "transformers",
        license=None if card.license is None else _one_line(card.license),
        license_name=None if card.license_name is None else _one_line(card.license_name),
        model_name=_one_line(card.title),
        tags=["merge", "homolog", _one_line(card.method)],
    )
    if names:
        data["base_model_relation"] = "merge"
    return data.to_yaml()


def hub_ids(names: Iterable[str]) -> list[str]:
    """Those of the names that can be a Hub id, each once, in order; paths of this machine count by their last part."""
    from huggingface_hub.errors import HFValidationError  # noqa: PLC0415 (as above)
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # noqa: PLC0415 (its own docstring imports it so)

    ids: list[str] = []
    for name in names:
        candidate = re.sub(r"^(?:hf://|hf-cache:)", "", _one_line(name)).partition("@")[0]
        try:
            validate_repo_id(candidate)
        except HFValidationError:
            continue  # the table names it all the same
        if candidate not in ids:
            ids.append(candidate)
    return ids


def _portable_recipe(text: str) -> str:
    """The recipe without local paths and without comments, which might hold some."""
    documents = parse_yaml_documents(text, where="recipe")
    return "---\n".join(dump_yaml(_portable(document)) for document in documents)


def _portable(value: Any) -> Any:
    """A JSON value with every text freed of local paths."""
    if isinstance(value, dict):
        return {_portable(key): _portable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_portable(item) for item in value]
    return without_paths(value) if isinstance(value, str) else value


def _one_line(text: str) -> str:
    """Text on one line, without local paths and without characters that steer a terminal."""
    printable = "".join(c if c.isprintable() else " " for c in without_paths(text))
    return " ".join(printable.split())


def words(text: str) -> str:
    """Text that Markdown shows as it is: no cell, tag, link or code begins in it."""
    return re.sub(r"([\\|\[`])", r"\\\1", _one_line(text)).replace("<", "&lt;")


def code(text: str) -> str:
    """Text as a code span that fits into a table cell."""
    return f"`{_one_line(text).replace('`', chr(39)).replace('|', '/') or ' '}`"


def number(value: float | None) -> str:
    """A coefficient in the fewest digits that give it back."""
    return "" if value is None else repr(value)


def _count(parents: tuple[ParentLine, ...]) -> str:
    """How many models were merged, the base not counted."""
    n_models = sum(parent.role != "base" for parent in parents)
    return "1 model" if n_models == 1 else f"{n_models} models"


def _fenced(language: str, text: str) -> str:
    """A fenced block whose fence is longer than any run of backticks inside."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}\n"


def table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [header, ("---",) * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)

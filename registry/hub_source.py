"""Checkpoints of a repository of the Hub, read without downloading them: `Entry` after `Entry`, as from a folder on disk."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from registry.checkpoint import Problem
from registry.entry import Entry, identified, problem_of, read_entry
from registry.errors import HubRenamed, RegError
from registry.file_ref import FileRef, format_of
from registry.hub import Hub, HubFile, Listed
from registry.hub_stage import said_there, stage
from registry.names import Address, printable
from registry.progress import SILENT
from registry.sources import Found, find

Tokenizers = Mapping[frozenset[tuple[str, str]], str]
"""Fingerprints of tokenizers that are known, by the names of their files and what the Hub calls their contents."""


def read_repository(
    hub: Hub, repository: Listed, tokenizers: Tokenizers, *, with_gguf: bool = False
) -> list[Entry]:
    """Read every checkpoint of a repository at its commit; whatever is wrong with one becomes its problems.

    Args:
        hub: to ask.
        repository: which.
        tokenizers: that need not be fetched.
        with_gguf: read headers of GGUF; else of such files only what their listing and their card say.

    Raises:
        HubBusy, RequestsSpent: as those of `Hub`: the repository may be fine.
    """
    try:
        files = hub.files(repository)
        with TemporaryDirectory(prefix="homolog-") as folder:
            root = Path(folder).resolve()
            own = _tokenizer_files(files)
            known = tokenizers.get(frozenset(own.items())) if own else None
            used = not known and any(format_of(f.path) == "safetensors" for f in files)
            stage(hub, repository, files, root, without=() if used else own, with_gguf=with_gguf)
            entries = [
                moved(found, repository, root, files, known, with_gguf=with_gguf)
                for found in find(Address("path", str(root)))
            ]
    except (RegError, OSError) as error:
        if isinstance(error, RegError) and error.kind in ("HubBusy", "RequestsSpent"):
            raise
        return [unreadable(repository, error)]
    if repository.asked != repository.name:
        message = f"hf://{repository.asked}: is called {repository.name} now"
        renamed = HubRenamed(message)
        entries.append(unreadable(replace(repository, name=repository.asked), renamed))
    return entries


def unreadable(repository: Listed, error: RegError | OSError) -> Entry:
    """A repository that could not be read, and why."""
    found = Found(repository.uri, Path(repository.uri), repository.name, ())
    return Entry(found, None, (problem_of(found, error),))


def moved(
    found: Found, repository: Listed, root: Path, files: Sequence[HubFile], tokenizer: str | None,
    *, with_gguf: bool = False,
) -> Entry:  # fmt: skip
    """Read a checkpoint of a staged folder, and put it where it is in truth.

    Args:
        found: the checkpoint in the folder.
        repository: where it is in truth.
        root: the folder.
        files: of the repository, as the Hub lists them.
        tokenizer: its fingerprint, if it is known.
        with_gguf: whether headers of GGUF were staged.
    """
    inside = found.root.relative_to(root).as_posix()
    at = "" if inside == "." else f"/{inside}"
    refs = tuple(_file_refs(files, inside, found))
    entry = read_entry(
        found, headers_only=True, jobs=1, progress=SILENT, tokenizer=tokenizer, with_gguf=with_gguf
    )
    there = Found(
        repository.uri + at, Path(repository.uri + at), printable(repository.name + at), refs
    )
    problems = tuple(
        Problem(there.uri, p.file, p.error, said_there(p.detail, root, repository))
        for p in entry.problems
    )
    return identified(Entry(there, entry.reading, problems), {})


def _file_refs(files: Sequence[HubFile], inside: str, found: Found) -> list[FileRef]:
    """The files of a checkpoint, as the Hub lists them: those of its folder, or those that it is itself."""
    folder = inside if found.root.is_dir() else inside.rpartition("/")[0]
    before = "" if folder in (".", "") else f"{folder}/"
    own = {ref.path for ref in found.files}
    refs = []
    for file in files:
        path = file.path.removeprefix(before)
        if not file.path.startswith(before) or (path not in own and not found.root.is_dir()):
            continue
        kind = format_of(path)
        if "/" not in path or kind == "eval":
            refs.append(FileRef(path, file.size_bytes, 0, 0, kind, file.etag, file.xet))
    return sorted(refs, key=lambda ref: ref.path)


def _tokenizer_files(files: Sequence[HubFile]) -> dict[str, str]:
    """What the Hub calls the contents of the tokenizer's files in the root, by path."""
    return {f.path: f.etag for f in files if "/" not in f.path and format_of(f.path) == "tokenizer"}

"""Content digests: identities of tensors, models, tokenizers and texts. The only door to BLAKE3.

Every digest is the 64 hex digits of a BLAKE3 hash that begins with the name of its recipe, so that digests made in
different ways never meet. Identity is always of all bytes; samples are similarity and live elsewhere.
"""

import json
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from blake3 import blake3

from registry.documents import decoded, open_file, parse_json, read_bytes
from registry.errors import BadDocument, TruncatedFile
from registry.file_ref import resolve_inside
from registry.header import TensorRef
from registry.tensor_name import EMBEDDING, HEAD, has_vocabulary

TENSOR_DIGEST = "blake3-tensor-1"
"""Over dtype, shape and the raw bytes as stored."""

MODEL_DIGEST = "blake3-tensors-1"
"""Over the sorted (canonical name, tensor digest), without the copy of a tied head."""

ARCHITECTURE_DIGEST = "blake3-shapes-1"
"""Over the sorted (canonical name, shape), with the size of the vocabulary left open."""

TOKENIZER_DIGEST = "blake3-tokenizer-1"
"""Over what decides which text becomes which ids."""

TEXT_DIGEST = "blake3-text-1"
"""Over the UTF-8 bytes of a text."""

BLOCK_BYTES = 256 << 10
"""Read and hashed at a time; one buffer of this size per thread, which stays in the processor's second-level cache."""

_RUN_BYTES = 4 << 20
_LARGE_BYTES = 64 << 20

_buffers = threading.local()

_tokenizers: dict[str, str] = {}
"""Fingerprints by the digest of the files' bytes: a family has one tokenizer, which takes long to read."""


def ignore(n_bytes: int) -> None:
    """A progress callback that shows nothing."""
    del n_bytes


def canonical_name(name: str) -> str:
    """The name under which a tensor counts for identity: the stored name, as it is.

    Renaming is a change of the model until a table of architectures says otherwise; then this function alone grows,
    together with the name `MODEL_DIGEST`.
    """
    return name


def digest_tensor(ref: TensorRef) -> str:
    """Digest (`TENSOR_DIGEST`) of one tensor, read in blocks of `BLOCK_BYTES`.

    Law: equal for equal dtype, shape and bytes, whatever the name, the file and the offset.

    Raises:
        TruncatedFile: when the file ends before the tensor does.
        Unreadable: when the file cannot be read.
    """
    return _digest_run([ref])[0]


def digest_tensors(
    refs: Iterable[TensorRef], *, jobs: int | None = None, progress: Callable[[int], None] = ignore
) -> dict[str, str]:
    """Digest many tensors with ``jobs`` threads (default: one per core, at most 4).

    Args:
        refs: tensors of different names.
        jobs: threads; the result does not depend on it.
        progress: called in this thread with the bytes done since the last call.

    Returns:
        The digest of each tensor by its name, in the order of ``refs``.

    Raises:
        TruncatedFile, Unreadable: as `digest_tensor`; what is not yet read is given up.
    """
    refs = list(refs)
    runs = _runs(refs)
    jobs = min(jobs or min(4, os.cpu_count() or 1), len(runs))
    found: dict[str, str] = {}
    pool = ThreadPoolExecutor(jobs) if jobs > 1 else None
    try:
        done = pool.map(_digest_run, runs) if pool else map(_digest_run, runs)
        for run, digests in zip(runs, done, strict=True):
            found.update((ref.name, digest) for ref, digest in zip(run, digests, strict=True))
            progress(sum(ref.n_bytes for ref in run))
    finally:
        if pool:
            pool.shutdown(cancel_futures=True)
    return {ref.name: found[ref.name] for ref in refs}


def digest_stream(refs: Iterable[TensorRef], blocks: Iterable[bytes]) -> dict[str, str]:
    """Digest the tensors of one file as its bytes come.

    Law: the digests are those of `digest_tensor`, wherever the bytes are cut.

    Args:
        refs: tensors of the file.
        blocks: of all of its bytes, in order, from the first on.

    Raises:
        TruncatedFile: the bytes end before the tensors do.
    """
    waiting = sorted(refs, key=lambda ref: (ref.start, ref.n_bytes))
    found: dict[str, str] = {}
    hasher, place = None, 0
    for block in blocks:
        view, end = memoryview(block), place + len(block)
        while len(found) < len(waiting):
            ref = waiting[len(found)]
            stop = ref.start + ref.n_bytes
            hasher = hasher or blake3(_before(ref))
            if ref.start < end and stop > place:
                hasher.update(view[max(ref.start, place) - place : min(stop, end) - place])
            if stop > end:
                break
            found[ref.name], hasher = hasher.hexdigest(), None
        place = end
    if len(found) < len(waiting):
        ref = waiting[len(found)]
        message = (
            f"{ref.file}: ends at byte {place}; tensor {ref.name} needs {ref.start + ref.n_bytes}"
        )
        raise TruncatedFile(message, hint="fetch it again")
    return found


class DigestAsItComes:
    """The digest of one tensor whose bytes come in pieces, from any thread and in any order.

    Law: it is that of `digest_tensor`, wherever the bytes are cut. What comes too early waits for what is before it,
    and the thread that brings that hashes both.
    """

    def __init__(self, ref: TensorRef, most_bytes: int) -> None:
        """Begin with no byte of a tensor; at most ``most_bytes`` wait, or one piece."""
        self._hasher = blake3(_before(ref))
        self._n_bytes, self._most = ref.n_bytes, most_bytes
        self._place = 0
        self._early: dict[int, memoryview] = {}
        self._lock = threading.Lock()
        self._given_up = False

    def take(self, start: int, data: memoryview) -> None:
        """Take the bytes from ``start`` on, which nobody changes any more; every byte must come once."""
        with self._lock:
            if start != self._place:
                self._early[start] = data
                waiting = sum(map(len, self._early.values()))
                if len(self._early) > 1 and waiting > self._most:
                    self._given_up = True
                    self._early.clear()
                return
        while not self._given_up:
            self._hasher.update(data)
            with self._lock:
                self._place += len(data)
                if self._place not in self._early:
                    return
                data = self._early.pop(self._place)

    @property
    def digest(self) -> str | None:
        """The digest, once every `take` has returned; None: too much had to wait, or not all has come."""
        whole = not self._given_up and self._place == self._n_bytes
        return self._hasher.hexdigest() if whole else None


def digest_model(digests: Mapping[str, str], *, tied: bool = True) -> str:
    """Digest (`MODEL_DIGEST`) of a model from the digests of its tensors by name: the model's identity.

    An output head that is a copy of the input embedding counts as not stored, unless ``tied`` is false.

    Laws: the order of ``digests``, the shards and the headers change nothing; a tied model saved with and without
    its head has one digest; one changed bit changes it.
    """
    embeddings = {digest for name, digest in digests.items() if EMBEDDING.search(name)}
    hasher = blake3(f"{MODEL_DIGEST}\0".encode())
    for name in sorted(digests, key=canonical_name):
        if not (tied and HEAD.search(name) and digests[name] in embeddings):
            hasher.update(f"{canonical_name(name)}\0{digests[name]}\n".encode())
    return hasher.hexdigest()


def architecture_fingerprint(tensors: Iterable[TensorRef]) -> str:
    """Digest (`ARCHITECTURE_DIGEST`) of the names and shapes of a model, whatever its dtypes.

    The vocabulary axis of embeddings and heads is left open, so that an extended vocabulary stays in the family, and
    a head of the embedding's shape counts as not stored, since tied models are saved with or without it.
    """
    shapes = {canonical_name(tensor.name): tensor.shape for tensor in tensors}
    vocabulary = [name for name in shapes if has_vocabulary(name)]
    embeddings = {shapes[name] for name in vocabulary if EMBEDDING.search(name)}
    said = {name: ",".join(map(str, shape)) for name, shape in shapes.items()}
    for name in vocabulary:
        said[name] = ",".join(map(str, ("*", *shapes[name][1:])))
        if HEAD.search(name) and shapes[name] in embeddings:
            del said[name]
    lines = "".join(f"{name}\0{said[name]}\n" for name in sorted(said))
    return blake3(f"{ARCHITECTURE_DIGEST}\0{lines}".encode()).hexdigest()


def digest_text(text: str) -> str:
    """Digest (`TEXT_DIGEST`) of a text; of what is no Unicode, as the database keeps it: of its escapes."""
    return blake3(f"{TEXT_DIGEST}\0{text}".encode(errors="backslashreplace")).hexdigest()


def tokenizer_fingerprint(folder: Path) -> str | None:
    """Digest (`TOKENIZER_DIGEST`) of what decides which text becomes which ids; None without a tokenizer.

    From `tokenizer.json`: vocabulary, merges, added tokens, normalizer and pre-tokenizer; else from `vocab.json` and
    `merges.txt`; else from `vocab.txt`; else from `tokenizer.model`. Fingerprints of different sources differ.

    Law: neither the layout of the JSON nor the order of its keys matters.

    Raises:
        BadDocument: for a malformed file.
        PathEscapes: for a file that is a link out of the folder.
    """
    if not folder.is_dir():
        return None
    for source, (others, read) in _TOKENIZERS.items():
        if (folder / source).is_file():
            files = [resolve_inside(folder, name) for name in (source, *others)]
            contents = [read_bytes(file) if file.is_file() else b"" for file in files]
            sizes = ",".join(str(len(content)) for content in contents)
            key = blake3(b"".join((f"{source}\0{sizes}\0".encode(), *contents))).hexdigest()
            if key not in _tokenizers:
                canonical = json.dumps(
                    [source, read(str(files[0]), *contents)], sort_keys=True, separators=(",", ":")
                )
                text = f"{TOKENIZER_DIGEST}\0{canonical}"
                _tokenizers[key] = blake3(text.encode()).hexdigest()
            return _tokenizers[key]
    return None


def _runs(refs: list[TensorRef]) -> list[list[TensorRef]]:
    """Tensors of one file in the order of their bytes, in runs of a few megabytes; disks like one direction.

    Very large tensors come first, so that no thread is still at one when the others have ended.
    """
    runs: list[list[TensorRef]] = []
    n_bytes = 0
    for ref in sorted(refs, key=lambda ref: (str(ref.file), ref.start)):
        if not runs or n_bytes >= _RUN_BYTES or ref.file != runs[-1][-1].file:
            runs.append([])
            n_bytes = 0
        runs[-1].append(ref)
        n_bytes += ref.n_bytes
    return sorted(runs, key=lambda run: run[-1].n_bytes < _LARGE_BYTES)


def _digest_run(refs: list[TensorRef]) -> list[str]:
    """The digests of tensors of one file, opened once."""
    with open_file(refs[0].file) as (descriptor, _):
        return [_digest(descriptor, ref) for ref in refs]


def _digest(descriptor: int, ref: TensorRef) -> str:
    """The digest of one tensor of an open file.

    Whatever comes before the tensor's bytes, all blocks but the first begin at a multiple of their size: BLAKE3 then
    hashes each as one tree, a fifth faster.
    """
    before = _before(ref)
    hasher = blake3(before)
    buffer = _buffer()
    place, end = ref.start, ref.start + ref.n_bytes
    left = len(buffer) - len(before) % len(buffer)
    while place < end:
        n_read = os.preadv(descriptor, [buffer[: min(left, end - place)]], place)
        if n_read == 0:
            message = f"{ref.file}: ends at byte {place}; tensor {ref.name} needs {end}"
            raise TruncatedFile(
                message, hint="the file has changed since it was scanned; scan again"
            )
        hasher.update(buffer[:n_read])
        place += n_read
        left = left - n_read or len(buffer)
    return hasher.hexdigest()


def _before(ref: TensorRef) -> bytes:
    """What is hashed before a tensor's bytes."""
    shape = ",".join(map(str, ref.shape))
    return f"{TENSOR_DIGEST}\0{ref.dtype}\0{shape}\0".encode()


def _tokenizer_json(file: str, content: bytes) -> list[Any]:
    """What counts of a `tokenizer.json`, whatever version wrote it."""
    document = parse_json(decoded(content, where=file), where=file)
    model = document.get("model") if isinstance(document, dict) else None
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if not isinstance(model, dict) or not isinstance(vocabulary, dict | list):
        message = f"{file}: has no model with a vocab"
        raise BadDocument(message)
    merges, added = model.get("merges") or [], document.get("added_tokens") or []
    if not isinstance(merges, list) or not isinstance(added, list):
        message = f"{file}: merges and added_tokens must be lists"
        raise BadDocument(message)
    return [
        model.get("type"),
        vocabulary,
        [
            pair.split(" ") if isinstance(pair, str) else pair for pair in merges
        ],  # both ways are written
        sorted(json.dumps(token, sort_keys=True) for token in added),
        document.get("normalizer"),
        document.get("pre_tokenizer"),
    ]


def _vocab_json(file: str, content: bytes, merges: bytes) -> list[Any]:
    """A byte-level BPE in two files; the merges file begins with a version that does not count."""
    lines = [line.hex() for line in merges.splitlines() if not line.startswith(b"#version")]
    return [parse_json(decoded(content, where=file), where=file), lines]


def _buffer() -> memoryview:
    """This thread's own buffer, kept for its life."""
    if not hasattr(_buffers, "view"):
        _buffers.view = memoryview(bytearray(BLOCK_BYTES))
    view: memoryview = _buffers.view
    return view


_TOKENIZERS: dict[str, tuple[tuple[str, ...], Callable[..., Any]]] = {
    "tokenizer.json": ((), _tokenizer_json),
    "vocab.json": (("merges.txt",), _vocab_json),
    "vocab.txt": ((), lambda _, content: content.hex()),
    "tokenizer.model": ((), lambda _, content: content.hex()),
}
"""Files beside it, and what makes a fingerprint, by the file it is read from; the first that is there counts."""

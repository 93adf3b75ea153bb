"""Digests of models of the Hub: every byte passes through memory once, and none is kept.

The bytes of a shard are checked against the SHA-256 that the Hub lists, so that what is known of the model afterwards is as
sure as of a file; its identity is the one that its files would have.
"""

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from registry.catalog import Catalog
from registry.entry import learn
from registry.errors import DamagedDownload, RegError, RequestsSpent
from registry.fingerprint import digest_stream
from registry.hub import Hub
from registry.hub_requests import Requests
from registry.progress import SILENT, Progress
from registry.remote import Remote, opened, places
from registry.resolve import resolve_claims

AHEAD = 3
"""Blocks of a file that are fetched in advance: with the one in work, 32 MiB are held."""

_SHA256_DIGITS = 64


@dataclass
class Digested:
    """What was digested.

    Attributes:
        models: id by which a model was known → its own.
        problems: id → why a model was not digested.
        n_requests: that the Hub was asked.
        n_bytes: of its answers.
    """

    models: dict[str, str] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    n_requests: int = 0
    n_bytes: int = 0


def digest_remote(
    catalog: Catalog, models: Sequence[str], *, most_requests: int | None = None, progress: Progress = SILENT,
) -> Digested:  # fmt: skip
    """Read models of the Hub from their first byte to their last, one after the other, and know them by their content.

    Those that are known so are left out. What was read of a whole model is kept, whoever stops it.

    Args:
        catalog: knows where they lie.
        models: ids.
        most_requests: that the Hub is asked.
        progress: told of every byte.

    Raises:
        Offline: HF_HUB_OFFLINE is set, and there is something to read.
        RequestsSpent: ``most_requests`` were made and models are left.
    """
    rows = catalog.rows(
        "select id from store.model where status in ('header', 'sampled') and id in (select store.each(?))",
        [list(models)],
    )
    far = places(catalog, [row["id"] for row in rows])
    done = Digested()
    if not far:
        return done
    # the requests are closed first: who waits for the Hub in the pool wakes
    with ThreadPoolExecutor(AHEAD + 1) as pool, Requests(most_requests=most_requests) as requests:
        for model in (model for model in models if model in far):
            try:
                with opened(Hub(requests), far[model], with_config=True) as remote:
                    digests = digests_of(remote, pool, progress)
                    with catalog.write() as transaction:
                        done.models[model] = learn(
                            transaction, far[model].uri, remote.checkpoint, digests
                        )
                        resolve_claims(transaction)
            except RequestsSpent:
                raise
            except RegError as error:
                done.problems[model] = error.message
            finally:
                done.n_requests, done.n_bytes = requests.n_requests, requests.n_bytes
    return done


def digests_of(remote: Remote, pool: Executor, progress: Progress = SILENT) -> dict[str, str]:
    """The digests of the tensors of a checkpoint of the Hub, by name.

    Raises:
        DamagedDownload: its bytes are not those that the Hub lists.
        HubMissing, HubRefused, HubBusy, RequestsSpent: as those of `registry.hub.Hub.part`.
    """
    tensors = remote.checkpoint.tensors
    files = list(dict.fromkeys(tensor.file for tensor in tensors))
    progress.start("digest", sum(remote.staged[file].size_bytes for file in files))
    found: dict[str, str] = {}
    for file in files:
        blocks = _checked(remote, file, pool, progress)
        found |= digest_stream([tensor for tensor in tensors if tensor.file == file], blocks)
    return found


def _checked(remote: Remote, file: Path, pool: Executor, progress: Progress) -> Iterator[bytes]:
    """The bytes of a file; after the last of them it is sure that they are right."""
    listed = remote.staged[file]
    hasher = (
        hashlib.sha256() if len(listed.etag) == _SHA256_DIGITS
        else hashlib.sha1(b"blob %d\0" % listed.size_bytes, usedforsecurity=False)
    )  # fmt: skip
    for block in remote.blocks(file, pool, AHEAD):
        hasher.update(block)
        progress.advance(len(block))
        yield block
    if hasher.hexdigest() != listed.etag:
        message = f"{remote.place.uri}: {listed.path} came with the digest {hasher.hexdigest()}; it is listed with {listed.etag}"
        raise DamagedDownload(message, hint="run the same command again")

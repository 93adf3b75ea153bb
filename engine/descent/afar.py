"""Sketches of models that are on the Hub: the few megabytes that hold their scalars are fetched, and nothing else.

A sketch is taken twice: first of nothing, to learn which bytes it wants, then of those, once they are here. So it is the
very one that the files themselves would give.
"""

from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field

from engine.descent.patch import N_SCALARS
from engine.descent.shelf import put, shelved_ids, sketches_of, spec_of, with_hint
from engine.descent.sketch import Sketch, layout_for, take, weights
from engine.pieces import Pieces, Wanted
from registry.catalog import Catalog
from registry.errors import HubBusy, RegError, RequestsSpent, TooFarAway
from registry.hub import Hub
from registry.hub_requests import Requests
from registry.progress import SILENT, Progress
from registry.ranges import Range, joined
from registry.remote import Place, Remote, opened, places

MOST_BYTES = 8_000_000
"""Fetched of one model, headers included."""

JOBS = 8
"""Requests at once, unless the user says otherwise."""

_FEW = 32  # requests, beyond which gaps are read to save some
_BATCH = 64
_MOST_BUSY = 4  # models one after the other that the Hub has no time for


@dataclass
class Sketched:
    """What was sketched.

    Attributes:
        n_new: models that had no sketch.
        n_known: that had one, and were not read.
        problems: model → why it has none.
        n_requests: that the Hub was asked.
        n_bytes: of its answers.
    """

    n_new: int = 0
    n_known: int = 0
    problems: dict[str, str] = field(default_factory=dict)
    n_requests: int = 0
    n_bytes: int = 0


def sketch(
    catalog: Catalog, models: Sequence[str], *, jobs: int | None = None, most_requests: int | None = None,
    fetch: bool = True, progress: Progress = SILENT,
) -> Sketched:  # fmt: skip
    """Put sketches of models on the shelf: from their files where these are at hand, else from the Hub, by ranges.

    What was read is kept, whoever stops it; a model that has a sketch is not read again.

    Args:
        catalog: knows the models.
        models: ids; adapters among them are left out.
        jobs: requests at once; default: `JOBS`.
        most_requests: that the Hub is asked.
        fetch: without it the network is not used, and models of the Hub are left as they are.
        progress: told of every model.

    Raises:
        Offline: HF_HUB_OFFLINE is set, and there are models on the Hub to be read.
        HubBusy: the Hub has no time for several models one after the other.
        RequestsSpent: ``most_requests`` were made and models are left.
    """
    rows = catalog.rows(
        "select id from store.model where kind = 'model' and id in (select store.each(?)) order by id",
        [list(models)],
    )
    wanted = [row["id"] for row in rows]
    known = shelved_ids(catalog, wanted, N_SCALARS)
    missing = [model for model in wanted if model not in known]
    done = Sketched(n_known=len(known))
    near = _with_files(catalog, missing)
    _, problems = sketches_of(catalog, near, N_SCALARS, progress=progress)
    done.n_new = len(near) - len(problems)
    far = places(catalog, [m for m in missing if m in problems or m not in near])
    done.problems = {model: why for model, why in problems.items() if model not in far}
    if far and fetch:
        _fetch_all(
            catalog, list(far.values()), done, jobs=jobs or JOBS, most_requests=most_requests,
            progress=progress,
        )  # fmt: skip
    return done


def _with_files(catalog: Catalog, models: Sequence[str]) -> list[str]:
    """Those of some models that were seen on this machine."""
    rows = catalog.rows(
        "select distinct model_id from store.address where source in ('local', 'hf-cache') "
        "and model_id in (select store.each(?)) order by 1",
        [list(models)],
    )
    return [row["model_id"] for row in rows]


def _fetch_all(
    catalog: Catalog, far: Sequence[Place], done: Sketched, *, jobs: int, most_requests: int | None,
    progress: Progress,
) -> None:  # fmt: skip
    """Fetch sketches, several at once, and put them on the shelf as they come."""
    progress.start("sketch", len(far))
    fresh: list[Sketch] = []
    n_busy = 0
    with Requests(most_requests=most_requests) as requests:
        hub = Hub(requests)
        pool, inner = (ThreadPoolExecutor(jobs, thread_name_prefix="sketch") for _ in range(2))
        futures = {pool.submit(_fetched, hub, place, inner): place for place in far}
        try:
            for future in as_completed(futures):
                place, made = futures.pop(future), future.result()  # a future holds its sketch
                progress.advance(1)
                if isinstance(made, Sketch):
                    fresh.append(made)
                    done.n_new += 1
                else:
                    done.problems[place.model] = with_hint(made)
                n_busy = n_busy + 1 if isinstance(made, HubBusy) else 0
                if n_busy >= _MOST_BUSY:
                    raise made  # type: ignore[misc] # an error, since the Hub is busy
                if len(fresh) == _BATCH:
                    put(catalog, fresh, spec_of(N_SCALARS))
                    fresh = []
        finally:
            for executor in (pool, inner):
                executor.shutdown(wait=False, cancel_futures=True)
            if fresh:
                put(catalog, fresh, spec_of(N_SCALARS))
            done.n_requests, done.n_bytes = requests.n_requests, requests.n_bytes


def _fetched(hub: Hub, place: Place, inner: Executor) -> Sketch | RegError:
    """The sketch of one model, in a thread of its own, or why there is none.

    Raises:
        RequestsSpent: no request is left.
    """
    try:
        with opened(hub, place) as remote:
            return sketch_of(remote, inner)
    except RequestsSpent:
        raise
    except RegError as error:
        return error


def sketch_of(remote: Remote, pool: Executor) -> Sketch:
    """Fetch the sketch of a checkpoint on the Hub.

    Args:
        remote: the checkpoint.
        pool: does several requests at once.

    Raises:
        TooFarAway: its scalars are spread over more than `MOST_BYTES`, or it has no weights.
        DamagedDownload, HubMissing, HubRefused, HubBusy, RequestsSpent: as those of `Hub.part`.
    """
    tensors = weights(remote.checkpoint.tensors)
    what = remote.place.uri
    if not tensors:
        message = f"{what}: has no tensor whose values are weights"
        raise TooFarAway(message)
    layout = layout_for(tensors, N_SCALARS)
    with Wanted() as wanted:
        take(wanted, remote.place.model, tensors, layout)
    ranges = needed(remote, wanted.ranges)
    n_bytes = remote.header_bytes + sum(r.size for r in ranges)
    if n_bytes > MOST_BYTES:
        message = (
            f"{what}: a sketch needs {n_bytes:,} bytes of it; at most {MOST_BYTES:,} are fetched"
        )
        raise TooFarAway(message, hint=f"hf download {remote.place.repository.name}")

    def fetch(wanted: Range) -> tuple[Range, bytes]:
        return wanted, remote.part(wanted.file, wanted.start, wanted.stop)

    with Pieces(pool.map(fetch, ranges)) as reader:
        return take(reader, remote.place.model, tensors, layout)


def needed(remote: Remote, ranges: Sequence[Range]) -> list[Range]:
    """What to fetch for some ranges: all of a small model, else those, joined where that saves requests."""
    tensors = [ref for ref in remote.checkpoint.tensors if ref.n_bytes]
    whole = [Range(ref.file, ref.start, ref.start + ref.n_bytes) for ref in tensors]
    left = MOST_BYTES - remote.header_bytes
    if sum(each.size for each in whole) <= left:
        return joined(whole, most_bytes=left, few=1)
    return joined(ranges, most_bytes=left, few=_FEW)

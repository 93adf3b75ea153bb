"""Work shared out among threads, with results as if there were only one.

Items begin in their order and results are handed on in their order, whatever the threads do in between; only
then is the first error always the same one, and a sum of results the same to the last bit.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Condition, Event
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

_AHEAD = 256
"""Items that may be begun while the first of them is not finished, where their results are small."""


class _Budget:
    """Memory that is handed out and given back; one item may always have what it needs."""

    def __init__(self, n_bytes: int) -> None:
        self._free = self._all = n_bytes
        self._changed = Condition()

    def take(self, n_bytes: int) -> int:
        """Wait for ``n_bytes``, or for all there is if that is less, and return how many were taken."""
        taken = min(n_bytes, self._all)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= taken)
            self._free -= taken
        return taken

    def give(self, n_bytes: int) -> None:
        """Give back what was taken."""
        with self._changed:
            self._free += n_bytes
            self._changed.notify_all()


def in_order(
    work: Callable[[T], R],
    items: Iterable[T],
    *,
    jobs: int,
    needs: Callable[[T], int] = lambda _: 0,
    memory_bytes: int = 0,
    ahead: int = _AHEAD,
) -> Generator[R, None, None]:
    """Do ``work`` on every item and yield the results in the order of the items.

    When an item fails, no further one begins, those before it are finished and the first error in the order of
    the items is raised: the same for any number of threads. Close the generator to be sure that all threads ended.

    Args:
        work: called from any thread.
        items: taken one by one, as room for them appears.
        jobs: threads, at least 1.
        needs: memory of an item, bytes.
        memory_bytes: what items that have begun may need together; an item that needs more runs alone.
        ahead: items that may be begun while the first of them is not finished; so many results wait at most.
    """
    budget, failed = _Budget(memory_bytes), Event()

    def carry_out(item: T, taken: int) -> R:
        try:
            return work(item)
        except BaseException:
            failed.set()
            raise
        finally:
            budget.give(taken)

    begun: deque[Future[R]] = deque()
    pool = ThreadPoolExecutor(jobs)
    try:
        for item in items:
            taken = budget.take(needs(item))
            if failed.is_set():
                break
            begun.append(pool.submit(carry_out, item, taken))
            while begun and (begun[0].done() or len(begun) > ahead):
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)

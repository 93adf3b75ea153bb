"""Work in order: the same results and the same first error for any number of threads."""

import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.threads import in_order


@given(
    items=st.lists(st.integers(0, 9), max_size=40),
    jobs=st.integers(1, 5),
    memory=st.integers(0, 20),
)
@settings(max_examples=25)
def test_results_come_in_the_order_of_the_items(items, jobs, memory):
    def work(item):
        time.sleep(item / 20_000)
        return item * item

    found = in_order(work, items, jobs=jobs, needs=lambda item: item, memory_bytes=memory)
    assert list(found) == [item * item for item in items]


@given(bad=st.sets(st.integers(0, 39), min_size=1), jobs=st.integers(1, 5))
@settings(max_examples=25)
def test_the_first_error_in_order_is_raised(bad, jobs):
    def work(item):
        time.sleep((item * 7 % 5) / 5_000)
        if item in bad:
            raise ValueError(item)
        return item

    found = []
    with pytest.raises(ValueError, match=f"^{min(bad)}$"):
        found.extend(in_order(work, range(40), jobs=jobs))
    assert found == list(range(min(bad)))[: len(found)]


def test_nothing_begins_after_an_error():
    begun = []

    def work(item):
        begun.append(item)
        if item == 3:
            raise ValueError(item)
        time.sleep(0.001)

    with pytest.raises(ValueError, match="3"):
        list(in_order(work, range(100_000), jobs=2))
    assert max(begun) < 5000


def test_memory_is_never_exceeded_but_by_a_single_item():
    needs = [3, 5, 2, 20, 1, 1, 7, 4, 12, 6] * 5
    lock, held, peaks = threading.Lock(), [], []

    def work(i):
        with lock:
            held.append(needs[i])
            peaks.append((sum(held), len(held)))
        time.sleep(0.0005)
        with lock:
            held.remove(needs[i])

    list(in_order(work, range(len(needs)), jobs=4, needs=needs.__getitem__, memory_bytes=10))
    assert all(total <= 10 or n == 1 for total, n in peaks)
    assert max(n for _, n in peaks) > 1


def test_closing_waits_for_the_threads():
    running = threading.Semaphore(0)

    def work(item):
        running.release()
        time.sleep(0.01)
        return item

    results = in_order(work, range(50), jobs=2)
    assert next(results) == 0
    results.close()
    names = {thread.name for thread in threading.enumerate()}
    assert not [name for name in names if name.startswith("ThreadPoolExecutor")]


def test_items_are_not_taken_long_before_their_turn():
    taken = []

    def items():
        for i in range(10_000):
            taken.append(i)
            yield i

    gate = threading.Event()
    results = in_order(lambda i: gate.wait(5) and i, items(), jobs=1)
    gate.set()
    assert next(results) == 0
    assert len(taken) < 1000
    results.close()


def test_no_more_results_wait_than_were_allowed_ahead():
    begun = []

    def work(item):
        begun.append(item)
        if item == 0:
            time.sleep(0.3)
            assert len(begun) <= 4
        return item

    assert list(in_order(work, range(50), jobs=2, memory_bytes=1, ahead=3)) == list(range(50))

"""What waits is run together, each gets its own, and nobody waits for somebody who has gone."""

import asyncio
import threading

import pytest

from glipv2_d2.serve.worker import Stopping, Worker


class Doubling:
    """Doubles numbers, once `open`; remembers the batches."""

    def __init__(self):
        self.batches = []
        self.begun = threading.Event()
        self.open = threading.Event()

    def run(self, items):
        self.batches.append(list(items))
        self.begun.set()
        assert self.open.wait(10)
        if 0 in items:
            raise ValueError("zero")
        return [2 * item for item in items]


@pytest.fixture
def worker():
    worker = Worker(batch_size=3)
    yield worker
    worker.stop()


async def begin(worker, doubling, *items):
    """The first item runs alone; then the others are in the queue."""
    tasks = []
    for item in items:
        tasks.append(asyncio.ensure_future(worker.do(doubling.run, item)))
        await asyncio.sleep(0)
        assert await asyncio.to_thread(doubling.begun.wait, 10)
    return tasks


def test_what_waits_is_a_batch_of_one_kind_in_order(worker):
    doubling = Doubling()

    async def main():
        tasks = await begin(worker, doubling, 1, 2, 3)
        other = asyncio.ensure_future(worker.do(lambda items: [-x for x in items], 7))
        await asyncio.sleep(0)
        tasks += await begin(worker, doubling, 4, 5, 6)
        assert worker.waiting == 6
        doubling.open.set()
        return await asyncio.gather(*tasks, other)

    assert asyncio.run(main()) == [2, 4, 6, 8, 10, 12, -7]
    assert doubling.batches == [[1], [2, 3, 4], [5, 6]]


def test_an_error_is_that_of_its_item_alone(worker):
    doubling = Doubling()

    async def main():
        tasks = await begin(worker, doubling, 1, 2, 0, 3)
        doubling.open.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    one, two, zero, three = asyncio.run(main())
    assert (one, two, three) == (2, 4, 6) and str(zero) == "zero"
    assert doubling.batches == [[1], [2, 0, 3], [2], [0], [3]]


def test_who_has_gone_is_not_run(worker):
    doubling = Doubling()

    async def main():
        first, second, third = await begin(worker, doubling, 1, 2, 3)
        second.cancel()
        first.cancel()  # runs already: the thread goes on with the next
        await asyncio.sleep(0)
        doubling.open.set()
        return await third

    assert asyncio.run(main()) == 6
    assert doubling.batches == [[1], [3]]


def test_stopping_refuses_what_waits_and_what_comes():
    worker, doubling = Worker(batch_size=3), Doubling()

    async def main():
        first, second = await begin(worker, doubling, 1, 2)
        stopping = asyncio.ensure_future(asyncio.to_thread(worker.stop))
        with pytest.raises(Stopping):
            await second
        doubling.open.set()
        assert await first == 2  # what runs is finished
        await stopping
        with pytest.raises(Stopping):
            await worker.do(doubling.run, 3)

    asyncio.run(main())
    assert doubling.batches == [[1]]

import asyncio
import threading
import unittest

from dr_tf.serve.batcher import Batcher
from dr_tf.serve.request_error import RequestError


class Gate:
    """A function of batches that records them, and whose first batch waits for `open`."""

    def __init__(self):
        self.batches, self.open = [], threading.Event()

    def __call__(self, key, items):
        self.batches.append((key, list(items)))
        if len(self.batches) == 1:
            self.open.wait(5)
        if "bad" in items:
            raise ValueError("bad batch")
        return [f"{key}{item}" for item in items]


class BatcherTest(unittest.IsolatedAsyncioTestCase):
    def batcher(self, max_batch=4):
        self.gate, self.sizes = Gate(), []
        batcher = Batcher(self.gate, max_batch, self.sizes.append)
        self.addCleanup(batcher.close)
        self.addCleanup(self.gate.open.set)
        return batcher

    async def submit(self, batcher, *items, key="k"):
        tasks = [asyncio.create_task(batcher.submit(key, item)) for item in items]
        await asyncio.sleep(0.02)
        return tasks

    async def test_what_arrives_while_the_network_is_busy_is_one_batch_in_order(self):
        batcher = self.batcher()
        tasks = await self.submit(batcher, 0)
        tasks += await self.submit(batcher, 1, 2, 3, 4, 5)
        self.gate.open.set()
        self.assertEqual(await asyncio.gather(*tasks), [f"k{i}" for i in range(6)])
        self.assertEqual(self.gate.batches, [("k", [0]), ("k", [1, 2, 3, 4]), ("k", [5])])
        self.assertEqual(self.sizes, [1, 4, 1])

    async def test_a_batch_has_one_key_and_the_others_keep_their_order(self):
        batcher = self.batcher()
        tasks = await self.submit(batcher, 0)
        for key, item in (("a", 1), ("b", 2), ("a", 3), ("b", 4)):
            tasks += await self.submit(batcher, item, key=key)
        self.gate.open.set()
        self.assertEqual(await asyncio.gather(*tasks), ["k0", "a1", "b2", "a3", "b4"])
        self.assertEqual(self.gate.batches[1:], [("a", [1, 3]), ("b", [2, 4])])

    async def test_an_exception_is_that_of_its_batch_only(self):
        batcher = self.batcher(max_batch=2)
        tasks = await self.submit(batcher, 0)
        tasks += await self.submit(batcher, "bad", 1, 2, 3)
        self.gate.open.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        self.assertEqual([results[0], *results[3:]], ["k0", "k2", "k3"])
        self.assertEqual([str(error) for error in results[1:3]], ["bad batch"] * 2)
        self.assertEqual(await batcher.submit("k", 4), "k4")

    async def test_a_cancelled_item_is_not_computed(self):
        batcher = self.batcher()
        tasks = await self.submit(batcher, 0)
        tasks += await self.submit(batcher, 1, 2)
        tasks[1].cancel()
        await asyncio.sleep(0)
        self.gate.open.set()
        self.assertEqual(await tasks[2], "k2")
        self.assertEqual(self.gate.batches, [("k", [0]), ("k", [2])])

    async def test_an_item_may_be_cancelled_while_it_is_computed(self):
        batcher = self.batcher()
        (task,) = await self.submit(batcher, 0)
        task.cancel()
        with self.assertRaises(asyncio.CancelledError):
            await task
        self.gate.open.set()
        self.assertEqual(await batcher.submit("k", 1), "k1")

    async def test_after_its_end_it_refuses(self):
        batcher = self.batcher()
        batcher.close()
        with self.assertRaisesRegex(RequestError, "the service is stopping"):
            await batcher.submit("k", 0)

    async def test_a_caller_may_stop_waiting(self):
        batcher = self.batcher()
        with self.assertRaises(TimeoutError):
            async with asyncio.timeout(0.05):
                await batcher.submit("k", 0)
        self.gate.open.set()


if __name__ == "__main__":
    unittest.main()

"""Simultaneous clients: no answer is wrong, none is lost, and the memory of the service stays bounded."""

import argparse
import asyncio
import pathlib
import tempfile
import unittest

import pytest

from dr_tf.fundus.synthesis import render_patient
from tests.serve import services
from tests.serve.services import benchmark, http_clients


def expected_of(photographs):
    """{name: the decision of `predict`}."""
    with tempfile.TemporaryDirectory() as folder:
        for name, data in photographs.items():
            pathlib.Path(folder, name).write_bytes(data)
        return {decision["case"]: decision for decision in benchmark.predict(pathlib.Path(folder))[0]}


def resident_bytes(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


class LoadTest(unittest.TestCase):
    def assert_nothing_wrong(self, tally, at_least):
        self.assertEqual((tally.wrong, tally.lost), ([], []))
        self.assertGreaterEqual(tally.answered, at_least)

    def test_20_clients_and_room_for_12(self):
        photographs = services.photographs()
        expected = expected_of(photographs)
        with benchmark.serving("--queue", "12") as (port, _):
            drive = http_clients.drive(port, photographs, expected, clients=20, seconds=2)
            tally = asyncio.run(drive)
        self.assert_nothing_wrong(tally, at_least=20)
        self.assertGreater(tally.refused, 0)

    @pytest.mark.slow
    def test_200_clients_for_two_minutes(self):
        """The ratio to `predict` is not checked: a test cannot have the machine to itself."""
        with tempfile.TemporaryDirectory() as folder:
            benchmark.draw(pathlib.Path(folder), 4)
            args = argparse.Namespace(clients=200, seconds=120, rounds=1, queue=160, count=32)
            _, _, (tally,) = benchmark.measure(sorted(pathlib.Path(folder).iterdir()), args)
        self.assert_nothing_wrong(tally, at_least=200)

    @pytest.mark.slow
    def test_the_memory_is_bounded(self):
        """400 photographs of 1,000 pixels and 100 bad files leave the service as large as the first 100 made it."""
        photographs = {f"{i}.jpg": eye.encode() for i, eye in enumerate(render_patient(1, side=1000).eyes)}
        photographs |= {"bad.jpg": bytes(2_000_000)}
        expected = expected_of(photographs)
        with benchmark.serving() as (port, pid):
            sizes, answered = [], 0
            while answered < 500:
                tally = asyncio.run(http_clients.drive(port, photographs, expected, clients=20, seconds=10))
                self.assert_nothing_wrong(tally, at_least=1)
                answered += tally.answered
                if answered >= 100:
                    sizes.append(resident_bytes(pid))
        self.assertLess(sizes[-1] - sizes[0], 50e6, sizes)


if __name__ == "__main__":
    unittest.main()

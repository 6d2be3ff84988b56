"""From a finished run and photographs to decisions, by the path that the run was measured by."""

import collections
import concurrent.futures
import itertools
import os
import pathlib

import cv2
import numpy as np

from dr_tf.fundus.header import BadPhotographError
from dr_tf.inference.decision import unusable
from dr_tf.inference.rule import PLAIN

_BATCH = 16


class Predictor:
    """`network(x)` gives (logits, features); `cloud` tells how far features are from those of training, if there is one."""

    def __init__(self, network, rule, preparation, cloud=None):
        self.network, self.rule, self.preparation, self.cloud = network, rule, preparation, cloud

    @classmethod
    def of_run(cls, run_dir):
        """Of a run directory. Nothing in it is run: weights, layers of Keras and plain numbers are all it holds."""
        from dr_tf.inference.run import load_run

        return cls(*load_run(run_dir))

    def decisions(self, photographs, *, batch_size=_BATCH, threads=None):
        """A Decision for each, in order, as soon as its batch is done. A photograph is a path, bytes, or uint8 RGB.

        Threads decode the next photographs while the network is busy; no more than three batches wait in memory.
        """
        read = _ahead(self._read, enumerate(photographs), threads or os.cpu_count(), 3 * batch_size)
        while batch := list(itertools.islice(read, batch_size)):
            yield from self._decide(batch)

    def decide(self, photograph):
        return next(self.decisions([photograph], threads=1))

    def _read(self, numbered):
        """(name, what the network takes or None, the Prepared or why there is none)."""
        number, photograph = numbered
        name = str(photograph) if isinstance(photograph, (str, os.PathLike)) else f"photograph {number + 1}"
        try:
            return name, *self.preparation(_data(photograph))
        except BadPhotographError as error:
            return name, None, str(error)
        except OSError as error:
            return name, None, f"it cannot be read: {error.strerror}"

    def _decide(self, batch):
        usable = [one for one in batch if one[1] is not None]
        decided = iter(self._of_network(usable) if usable else ())
        for name, pixels, prepared in batch:
            yield next(decided) if pixels is not None else unusable(name, self.rule.head.positive, prepared)

    def _of_network(self, batch):
        names, pixels, prepared = zip(*batch, strict=True)
        logits, features = self.network(np.stack(pixels))
        return self.rule.decide(
            logits,
            photographs=names,
            mode=PLAIN,
            qualities=[p.gradability for p in prepared],
            distances=None if self.cloud is None else self.cloud.distance(features),
            geometries=[p.geometry for p in prepared],
        )


def _data(photograph):
    if isinstance(photograph, np.ndarray):
        return cv2.imencode(".png", cv2.cvtColor(photograph, cv2.COLOR_RGB2BGR))[1].tobytes()
    return photograph if isinstance(photograph, bytes) else pathlib.Path(photograph).read_bytes()


def _ahead(work, items, threads, most):
    """What `work` makes of each item, in order, with at most `most` begun and not yet taken."""
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        waiting = collections.deque()
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= most:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

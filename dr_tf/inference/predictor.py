"""From a finished run and photographs to decisions, by the path that the run was measured by."""

import itertools
import os

import numpy as np

from dr_tf.fundus import apart
from dr_tf.inference.decision import unusable
from dr_tf.inference.edema import not_told
from dr_tf.inference.modes import answers
from dr_tf.inference.reading import Readers, read
from dr_tf.inference.rule import PLAIN

_BATCH = 16


class Predictor:
    """`network(x)` gives (logits, features); `cloud` tells how far features are from those of training, if there is one.

    `mode`: how to answer, a name in `modes.WAYS` that the rule has a fit of; `bank`: who votes, where the mode asks them;
    `edema`: an Edema that tells its risk besides, in every mode from the features of the one plain look.
    """

    def __init__(self, network, rule, preparation, cloud=None, *, mode=PLAIN, bank=None, edema=None, readers=None):
        rule.mode(mode)
        self.network, self.rule, self.preparation, self.cloud = network, rule, preparation, cloud
        self.mode, self.bank, self.edema, self._readers = mode, bank, edema, Readers(preparation, readers)

    @classmethod
    def of_run(cls, run_dir, mode=PLAIN):
        """Of a run directory. Nothing in it is run: weights, layers of Keras and plain numbers are all it holds."""
        from dr_tf.inference.run import load_run, read_bank, read_edema

        apart.start()  # while the network loads
        network, rule, preparation, cloud = load_run(run_dir)
        rule.mode(mode)  # before a bank is looked for that nobody made
        edema = read_edema(run_dir, network.width)
        return cls(network, rule, preparation, cloud, mode=mode, bank=read_bank(run_dir, (mode,)), edema=edema)

    def decisions(self, photographs, *, batch_size=_BATCH):
        """A Decision for each, in order, as soon as its batch is done. A photograph is a path, bytes, or uint8 RGB.

        Other processes read the next photographs while the network is busy; no more than three batches wait in memory.
        """
        named, photographs = itertools.tee(photographs)
        found = zip(_names(named), self._readers.ahead(photographs, 3 * batch_size), strict=True)
        while batch := list(itertools.islice(found, batch_size)):
            yield from self._decide(batch)

    def decide(self, photograph):
        """Of one photograph."""
        return next(self._decide([(*_names([photograph]), read(self.preparation, photograph))]))

    def _decide(self, batch):
        usable = [one for one in batch if one[1].pixels is not None]
        decided = iter(self._of_network(usable) if usable else ())
        for name, found in batch:
            yield next(decided) if found.pixels is not None else self._unusable(name, found.reason)

    def _unusable(self, name, reason):
        decision = unusable(name, self.rule.head.positive, reason)
        return decision if self.edema is None else not_told(decision)

    def _of_network(self, batch):
        names, found = zip(*batch, strict=True)
        x = np.stack([one.pixels for one in found])
        answered = answers(self.network, self.rule.head, (self.mode,), x, bank=self.bank)
        decisions = self.rule.decide(
            answered.logits[self.mode],
            photographs=names,
            mode=self.mode,
            qualities=[one.gradability for one in found],
            distances=None if self.cloud is None else self.cloud.distance(answered.features),
            geometries=[one.geometry for one in found],
        )
        return decisions if self.edema is None else self.edema.beside(decisions, answered.features)


def _names(photographs):
    for number, photograph in enumerate(photographs, 1):
        yield str(photograph) if isinstance(photograph, (str, os.PathLike)) else f"photograph {number}"

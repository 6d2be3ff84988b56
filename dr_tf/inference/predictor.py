"""The Predictor: from a finished run and photographs to decisions, by the same code that evaluation measures."""

import itertools

import numpy as np

from dr_tf.console import UserError
from dr_tf.fundus import subprocesses
from dr_tf.grades import EYES
from dr_tf.inference.case import SINGLE, as_cases
from dr_tf.inference.decision import Decision
from dr_tf.inference.modes import PLAIN, score_images
from dr_tf.inference.prepare_images import ImageReaders, prepare_case
from dr_tf.inference.run import load_run, read_neighbours

_BATCH = 16


class Predictor:
    """Decides on cases by a `run` (`dr_tf.inference.run.Run`).

    Args:
        mode: how to answer, one that the run's rule has a fit of.
        neighbours: who votes, where the mode asks neighbours.
        readers: how many processes may read photographs ahead; as many as there are cores where left out.
    """

    def __init__(self, run, *, mode=PLAIN, neighbours=None, readers=None):
        self.run, self.mode, self.neighbours = run, mode, neighbours
        self.requested = run.rule.requested(mode)
        self._readers = ImageReaders(run.preparation, readers)

    @classmethod
    def of_run(cls, run_dir, mode=PLAIN):
        """Of a run directory. Nothing in it is run: weights, layers of Keras and plain numbers are all it holds."""
        subprocesses.start_shared_worker()  # while the network loads
        run = load_run(run_dir)
        return cls(run, mode=mode, neighbours=read_neighbours(run_dir, run.rule.requested(mode), run.network))

    @property
    def rule(self):
        return self.run.rule

    def decisions(self, cases, *, batch_size=_BATCH):
        """A Decision for each, in order, as soon as its batch is done. What is no Case is a photograph of one.

        Other processes read the next photographs while the network is busy; no more than three batches wait in memory.
        """
        for case, found, decision in self.decided(cases, batch_size=batch_size):
            del case, found
            yield decision

    def decided(self, cases, *, batch_size=_BATCH):
        """(case, {eye: PreparedImage}, Decision) of each: also what the network was shown."""
        cases, to_read = itertools.tee(self._checked(cases))
        found = zip(cases, self._readers.ahead(to_read, 3 * batch_size), strict=True)
        while batch := list(itertools.islice(found, batch_size)):
            yield from self._decide(batch)

    def decide(self, case):
        """Of one case. May be called from any thread."""
        return self.decided_one(case)[-1]

    def decided_one(self, case):
        """As `decided`, of one case."""
        (case,) = self._checked([case])
        return next(self._decide([(case, prepare_case(self.run.preparation, case))]))

    def _checked(self, cases):
        paired = self.run.network.paired
        for case in as_cases(cases):
            if paired and SINGLE in case.photographs:
                raise UserError(f"{case.name}: this model takes both eyes of a patient; say which eye it shows")
            if not paired and SINGLE not in case.photographs:
                raise UserError(f"{case.name}: this model takes one photograph, not both eyes of a patient")
            eyes = EYES if paired else (SINGLE,)
            if not case.photographs or not set(case.photographs) <= set(eyes) or not all(case.photographs.values()):
                wanted = "'left' or 'right'" if paired else "one eye"
                raise UserError(f"{case.name}: a case has photographs of {wanted}, one at least of each that it names")
            yield case

    def _decide(self, batch):
        usable = [(case.name, found) for case, found in batch if _seen(found)]
        decided = iter(self._of_network(*zip(*usable, strict=True)) if usable else ())
        for case, found in batch:
            yield case, found, next(decided) if _seen(found) else self._unusable(case.name, found)

    def _unusable(self, name, found):
        """Of a case of which nothing reached the network."""
        images = {eye: one.image for eye, one in found.items()}
        reason = "; ".join(f"{eye} eye: {image.reason}" if eye else image.reason for eye, image in images.items())
        return Decision(name, self.rule.head.positive, "retake", gradable=False, reason=reason, images=images)

    def _of_network(self, names, found):
        scored = score_images(
            self.run.network, self.requested, _images(found, self.run.network), neighbours=self.neighbours
        )
        return self.rule.decide(
            scored.scores,
            cases=names,
            outputs=scored.outputs,
            mode=self.mode,
            images=[{eye: one.image for eye, one in case.items()} for case in found],
            distances=None
            if self.run.feature_distribution is None
            else self.run.feature_distribution.distance(scored.features),
        )


def _seen(found):
    return any(one.pixels is not None for one in found.values())


def _images(found, network):
    """A batch as the network takes it; an eye that is absent or could not be read is black, and told as absent."""
    if not network.paired:
        return np.stack([case[SINGLE].pixels for case in found])
    black = np.zeros((network.image_size, network.image_size, 3), np.uint8)
    shown = {eye: [case[eye].pixels if eye in case else None for case in found] for eye in EYES}
    images = {eye: np.stack([black if one is None else one for one in pixels]) for eye, pixels in shown.items()}
    return images | {f"{eye}_present": np.array([one is not None for one in pixels]) for eye, pixels in shown.items()}

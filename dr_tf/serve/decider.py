"""`Decider`: answers a form with decisions. Worker processes read the photographs, one thread runs the network."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
from collections.abc import Hashable, Sequence
from typing import Any

from dr_tf.console import UserError
from dr_tf.fundus import subprocesses
from dr_tf.fundus.dicom import is_dicom
from dr_tf.inference.case import Case
from dr_tf.inference.decision import Decision
from dr_tf.inference.formats import as_json
from dr_tf.inference.predictor import Predictor
from dr_tf.inference.prepare_images import PreparedImage, prepare_case
from dr_tf.serve.batcher import Batcher
from dr_tf.serve.cases import Question, question_of
from dr_tf.serve.form import Form
from dr_tf.serve.limits import Limits
from dr_tf.serve.metrics import Metrics
from dr_tf.serve.request_error import RequestError

Prepared = tuple[Case, dict[str, PreparedImage]]


class Decider:
    """Answers forms.

    Args:
        predictor: decides; its operating point and prevalence are those of forms that name none.
        limits: of the service.
        metrics: counts batches and decisions.
    """

    def __init__(self, predictor: Predictor, limits: Limits, metrics: Metrics):
        self._predictor, self._metrics = predictor, metrics
        self._pool = subprocesses.shared_pool()
        # One batch in the network and one that is read, as in `predict`: what came first is finished first.
        self._in_work = asyncio.Semaphore(2 * limits.batch)
        self._free_readers = asyncio.Semaphore(2 * self._pool.max_workers)  # each finds its next photograph waiting
        self._readers = concurrent.futures.ThreadPoolExecutor(self._pool.max_workers, "readers")
        self._network: Batcher[Prepared, Decision] = Batcher(self._decide_batch, limits.batch, metrics.batch)

    async def answer(self, form: Form) -> dict[str, Any]:
        """Return the decisions on the photographs of a form, as `dr_tf predict --format json` prints them.

        Raises:
            RequestError: 422 for a wrong setting, or a photograph that does not fit the model.
        """
        rule = form.point, form.prevalence
        self._with_rule(rule)  # a wrong setting is named before any work
        question = await self._question(form)
        decisions = await asyncio.gather(*(self._decide(rule, case) for case in question.cases))
        for decision in decisions:
            self._metrics.decision(decision.action)
        patient = question.patient_decision(decisions)
        return {
            "decisions": [as_json(decision) for decision in decisions],
            "patient": None if patient is None else as_json(patient),
        }

    def close(self) -> None:
        """End the threads."""
        self._network.close()
        self._readers.shutdown(wait=False, cancel_futures=True)

    async def _question(self, form: Form) -> Question:
        paired = self._predictor.run.network.paired
        if any(is_dicom(file.data) for file in form.files):  # their headers are read
            return await self._in_reader(question_of, form, paired=paired)
        return question_of(form, paired=paired)

    async def _decide(self, rule: Hashable, case: Case) -> Decision:
        async with self._in_work:
            images = await self._in_reader(prepare_case, self._predictor.run.preparation, case, self._pool)
            return await self._network.submit(rule, (case, images))

    async def _in_reader(self, function, *args, **kwargs):
        """Call a function in a thread. Most requests wait here for one: if they are cancelled, no photograph is left behind."""
        loop = asyncio.get_running_loop()
        await self._free_readers.acquire()
        work = self._readers.submit(function, *args, **kwargs)
        work.add_done_callback(lambda _: _release(loop, self._free_readers))  # not before the thread is free again
        return await asyncio.wrap_future(work)

    def _decide_batch(self, rule: Any, batch: Sequence[Prepared]) -> list[Decision]:
        return [decided.decision for decided in self._with_rule(rule).decide_prepared(batch)]

    def _with_rule(self, rule):
        point, prevalence = rule
        if point is None and prevalence is None:
            return self._predictor
        try:
            return self._predictor.with_rule(point=point, prevalence=prevalence)
        except UserError as error:
            raise RequestError(422, str(error)) from None


def _release(loop: asyncio.AbstractEventLoop, semaphore: asyncio.Semaphore) -> None:
    with contextlib.suppress(RuntimeError):  # the service has ended meanwhile
        loop.call_soon_threadsafe(semaphore.release)

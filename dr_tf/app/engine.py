"""The model behind the page: loaded once in the process, and shared by all visitors."""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import functools
import os
import pathlib
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np

from dr_tf.console import UserError
from dr_tf.explain.colour_scale import full_colour_value, read_scale, scale_maps
from dr_tf.explain.decide_and_explain import decide_and_explain_one
from dr_tf.explain.explanation import POSITIVE
from dr_tf.explain.export_explainer import CAM, OCCLUSION
from dr_tf.explain.make_explainer import make_explainer
from dr_tf.explain.nearest_cases import NearestCases, TrainingCase
from dr_tf.explain.pictures import display_image
from dr_tf.fundus import subprocesses
from dr_tf.fundus.header import BadImageError
from dr_tf.inference.case import Case
from dr_tf.inference.decision import Decision, PatientDecision
from dr_tf.inference.exported_network import ExportedNetwork
from dr_tf.inference.predictor import Predictor
from dr_tf.inference.prepare_images import file_bytes
from dr_tf.inference.run import NEIGHBOURS

if TYPE_CHECKING:
    from dr_tf.app.uploads import PatientCases
    from dr_tf.explain.explainer import Explainer
    from dr_tf.explain.export_explainer import ExportExplainer

PICTURE_SIDE = 1100  # pixels on the longer side of a photograph on the page
_JPEG_QUALITY = 85
_AHEAD = 2  # cases of one upload that are worked on at a time: the other visitors get their turn


@dataclasses.dataclass(frozen=True)
class Answer:
    """What the page shows of one case.

    Attributes:
        decision: the decision.
        pictures: {eye: JPEG of the photograph}, of those that can be decoded.
        maps: {eye: map [rows, columns] of the crop, from 0 to 1 for full colour}.
        one_scale: whether colours compare between photographs; if not, each map is scaled to its own maximum.
        similar: the nearest training cases, if the run keeps them.
    """

    decision: Decision
    pictures: dict[str, bytes] = dataclasses.field(default_factory=dict)
    maps: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    one_scale: bool = True
    similar: tuple[TrainingCase, ...] = ()


@dataclasses.dataclass(frozen=True)
class PatientAnswer:
    """What the page shows of one patient.

    Attributes:
        patient: the name.
        answers: (eye, answer) of each photograph, or one answer on a pair.
        unused: as in `PatientCases`.
    """

    patient: str
    answers: tuple[tuple[str, Answer], ...]
    unused: tuple[str, ...] = ()

    @property
    def decision(self) -> Decision | PatientDecision | None:
        """The decision on the patient: of several photographs that of the worse eye; None without any."""
        if len(self.answers) == 1:
            return self.answers[0][1].decision
        eyes = tuple((eye, answer.decision) for eye, answer in self.answers)
        return PatientDecision(self.patient, eyes) if eyes else None


class Engine:
    """A loaded model that decides and explains. All methods may be called from any thread.

    Args:
        run_dir: the folder of a finished run or an export.

    Attributes:
        run_dir: that folder.
        predictor: decides.
        methods: names of the methods of explanation, the default first.
        targets: what can be explained, "positive" first.

    Raises:
        UserError: the run is not finished or cannot be read.
    """

    def __init__(self, run_dir: str | os.PathLike) -> None:
        self.run_dir = run_dir
        self.predictor = Predictor.from_run(run_dir)
        self._scale = read_scale(run_dir)
        self.methods = self._methods()
        explainer = self._explainer(self.methods[0])
        self.targets = (POSITIVE, *(target for target in explainer.targets if target != POSITIVE))
        has_neighbours = (pathlib.Path(run_dir) / NEIGHBOURS).exists()
        self._nearest = NearestCases.from_run(run_dir, self.predictor) if has_neighbours else None
        self._threads = concurrent.futures.ThreadPoolExecutor(2 * (os.cpu_count() or 1))

    @property
    def paired(self) -> bool:
        """Whether the model takes both eyes of a patient at once."""
        return self.predictor.run.network.paired

    def answer(
        self, cases: PatientCases, target: str = POSITIVE, method: str | None = None, *, seconds: float
    ) -> PatientAnswer:
        """Answer about one patient.

        Args:
            cases: the patient's cases.
            target: what the maps explain.
            method: how; by default the first of `methods`.
            seconds: how long it may take.

        Raises:
            TimeoutError: it took longer.
            UserError: the target or the method does not fit the model.
        """
        [answer] = self.answers([cases], target, method, seconds=seconds)
        return answer

    def answers(
        self, patients: Sequence[PatientCases], target: str = POSITIVE, method: str | None = None, *, seconds: float
    ) -> Iterator[PatientAnswer]:
        """Yield the answer about each patient, in order; see `answer`."""
        deadline = time.monotonic() + seconds
        explainer = self._explainer(method or self.methods[0])
        cases = (case for patient in patients for _, case in patient.cases)
        answered = self._ahead(cases, explainer, target, deadline)
        for patient in patients:
            answers = tuple((eye, next(answered)) for eye, _ in patient.cases)
            yield PatientAnswer(patient.patient, answers, patient.unused)

    def _ahead(
        self, cases: Iterable[Case], explainer: Explainer | ExportExplainer, target: str, deadline: float
    ) -> Iterator[Answer]:
        waiting: collections.deque[concurrent.futures.Future[Answer]] = collections.deque()
        try:
            for case in cases:
                waiting.append(self._threads.submit(self._explained, case, explainer, target))
                if len(waiting) >= _AHEAD:
                    yield waiting.popleft().result(max(0.0, deadline - time.monotonic()))
            while waiting:
                yield waiting.popleft().result(max(0.0, deadline - time.monotonic()))
        finally:
            for job in waiting:
                job.cancel()

    def _explained(self, case: Case, explainer: Explainer | ExportExplainer, target: str) -> Answer:
        decision, explanation = decide_and_explain_one(self.predictor, explainer, case, target)
        pictures = _pictures(case, decision)
        if explanation is None or not decision.gradable:  # a map of it would mislead
            return Answer(decision, pictures)
        full = full_colour_value(self._scale, explainer, target)
        maps = scale_maps({eye: values[None] for eye, values in explanation.maps.items()}, full)
        colours = {eye: values[0] for eye, values in maps.items()}
        similar = self._nearest(explanation.features[None])[0] if self._nearest else ()
        return Answer(decision, pictures, colours, full is not None, tuple(similar))

    def _methods(self) -> tuple[str, ...]:
        network = self.predictor.run.network
        if isinstance(network, ExportedNetwork):  # the page needs no TensorFlow, even where it is installed
            return (CAM, OCCLUSION) if network.export.map_layer else (OCCLUSION,)
        from dr_tf.explain.methods import METHODS

        default = make_explainer(self.run_dir, network, self.predictor.rule).method
        others = [name for name in METHODS if name != default and (METHODS[name].by_target or self._has(name))]
        return (default, *others)

    def _has(self, method: str) -> bool:
        """Whether the network has the attention that a method draws."""
        try:
            self._explainer(method)
        except UserError:
            return False
        return True

    @functools.cache  # noqa: B019  an engine lives as long as its process
    def _explainer(self, method: str) -> Explainer | ExportExplainer:
        return make_explainer(self.run_dir, self.predictor.run.network, self.predictor.rule, method=method)


def open_engine(run_dir: str | os.PathLike) -> Engine:
    """Return the engine of a run, which is loaded once in the process."""
    return _open(os.fspath(run_dir))


@functools.cache
def _open(run_dir: str) -> Engine:
    return Engine(run_dir)


def _pictures(case: Case, decision: Decision) -> dict[str, bytes]:
    """{eye: JPEG}, decoded in a worker process, as the files may be malicious."""
    pictures = {}
    for eye, [image] in case.images.items():
        frame = decision.images[eye].frame
        try:
            rgb = subprocesses.shared_pool().run(display_image, file_bytes(image), PICTURE_SIDE, frame)
        except (BadImageError, MemoryError, OSError, cv2.error):
            continue  # the decision says why
        bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
        pictures[eye] = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1].tobytes()
    return pictures

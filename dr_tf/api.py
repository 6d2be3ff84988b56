"""The Python API: load a model, predict, explain, read records, train and evaluate.

`import dr_tf` offers what is defined here under its own name, such as `dr_tf.load`.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dr_tf.console import UserError, print_status
from dr_tf.fundus.prepare import PreparedCrop, prepare_undamaged
from dr_tf.inference.case import Case, ImageSource, NamedBytes, as_cases, pairs, single_cases
from dr_tf.inference.decision import Decision
from dr_tf.inference.find_images import find_images
from dr_tf.inference.operating_points import OperatingPoint
from dr_tf.inference.prepare_images import file_bytes
from dr_tf.inference.ready import model_folder

if TYPE_CHECKING:
    from dr_tf.data.records import Records
    from dr_tf.explain.explainer import Explainer
    from dr_tf.explain.export_explainer import ExportExplainer
    from dr_tf.inference.predictor import Predictor
    from dr_tf.training.experiment import Experiment

StrPath = str | os.PathLike
Images = ImageSource | Case | Iterable[ImageSource | Case]

_READY = "ready"


def load(run_dir: StrPath = _READY) -> Model:
    """Load a model.

    Args:
        run_dir: the folder of a finished run, or "ready" for the model that comes with dr_tf. A run of unknown origin is
            safe to load: Keras opens the model file in safe mode, and the config of the run is not read.

    Returns:
        The model.

    Raises:
        UserError: the run is not finished or cannot be read.

    Examples:
        >>> import dr_tf
        >>> model = dr_tf.load("runs/first")
        >>> model.image_size
        64
    """
    return Model(run_dir)


class Model:
    """A finished run that decides on fundus photographs, with the same code that evaluation measures.

    Args:
        run_dir: as in `load`.

    Raises:
        UserError: the run is not finished or cannot be read.

    Examples:
        >>> import dr_tf
        >>> model = dr_tf.Model("ready")
        >>> model.positive
        'referable'
        >>> len(model.classes)
        5
        >>> model.paired
        False
    """

    def __init__(self, run_dir: StrPath = _READY) -> None:
        from dr_tf.inference.predictor import Predictor

        self.run_dir = model_folder(run_dir)
        first = Predictor.from_run(self.run_dir)
        self._predictors = {first.mode: first}
        self._run = first.run
        self._explainers: dict[tuple[str | None, str | None], Explainer | ExportExplainer] = {}

    def __repr__(self) -> str:
        return f"Model({str(self.run_dir)!r}): {self._run.network.description}, {self.image_size} pixels"

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes or labels of the deciding output."""
        return tuple(self._run.rule.head.classes)

    @property
    def positive(self) -> str:
        """The definition of positive, such as "referable" (grade >= 2). A positive case is referred."""
        return self._run.rule.head.positive

    @property
    def operating_point(self) -> OperatingPoint:
        """The threshold on the probability of positive in mode "plain", with the sensitivity that it was set for."""
        return self._run.rule.operating_point("plain")

    @property
    def image_size(self) -> int:
        """The pixels on a side of the network's input."""
        return self._run.network.image_size

    @property
    def paired(self) -> bool:
        """Whether the network takes both eyes of a patient at once."""
        return self._run.network.paired

    def predict(self, images: Images, *, mode: str = "plain", batch_size: int = 16) -> list[Decision]:
        """Decide on images.

        Args:
            images: one or several images. An image is a path, the bytes of a file, or uint8 RGB pixels [height, width, 3].
                The path of a folder stands for all images below it. A `Case` names its images itself. For a model of both
                eyes, paths are grouped by names such as 12_left.jpg; other images have to be in Cases.
            mode: the inference mode, such as "tta4"; the run must have been calibrated for it.
            batch_size: how many cases the network processes at a time.

        Returns:
            A list with a Decision for each case, in order, also for a single image. An image that cannot be used gives a
            Decision with action "retake" and the reason.

        Raises:
            UserError: a path does not exist, the mode is unknown, or a case has not the eyes that the model takes.

        Examples:
            >>> import dr_tf
            >>> model = dr_tf.load("runs/first")
            >>> [decision] = model.predict("eye.jpg")
            >>> 0 <= decision.p_positive <= 1
            True
            >>> case = dr_tf.Case.from_image("eye.jpg", name="patient 12")
            >>> [decision.case for decision in model.predict([case, "eye.jpg"], mode="tta4")]
            ['patient 12', 'eye.jpg']
        """
        return list(self._predictor(mode).decisions(self._cases(images), batch_size=batch_size))

    def explain(
        self, images: Images, target: str = "positive", *, method: str | None = None, layer: str | None = None
    ) -> list[tuple[Decision, ClassActivationMap | None]]:
        """Decide on images and compute a class-activation map of each, in one pass.

        Args:
            images: as in `predict`.
            target: "positive", "grade >= K", or a class by its name or number.
            method: a name in `dr_tf.explain.methods.METHODS`, such as "hires_cam" (the default of new runs) or "occlusion";
                of an export "cam" or "occlusion".
            layer: "stride_N" or the name of a layer; "stride_16" by default.

        Returns:
            A list of (Decision, class-activation map) for each case, in order. The map is None if the case has no usable
            image.

        Raises:
            UserError: a path does not exist, or the target, method or layer is unknown.

        Examples:
            >>> import dr_tf
            >>> model = dr_tf.load("runs/first")
            >>> [(decision, cam)] = model.explain("eye.jpg", target="grade >= 2")
            >>> sorted(cam.evidence)[:2]
            ['grade >= 1', 'grade >= 2']
            >>> cam.draw().shape[-1]
            3
        """
        from dr_tf.explain.colour_scale import full_colour_value, read_scale
        from dr_tf.explain.decide_and_explain import decide_and_explain

        explainer = self._explainer(method, layer)
        full = full_colour_value(read_scale(self.run_dir), explainer, target)
        explained: list[tuple[Decision, ClassActivationMap | None]] = []
        for case, decision, explanation in decide_and_explain(
            self._predictor("plain"), explainer, self._cases(images), target
        ):
            cam = None
            if explanation is not None:
                cam = ClassActivationMap(target, explanation.evidence, explanation.maps, case, decision, full)
            explained.append((decision, cam))
        return explained

    def _predictor(self, mode: str) -> Predictor:
        from dr_tf.inference.predictor import Predictor
        from dr_tf.inference.run import read_neighbours

        if mode not in self._predictors:
            requested = self._run.rule.requested_modes(mode)
            neighbours = read_neighbours(self.run_dir, requested, self._run.network)
            self._predictors[mode] = Predictor(self._run, mode=mode, neighbours=neighbours)
        return self._predictors[mode]

    def _explainer(self, method: str | None, layer: str | None) -> Explainer | ExportExplainer:
        from dr_tf.explain.make_explainer import make_explainer

        if (method, layer) not in self._explainers:
            run = self._run
            self._explainers[method, layer] = make_explainer(
                self.run_dir, run.network, run.rule, method=method, layer=layer
            )
        return self._explainers[method, layer]

    def _cases(self, images: Images) -> list[Case]:
        cases: list[Case] = []
        for is_path, group in itertools.groupby(_as_items(images), _is_path):
            items: list[Any] = list(group)
            if not is_path:
                cases += as_cases(items)
            elif self.paired:
                cases += pairs(find_images(items))
            else:
                cases += single_cases(find_images(items))
        return cases


def _as_items(images: Images) -> list[ImageSource | Case]:
    """Return a list also of a single image."""
    if isinstance(images, str | os.PathLike | bytes | NamedBytes | Case):
        return [images]
    if isinstance(images, np.ndarray):
        return [images] if images.ndim == 3 else list(images)
    return list(images)


def _is_path(item: ImageSource | Case) -> bool:
    return isinstance(item, str | os.PathLike)


@dataclasses.dataclass(frozen=True)
class ClassActivationMap:
    """Which regions of a case's images raise the predicted probability of a target. `Model.explain` returns it.

    Attributes:
        target: what is explained, such as "positive".
        evidence: {target: evidence} of every target of the deciding output, as log-odds.
        maps: {eye: float map [height, width]} on the network's crop; the key of a single image is "". The mean of a map is
            the probability of the target.
        case: the images.
        decision: the decision about them.
        full_colour: the value of a map that has the full colour, the same for all images; None if the run has no such
            scale, so that the strongest place of each image has the full colour.

    Examples:
        >>> import dr_tf
        >>> [(decision, cam)] = dr_tf.load("runs/first").explain("eye.jpg")
        >>> list(cam.maps)
        ['']
        >>> pixels = cam.draw(colormap="jet", longest_side=200)
        >>> max(pixels.shape), pixels.dtype.name
        (200, 'uint8')
    """

    target: str
    evidence: dict[str, float]
    maps: dict[str, np.ndarray]
    case: Case
    decision: Decision
    full_colour: float | None = None

    def draw(self, colormap: str = "viridis", *, eye: str | None = None, longest_side: int = 720) -> np.ndarray:
        """Draw the map over the original image.

        Args:
            colormap: "viridis" or "jet".
            eye: "left" or "right" of a pair; the first eye that has an image if None.
            longest_side: the most pixels on a side of the picture.

        Returns:
            uint8 RGB [height, width, 3].

        Raises:
            UserError: the colormap or the eye is unknown.
            OSError: the image file cannot be read any more.
        """
        from dr_tf.explain.colour_scale import scale_maps
        from dr_tf.explain.overlay import overlay
        from dr_tf.explain.pictures import display_image

        geometries = {key: info.geometry for key, info in self.decision.images.items() if info.geometry is not None}
        chosen = next(iter(geometries)) if eye is None else eye
        if chosen not in geometries:
            raise UserError(
                f"{self.case.name}: no image of the eye {eye!r}; there is {', '.join(map(repr, geometries))}"
            )
        colours = scale_maps({key: values[None] for key, values in self.maps.items()}, self.full_colour)
        return overlay(
            display_image(file_bytes(self._source(chosen)), longest_side, self.decision.images[chosen].frame),
            colours[chosen][0],
            geometries[chosen],
            colormap,
        )

    def _source(self, eye: str) -> ImageSource:
        """Return the image that was used. Of several images of an eye it is found by its path."""
        images, name = self.case.images[eye], self.decision.images[eye].photograph
        return images[0] if len(images) == 1 else next(image for image in images if str(image) == name)


def prepare(image: ImageSource, size: int, *, enhancement: str = "plain") -> PreparedCrop:
    """Find the retina in a fundus photograph and crop, resize and enhance it, as records and predictions do.

    Args:
        image: a path, the bytes of a file, or uint8 RGB pixels [height, width, 3].
        size: pixels on a side of the crop.
        enhancement: "plain", "graham" or "clahe".

    Returns:
        The crop (`image`), where it lies on the original (`geometry`), and the image quality (`gradability`).

    Raises:
        BadImageError: the file is damaged or too large, or is not a colour fundus photograph.
        OSError: the file cannot be read.

    Examples:
        >>> import dr_tf
        >>> crop = dr_tf.prepare("eye.jpg", 256)
        >>> crop.image.shape
        (256, 256, 3)
        >>> try:
        ...     dr_tf.prepare(b"no image", 256)
        ... except dr_tf.BadImageError:
        ...     print("not an image file")
        not an image file
    """
    return prepare_undamaged(file_bytes(image), size=size, enhancement=enhancement)


def read_records(root: StrPath, dataset: str | Sequence[str]) -> Records:
    """Open a record set that `dr_tf records` wrote.

    Args:
        root: the folder of record sets, or its URL in a bucket: the value of --records.
        dataset: NAME/CONFIG, or NAME alone if it has one CONFIG. A list of names joins several record sets.

    Returns:
        The records: `columns` are arrays over all examples, `image(row)` decodes one image.

    Raises:
        UserError: there is no such record set, or it cannot be read. The message lists those that exist.

    Examples:
        >>> import dr_tf
        >>> records = dr_tf.read_records("records", "tiny/64-plain-q95")
        >>> len(records), len(records.rows("test"))
        (60, 15)
        >>> sorted(set(records.columns["grade"].tolist()))
        [0, 1, 2, 3, 4]
    """
    from dr_tf.data.records import open_records

    return open_records(root, dataset)


def train(
    config: StrPath | Sequence[StrPath],
    records: StrPath,
    run_dir: StrPath,
    *,
    bindings: Sequence[str] = (),
    init_from: StrPath | None = None,
    audit: bool = True,
) -> Model:
    """Train the model that a config describes, or resume its training. One training at a time in a process.

    Args:
        config: the path of a config, or the name of one that comes with dr_tf, such as "idrid_transfer"; or several, of
            which later ones override earlier ones.
        records: the folder of record sets, or its URL in a bucket.
        run_dir: the run directory to write. A training that was stopped resumes from it.
        bindings: settings that override the config, such as "train.epochs = 10".
        init_from: a finished run whose weights the training starts from.
        audit: whether images that several record sets share are left out, if the config names several.

    Returns:
        The finished model, as `load(run_dir)` returns it.

    Raises:
        UserError: the config, the records or the run directory cannot be used.

    Examples:
        >>> import dr_tf
        >>> settings = ["train.dataset = 'tiny/64-plain-q95'", "IMAGE_SIZE = 64", "train.epochs = 2", "train.modes = ()"]
        >>> model = dr_tf.train("quickstart", "records", "runs/second", bindings=settings)  # doctest: +ELLIPSIS
        Epoch 1/2
        ...
        >>> model.classes
        ('not referable', 'referable')
    """
    from dr_tf import configuration
    from dr_tf.config_files import find_config
    from dr_tf.training import strategies
    from dr_tf.training.train import train as train_experiment

    configs = [config] if isinstance(config, str | os.PathLike) else config
    configuration.parse([find_config(name) for name in configs], bindings)
    settings: Experiment = configuration.build("train")
    if settings.protocol != "splits":
        raise UserError(
            f"train.protocol = {settings.protocol!r} trains one run per source: use the command `dr_tf train`"
        )
    strategies.make_strategy(settings.distribution)  # TensorFlow connects workers before it reads records
    experiment, opened, config_text = open_experiment(records, audit=audit)
    train_experiment(experiment, opened, run_dir=run_dir, config=config_text, init_from=init_from)
    return load(run_dir)


def open_experiment(records_dir: StrPath, *, audit: bool) -> tuple[Experiment, Records, Callable[[], str]]:
    """Build the experiment of the parsed config and open its records.

    Args:
        records_dir: the folder of record sets, or its URL in a bucket.
        audit: whether images that several record sets share are left out.

    Returns:
        The experiment, its records, and a function that returns the config of the run, by which a run is resumed.
    """
    from dr_tf import configuration
    from dr_tf.data.cross_set_copies import leave_out_copies

    experiment, records = configuration.build_experiment(records_dir)
    if len(records.parts) == 1:
        return experiment, records, configuration.operative_config
    left_out: Any = "not looked for"
    if audit:
        records, left_out = leave_out_copies(records, audit_record_sets)

    def config_text() -> str:
        return f"{configuration.operative_config()}\n# Shared by the sets, and left out = {left_out}\n"

    return experiment, records, config_text


def evaluate(
    run_dir: StrPath,
    records: StrPath,
    *,
    dataset: str | None = None,
    split: str = "test",
    mode: str = "plain",
    label_shift: str | None = None,
    audit: bool = True,
    explain: Sequence[str] = (),
    prevalence: float | None = None,
    bootstrap_samples: int = 2000,
) -> tuple[dict[str, Any], pathlib.Path]:
    """Evaluate a finished run on data that it was not trained on, and write a report into the run directory.

    Args:
        run_dir: the finished run.
        records: the folder of record sets, or its URL in a bucket.
        dataset: NAME/CONFIG of another record set, for an external validation; the run's own if None.
        split: "test", "validation", "calibration" or "train"; "folds" for the out-of-fold predictions of a run trained with
            folds; "sources" for the held-out sources of a cross-site protocol; "all" for every split of another record
            set. Evaluations of a test split are logged.
        mode: the inference mode.
        label_shift: "em" or "bbse" adds the metrics after a label-shift correction.
        audit: whether copies of images that the run was trained on are left out of another record set.
        explain: maps to score, such as "grad_cam" or "hires_cam@stride_8". Images need no label for them.
        prevalence: of positives, for PPV and NPV.
        bootstrap_samples: bootstrap samples for the confidence intervals.

    Returns:
        (metrics, path of report.html). `metrics` is empty if no label is known and only maps were scored. A metric is a dict with "value", "low", "high", "n" and "method".

    Raises:
        UserError: the run or the records cannot be used.

    Examples:
        >>> import dr_tf
        >>> metrics, report = dr_tf.evaluate("runs/first", "records", bootstrap_samples=20)
        >>> metrics["n"]
        15
        >>> metrics["accuracy"]["low"] <= metrics["accuracy"]["value"] <= metrics["accuracy"]["high"]
        True
        >>> report.name
        'report.html'
    """
    if split in ("folds", "sources"):
        from dr_tf.evaluation.protocol.cross_site import evaluate_sources
        from dr_tf.evaluation.protocol.out_of_fold import evaluate_folds

        if dataset or label_shift or explain:
            raise UserError(f"split={split!r} evaluates stored predictions: no dataset, label_shift or explain")
        evaluate_runs = evaluate_folds if split == "folds" else evaluate_sources
        folder, metrics = evaluate_runs(
            run_dir, records, mode=mode, prevalence=prevalence, bootstrap_samples=bootstrap_samples
        )
    else:
        from dr_tf.evaluation import evaluate as evaluation

        folder, metrics = evaluation.evaluate(
            run_dir,
            records,
            dataset=dataset,
            split=split,
            mode=mode,
            label_shift=label_shift,
            audit=audit_record_sets if audit else None,
            explain=explain,
            prevalence=prevalence,
            bootstrap_samples=bootstrap_samples,
        )
    return metrics, pathlib.Path(folder) / "report.html"


def audit_record_sets(folders: Sequence[StrPath], output: StrPath) -> None:
    """Write the images that record sets share to a CSV file, with every core, and print a summary to standard error.

    Args:
        folders: folders RECORDS/NAME/CONFIG/VERSION, two or more.
        output: the CSV file to write.
    """
    from tfrecords_builder.audit_sets import audit_sets

    *summary, _ = audit_sets(folders, output, workers=os.cpu_count() or 1)  # the last line names the file
    print_status("\n".join(summary))

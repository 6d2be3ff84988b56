"""`dr_tf explain`: draw maps of the evidence on fundus photographs, with the decision about each."""

from __future__ import annotations

import argparse
import os
import pathlib
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from dr_tf.console import UserError, exit_on_user_error, is_installed, print_status, progress
from dr_tf.fundus import subprocesses
from dr_tf.inference.find_images import ACCEPTED, find_images
from dr_tf.inference.patients import read_patient_table
from dr_tf.inference.ready import add_run_dir_argument, print_measured
from dr_tf.process import STATUSES
from dr_tf.runtime import starting_tensorflow
from dr_tf.safe_names import printable

if TYPE_CHECKING:
    import numpy as np

    from dr_tf.explain.captions import Entry
    from dr_tf.explain.nearest_gallery import NearestEntry
    from dr_tf.inference.case import Case
    from dr_tf.inference.predictor import Predictor

_EXAMPLES = """examples:
  {prog} --output maps photograph.jpg       with the model that comes with dr_tf
  {prog} --run_dir runs/idrid --output maps photograph.jpg
  {prog} --run_dir runs/idrid --output maps --target "grade >= 3" --layer stride_16 FOLDER

For each photograph a picture is written below --output: the photograph, and the map over it in two colormaps. Beside them
are explanations.html, explanations.json and, for several photographs, contact_sheet.jpg. Colours follow the scale that is
stored with the run, so that they compare between photographs. If the run has no scale for the target, method and layer,
or with --stretch, the strongest place of each photograph has the full colour.
exit status: 0 if every photograph was explained; 1 if one could not be used or drawn; 2 for wrong flags and for errors that
are printed as one line beginning with "error:", such as a missing file or an unreadable run; {statuses}.
"""


def parse(arguments: Sequence[str] | None, prog: str = "python -m dr_tf.explain") -> argparse.Namespace:
    """Parse the command line.

    Args:
        arguments: the command line after the program's name; that of this process if None.
        prog: the program's name in the help text.
    """
    parser = argparse.ArgumentParser(
        prog,
        description="Draw class-activation maps on fundus photographs: which regions raise the predicted probability.",
        epilog=_EXAMPLES.format(prog=prog, statuses=STATUSES),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("images", nargs="+", metavar="IMAGE|FOLDER", type=pathlib.Path, help=ACCEPTED)
    add_run_dir_argument(parser)
    parser.add_argument("--output", required=True, type=pathlib.Path, metavar="DIR", help="the folder to write to")
    parser.add_argument(
        "--target", default="positive",
        help='what to explain: positive (the default), "grade >= K", or a class by its name or number',
    )  # fmt: skip
    parser.add_argument(
        "--patient_table", metavar="CSV",
        help="for a model of both eyes: a file with the columns image, patient, eye and optionally age, sex, for images not "
        "named like 12_left",
    )  # fmt: skip
    parser.add_argument(
        "--method",
        help="hires_cam (the default of new runs), grad_cam, grad_cam_plus_plus, score_cam, integrated_gradients, occlusion, "
        "attention_rollout (vision transformers), or nearest_cases: the nearest training cases instead of a map; of an export "
        "cam or occlusion, without gradients",
    )
    parser.add_argument("--layer", help="stride_N or the name of a layer (default: stride_16)")
    parser.add_argument(
        "--records", metavar="DIR",
        help="for nearest_cases: the folder of record sets, to show the photographs of training cases",
    )  # fmt: skip
    parser.add_argument(
        "--stretch", action="store_true",
        help="give the strongest place of each photograph the full colour, instead of one scale for all; captions state it",
    )  # fmt: skip
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None, prog: str = "python -m dr_tf.explain") -> None:
    """Parse the command line, write the gallery and exit. Arguments as those of `parse`."""
    flags = parse(arguments, prog)
    with exit_on_user_error():
        entries = run(flags)
    unexplained = [entry for entry in entries if entry.problem]
    for entry in unexplained:
        print_status(f"{printable(entry.decision.case)}: {entry.problem}")
    page = flags.output / "explanations.html"
    if not is_installed("jinja2"):
        print_status(f"{page.name} needs jinja2: pip install 'dr_tf[train]'; pictures and values are written")
        page = flags.output / "explanations.json"
    print(printable(page))
    sys.exit(1 if unexplained else 0)


def run(flags: argparse.Namespace) -> Sequence[Entry | NearestEntry]:
    """Write the gallery as the flags ask, and return its entries."""
    subprocesses.start_shared_worker()  # it imports numpy and OpenCV while this process does
    paths = list(find_images(flags.images))
    table = read_patient_table(flags.patient_table) if flags.patient_table else None
    _check_output(flags.output, flags.images)
    with starting_tensorflow(without=("sklearn", "matplotlib")):
        from dr_tf.explain.nearest_cases import NEAREST_CASES
        from dr_tf.inference.case import pairs, single_cases
        from dr_tf.inference.predictor import Predictor

        predictor = Predictor.from_run(flags.run_dir)
    print_measured(flags.run_dir)
    paired = predictor.run.network.paired
    cases = pairs(paths, table) if paired else list(single_cases(paths))
    if flags.method == NEAREST_CASES:
        return _write_nearest_cases(flags, predictor, cases)
    if flags.records:
        raise UserError(f"--records is for --method {NEAREST_CASES}")
    return _write_maps(flags, predictor, cases)


def _write_maps(flags: argparse.Namespace, predictor: Predictor, cases: Sequence[Case]) -> list[Entry]:
    from dr_tf.explain.colour_scale import read_scale
    from dr_tf.explain.gallery import write_gallery
    from dr_tf.explain.make_explainer import make_explainer

    scale, network = read_scale(flags.run_dir), predictor.run.network
    with starting_tensorflow(without=("sklearn", "matplotlib")):
        explainer = make_explainer(flags.run_dir, network, predictor.rule, method=flags.method, layer=flags.layer)
    print_status(f"maps: {explainer.method}, {explainer.layer_name}")
    explainer.target_index(flags.target)  # refuses an unknown target
    _create(flags.output)
    with progress(len(cases), "explaining", "cases") as bar:
        return write_gallery(
            flags.output,
            predictor,
            explainer,
            cases,
            target=flags.target,
            scale=None if flags.stretch else scale,
            on_progress=lambda entry: bar.update(),
        )


def _write_nearest_cases(flags: argparse.Namespace, predictor: Predictor, cases: Sequence[Case]) -> list[NearestEntry]:
    from dr_tf.explain.nearest_cases import NEAREST_CASES, NearestCases
    from dr_tf.explain.nearest_gallery import write_nearest_gallery

    if flags.layer or flags.stretch or flags.target != "positive":
        raise UserError(f"--method {NEAREST_CASES} draws no map: it takes no --layer, --target or --stretch")
    nearest = NearestCases.from_run(flags.run_dir, predictor)
    thumbnail = _thumbnails(flags.records, predictor.run.preparation.records)
    _create(flags.output)
    with progress(len(cases), "explaining", "cases") as bar:
        return write_nearest_gallery(
            flags.output, predictor, nearest, cases, thumbnail=thumbnail, on_progress=lambda entry: bar.update()
        )


def _thumbnails(root: str | None, dataset: str) -> Callable[[str], np.ndarray | None]:
    """A function from SET/NAME of a training case to its photograph; both eyes of a pair side by side."""
    if root is None:
        return lambda name: None
    import numpy as np

    from dr_tf.data.records import open_records
    from dr_tf.training.example_names import example_names

    records = open_records(root, dataset)
    row_of = {str(name): row for row, name in enumerate(example_names(records, np.arange(len(records))))}

    def thumbnail(name: str) -> np.ndarray | None:
        if (row := row_of.get(name)) is None:
            return None
        return np.hstack([records.image(row, eye) for eye in records.eyes if records.present(eye)[row]])

    return thumbnail


def _create(output: pathlib.Path) -> None:
    """Create the output folder once all flags are known to be right, and before the work, so that no work is lost."""
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--output {printable(output)} cannot be written: {error.strerror}") from error


def _check_output(output: pathlib.Path, inputs: Iterable[pathlib.Path]) -> None:
    """Refuse an output folder among the input images: a second run would explain the pictures of the first."""
    if os.path.exists(output) and not os.path.isdir(output):  # pathlib's raise if the name is too long
        raise UserError(f"--output {output} is a file; name a folder")
    for path in inputs:
        if os.path.isdir(path) and output.resolve().is_relative_to(path.resolve()):
            raise UserError(f"--output {output} is inside the image folder {path}; name a folder outside of it")

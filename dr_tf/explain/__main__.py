"""Shows why: where in a photograph a network saw what it decided by. `python -m dr_tf.explain --help`."""

import argparse
import pathlib
import sys

from dr_tf.console import UserError, mistakes_in_one_line, progress, say
from dr_tf.inference.find_images import ACCEPTED, find
from dr_tf.inference.patients import read_table
from dr_tf.inference.ready import add_run_dir, say_measured
from dr_tf.runtime import starting_tensorflow
from dr_tf.safe_names import printable

EXAMPLES = """examples:
  python -m dr_tf.explain --output why photograph.jpg       # by the model that comes with dr_tf
  python -m dr_tf.explain --run_dir runs/idrid --output why photograph.jpg
  python -m dr_tf.explain --run_dir runs/idrid --output why --target "grade >= 3" --layer stride_16 FOLDER

Of each photograph there is a picture below --output: the photograph, and overlays by two colormaps; beside them are
explanations.html, explanations.json and, of several, contact_sheet.jpg. Colours are on the scale that came with the run,
so that they compare between photographs; where it has none of that target, method and layer, or with --stretch, each
photograph's strongest place has the full colour.
exit status: 0 where all were explain_crops; 1 where a photograph could not be used or drawn; 2 for wrong use and for what one
line beginning with "error:" says, such as a file that is not there or a run that cannot be read.
"""


def parse(arguments):
    parser = argparse.ArgumentParser(
        "python -m dr_tf.explain",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("photographs", nargs="+", metavar="IMAGE|FOLDER", type=pathlib.Path, help=ACCEPTED)
    add_run_dir(parser)
    parser.add_argument("--output", required=True, type=pathlib.Path, help="the folder to write to")
    parser.add_argument(
        "--target", default="positive", help='what to explain: positive, "grade >= K", or a class by its name or number'
    )
    parser.add_argument(
        "--patient_table",
        help="of a model of both eyes: CSV with the columns image, patient, eye, instead of names such as 12_left",
    )
    parser.add_argument("--method", help="grad_cam (the default), grad_cam_plus_plus or hires_cam")
    parser.add_argument("--layer", help="stride_N or the name of a layer; stride_16 where left out")
    parser.add_argument(
        "--stretch",
        action="store_true",
        help="full colour at each photograph's own strongest place, in place of one scale for all; pictures say so",
    )
    return parser.parse_args(arguments)


def run(flags):
    """Writes the gallery; returns its entries."""
    paths = list(find(flags.photographs))
    table = read_table(flags.patient_table) if flags.patient_table else None
    _check_output(flags.output, flags.photographs)
    with starting_tensorflow(without=("sklearn", "matplotlib")):
        from dr_tf.explain.colour_scale import read_scale
        from dr_tf.explain.explainer import Explainer
        from dr_tf.explain.gallery import write_gallery
        from dr_tf.explain.methods import DEFAULT_METHOD
        from dr_tf.inference.case import Case, pairs
        from dr_tf.inference.predictor import Predictor

        predictor = Predictor.of_run(flags.run_dir)
    say_measured(flags.run_dir)
    method = flags.method or DEFAULT_METHOD
    rule, network = predictor.rule, predictor.run.network
    explainer = Explainer(network.model, rule.head, output=rule.decides, method=method, layer=flags.layer)
    cases = pairs(paths, table) if network.paired else [Case.of(path) for path in paths]
    fitted = None if flags.stretch else read_scale(flags.run_dir)
    with progress(len(cases), "explaining", "cases") as bar:
        return write_gallery(
            flags.output,
            predictor,
            explainer,
            cases,
            target=flags.target,
            fitted=fitted,
            told=lambda entry: bar.update(),
        )


def _check_output(output, places):
    """Else a second run would take the pictures of the first for photographs."""
    if output.exists() and not output.is_dir():
        raise UserError(f"--output {output} is a file; it names a folder")
    for place in places:
        if place.is_dir() and output.resolve().is_relative_to(place.resolve()):
            raise UserError(f"--output {output} lies among the photographs of {place}; name a folder outside of it")


def main(arguments=None):
    flags = parse(arguments)
    with mistakes_in_one_line():
        entries = run(flags)
    unexplained = [entry for entry in entries if entry.mishap]
    for entry in unexplained:
        say(f"{printable(entry.decision.case)}: {entry.mishap}")
    print(printable(flags.output / "explanations.html"))
    sys.exit(1 if unexplained else 0)


if __name__ == "__main__":
    main()

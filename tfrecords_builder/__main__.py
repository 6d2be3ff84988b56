"""`python -m tfrecords_builder LAYOUT --source DIR --records DIR`: photographs become TFRecords."""

import argparse
import os
import pathlib
import re
import sys

from dr_tf.console import UserError, exit_on_user_error, require_packages
from dr_tf.runtime import starting_tensorflow
from tfrecords_builder.layouts import known_layouts

_EPILOG = """\
Records lie in RECORDS/NAME/CONFIG/1.0.0 and are read by any TensorFlow program:
  tfds.builder_from_directory("records/idrid/512-plain-q95/1.0.0").as_dataset("train")
Beside them: folds.csv (who is in which fold), rejected.csv (what was left out, and why), audit.csv (copies, and likely
second photographs of an eye).
"""


def parse(arguments, prog="python -m tfrecords_builder"):
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Crops fundus photographs to the retina and writes them as TFRecords (a TFDS dataset).",
        epilog=f"{prog} LAYOUT --help says what a set is, its licence, and how to lay it out.",
    )
    commands = parser.add_subparsers(dest="layout", metavar="LAYOUT", required=True)
    for name, layout in known_layouts().items():
        command = commands.add_parser(
            name,
            help=layout.summary,
            description=layout.about,
            epilog=_EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        layout.add_flags(command)
        _add_common_flags(command)
    _add_audit(commands)
    return parser.parse_args(arguments)


def _add_audit(commands):
    parser = commands.add_parser(
        "audit",
        help="do record sets share photographs, or eyes?",
        description="Compares record sets with each other: copies (rescaled, recompressed, re-cropped, mirrored, turned, "
        "brighter or darker) and likely second photographs of an eye. External validation must not share photographs.",
    )
    parser.add_argument("sets", nargs="+", type=pathlib.Path, metavar="RECORDS/NAME/CONFIG/VERSION")
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("audit.csv"), metavar="CSV",
                        help="every pair, with its sets, splits and labels (default: %(default)s)")  # fmt: skip
    parser.add_argument("--workers", type=_between(1, 1024), default=os.cpu_count(), help="(default: %(default)s)")


def _add_common_flags(parser):
    parser.add_argument("--source", type=pathlib.Path, required=True, metavar="DIR", help="the folder shown above")
    parser.add_argument("--records", type=pathlib.Path, required=True, metavar="DIR", help="where records are kept")
    parser.add_argument("--image_size", type=_between(32, 4096), default=512, help="side of a crop (default: 512)")
    parser.add_argument(
        "--enhancement", choices=("plain", "graham", "clahe"), default="plain",
        help="applied to every crop (default: plain). It is part of the records' name, NAME/512-graham-q95, by which a config "
        "asks for them; prediction and explanation then enhance photographs in the same way",
    )  # fmt: skip
    parser.add_argument("--quality", type=_between(50, 100), default=95, help="of the crop's JPEG (default: 95)")
    parser.add_argument(
        "--shares", default="train=70,validation=10,calibration=10,test=10",
        help="of the splits that were not published (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of splits and folds (default: 0)")
    parser.add_argument("--folds", type=_between(2, 100), default=5, help="in folds.csv (default: 5)")
    parser.add_argument(
        "--workers", type=_between(1, 1024), default=os.cpu_count(), help="processes (default: %(default)s)"
    )
    parser.add_argument(
        "--max_megapixels", type=_between(1, 10000), default=200, help="refuse larger photographs (default: 200)"
    )
    parser.add_argument(
        "--audit", choices=("on", "strict", "off"), default="on",
        help="for copies: on drops and flags them, strict refuses if any cross published splits (default: on)",
    )  # fmt: skip
    parser.add_argument(
        "--beam_runner", default="", metavar="NAME",
        help="crop and write on Apache Beam (DirectRunner, FlinkRunner, DataflowRunner, ...), whose workers see SOURCE and "
        "RECORDS under the same paths; the records are the same",
    )  # fmt: skip
    parser.add_argument(
        "--beam_option", action="append", default=[], metavar="NAME=VALUE", help="for the runner; may be repeated"
    )
    parser.add_argument("--paired", action="store_true", help="one record a patient, with both eyes")
    parser.add_argument("--sheet", metavar="PNG", help="draw a contact sheet: originals with the border, and crops")
    parser.add_argument("--sheet_count", type=_between(1, 10000), default=60, help="photographs on it (default: 60)")
    parser.add_argument("--overwrite", action="store_true", help="replace records that are there")


def _between(low, high):
    def number(text):
        if not text.isdigit() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"must be a whole number from {low} to {high}")
        return int(text)

    return number


def run(flags):
    # Imported here, so that --help answers at once.
    if flags.layout == "audit":
        from tfrecords_builder.audit_sets import audit_sets

        print("\n".join(audit_sets(flags.sets, flags.output, workers=flags.workers, starting=starting_tensorflow)))
        return
    from tfrecords_builder.beam_runner import parse_beam
    from tfrecords_builder.build import Plan, build
    from tfrecords_builder.build_summary import summarize
    from tfrecords_builder.crops import Options
    from tfrecords_builder.samples import without_repeats
    from tfrecords_builder.splits import parse_shares

    require_packages("tensorflow", "tensorflow_datasets")
    layout = known_layouts()[flags.layout]
    name = layout.dataset_name(flags)
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise UserError(f"--name {name!r}: use small letters, digits and underscores, beginning with a letter")
    with starting_tensorflow():  # Beam greets as well
        beam = parse_beam(flags.beam_runner, flags.beam_option)
    plan = Plan(
        name=name,
        source=flags.source,
        records=flags.records,
        options=Options(
            flags.image_size, flags.enhancement, flags.quality, flags.max_megapixels, flags.paired, flags.audit
        ),
        shares=parse_shares(flags.shares),
        seed=flags.seed,
        folds=flags.folds,
        workers=flags.workers,
        overwrite=flags.overwrite,
        beam=beam,
        starting=starting_tensorflow,
    )
    listing = without_repeats(layout.read(flags.source, flags))
    print(f"{name}: {len(listing.samples)} photographs below {flags.source}", file=sys.stderr)
    report = build(plan, listing)
    if report is None:
        print(f"{plan.target} is done: same options, same {len(listing.samples)} photographs")
        return
    print(summarize(report))
    if flags.sheet:
        from tfrecords_builder.sheet import write_sheet

        write_sheet(flags.sheet, report, flags.sheet_count)
        print(flags.sheet)


def main(arguments=None, prog="python -m tfrecords_builder"):
    flags = parse(arguments, prog)
    with exit_on_user_error(format_error=str, interrupted="stopped; nothing half-written was left"):
        try:
            run(flags)
        except OSError as error:
            where = error.filename or getattr(flags, "records", "")
            raise UserError(f"{error.strerror or error}: {where}; nothing half-written was left") from error


if __name__ == "__main__":
    main()

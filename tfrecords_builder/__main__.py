"""`python -m tfrecords_builder LAYOUT --source DIR --records DIR`: convert a published data set to TFRecords."""

import argparse
import os
import pathlib
import re
import sys
from collections.abc import Callable, Sequence

from dr_tf.buckets.urls import is_url, path_or_url
from dr_tf.console import UserError, exit_on_user_error, require_packages
from dr_tf.process import run_command
from dr_tf.runtime import starting_tensorflow
from tfrecords_builder.layouts import Layout, known_layouts
from tfrecords_builder.samples import Listing, Rejection, drop_repeated_ids

_PROG = "python -m tfrecords_builder"
_EPILOG = """\
The records are written to RECORDS/NAME/CONFIG/1.0.0. Any TensorFlow program can read them:
  tfds.builder_from_directory("records/idrid/512-plain-q95/1.0.0").as_dataset("train")
The same folder contains:
  folds.csv      the cross-validation fold of each image outside the test split
  rejected.csv   the images that were left out, with the reasons
  audit.csv      pairs of copies, and of images that probably show the same eye
"""


def parse(arguments: Sequence[str] | None, prog: str = _PROG) -> argparse.Namespace:
    """Parse the command line.

    Args:
        arguments: The arguments after the command's name; None for those of this process.
        prog: The command's name in help texts.
    """
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Crop fundus photographs to the retina and write them as TFRecords (a TFDS data set).",
        epilog=f"`{prog} LAYOUT --help` describes a data set, its licence, its source, and the folder tree that the "
        "builder expects.",
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
        help="compare record sets: do they share images or eyes?",
        description="Compare record sets with each other. The audit finds copies of images, even if they were "
        "rescaled, recompressed, cropped differently, mirrored, rotated, brightened or darkened. It also finds images "
        "that probably show the same eye. A set for external validation must not share images with the training set.",
    )
    parser.add_argument("sets", nargs="+", type=path_or_url, metavar="RECORDS/NAME/CONFIG/VERSION")
    parser.add_argument(
        "--output", type=pathlib.Path, default=pathlib.Path("audit.csv"), metavar="CSV",
        help="receives every pair, with its record sets, splits and labels (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--workers", type=_between(1, 1024), default=os.cpu_count(), help="number of processes (default: %(default)s)"
    )


def _add_common_flags(parser):
    parser.add_argument(
        "--source", type=path_or_url, required=True, metavar="DIR",
        help="folder with the tree shown above, or its URL (s3://, gs://): it is copied to the cache first",
    )  # fmt: skip
    parser.add_argument(
        "--records", type=path_or_url, required=True, metavar="DIR",
        help="folder for all record sets, or its URL (s3://, gs://)",
    )  # fmt: skip
    parser.add_argument(
        "--image_size", type=_between(32, 4096), default=512, help="side of the square crop in pixels (default: 512)"
    )
    parser.add_argument(
        "--enhancement", choices=("plain", "graham", "clahe"), default="plain",
        help="contrast enhancement of every crop (default: plain, which is none). It is part of the records' name, "
        "as in NAME/512-graham-q95. Prediction with a model that was trained on such records applies the same "
        "enhancement",
    )  # fmt: skip
    parser.add_argument("--quality", type=_between(50, 100), default=95, help="JPEG quality of a crop (default: 95)")
    parser.add_argument(
        "--shares", default="train=70,validation=10,calibration=10,test=10",
        help="shares of the splits, for images without a published split (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="random seed of splits and folds (default: 0)")
    parser.add_argument(
        "--folds", type=_between(2, 100), default=5, help="number of cross-validation folds in folds.csv (default: 5)"
    )
    parser.add_argument(
        "--workers", type=_between(1, 1024), default=os.cpu_count(), help="number of processes (default: %(default)s)"
    )
    parser.add_argument(
        "--max_megapixels", type=_between(1, 10000), default=200, help="reject larger images (default: 200)"
    )
    parser.add_argument(
        "--audit", choices=("on", "strict", "off"), default="on",
        help="leak audit: 'on' rejects copies, but keeps a published test split complete and flags its copies; "
        "'strict' refuses to build if a pair crosses the published splits; 'off' skips the audit (default: on)",
    )  # fmt: skip
    parser.add_argument(
        "--beam_runner", default="", metavar="NAME",
        help="crop and write on Apache Beam, with this runner (DirectRunner, FlinkRunner, DataflowRunner, ...). Its "
        "workers must reach SOURCE and RECORDS under the same paths. The records equal those of a local build",
    )  # fmt: skip
    parser.add_argument(
        "--beam_option", action="append", default=[], metavar="NAME=VALUE",
        help="option of the Beam runner; may be repeated",
    )  # fmt: skip
    parser.add_argument("--paired", action="store_true", help="write one record per patient, with both eyes")
    parser.add_argument(
        "--sheet", metavar="PNG", help="draw a contact sheet of originals with the detected border, and their crops"
    )
    parser.add_argument(
        "--sheet_count", type=_between(1, 10000), default=60, help="number of images on the sheet (default: 60)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace records that exist")


def _between(low: int, high: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isdigit() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"must be a whole number from {low} to {high}")
        return int(text)

    return number


def run(flags: argparse.Namespace) -> None:
    """Run the command of parsed flags: build a record set, or audit several."""
    # Imports are here, so that --help prints without waiting for them.
    if flags.layout == "audit":
        from tfrecords_builder.audit_sets import audit_sets

        print("\n".join(audit_sets(flags.sets, flags.output, workers=flags.workers, starting=starting_tensorflow)))
        return
    from dr_tf.buckets.cache import cache_folder
    from tfrecords_builder.beam_runner import parse_beam_flags
    from tfrecords_builder.build import build
    from tfrecords_builder.build_summary import summarize
    from tfrecords_builder.plan import Options, Plan
    from tfrecords_builder.publication import build_in_bucket
    from tfrecords_builder.splits import parse_shares

    require_packages("tensorflow", "tensorflow_datasets")
    layout = known_layouts()[flags.layout]
    name = layout.dataset_name(flags)
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise UserError(f"--name {name!r}: use small letters, digits and underscores, beginning with a letter")
    with starting_tensorflow():  # Beam imports libraries that print messages at start-up too
        beam_runner = parse_beam_flags(flags.beam_runner, flags.beam_option)
    bucket = flags.records if is_url(flags.records) else ""
    source, listing = _read_source(flags, layout)
    plan = Plan(
        name=name,
        source=source,
        records=cache_folder("builds", bucket) if bucket else flags.records,
        bucket=bucket,
        options=Options(
            image_size=flags.image_size,
            enhancement=flags.enhancement,
            quality=flags.quality,
            max_megapixels=flags.max_megapixels,
            paired=flags.paired,
            audit=flags.audit,
        ),
        shares=parse_shares(flags.shares),
        seed=flags.seed,
        folds=flags.folds,
        workers=flags.workers,
        overwrite=flags.overwrite,
        beam_runner=beam_runner,
        starting=starting_tensorflow,
    )
    print(f"{name}: {len(listing.samples)} images below {flags.source}", file=sys.stderr)
    report = build_in_bucket(plan, listing) if bucket else build(plan, listing)
    if report is None:
        print(f"{plan.address} is up to date: same options, same {len(listing.samples)} images")
        return
    print(summarize(report))
    if flags.sheet:
        from tfrecords_builder.contact_sheet import write_contact_sheet

        write_contact_sheet(flags.sheet, report, flags.sheet_count)
        print(flags.sheet)


def _read_source(flags: argparse.Namespace, layout: Layout) -> tuple[pathlib.Path, Listing]:
    """Return (the folder of images, the listing). What is in a bucket is copied to the cache first."""
    from dr_tf.buckets.mirror import copy_one, mirror

    if is_url(getattr(flags, "labels", None)):
        flags.labels = copy_one(flags.labels)
    if not is_url(flags.source):
        return flags.source, drop_repeated_ids(layout.read(flags.source, flags))
    copy = mirror(flags.source)
    listing = layout.read(copy.folder, flags)
    left_out = [Rejection(name, name, reason) for name, reason in copy.left_out.items()]
    return copy.folder, drop_repeated_ids(Listing(listing.samples, listing.rejections + left_out))


def main(arguments: Sequence[str] | None = None, prog: str = _PROG) -> None:
    """Run the command. A user's mistake ends it with one line on standard error.

    Args:
        arguments: The arguments after the command's name; None for those of this process.
        prog: The command's name in help texts.
    """
    flags = parse(arguments, prog)
    with exit_on_user_error(format_error=str, interrupted="stopped; no partial files were left"):
        try:
            run(flags)
        except OSError as error:
            path = error.filename or getattr(flags, "records", "")
            raise UserError(f"{error.strerror or error}: {path}; no partial files were left") from error


if __name__ == "__main__":
    run_command(main)

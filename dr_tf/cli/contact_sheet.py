"""`python -m dr_tf.data`: draw the training batches of a config, after sampling and augmentation, beside the originals."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterator, Sequence

from dr_tf.cli.flags import add_config_flags
from dr_tf.config_files import find_config
from dr_tf.console import UserError, captured_stderr, exit_on_user_error, print_status
from dr_tf.fundus.prepare import DAMAGE_MESSAGE
from dr_tf.runtime import starting_tensorflow


def parse(arguments: Sequence[str] | None, prog: str = "python -m dr_tf.data") -> argparse.Namespace:
    """Parse the command line.

    Args:
        arguments: the command line after the program's name; that of this process if None.
        prog: the program's name in the help text.
    """
    parser = argparse.ArgumentParser(
        prog,
        description="Draw a contact sheet of the training batches of a config: images after sampling and augmentation, "
        "beside the originals.",
    )
    add_config_flags(parser)
    parser.add_argument("--output", required=True, metavar="PNG", help="the picture to write")
    parser.add_argument(
        "--count", type=int, default=32, metavar="N",
        help="the number of examples to draw, rounded up to whole batches (default: 32)",
    )  # fmt: skip
    return parser.parse_args(arguments)


@contextlib.contextmanager
def _refusing_damaged_images(records: str) -> Iterator[None]:
    """Turn libjpeg's warnings into one line. It decodes damaged data to a wrong picture, and only warns on descriptor 2."""
    messages = b""
    try:
        with captured_stderr() as captured:
            try:
                yield
            finally:
                messages = captured()
    finally:
        lines = messages.splitlines(keepends=True)
        os.write(2, b"".join(line for line in lines if not DAMAGE_MESSAGE.search(line)))
    if DAMAGE_MESSAGE.search(messages):
        raise UserError(f"{records}: an image is damaged, so the picture may be wrong; build the records again")


def main(arguments: Sequence[str] | None = None, prog: str = "python -m dr_tf.data") -> None:
    """Parse the command line and draw the contact sheet. Arguments as those of `parse`."""
    flags = parse(arguments, prog)
    with exit_on_user_error():
        with starting_tensorflow():
            from dr_tf import configuration
            from dr_tf.data.contact_sheet import draw_contact_sheet
            from dr_tf.models.network import image_size_of
            from dr_tf.training.data_roles import split_roles
            from dr_tf.training.training_data import TrainingData

            configuration.set_up_logging()
        configuration.parse([find_config(name) for name in flags.gin_file], flags.gin_param)
        experiment, records = configuration.build_experiment(flags.records)
        size = image_size_of(experiment.model(heads=experiment.heads))
        roles = split_roles(records, experiment.head)
        data = TrainingData(experiment, records, roles, size)
        augmented, originals = (
            data.training_batches(augmented=is_augmented).map(lambda x, y, *weights: (x, y[experiment.deciding_output]))
            for is_augmented in (True, False)
        )
        with _refusing_damaged_images(flags.records):
            drawn = draw_contact_sheet(
                flags.output, augmented, originals, name_of=experiment.head.target_name, count=flags.count
            )
    print_status(f"{flags.output}: {drawn} of {len(roles.fit)} training examples")

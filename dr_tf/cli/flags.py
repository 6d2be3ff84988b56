"""Flags and the parser that several commands share."""

from __future__ import annotations

import argparse
from typing import Any

from absl import flags as absl_flags
from absl import logging  # noqa: F401  defines --verbosity and the other flags of absl's log
from absl.flags import argparse_flags


class AbslArgumentParser(argparse_flags.ArgumentParser):
    """An argparse parser that also accepts the flags of absl, such as --verbosity and --flagfile.

    A wrong value of an absl flag ends the command with one line, as argparse's own flags do.
    """

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse as `argparse.ArgumentParser.parse_known_args` does."""
        try:
            return super().parse_known_args(args, namespace)
        except absl_flags.Error as error:
            self.error(str(error))


def add_config_flags(parser: argparse.ArgumentParser) -> None:
    """Add --gin_file, --gin_param and --records: everything that describes an experiment."""
    parser.add_argument(
        "--gin_file", action="append", required=True, metavar="CONFIG",
        help="a config: a path, or the name of one that comes with dr_tf, such as idrid_transfer. May be repeated; later "
        "files override earlier ones",
    )  # fmt: skip
    parser.add_argument(
        "--gin_param", action="append", default=[], metavar="BINDING",
        help="one setting that overrides the config, such as 'train.epochs = 10'. May be repeated",
    )  # fmt: skip
    add_records_flag(parser)


def add_records_flag(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Add the flag that names the folder of records."""
    parser.add_argument(
        "--records",
        required=required,
        metavar="DIR",
        help="the folder or the URL (s3://, gs://) that `dr_tf records` wrote to",
    )

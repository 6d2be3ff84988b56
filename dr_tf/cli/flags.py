"""Flags that several commands share."""

from __future__ import annotations

import argparse


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
    parser.add_argument("--records", required=True, metavar="DIR", help="the folder that `dr_tf records` wrote to")

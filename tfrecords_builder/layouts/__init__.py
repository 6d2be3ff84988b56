"""The layouts of published data sets, one module each, and the registry of their names.

To add a layout, write a module with a `LAYOUT` and add its name to `known_layouts`. Importing a layout reads no data
and does not import TensorFlow.
"""

import argparse
import dataclasses
import pathlib
from collections.abc import Callable

from tfrecords_builder.samples import Listing


@dataclasses.dataclass(frozen=True)
class Layout:
    """How the files of a data set are arranged, and how to list them.

    Attributes:
        summary: One line for the list of layouts.
        about: The text of --help: what the data set is, its licence, where it comes from, its folder tree, and counts
            to check a download against.
        read: Lists the images below a source folder, given the parsed flags.
        add_flags: Adds the layout's own flags to its parser.
        dataset_name: Returns the name of the record set, given the parsed flags.
    """

    summary: str
    about: str
    read: Callable[[pathlib.Path, argparse.Namespace], Listing]
    add_flags: Callable[[argparse.ArgumentParser], None] = lambda parser: None
    dataset_name: Callable[[argparse.Namespace], str] = lambda flags: flags.layout


def known_layouts() -> dict[str, Layout]:
    """Return all layouts by name, in the order of --help."""
    from tfrecords_builder.layouts import (
        aptos,
        ddr,
        deepdrid,
        dicom,
        eyepacs,
        folder,
        gdrbench,
        idrid,
        idrid_lesions,
        messidor2,
        odir,
        synthetic,
        table,
    )

    return {
        "idrid": idrid.LAYOUT,
        "idrid_lesions": idrid_lesions.LAYOUT,
        "aptos": aptos.LAYOUT,
        "ddr": ddr.LAYOUT,
        "deepdrid": deepdrid.LAYOUT,
        "eyepacs": eyepacs.LAYOUT,
        "gdrbench": gdrbench.LAYOUT,
        "messidor2": messidor2.LAYOUT,
        "odir": odir.LAYOUT,
        "folder": folder.LAYOUT,
        "csv": table.LAYOUT,
        "dicom": dicom.LAYOUT,
        "synthetic": synthetic.LAYOUT,
    }

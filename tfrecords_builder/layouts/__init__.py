"""One module per published layout, each with `LAYOUT`; a further one is a module here and a name in `LAYOUTS`.

Importing a layout reads no data and needs no TensorFlow.
"""

import dataclasses
from collections.abc import Callable

from tfrecords_builder.samples import Listing


@dataclasses.dataclass(frozen=True)
class Layout:
    summary: str  # one line
    about: str  # what the set is, its licence, where it comes from, its tree, counts to check against
    read: Callable[..., Listing]  # (source, flags) -> Listing
    add_flags: Callable = lambda parser: None
    dataset_name: Callable = lambda flags: flags.layout


def known_layouts():
    from tfrecords_builder.layouts import (
        aptos,
        ddr,
        deepdrid,
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
        "synthetic": synthetic.LAYOUT,
    }

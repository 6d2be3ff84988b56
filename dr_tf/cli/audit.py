"""The audit of record sets for shared photographs, as commands run it: with every core, and a summary on standard error."""

from __future__ import annotations

import os
from collections.abc import Sequence

from dr_tf.console import print_status


def audit_record_sets(folders: Sequence[str | os.PathLike], output: str | os.PathLike) -> None:
    """Write the photographs that record sets share to a CSV file, and print a summary.

    Args:
        folders: folders RECORDS/NAME/CONFIG/VERSION, two or more.
        output: the CSV file to write.
    """
    from tfrecords_builder.audit_sets import audit_sets

    *summary, _ = audit_sets(folders, output, workers=os.cpu_count() or 1)  # the last line names the file
    print_status("\n".join(summary))

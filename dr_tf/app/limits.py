"""What one upload may contain, so that no visitor takes the memory or the time of the others."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from dr_tf.app.messages import Messages
from dr_tf.fundus.decode import MAX_PIXELS

_MEGA = 1_000_000


@dataclasses.dataclass(frozen=True)
class Limits:
    """Limits of an upload.

    Attributes:
        file_mb: megabytes of one file.
        files: files in one upload.
        total_mb: megabytes of one upload.
        seconds: how long the work on one upload may take.
    """

    file_mb: int = 40
    files: int = 100
    total_mb: int = 400
    seconds: int = 600

    def announcement(self, messages: Messages) -> str:
        """Return the sentence that tells a visitor the limits."""
        return messages(
            "limits.announcement",
            files=self.files,
            file_mb=self.file_mb,
            total_mb=self.total_mb,
            megapixels=MAX_PIXELS // _MEGA,
            minutes=self.seconds // 60,
        )

    def problem(self, sizes: Sequence[int], messages: Messages) -> str:
        """Return why an upload is refused; empty if it is not.

        Args:
            sizes: bytes of each file.
            messages: the words of the page.
        """
        if len(sizes) > self.files:
            return messages("limits.too_many", count=len(sizes), files=self.files)
        if max(sizes, default=0) > self.file_mb * 1024**2:  # as Streamlit counts megabytes
            return messages("limits.file_too_large", file_mb=self.file_mb)
        if sum(sizes) > self.total_mb * 1024**2:
            return messages("limits.too_large", total_mb=self.total_mb)
        return ""

"""Limit the memory that decoding takes: limits per image, and one large image at a time across all processes."""

import contextlib
import fcntl
import os
import tempfile
import threading
from collections.abc import Iterator

from dr_tf.fundus.header import BadImageError, Header

# 50 megapixels at 16 bits per channel are 300 MB, and their file nearly as much again.
MAX_DECODING_BYTES = 600_000_000
MAX_FILE_BYTES = 320_000_000
LARGE_BYTES = 64_000_000  # from here on, images are decoded one at a time
# No photograph with a camera's noise compresses so well. Deflate compresses one plain colour a thousandfold.
_MAX_COMPRESSION_RATIO = 100

_this_thread = threading.local()


def check_file_size(file_bytes: int) -> None:
    """Raise BadImageError for a file so large that too little memory would be left for its pixels."""
    if file_bytes > MAX_FILE_BYTES:
        raise BadImageError(f"the file is over {MAX_FILE_BYTES / 1e6:g} MB")


def check_compression_ratio(header: Header, coded_bytes: int) -> None:
    """Raise BadImageError for a large image whose compression ratio no photograph reaches: a decompression bomb."""
    decoded = header.pixel_bytes * header.width * header.height
    if decoded > LARGE_BYTES and decoded > _MAX_COMPRESSION_RATIO * coded_bytes:
        raise BadImageError(
            f"{header.width} x {header.height} pixels in {coded_bytes / 1e6:.1f} MB: no photograph compresses so well"
        )


def decoding_bytes(header: Header, file_bytes: int, reduction: int) -> int:
    """Estimate the peak memory of decoding a file to 1/`reduction` of its size and of cropping the result."""
    pixels = header.width * header.height
    output = 3 * pixels // reduction**2
    if header.format == "jpeg":  # decoded directly at the reduced size, but twice: imdecode copies its result
        return file_bytes + header.extra_bytes + 3 * output
    if header.rows_per_band:  # copies of a band: the TIFF written for it, libtiff's, OpenCV's, and the result
        return file_bytes + 4 * header.pixel_bytes * header.width * header.rows_per_band + 2 * output
    mapped = file_bytes if header.format == "tiff" else 0  # libtiff maps the temporary file into memory
    return file_bytes + mapped + header.extra_bytes + header.pixel_bytes * pixels + 2 * output


@contextlib.contextmanager
def reserve(size: int) -> Iterator[None]:
    """Wait until `size` bytes may be used: large images take turns across all processes of a user on a machine.

    A nested call in the same thread does not wait.
    """
    if size < LARGE_BYTES or getattr(_this_thread, "holds_lock", False):
        yield
        return
    with _file_lock(os.path.join(tempfile.gettempdir(), f"dr_tf-{os.getuid()}.lock")):
        _this_thread.holds_lock = True
        try:
            yield
        finally:
            _this_thread.holds_lock = False


@contextlib.contextmanager
def _file_lock(path: str) -> Iterator[None]:
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError:  # the file belongs to another user, or the folder is read-only: go on without the lock
        yield
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)

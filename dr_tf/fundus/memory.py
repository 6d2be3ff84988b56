"""How much memory a photograph may take, and whose turn it is to take much."""

import contextlib
import fcntl
import os
import tempfile
import threading

from dr_tf.fundus.header import BadImageError

# 50 megapixels of 16 bits a channel are 300 MB, and their file nearly as much again.
MOST = 600_000_000
MOST_OF_A_FILE = 320_000_000
LARGE = 64_000_000
_PACKED = 100  # times: no camera's noise packs so well; deflate packs one plain colour a thousand times

_mine = threading.local()


def check_file(size):
    """Raises BadImageError where a file of `size` bytes leaves too little for its picture."""
    if size > MOST_OF_A_FILE:
        raise BadImageError(f"the file is over {MOST_OF_A_FILE / 1e6:g} MB")


def check_packing(header, size):
    """Raises BadImageError where a file of `size` bytes unfolds into far more than a photograph would."""
    pixels = header.pixel * header.width * header.height
    if pixels > LARGE and pixels > _PACKED * size:
        raise BadImageError(
            f"{header.width} x {header.height} pixels in {size / 1e6:.1f} MB: no photograph packs so well"
        )


def needed(header, size, reduction):
    """Bytes at the height of decoding a file of `size` bytes to 1/`reduction`, and of cropping what comes out."""
    pixels = header.width * header.height
    out = 3 * pixels // reduction**2
    if header.format == "jpeg":  # decoded small at once, but twice: OpenCV copies what it hands over
        return size + header.held + 3 * out
    if header.piece:  # in it libtiff unpacks, OpenCV decodes and copies
        return size + 4 * header.pixel * header.width * header.piece + 2 * out
    mapped = size if header.format == "tiff" else 0  # libtiff maps the file besides
    return size + mapped + header.held + header.pixel * pixels + 2 * out


@contextlib.contextmanager
def turn(size):
    """Around whatever takes `size` bytes: of what is large, one at a time among all processes of a user on a machine."""
    if size < LARGE or getattr(_mine, "turn", False):
        yield
        return
    with _locked(os.path.join(tempfile.gettempdir(), f"dr_tf-{os.getuid()}.lock")):
        _mine.turn = True
        try:
            yield
        finally:
            _mine.turn = False


@contextlib.contextmanager
def _locked(path):
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError:  # somebody else's, or no folder to write to: better two at a time than none
        yield
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)

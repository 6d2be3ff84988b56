"""The samples of the page as uploads, and broken files."""

import pathlib
import struct
import zlib

import dr_tf.app

SAMPLES = pathlib.Path(dr_tf.app.__file__).parent / "samples"


def sample(name):
    """The bytes of a sample."""
    return (SAMPLES / f"{name}.jpg").read_bytes()


def upload(name, data):
    """A file as AppTest uploads it."""
    return name, data, "application/octet-stream"


def bomb():
    """A small PNG that states 20000 x 20000 pixels."""

    def chunk(kind, content):
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", 20000, 20000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(100_000)))
        + chunk(b"IEND", b"")
    )

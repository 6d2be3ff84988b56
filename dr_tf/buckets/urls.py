"""URLs of folders in buckets, and names of objects that may become files.

A URL stays text: pathlib would make `s3:/bucket` of `s3://bucket`.
"""

import pathlib
import re
from typing import TypeGuard

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_LONGEST_NAME = 230  # bytes: file systems take 255, of which an unfinished file needs some


def is_url(place: object) -> TypeGuard[str]:
    """Return whether a place is a URL, such as `s3://BUCKET/FOLDER`, rather than a path or None."""
    return isinstance(place, str) and _URL.match(place) is not None


def path_or_url(text: str) -> pathlib.Path | str:
    """Return a URL as it is, and other text as a path. The type of command-line flags."""
    return text if is_url(text) else pathlib.Path(text)


def join(url: str, *names: str) -> str:
    """Return the URL of what lies below a folder."""
    return "/".join((url.rstrip("/"), *names))


def fault_of_name(name: str) -> str:
    """Return why the object of this name cannot become a file below a folder; "" if it can.

    Anyone who writes to a bucket chooses the names in it, and a name such as `../../.profile` would leave the folder.
    """
    parts = name.split("/")
    if "\\" in name or "\0" in name or any(part in ("", ".", "..") for part in parts):
        return "its name is not that of a file below the folder"
    if any(len(part.encode("utf-8", "surrogateescape")) > _LONGEST_NAME for part in parts):
        return "its name is too long for a file"
    return ""

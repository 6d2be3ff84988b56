"""The photographs that a command was given: files as named, and all that lie below a folder."""

import os
import pathlib
import stat

from dr_tf.console import UserError, say

SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp")
ACCEPTED = f"JPEG, PNG, TIFF or BMP files; below a folder, what ends in {', '.join(SUFFIXES)}"


def find(places, *, told=say):
    """Paths, those below a folder sorted. Links to files are followed, links to folders are not, so that it ends.

    Args:
        places: paths of files and folders.
        told: gets a line for each thing below a folder that was passed over and may hide a photograph.

    Raises:
        UserError: a place is not there, or no photograph lies below it.
    """
    for place in map(pathlib.Path, places):
        if os.path.isdir(place):
            below = sorted(_below(place, told))
            if not below:
                raise UserError(f"there is no photograph below {place}; looked for {', '.join(SUFFIXES)}")
            yield from below
        elif os.path.exists(place):
            yield place
        else:
            raise UserError(f"there is no file {place}")


def _below(folder, told):
    def unreadable(error):
        told(f"passed over: {error.filename}: {error.strerror}")

    for parent, folders, names in os.walk(folder, onerror=unreadable):
        for path in (pathlib.Path(parent, name) for name in (*folders, *names)):
            if odd := _odd(path):
                told(f"passed over: {path}: {odd}")
            elif path.suffix.lower() in SUFFIXES and path.is_file():
                yield path


def _odd(path):
    """Why something below a folder is not looked at; "" for folders and files."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        return f"a link that leads nowhere ({error.strerror})" if path.is_symlink() else error.strerror
    if stat.S_ISDIR(mode):
        return "a link to a folder" if path.is_symlink() else ""
    return "" if stat.S_ISREG(mode) else "not a file"

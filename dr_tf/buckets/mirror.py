"""Copy a folder of photographs and tables from a bucket to the cache. Later calls copy only what has changed."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping

from dr_tf.buckets.cache import cache_folder, locked
from dr_tf.buckets.copying import copy_files
from dr_tf.buckets.storage import Bucket, Entry
from dr_tf.buckets.urls import fault_of_name
from dr_tf.console import UserError, print_status
from dr_tf.files import write_text
from dr_tf.safe_names import printable

_FILES, _COPIED = "files", "copied.jsonl"  # the copy, and a line for each file in it: name, size, tag


@dataclasses.dataclass(frozen=True)
class Mirror:
    """The copy of a folder in a bucket.

    Attributes:
        folder: holds the files under the names that they have in the bucket.
        left_out: {name: reason} of objects that cannot be files.
    """

    folder: pathlib.Path
    left_out: dict[str, str]


def mirror(url: str) -> Mirror:
    """Copy a folder in a bucket to the cache, and return the copy.

    Files whose size and tag have not changed are kept, and those that are gone from the bucket are deleted. After a kill
    the next call goes on where it ended.

    Raises:
        UserError: the bucket cannot be read, the folder is empty, or the disk is full.
    """
    bucket = Bucket(url)
    entries = bucket.files()
    if not entries:
        raise UserError(f"{url} holds no files")
    left_out = _left_out(entries)
    entries = {name: entry for name, entry in entries.items() if name not in left_out}
    place = cache_folder("sources", bucket.url)
    with locked(place):
        folder = place / _FILES
        folder.mkdir(exist_ok=True)
        _update(bucket, entries, folder, place / _COPIED)
    return Mirror(folder, left_out)


def copy_one(url: str) -> pathlib.Path:
    """Copy one file from a bucket to the cache, and return the copy.

    Raises:
        UserError: the bucket cannot be read, there is no such file, or the disk is full.
    """
    parent, _, name = url.rpartition("/")
    if fault_of_name(name):
        raise UserError(f"{printable(url)} does not name a file")
    bucket = Bucket(parent)
    entry = bucket.files(depth=1).get(name)
    if entry is None:
        raise UserError(f"there is no file {printable(url)}")
    place = cache_folder("files", url)
    with locked(place):
        copy_files(bucket, {name: entry.size}, place)
    return place / name


def _left_out(entries: Mapping[str, Entry]) -> dict[str, str]:
    folders = {name[:end] for name in entries for end in range(len(name)) if name[end] == "/"}
    faults = {name: fault_of_name(name) or ("a folder has its name" if name in folders else "") for name in entries}
    return {name: fault for name, fault in faults.items() if fault}


def _update(bucket: Bucket, entries: Mapping[str, Entry], folder: pathlib.Path, index: pathlib.Path) -> None:
    """Bring a copy up to date. The index is written after each file, so that a kill loses the last files only."""
    _remove_others(folder, entries)
    copied = {
        name: entry
        for name, entry in _read_index(index).items()
        if name in entries and _is_current(folder / name, entry, entries[name])
    }
    wanted = {name: entry.size for name, entry in entries.items() if name not in copied}
    write_text(index, "".join(_line(name, entry) for name, entry in copied.items()))
    total, missing = sum(entry.size for entry in entries.values()), sum(wanted.values())
    print_status(
        f"{bucket.url}: {len(entries)} files, {total / 1e6:.1f} MB; {len(wanted)} files, {missing / 1e6:.1f} MB to copy to {folder}"
    )
    with open(index, "a", encoding="utf-8") as file:

        def note(name: str) -> None:
            file.write(_line(name, entries[name]))
            file.flush()

        copy_files(bucket, wanted, folder, on_copied=note)


def _line(name: str, entry: Entry) -> str:
    return json.dumps([name, entry.size, entry.tag]) + "\n"


def _read_index(path: pathlib.Path) -> dict[str, Entry]:
    """Return what was copied, without lines that a kill cut short."""
    entries = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            name, size, tag = json.loads(line)
        except (ValueError, TypeError):
            continue
        entries[name] = Entry(size, tag)
    return entries


def _is_current(path: pathlib.Path, copied: Entry, now: Entry) -> bool:
    return bool(now.tag) and copied == now and path.is_file() and path.stat().st_size == now.size


def _remove_others(folder: pathlib.Path, entries: Mapping[str, Entry]) -> None:
    """Remove files that are not in the bucket any more, what a killed process left unfinished, and empty folders."""
    for parent, folders, names in os.walk(folder, topdown=False):
        for name in names:
            path = pathlib.Path(parent, name)
            if path.relative_to(folder).as_posix() not in entries:
                path.unlink()
        for name in folders:
            path = pathlib.Path(parent, name)
            if not any(path.iterdir()):
                path.rmdir()

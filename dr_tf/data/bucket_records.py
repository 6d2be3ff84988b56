"""Record sets in a bucket: find one, check that it is whole, and copy it to the cache, where it is read as any other.

`dataset_info.json` is the marker of a finished set. It is uploaded last, and without it TFDS takes no folder for a record
set, either. `checksums.json` states the size and the SHA-256 of every other file, and of the marker.
"""

import json
import pathlib
from collections.abc import Collection, Mapping

from dr_tf.buckets.cache import cache_folder, locked
from dr_tf.buckets.copying import copy_files
from dr_tf.buckets.storage import Bucket, Entry
from dr_tf.buckets.urls import fault_of_name, join
from dr_tf.console import UserError
from dr_tf.files import atomic_write, remove_unfinished, sha256
from dr_tf.safe_names import printable

MARKER, CHECKSUMS = "dataset_info.json", "checksums.json"

_REQUIRED = {MARKER, "features.json"}
_LEVELS = 4  # NAME/CONFIG/VERSION/FILE
_AGAIN = "run `dr_tf records` again"


def version_order(name: str) -> list[tuple[bool, str]]:
    """Return what versions such as 1.10.0 are sorted by."""
    return [(part.isdigit(), part.zfill(9)) for part in name.split(".")]


def copy_record_set(root: str, dataset: str) -> pathlib.Path:
    """Copy the newest version of a record set to the cache, unless it is there, and return its folder.

    Args:
        root: URL of the folder of all record sets.
        dataset: NAME/CONFIG, or NAME if it has one CONFIG.

    Raises:
        UserError: there is no such record set, it is not whole, or it cannot be read.
    """
    if fault_of_name(dataset):
        raise UserError(f"a record set is named as NAME/CONFIG, not {dataset!r}")
    bucket = Bucket(root)
    files = bucket.files(dataset)
    if not files:
        known = ", ".join(printable(name) for name in _record_sets(bucket))
        raise UserError(f"no records {dataset!r} in {bucket.url}; there are: {known or 'none'}")
    return _copy_version(bucket.below(dataset, _newest_version(join(bucket.url, dataset), dataset, files)))


def _newest_version(url: str, dataset: str, names: Collection[str]) -> str:
    """Return VERSION, or CONFIG/VERSION if NAME alone was given."""
    folders = [name.split("/")[:-1] for name in names if name.endswith(f"/{MARKER}")]
    versions = [folder for folder in folders if len(folder) == 1]
    of_configs = [folder for folder in folders if len(folder) == 2]
    if not versions and len(configs := sorted({folder[0] for folder in of_configs})) > 1:
        known = ", ".join(printable(f"{dataset}/{config}") for config in configs)
        raise UserError(f"{url} holds several record sets; name one of: {known}")
    if MARKER in names:
        raise UserError(f"{url} is a version: name a record set as NAME/CONFIG")
    if not (versions or of_configs):
        raise UserError(_unfinished(url))
    newest: list[str] = max(versions or of_configs, key=lambda folder: version_order(folder[-1]))
    return "/".join(newest)


def _unfinished(url: str) -> str:
    return f"{printable(url)} holds no finished records: an upload was not completed; {_AGAIN}"


def _record_sets(bucket: Bucket) -> list[str]:
    paths = [name.split("/") for name in bucket.files(depth=_LEVELS)]
    return sorted({"/".join(path[:2]) for path in paths if len(path) == _LEVELS and path[-1] == MARKER})


def has_record_set(root: str, dataset: str) -> bool:
    """Return whether a bucket holds a finished record set, NAME/CONFIG."""
    return any(name.endswith(f"/{MARKER}") for name in Bucket(root).files(dataset))


def copy_version(url: str) -> pathlib.Path:
    """Copy the record set at RECORDS/NAME/CONFIG/VERSION to the cache, unless it is there, and return its folder.

    A set that was replaced in the bucket has another folder, so that no file of one is taken for a file of the other.

    Raises:
        UserError: there is no record set, it is not whole, or it cannot be read.
    """
    return _copy_version(Bucket(url))


def _copy_version(bucket: Bucket) -> pathlib.Path:
    names = bucket.url.partition("://")[2].split("/")[-3:]
    if len(names) < 3 or fault_of_name("/".join(names)):
        raise UserError(f"{printable(bucket.url)} is not a record set: name a folder RECORDS/NAME/CONFIG/VERSION")
    files = bucket.files(depth=1)
    if MARKER not in files:
        raise UserError(_unfinished(bucket.url))
    checksums, stated = read_checksums(bucket, files)
    check_sizes(bucket.url, files, stated)
    place = cache_folder("records", bucket.url, checksums)
    folder = place.joinpath(*names)
    with locked(place):
        if not _is_complete(folder, stated):
            _copy(bucket, folder, checksums, stated)
    return folder


def read_checksums(bucket: Bucket, files: Mapping[str, Entry]) -> tuple[bytes, dict[str, tuple[int, str]]]:
    """Return (the content of a record set's checksums.json, {file: (bytes, SHA-256)} that it states).

    Raises:
        UserError: there is none, or it does not state what a record set consists of.
    """
    if CHECKSUMS not in files:
        raise UserError(f"{bucket.url} has no {CHECKSUMS}, so it cannot be checked; {_AGAIN} with --overwrite")
    content = bucket.read_whole(CHECKSUMS, files[CHECKSUMS].size)
    try:
        return content, parse_checksums(content)
    except ValueError as error:
        raise UserError(f"{join(bucket.url, CHECKSUMS)} cannot be read: {error}") from None


def parse_checksums(content: bytes) -> dict[str, tuple[int, str]]:
    """Return {file: (bytes, SHA-256)} of the content of a checksums.json.

    Raises:
        ValueError: it is none.
    """
    try:
        stated = {name: (value["bytes"], value["sha256"]) for name, value in json.loads(content).items()}
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"it is no table of files: {type(error).__name__}: {error}") from None
    for name, (size, digest) in stated.items():
        if "/" in name or fault_of_name(name) or name == CHECKSUMS or type(size) is not int or size < 0:
            raise ValueError(f"{name!r} cannot be a file of a record set")
        if not isinstance(digest, str) or len(digest) != 64:
            raise ValueError(f"{name!r} has no SHA-256")
    if missing := sorted(_REQUIRED - set(stated)):
        raise ValueError(f"it does not state {', '.join(missing)}: the set was built by an earlier version")
    return stated


def check_sizes(url: str, files: Mapping[str, Entry], stated: Mapping[str, tuple[int, str]], hint: str = "") -> None:
    """Raise UserError if a file of a record set in a bucket is absent, or longer or shorter than stated."""
    for name, (size, _) in stated.items():
        if name not in files:
            raise UserError(f"{url} is damaged: {printable(name)} is missing{hint}")
        if files[name].size != size:
            raise UserError(f"{url} is damaged: {printable(name)} has {files[name].size} bytes, not {size}{hint}")


def _is_complete(folder: pathlib.Path, stated: Mapping[str, tuple[int, str]]) -> bool:
    """The digest of each file was checked when it was copied. TFRecord files hold CRCs, which are checked when they are read."""
    return all(_has_size(folder / name, size) for name, (size, _) in stated.items())


def _has_size(path: pathlib.Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _copy(bucket: Bucket, folder: pathlib.Path, checksums: bytes, stated: Mapping[str, tuple[int, str]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    remove_unfinished(folder)
    with atomic_write(folder / CHECKSUMS) as unfinished:
        unfinished.write_bytes(checksums)
    missing = {
        name: size
        for name, (size, digest) in stated.items()
        if not _has_size(folder / name, size) or sha256(folder / name) != digest
    }
    copy_files(bucket, missing, folder, digests={name: stated[name][1] for name in missing})

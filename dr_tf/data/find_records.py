"""Find a record set by its name, below a folder or in a bucket."""

import os
import pathlib

from dr_tf.buckets.urls import is_url
from dr_tf.console import UserError
from dr_tf.data.bucket_records import copy_record_set, has_record_set, version_order


def has_records(root: str | os.PathLike, dataset: str) -> bool:
    """Return whether there is a record set NAME/CONFIG below a folder or a URL."""
    return has_record_set(root, dataset) if is_url(root) else (pathlib.Path(root) / dataset).is_dir()


def version_folder(root: str | os.PathLike, dataset: str) -> pathlib.Path:
    """Return the folder of the newest version of a record set. From a bucket it is copied first.

    Args:
        root: folder of all record sets, or its URL.
        dataset: NAME/CONFIG, or NAME if it has one CONFIG.

    Raises:
        UserError: there is no such record set, or it cannot be copied.
    """
    if is_url(root):
        return copy_record_set(root, dataset)
    return _newest_version(_config_folder(pathlib.Path(root), dataset))


def _config_folder(root, dataset):
    if not root.is_dir():
        raise UserError(f"there is no folder of records {root}")
    folder = root / dataset
    if not dataset or not folder.is_dir():
        known = sorted("/".join(p.parts[-4:-2]) for p in root.glob("*/*/*/dataset_info.json"))
        raise UserError(f"no records {dataset!r} in {root}; there are: {', '.join(dict.fromkeys(known)) or 'none'}")
    if _versions(folder):
        return folder
    configs = [path for path in sorted(folder.iterdir()) if path.is_dir() and _versions(path)]
    if len(configs) != 1:
        names = ", ".join(f"{dataset}/{path.name}" for path in configs)
        raise UserError(f"{folder} holds {'several record sets; name one of: ' + names if configs else 'no records'}")
    return configs[0]


def _versions(folder):
    return [path.parent for path in folder.glob("*/dataset_info.json")]


def _newest_version(folder):
    return max(_versions(folder), key=lambda path: version_order(path.name))

"""Copy many objects of a bucket to files. Each file appears whole or not at all."""

import concurrent.futures
import hashlib
import pathlib
from collections.abc import Callable, Mapping

from dr_tf.buckets.cache import check_room
from dr_tf.buckets.storage import Bucket
from dr_tf.buckets.urls import join
from dr_tf.console import UserError, progress
from dr_tf.files import atomic_write
from dr_tf.safe_names import printable

_THREADS = 8
_BLOCK = 1 << 23  # bytes of a request: all threads together take 150 MB of memory


def copy_files(
    bucket: Bucket,
    sizes: Mapping[str, int],
    folder: pathlib.Path,
    *,
    digests: Mapping[str, str] | None = None,
    on_copied: Callable[[str], None] = lambda name: None,
) -> None:
    """Copy objects to files below an existing folder, several at a time, with a progress bar.

    Args:
        bucket: where they are.
        sizes: {name: bytes}. `fault_of_name` finds no fault in the names.
        folder: receives the files, under the same names.
        digests: {name: SHA-256} of those whose content is known.
        on_copied: called with the name of each file that is in place.

    Raises:
        UserError: an object cannot be read or is not what `digests` says, or the disk is full. Files that are in place stay.
    """
    if not sizes:
        return
    check_room(folder, sum(sizes.values()))

    def copy(name: str) -> str:
        _copy(bucket, name, sizes[name], folder / name, (digests or {}).get(name), bar.update)
        return name

    with (
        progress(sum(sizes.values()), "copying", "B") as bar,
        concurrent.futures.ThreadPoolExecutor(_THREADS) as threads,
    ):
        bar.unit_scale = True
        copies = [threads.submit(copy, name) for name in sizes]
        try:
            for copied in concurrent.futures.as_completed(copies):
                on_copied(copied.result())
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            raise


def _copy(
    bucket: Bucket,
    name: str,
    size: int,
    path: pathlib.Path,
    expected: str | None,
    on_bytes: Callable[[int], object],
) -> None:
    digest = hashlib.sha256()
    with atomic_write(path) as unfinished, open(unfinished, "wb") as file:
        for start in range(0, size, _BLOCK):
            data = bucket.read(name, start, min(start + _BLOCK, size))
            digest.update(data)
            file.write(data)
            on_bytes(len(data))
        file.flush()
        if expected and digest.hexdigest() != expected:
            raise UserError(
                f"{printable(join(bucket.url, name))} is not what checksums.json says: it was changed or damaged, "
                "or another set was written meanwhile"
            )

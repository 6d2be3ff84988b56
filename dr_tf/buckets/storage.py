"""A folder in a bucket: list, read, write and remove its objects. Faults that pass are tried again, others are one line."""

import dataclasses
import logging
import os
import time
from collections.abc import Callable
from typing import Any, TypeVar

from dr_tf.buckets import urls
from dr_tf.console import UserError, require_packages
from dr_tf.safe_names import printable

ATTEMPTS = 5  # at an operation
FIRST_WAIT = 1.0  # seconds between the first two attempts; each further wait is twice as long
TIMEOUT = 30.0  # seconds without a byte, after which an attempt ends
SLOWEST = 1e5  # bytes per second: an attempt that is slower ends, too

_PART = 1 << 23  # bytes that are uploaded at once: by default they are 50 MB, several at a time
_LARGEST_TEXT = 1 << 26  # bytes that are read at once: no table of checksums is larger
_AMAZON, _GOOGLE, _LOCAL = ("s3", "s3a"), ("gs", "gcs"), ("file", "local")
_PACKAGES = dict.fromkeys(_AMAZON, "s3fs") | dict.fromkeys(_GOOGLE, "gcsfs")
_PERMANENT = (
    FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, NotImplementedError, ValueError, TypeError,
)  # fmt: skip

_Result = TypeVar("_Result")


@dataclasses.dataclass(frozen=True)
class Entry:
    """An object in a bucket.

    Attributes:
        size: its bytes.
        tag: text that changes whenever the object does, such as its ETag; "" if the store has none.
    """

    size: int
    tag: str


class Bucket:
    """A folder in a bucket.

    Args:
        url: its URL.
        opened: fsspec's file system and the path in it, if they are known.

    Raises:
        UserError: fsspec knows no such store.
        ModuleNotFoundError: the packages of the extra `bucket` are not installed.
    """

    def __init__(self, url: str, *, opened: tuple[Any, str] | None = None) -> None:
        self.url = url.rstrip("/")
        self._filesystem, self._root = opened or _open(self.url)

    def below(self, *names: str) -> "Bucket":
        """Return a folder below this one, on the same connections."""
        return Bucket(urls.join(self.url, *names), opened=(self._filesystem, "/".join((self._root, *names))))

    def files(self, folder: str = "", *, depth: int | None = None) -> dict[str, Entry]:
        """Return all objects below a folder, by their names below it.

        Args:
            folder: a folder below this one; "" for this one.
            depth: how many levels are searched; None for all.
        """
        root = f"{self._root}/{folder}".rstrip("/")

        def find() -> dict[str, Any]:
            self._filesystem.invalidate_cache()
            return self._filesystem.find(root, maxdepth=depth, detail=True)

        found = self._attempt("listed", folder, find)
        return {
            name.removeprefix(f"{root}/"): Entry(int(info.get("size") or 0), _tag(info))
            for name, info in found.items()
            if name.startswith(f"{root}/") and not name.endswith("/") and info.get("type") != "directory"
        }

    def read(self, name: str, start: int, end: int) -> bytes:
        """Return some bytes of an object. Fewer than `end - start` are an error."""

        def read() -> bytes:
            data = self._filesystem.cat_file(self._path(name), start=start, end=end, **self._deadline(end - start))
            if len(data) != end - start:
                raise EOFError(f"{len(data)} bytes came where {end - start} were asked for")
            return data

        return self._attempt("read", name, read)

    def read_whole(self, name: str, size: int) -> bytes:
        """Return the content of a JSON file of so many bytes, unless it is too large to be one of ours."""
        if size > _LARGEST_TEXT:
            raise UserError(f"{self._shown(name)} is too large for a file of its kind")
        return self.read(name, 0, size) if size else b""  # a range of no bytes is an error

    def put(self, path: str | os.PathLike[str], name: str) -> None:
        """Write a local file to an object."""
        options: dict[str, Any] = self._deadline(os.path.getsize(path))
        if _scheme(self.url) in _PACKAGES:
            options["chunksize"] = _PART
        self._attempt("written", name, lambda: self._filesystem.put_file(os.fspath(path), self._path(name), **options))

    def remove(self, name: str) -> None:
        """Remove an object."""
        self._attempt("removed", name, lambda: self._filesystem.rm_file(self._path(name)))

    def _deadline(self, size: int) -> dict[str, float]:
        """Return the argument by which fsspec gives up: a connection that takes no more bytes would never time out."""
        return {"timeout": 2 * TIMEOUT + size / SLOWEST} if self._filesystem.async_impl else {}

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _shown(self, name: str) -> str:
        return printable(urls.join(self.url, name) if name else self.url)

    def _attempt(self, done: str, name: str, operation: Callable[[], _Result]) -> _Result:
        attempts = 1 if _scheme(self.url) in _GOOGLE else ATTEMPTS  # gcsfs itself tries six times
        for attempt in range(1, attempts + 1):
            try:
                return operation()
            except Exception as error:  # each store raises exceptions of its own
                if attempt == attempts or _is_permanent(error):
                    raise UserError(f"{self._shown(name)} cannot be {done}: {_reason(error)}") from error
                time.sleep(FIRST_WAIT * 2 ** (attempt - 1))
        raise AssertionError("unreachable")


def _open(url: str) -> tuple[Any, str]:
    """Return (fsspec's file system of a URL, the path in it)."""
    scheme = _scheme(url)
    require_packages(*(["fsspec", _PACKAGES[scheme]] if scheme in _PACKAGES else ["fsspec"]))
    import fsspec

    try:
        filesystem, root = fsspec.url_to_fs(url, **_options(scheme))
    except (ImportError, ValueError) as error:
        raise UserError(f"{url} cannot be opened: {error}") from error
    if scheme in _AMAZON:
        filesystem.retries = 1  # attempts are counted here
    if scheme in _GOOGLE:
        logging.getLogger("gcsfs").setLevel(
            logging.CRITICAL
        )  # it prints tracebacks of errors that end as one line here
    return filesystem, root.rstrip("/")


def _scheme(url: str) -> str:
    return url.partition("://")[0].lower()


def _options(scheme: str) -> dict[str, Any]:
    """Return fsspec's options of a store: an attempt ends where no byte comes for `TIMEOUT` seconds."""
    if scheme in _AMAZON:
        timeouts = {"connect_timeout": TIMEOUT, "read_timeout": TIMEOUT, "retries": {"max_attempts": 0}}
        return {"config_kwargs": timeouts, "max_concurrency": 4}
    if scheme in _GOOGLE:
        import aiohttp

        return {"requests_timeout": aiohttp.ClientTimeout(total=None, sock_connect=TIMEOUT, sock_read=TIMEOUT)}
    return {"auto_mkdir": True} if scheme in _LOCAL else {}


def _tag(info: dict[str, Any]) -> str:
    names = ("ETag", "etag", "generation", "md5Hash", "LastModified", "last_modified", "mtime", "created")
    return next((str(info[name]) for name in names if info.get(name)), "")


def _is_permanent(error: Exception) -> bool:
    return isinstance(error, _PERMANENT) or "Credential" in type(error).__name__


def _reason(error: Exception) -> str:
    text = (getattr(error, "strerror", None) or str(error)).strip()
    if not text:
        return "it took too long" if isinstance(error, TimeoutError) else type(error).__name__
    return printable(text.splitlines()[0])

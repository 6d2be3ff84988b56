"""An S3 server on loopback (moto) that tests can make refuse, stall and cut short."""

import functools
import importlib.util
import logging
import os
import re
import tempfile
import threading
import time
import unittest
import urllib.request
from unittest import mock

BUCKET = "clinic"
INSTALLED = all(importlib.util.find_spec(name) for name in ("moto", "flask", "s3fs"))
needs_s3_server = unittest.skipUnless(INSTALLED, "moto is not installed: pip install 'dr_tf[test]'")


class Fault:
    """What happens to requests.

    Args:
        method: of the requests that it happens to.
        pattern: regular expression of their paths.
        status: the answer; None for no answer at all.
        code: S3's name of the error.
        cut: whether, instead, half of the true answer is sent.
        pause: seconds, instead, before each tenth of the true answer.
        after: how many of these requests are answered first.
        times: how many it then happens to.
    """

    def __init__(self, method, pattern, *, status=None, code="InternalError", cut=False, pause=0, after=0, times=10**9):
        self.method, self.pattern, self.status, self.code, self.cut, self.pause = (
            method,
            pattern,
            status,
            code,
            cut,
            pause,
        )
        self._first, self._last, self._seen, self._lock = after, after + times, 0, threading.Lock()

    def hits(self, method, path):
        if method != self.method or not re.search(self.pattern, path):
            return False
        with self._lock:
            self._seen += 1
            return self._first < self._seen <= self._last


class S3Server:
    """The server: its WSGI application, the requests that it saw, and its faults.

    Attributes:
        requests: (method, path) of each.
        faults: the `Fault`s that are in force.
    """

    def __init__(self):
        from moto.server import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import make_server

        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._application = DomainDispatcherApplication(create_backend_app)
        self.requests, self.faults = [], []
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self._server.server_port}"

    def _answer(self, environ, start_response):
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        self.requests.append((method, path))
        for fault in self.faults:
            if fault.hits(method, path):
                if fault.cut or fault.pause:
                    return _parts(b"".join(self._application(environ, start_response)), fault)
                return _refuse(environ, start_response, fault)
        return self._application(environ, start_response)

    def count(self, method, pattern=""):
        return sum(m == method and re.search(pattern, path) is not None for m, path in self.requests)


def _parts(body, fault):
    for start in range(0, len(body) // 2 if fault.cut else len(body), max(1, len(body) // 10)):
        time.sleep(fault.pause)
        yield body[start : start + max(1, len(body) // 10)]


def _refuse(environ, start_response, fault):
    if fault.status is None:
        time.sleep(30)
        fault.status = 500
    environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    body = f"<Error><Code>{fault.code}</Code><Message>{fault.code} here</Message></Error>".encode()
    start_response(f"{fault.status} Error", [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
    return [body]


@functools.cache
def shared_server():
    """The server of all tests in this process. fsspec keeps connections, so that another one would not be found."""
    return S3Server()


class BucketTest(unittest.TestCase):
    """Tests with a server, an empty bucket and an empty cache."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.server = shared_server()

    def setUp(self):
        from dr_tf.buckets import storage

        super().setUp()
        self.cache = self.enterContext(tempfile.TemporaryDirectory())
        environment = {
            "AWS_ENDPOINT_URL": self.server.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "DR_TF_CACHE": self.cache,
        }
        self.enterContext(mock.patch.dict(os.environ, environment))
        self.enterContext(mock.patch.object(storage, "FIRST_WAIT", 0.01))
        self.enterContext(mock.patch.object(storage, "TIMEOUT", 1.0))
        self.bucket = self.client()
        self.empty()

    def client(self):
        import boto3

        return boto3.client("s3")

    def empty(self):
        self.server.faults.clear()
        urllib.request.urlopen(f"{self.server.url}/moto-api/reset", data=b"").close()
        self.bucket.create_bucket(Bucket=BUCKET)
        self.server.requests.clear()

    def keys(self):
        return [entry["Key"] for entry in self.bucket.list_objects_v2(Bucket=BUCKET).get("Contents", ())]

    def put(self, key, content=b""):
        self.bucket.put_object(Bucket=BUCKET, Key=key, Body=content)

    def get(self, key):
        return self.bucket.get_object(Bucket=BUCKET, Key=key)["Body"].read()

    def put_folder(self, folder, prefix):
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.put(f"{prefix}/{path.relative_to(folder).as_posix()}", path.read_bytes())

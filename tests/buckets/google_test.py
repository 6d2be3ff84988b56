"""Google Cloud Storage, by a stand-in on loopback that answers what gcsfs asks: list, read, write and remove."""

import http.server
import json
import os
import pathlib
import re
import tempfile
import threading
import unittest
import urllib.parse
from unittest import mock

from dr_tf.buckets.mirror import mirror
from dr_tf.buckets.storage import Bucket
from dr_tf.console import UserError, is_installed


class _Handler(http.server.BaseHTTPRequestHandler):
    """Objects are in `server.objects`, {name: content}."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def _answer(self):
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        name = urllib.parse.unquote(url.path.partition("/o/")[2])
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.command == "POST":
            boundary = re.search("boundary=['\"]?([^'\"]+)", self.headers["Content-Type"])[1].encode()
            described, content = (part.partition(b"\n\n")[2] for part in body.split(b"--" + boundary)[1:3])
            name = json.loads(described)["name"]
            self.server.objects[name] = content.removesuffix(b"\n")
            self._send(200, self._describe(name))
        elif not name:
            names = [name for name in sorted(self.server.objects) if name.startswith(query["prefix"])]
            self._send(200, {"items": [self._describe(name) for name in names]})
        elif name not in self.server.objects:
            self._send(404, {"error": {"code": 404, "message": "No such object"}})
        elif self.command == "DELETE":
            del self.server.objects[name]
            self._send(204, b"")
        else:
            first, last = map(int, re.findall(r"\d+", self.headers["Range"]))
            self._send(206, self.server.objects[name][first : last + 1])

    do_GET = do_POST = do_DELETE = _answer  # noqa: N815

    def _describe(self, name):
        content = self.server.objects[name]
        return {"name": name, "bucket": "clinic", "size": str(len(content)), "etag": str(hash(content))}

    def _send(self, status, content):
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@unittest.skipUnless(is_installed("gcsfs"), "gcsfs is not installed: pip install 'dr_tf[bucket]'")
class GoogleTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        cls.server.objects = {}
        threading.Thread(target=cls.server.serve_forever, daemon=True).start()
        cls.addClassCleanup(cls.server.shutdown)
        cls.cache = cls.enterClassContext(tempfile.TemporaryDirectory())
        host = f"http://127.0.0.1:{cls.server.server_port}"
        environment = {
            "STORAGE_EMULATOR_HOST": host,
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",  # else gcsfs looks for credentials
            "DR_TF_CACHE": cls.cache,
        }
        cls.enterClassContext(mock.patch.dict(os.environ, environment))

    def test_files_are_written_listed_mirrored_and_removed(self):
        bucket = Bucket("gs://clinic/photographs")
        path = pathlib.Path(self.cache) / "a.jpg"
        path.write_bytes(bytes(range(256)) * 40)
        for name in ("a.jpg", "deep/b.jpg"):
            bucket.put(path, name)
        self.assertEqual(
            {name: entry.size for name, entry in bucket.files().items()}, {"a.jpg": 10240, "deep/b.jpg": 10240}
        )
        self.assertEqual(bucket.read("a.jpg", 255, 258), b"\xff\x00\x01")
        folder = mirror("gs://clinic/photographs").folder
        self.assertEqual((folder / "deep/b.jpg").read_bytes(), path.read_bytes())
        bucket.remove("a.jpg")
        self.assertEqual(set(bucket.files()), {"deep/b.jpg"})
        with self.assertRaisesRegex(UserError, "^gs://clinic/photographs/a.jpg cannot be read: "):
            bucket.read("a.jpg", 0, 3)


if __name__ == "__main__":
    unittest.main()

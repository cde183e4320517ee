"""Servers that packages are brought from and published to: plain HTTP, and the hub's API."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlparse


class FileServer(ThreadingHTTPServer):
    """Serves ``files`` by path with ranges, and takes them by PUT and DELETE.

    Attributes:
        files: path to bytes.
        token: bearer token that is asked for; None: none.
        cut: paths of which a response breaks after so many bytes, once each.
        requests: method, path and range of all requests.
    """

    daemon_threads = True

    def __init__(self, handler: type[BaseHTTPRequestHandler] | None = None):
        super().__init__(("127.0.0.1", 0), handler or FileHandler)
        self.files: dict[str, bytes] = {}
        self.token: str | None = None
        self.cut: dict[str, int] = {}
        self.requests: list[tuple[str, str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class FileHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FileServer

    def log_message(self, *_: object) -> None:
        """Stay silent."""

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except ConnectionError:
            self.close_connection = True

    def reply(self, code: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(code)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def accepted(self) -> bool:
        path, wanted = urlparse(self.path).path, self.server.token
        self.server.requests.append((self.command, path, self.headers.get("Range")))
        if wanted is not None and self.headers.get("Authorization") != f"Bearer {wanted}":
            self.reply(401)
            return False
        return True

    def content(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        data = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data

    def do_GET(self) -> None:
        path = urlparse(self.path).path
        if not self.accepted():
            return
        if path not in self.server.files:
            self.reply(404)
            return
        data, begin = self.server.files[path], 0
        if found := self.headers.get("Range"):
            begin = int(found.removeprefix("bytes=").partition("-")[0])
            if begin >= len(data):
                self.reply(416)
                return
        rest = data[begin:]
        if (cut := self.server.cut.pop(path, None)) is not None:
            self.send_response(206 if begin else 200)
            self.send_header("Content-Length", str(len(rest)))
            self.end_headers()
            self.wfile.write(rest[:cut])
            self.close_connection = True
            return
        self.reply(206 if begin else 200, rest)

    def do_PUT(self) -> None:
        data = self.content()
        if self.accepted():
            self.server.files[urlparse(self.path).path] = data
            self.reply(201)

    def do_DELETE(self) -> None:
        if self.accepted():
            self.reply(204 if self.server.files.pop(urlparse(self.path).path, None) else 404)


class HubServer(FileServer):
    """The part of the hub's API that its client needs for model repositories.

    Files that end in .onnx go the way of large ones.

    Attributes:
        files: ``/OWNER/NAME/FILE`` to bytes.
        commits: repository to the number of its commits.
        large: sha256 of a large file to bytes.
    """

    def __init__(self) -> None:
        super().__init__(HubHandler)
        self.commits: dict[str, int] = {}
        self.large: dict[str, bytes] = {}

    def commit(self, repository: str) -> str:
        return hashlib.sha1(f"{repository} {self.commits[repository]}".encode()).hexdigest()

    def names(self, repository: str) -> list[str]:
        start = f"/{repository}/"
        return [path.removeprefix(start) for path in self.files if path.startswith(start)]


class HubHandler(FileHandler):
    server: HubServer

    def json(self, value: object, code: int = 200) -> None:
        self.reply(code, json.dumps(value).encode(), Content_Type="application/json")

    def missing(self, kind: str) -> None:
        self.reply(404, b"{}", X_Error_Code=f"{kind}NotFound", X_Error_Message="not there")

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        if not self.accepted():
            return
        parts = unquote(urlparse(self.path).path).strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            repository = "/".join(parts[2:4])
            if repository not in self.server.commits:
                self.missing("Repo")
            elif parts[4:5] == ["tree"]:
                names = self.server.names(repository)
                size = {name: len(self.server.files[f"/{repository}/{name}"]) for name in names}
                self.json(
                    [{"type": "file", "path": n, "size": size[n], "oid": "0" * 40} for n in names]
                )
            else:
                sha = self.server.commit(repository)
                found = [{"rfilename": name} for name in self.server.names(repository)]
                self.json({"id": repository, "sha": sha, "siblings": found, "private": True})
            return
        repository, name = "/".join(parts[:2]), "/".join(parts[4:])
        data = self.server.files.get(f"/{repository}/{name}")
        if data is None:
            self.missing("Entry")
            return
        sha = self.server.commit(repository)
        etag = f'"{hashlib.sha256(data).hexdigest()}"'
        self.reply(200, data, X_Repo_Commit=sha, ETag=etag, Accept_Ranges="bytes")

    def do_POST(self) -> None:
        body = self.content()
        if not self.accepted():
            return
        path = unquote(urlparse(self.path).path)
        parts = path.strip("/").split("/")
        if path == "/api/repos/create":
            asked = json.loads(body)
            repository = "/".join(filter(None, [asked.get("organization"), asked["name"]]))
            if repository in self.server.commits:
                self.json({"error": "exists", "url": f"{self.server.url}/{repository}"}, 409)
                return
            self.server.commits[repository] = 1
            self.json({"url": f"{self.server.url}/{repository}", "name": repository})
        elif path.endswith("/info/lfs/objects/batch"):
            objects = json.loads(body)["objects"]
            upload = {
                one["oid"]: {"href": f"{self.server.url}/lfs/{one['oid']}"} for one in objects
            }
            actions = [{**one, "actions": {"upload": upload[one["oid"]]}} for one in objects]
            self.json({"transfer": "basic", "objects": actions})
        elif parts[4:5] == ["preupload"]:
            files = [
                {
                    "path": one["path"],
                    "uploadMode": "lfs" if one["path"].endswith(".onnx") else "regular",
                    "shouldIgnore": False,
                }
                for one in json.loads(body)["files"]
            ]
            self.json({"files": files})
        elif parts[4:5] == ["commit"]:
            self._commit("/".join(parts[2:4]), body)
        else:
            self.json({})

    def do_PUT(self) -> None:
        data = self.content()
        if self.path.startswith("/lfs/"):
            self.server.large[self.path.removeprefix("/lfs/")] = data
            self.reply(200)
        else:
            self.reply(405)

    def _commit(self, repository: str, body: bytes) -> None:
        for line in body.decode().splitlines():
            entry = json.loads(line)
            value, where = entry["value"], f"/{repository}/{entry['value'].get('path')}"
            if entry["key"] == "file":
                self.server.files[where] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                self.server.files[where] = self.server.large[value["oid"]]
            elif entry["key"] == "deletedFile":
                self.server.files.pop(where, None)
        self.server.commits[repository] += 1
        sha = self.server.commit(repository)
        self.json({"commitUrl": f"{self.server.url}/{repository}/commit/{sha}", "commitOid": sha})


@contextmanager
def serving(server: FileServer) -> Iterator[FileServer]:
    """Serve from a thread for a while."""
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

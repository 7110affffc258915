"""A hub of the tests' own on loopback: what `huggingface_hub` asks of huggingface.co, and every way it can fail.

Small files come from the hub's own port. Large ones, as Git LFS holds them, are redirected to a second port, the
storage, which must not see a token. Every request and every byte of content that was sent is counted.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.hub.contents import Content, git_sha1, is_lfs, sha256, size_of

MAIN = "main"


@dataclass(frozen=True)
class Seen:
    """One request that arrived."""

    method: str
    path: str
    at_storage: bool
    token: str | None
    range: str | None


@dataclass
class Fault:
    """A failure of the hub for requests whose path contains `where`."""

    where: str
    status: int | None = None
    """Answer this instead of the content."""
    retry_after: int | None = None
    cut_at: int | None = None
    """Close the connection before this byte of the file."""
    stall_at: int | None = None
    """Stop before this byte of the file until `resume` is set."""
    content: bytes | None = None
    """Send these bytes instead of the file's."""
    ignores_range: bool = False
    unmeasured: bool = False
    """Do not say how much is sent; the end of the connection tells."""
    times: int = 1_000_000
    reached: threading.Event = field(default_factory=threading.Event)
    resume: threading.Event = field(default_factory=threading.Event)


@dataclass
class Repository:
    """Commits of a repository: sha -> files by path."""

    commits: dict[str, dict[str, Content]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    readers: frozenset[str] | None = None
    """Tokens that may read a gated repository; None: everybody may."""
    private: bool = False

    def commit(self, files: Mapping[str, Content], branch: str = MAIN) -> str:
        """Replace the files of a branch; returns the commit's sha."""
        lines = "".join(f"{path} {sha256(files[path])}\n" for path in sorted(files))
        sha = hashlib.sha1(f"{len(self.commits)}\n{lines}".encode()).hexdigest()
        self.commits[sha] = dict(files)
        self.branches[branch] = sha
        return sha

    def resolve(self, revision: str) -> str | None:
        return self.branches.get(revision, revision if revision in self.commits else None)


class LoopbackHub:
    """Two servers on loopback: the hub, and the storage of large files."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.uploaded: dict[str, Content] = {}
        self.seen: list[Seen] = []
        self.faults: list[Fault] = []
        self.sent_bytes: dict[str, int] = {}
        """Bytes of content sent, by the file's name."""
        self.writers: frozenset[str] = frozenset()
        """Tokens that may create repositories and commit to them."""
        self._servers = [_Server(self, at_storage=False), _Server(self, at_storage=True)]

    @property
    def endpoint(self) -> str:
        return self._address(0)

    @property
    def storage(self) -> str:
        return self._address(1)

    def _address(self, number: int) -> str:
        return f"http://127.0.0.1:{self._servers[number].server_address[1]}"

    @contextmanager
    def running(self) -> Iterator[LoopbackHub]:
        threads = [threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True) for server in self._servers]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            for fault in self.faults:
                fault.resume.set()
            for server in self._servers:
                server.shutdown()
                server.server_close()
            for thread in threads:
                thread.join()

    def add(self, name: str, files: Mapping[str, Content], **settings: Any) -> str:
        """Add a repository with one commit; returns its sha."""
        repository = self.repositories.setdefault(name, Repository(**settings))
        return repository.commit(files)

    def fail(self, where: str, **settings: Any) -> Fault:
        """Plan a failure."""
        self.faults.append(Fault(where, **settings))
        return self.faults[-1]

    def fault_for(self, path: str, *, body: bool) -> Fault | None:
        """The first failure planned for a path. A failure of the body is no failure of its redirect."""
        for fault in self.faults:
            of_body = fault.status is None
            if fault.where in path and fault.times > 0 and (body or not of_body):
                fault.times -= 1
                return fault
        return None

    def requests(self, method: str, part: str = "") -> list[Seen]:
        return [seen for seen in self.seen if seen.method == method and part in seen.path]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # a stalled answer must not keep the test waiting

    def __init__(self, hub: LoopbackHub, *, at_storage: bool) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.hub = hub
        self.at_storage = at_storage

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed closes its connection; that is meant."""


class _RefusedError(Exception):
    def __init__(self, status: int, code: str = "", message: str = "", url: str = "") -> None:
        super().__init__(status)
        self.status, self.code, self.message, self.url = status, code, message, url


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_arguments: object) -> None:
        """Keep quiet."""

    @property
    def hub(self) -> LoopbackHub:
        return self.server.hub

    @property
    def token(self) -> str | None:
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None

    def do_HEAD(self) -> None:
        self._answer(self._read)

    def do_GET(self) -> None:
        self._answer(self._read)

    def do_POST(self) -> None:
        self._answer(self._write)

    def do_PUT(self) -> None:
        self._answer(self._store)

    def _answer(self, answer: Callable[[str], None]) -> None:
        path = urllib.parse.unquote(self.path)
        seen = Seen(self.command, path, self.server.at_storage, self.token, self.headers.get("Range"))
        self.hub.seen.append(seen)
        length = int(self.headers.get("Content-Length") or 0)
        self.content = self.rfile.read(length) if length else b""
        fault = self.hub.fault_for(path, body=False)
        if fault is not None and fault.status is not None:
            extra = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
            self._reply(fault.status, b"trouble", extra)
            return
        try:
            answer(path)
        except _RefusedError as refused:
            headers = {"X-Error-Code": refused.code, "X-Error-Message": refused.message}
            body = json.dumps({"error": refused.message, "url": f"{self.hub.endpoint}/{refused.url}"}).encode()
            self._reply(refused.status, body, {key: value for key, value in headers.items() if value})

    def _reply(self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _json(self, content: object) -> None:
        self._reply(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    # --- reading -------------------------------------------------------------------------------------------------

    def _read(self, path: str) -> None:
        if self.server.at_storage:
            name, _, digest = path.rpartition("?oid=")
            self._send_file(name, self._by_digest(digest), {})
            return
        route, _, _ = path.partition("?")
        parts = route.strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            self._model_info(parts[2:], path)
        elif len(parts) > 4 and parts[2] == "resolve":
            self._resolve("/".join(parts[:2]), *self._revision_and_rest("/".join(parts[:2]), parts[3:]))
        else:
            raise _RefusedError(404)

    def _by_digest(self, digest: str) -> Content:
        every = (content for repo in self.hub.repositories.values() for files in repo.commits.values()
                 for content in files.values())  # fmt: skip
        for content in every:
            if sha256(content) == digest:
                return content
        raise _RefusedError(404)

    def _repository(self, name: str, *, metadata: bool = False) -> Repository:
        repository = self.hub.repositories.get(name)
        if repository is None or (repository.private and self.token is None):
            raise _RefusedError(401 if self.token is None else 404, "RepoNotFound", "Repository not found")
        if repository.readers is not None and self.token not in repository.readers and not metadata:
            status = 401 if self.token is None else 403
            raise _RefusedError(status, "GatedRepo", f"Access to model {name} is restricted")
        return repository

    def _commit(self, repository: Repository, revision: str) -> str:
        sha = repository.resolve(revision)
        if sha is None:
            raise _RefusedError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return sha

    def _revision_and_rest(self, name: str, parts: list[str]) -> tuple[str, str]:
        repository = self.hub.repositories.get(name, Repository())
        for count in range(len(parts) - 1, 0, -1):  # a branch may have slashes
            if repository.resolve("/".join(parts[:count])):
                return "/".join(parts[:count]), "/".join(parts[count:])
        return parts[0], "/".join(parts[1:])

    def _model_info(self, parts: list[str], path: str) -> None:
        name = "/".join(parts[:2])
        repository = self._repository(name, metadata=True)
        kind, revision = (parts[2], "/".join(parts[3:])) if len(parts) > 2 else ("revision", MAIN)
        sha = self._commit(repository, revision)
        described = [_described(file, content) for file, content in sorted(repository.commits[sha].items())]
        if kind == "tree":
            self._json([{**entry, "type": "file", "path": entry["rfilename"]} for entry in described])
            return
        if "blobs=" not in path:
            described = [{"rfilename": entry["rfilename"]} for entry in described]
        gated = "manual" if repository.readers is not None else False
        facts = {"id": name, "sha": sha, "private": repository.private, "gated": gated, "tags": [], "downloads": 0}
        self._json({**facts, "siblings": described})

    def _resolve(self, name: str, revision: str, file: str) -> None:
        repository = self._repository(name)
        sha = self._commit(repository, revision)
        content = repository.commits[sha].get(file)
        if content is None:
            raise _RefusedError(404, "EntryNotFound", "Entry not found")
        headers = {"X-Repo-Commit": sha}
        if not is_lfs(file, content):
            self._send_file(file, content, {**headers, "ETag": f'"{git_sha1(content)}"'})
            return
        digest = sha256(content)
        location = f"{self.hub.storage}/{urllib.parse.quote(file)}?oid={digest}"
        linked = {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(size_of(content)), "Location": location}
        self._reply(302, b"", {**headers, **linked})

    def _send_file(self, name: str, content: Content, headers: Mapping[str, str]) -> None:
        fault = self.hub.fault_for(name, body=True) if self.command == "GET" else None
        fault = fault or Fault("")
        content = content if fault.content is None else fault.content
        size, start, status = size_of(content), 0, 200
        asked = self.headers.get("Range")
        if asked and not fault.ignores_range:
            start, status = int(asked.removeprefix("bytes=").partition("-")[0]), 206
            if start >= size:
                self._reply(416, b"", {"Content-Range": f"bytes */{size}"})
                return
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        self.send_header("Accept-Ranges", "bytes")
        if fault.unmeasured:
            self.send_header("Connection", "close")
        else:
            self.send_header("Content-Length", str(size - start))
        self.end_headers()
        if self.command != "HEAD":
            self._send_body(name.rpartition("/")[2], content, start, fault)

    def _send_body(self, name: str, content: Content, start: int, fault: Fault) -> None:
        stops = sorted({stop for stop in (fault.cut_at, fault.stall_at) if stop is not None and stop >= start})
        for stop in (*stops, size_of(content)):
            for chunk in chunks(content, start, stop):
                self.wfile.write(chunk)
                self.hub.sent_bytes[name] = self.hub.sent_bytes.get(name, 0) + len(chunk)
            start = stop
            if stop == fault.stall_at:
                self.wfile.flush()
                fault.reached.set()
                fault.resume.wait()
            if stop == fault.cut_at:
                self.close_connection = True
                return

    # --- writing -------------------------------------------------------------------------------------------------

    def _write(self, path: str) -> None:
        route, _, _ = path.partition("?")
        parts = route.strip("/").split("/")
        if route == "/api/validate-yaml":
            self._json({"warnings": [], "errors": []})
            return
        if self.token not in self.hub.writers:
            raise _RefusedError(401 if self.token is None else 403, "", "You don't have the rights to write here")
        if route == "/api/repos/create":
            self._create(json.loads(self.content))
        elif route.endswith(".git/info/lfs/objects/batch"):
            self._json({"transfer": "basic", "objects": [self._upload_of(item) for item in self._asked()]})
        elif parts[:2] == ["api", "models"] and parts[4] == "preupload":
            self._json({"files": [_preupload(item) for item in json.loads(self.content)["files"]]})
        elif parts[:2] == ["api", "models"] and parts[4] == "commit":
            self._commit_to("/".join(parts[2:4]), "/".join(parts[5:]))
        else:
            raise _RefusedError(404)

    def _asked(self) -> list[dict[str, Any]]:
        objects: list[dict[str, Any]] = json.loads(self.content)["objects"]
        return objects

    def _create(self, asked: Mapping[str, Any]) -> None:
        name = f"{asked['organization']}/{asked['name']}"
        if name in self.hub.repositories:
            raise _RefusedError(409, "", "You already created this model repo", name)
        self.hub.repositories[name] = Repository(private=asked.get("visibility") == "private")
        self.hub.repositories[name].commit({".gitattributes": b"*.onnx filter=lfs\n"})
        self._json({"url": f"{self.hub.endpoint}/{name}"})

    def _upload_of(self, item: Mapping[str, Any]) -> dict[str, Any]:
        answer = {"oid": item["oid"], "size": item["size"]}
        if item["oid"] in self.hub.uploaded:
            return answer
        return {**answer, "actions": {"upload": {"href": f"{self.hub.storage}/upload/{item['oid']}", "header": {}}}}

    def _store(self, path: str) -> None:
        digest = path.rpartition("/")[2]
        if not self.server.at_storage or sha256(self.content) != digest:
            raise _RefusedError(400)
        self.hub.uploaded[digest] = self.content
        self._reply(200)

    def _commit_to(self, name: str, branch: str) -> None:
        repository = self._repository(name)
        files = dict(repository.commits[repository.branches[branch]]) if branch in repository.branches else {}
        for line in self.content.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                files[value["path"]] = self.hub.uploaded[value["oid"]]
            elif item["key"] == "deletedFile":
                del files[value["path"]]
        sha = repository.commit(files, branch)
        self._json({"success": True, "commitOid": sha, "commitUrl": f"{self.hub.endpoint}/{name}/commit/{sha}"})


def chunks(content: Content, start: int, stop: int, step: int = 1 << 16) -> Iterable[bytes]:
    """Pieces of the bytes from `start` to `stop`."""
    if isinstance(content, bytes):
        for place in range(start, stop, step):
            yield content[place : min(place + step, stop)]
        return
    with content.open("rb") as file:
        file.seek(start)
        while start < stop and (piece := file.read(min(step, stop - start))):
            start += len(piece)
            yield piece


def _described(path: str, content: Content) -> dict[str, Any]:
    entry: dict[str, Any] = {"rfilename": path, "size": size_of(content), "blobId": git_sha1(content)}
    entry["oid"] = entry["blobId"]
    if is_lfs(path, content):
        digest = sha256(content)
        entry["lfs"] = {"sha256": digest, "oid": digest, "size": size_of(content), "pointerSize": 135}
    return entry


def _preupload(item: Mapping[str, Any]) -> dict[str, Any]:
    mode = "lfs" if is_lfs(item["path"], None) or item["size"] > 1 << 20 else "regular"
    return {"path": item["path"], "uploadMode": mode, "shouldIgnore": False, "oid": None}

"""How the loopback hub answers: the wire format of the Hugging Face hub, as its clients read it."""

import hashlib
import json
import re
import sys
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

import yaml

from tests.loopback_content import Blob, Fault, Files, Repository, Request

if TYPE_CHECKING:
    from tests.loopback_hub import LoopbackHub

VERBS = ("revision", "refs", "tree", "paths-info")
KINDS = {"models": "model", "datasets": "dataset"}
DATE = "2026-11-01T12:00:00.000Z"


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, hub: "LoopbackHub", handler: type["_Handler"]) -> None:
        self.hub = hub
        super().__init__(("127.0.0.1", 0), handler)

    def handle_error(self, request, client_address) -> None:
        """A client that was killed is part of the tests; anything else is told."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Refused(Exception):
    """An answer that is not the one asked for."""

    def __init__(self, status: int, message: str, code: str | None = None, **headers: str) -> None:
        self.status, self.message = status, message
        self.headers = {"X-Error-Message": message, **headers}
        if code:
            self.headers["X-Error-Code"] = code


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def log_message(self, *arguments) -> None:
        pass

    def do_GET(self) -> None:
        self._serve()

    do_HEAD = do_POST = do_GET

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        self.hub = self.server.hub
        self.asked = Request(
            self.command,
            unquote(parts.path),
            parts.query,
            self.headers.get("Range"),
            "Authorization" in self.headers,
        )
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.form = parse_qs(body.decode() if body else "")
        self.query = parse_qs(parts.query)
        with self.hub.lock:
            self.hub.requests.append(self.asked)
        try:
            self._fail_when_asked_to()
            self.answer([unquote(part) for part in parts.path.split("/")[1:]])
        except _Refused as refusal:
            error = {"error": refusal.message}
            self.send(refusal.status, json.dumps(error).encode(), **refusal.headers)

    def _fail_when_asked_to(self) -> None:
        fault = self.hub.take_fault(self.asked.path, in_body=False)
        if fault is None:
            return
        if fault.hang is not None:
            time.sleep(fault.hang)
            self.close_connection = True
            raise ConnectionAbortedError("a hanging request was given up")
        headers = {} if fault.retry_after is None else {"Retry-After": fault.retry_after}
        raise _Refused(fault.status or 500, "a fault that the test asked for", **headers)

    def answer(self, parts: list[str]) -> None:
        raise NotImplementedError

    def head(self, status: int, length: int, headers: Mapping[str, str]) -> None:
        self.asked.status = status
        self.send_response(status)
        for name, value in {"Content-Length": str(length), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def send(self, status: int, body: bytes = b"", **headers: str) -> None:
        """A whole answer that is not the content of a file."""
        self.head(status, len(body), headers)
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_json(self, value: object, **headers: str) -> None:
        self.send(200, json.dumps(value).encode(), Content_Type="application/json", **headers)

    def send_blob(self, blob: Blob, headers: Mapping[str, str]) -> None:
        """Content of a file, or the range that was asked for, with what is to go wrong."""
        in_body = self.command == "GET"
        fault = (self.hub.take_fault(self.asked.path, in_body=True) if in_body else None) or Fault(
            match="", times=0
        )
        size = max(blob.size - fault.shorter_by, 0)
        in_part = self.asked.range is not None and not fault.whole
        start, stop = self._range(size) if in_part else (0, size)
        headers = {"ETag": f'"{blob.etag}"', "Accept-Ranges": "bytes", **headers}
        if in_part:
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        self.head(206 if in_part else 200, stop - start, headers)
        if in_body:
            self._send_content(blob, start, stop, fault)

    def _send_content(self, blob: Blob, start: int, stop: int, fault: Fault) -> None:
        cut = stop if fault.cut_after is None else min(stop, start + fault.cut_after)
        flipped_at = blob.size // 2 if fault.flip else -1
        for chunk in blob.chunks(start, cut):
            at = flipped_at - start - self.asked.sent
            if 0 <= at < len(chunk):
                chunk = chunk[:at] + bytes([chunk[at] ^ 1]) + chunk[at + 1 :]
            self.wfile.write(chunk)
            self.asked.sent += len(chunk)
            if fault.bytes_per_second:
                time.sleep(len(chunk) / fault.bytes_per_second)
        if cut < stop:
            self.close_connection = True

    def _range(self, size: int) -> tuple[int, int]:
        match = re.fullmatch(r"bytes=(\d*)-(\d*)", self.asked.range or "")
        if match is None:
            raise _Refused(400, f"{self.asked.range} is not a range")
        first, last = match.groups()
        if not first:
            return max(size - int(last), 0), size
        if int(first) >= size:
            raise _Refused(416, "the range is not in the file", Content_Range=f"bytes */{size}")
        return int(first), min(int(last) + 1, size) if last else size


class CdnHandler(_Handler):
    """Large files by their SHA-256: `/<sha256>/<file name>`."""

    def answer(self, parts: list[str]) -> None:
        blob = self.hub.blobs.get(parts[0])
        if blob is None:
            raise _Refused(404, "no such object")
        self.send_blob(blob, {"Content-Type": "application/octet-stream"})


class HubHandler(_Handler):
    """The hub proper: `/api/models/...`, `/<repository>/resolve/...` and the same for data sets."""

    TYPES: ClassVar[dict[str, str]] = {".json": "application/json", ".md": "text/markdown"}

    def answer(self, parts: list[str]) -> None:
        if parts[0] == "api" and len(parts) > 2 and parts[1] in KINDS:
            self._api(KINDS[parts[1]], parts[2:])
        elif parts[0] == "api" and parts[-1] in KINDS:
            self._repositories_of(KINDS[parts[-1]], self.query.get("author", [""])[0])
        elif "resolve" in parts:
            kind = KINDS.get(parts[0], "model")
            self._resolve(kind, parts[1:] if parts[0] in KINDS else parts)
        else:
            raise _Refused(404, "no such page")

    def _api(self, kind: str, parts: list[str]) -> None:
        at = next((i for i, part in enumerate(parts) if i and part in VERBS), len(parts))
        repository = self._repository(kind, "/".join(parts[:at]))
        verb, rest = (parts[at], parts[at + 1 :]) if at < len(parts) else ("revision", ["main"])
        if verb == "refs":
            self._refs(repository)
            return
        commit = self._commit(repository, rest[0])
        files = repository.commits[commit]
        if verb == "revision":
            self._information(repository, commit, files)
        elif verb == "tree":
            self._tree(repository, commit, files, "/".join(rest[1:]))
        else:
            entries = {entry["path"]: entry for entry in self._entries(commit, files)}
            found = [entries[path] for path in self.form.get("paths", []) if path in entries]
            self.send_json(found)

    def _repositories_of(self, kind: str, author: str) -> None:
        names = [name for k, name in self.hub.repositories if k == kind]
        self.send_json([{"id": name} for name in names if name.startswith(f"{author}/")])

    def _repository(self, kind: str, name: str) -> Repository:
        repository = self.hub.repositories.get((kind, name))
        if repository is None:  # whether it is missing or private is told only to those with a name
            known = self.asked.with_token
            raise _Refused(404 if known else 401, "Repository not found", "RepoNotFound")
        return repository

    def _commit(self, repository: Repository, revision: str) -> str:
        revision = revision.removeprefix("refs/heads/")
        commit = repository.branches.get(revision, revision)
        if commit not in repository.commits:
            raise _Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return commit

    def _refs(self, repository: Repository) -> None:
        branches = [
            {"name": name, "ref": f"refs/heads/{name}", "targetCommit": commit}
            for name, commit in repository.branches.items()
        ]
        self.send_json({"branches": branches, "converts": [], "tags": [], "pullRequests": []})

    def _information(self, repository: Repository, commit: str, files: Files) -> None:
        with_blobs = self.query.get("blobs", [""])[0].lower() == "true"
        siblings = []
        for name, blob in sorted(files.items()):
            sibling: dict = {"rfilename": name}
            if with_blobs:
                sibling |= {"size": blob.size, "blobId": blob.git_sha1}
                if blob.lfs:
                    sibling["lfs"] = {"sha256": blob.sha256, "size": blob.size, "pointerSize": 134}
            siblings.append(sibling)
        information = {
            "_id": hashlib.sha1(repository.name.encode()).hexdigest()[:24],
            "id": repository.name,
            "author": repository.name.split("/")[0],
            "sha": commit,
            "lastModified": DATE,
            "createdAt": DATE,
            "private": False,
            "disabled": False,
            "gated": "manual" if repository.gated_for else False,
            "downloads": 0,
            "likes": 0,
            "tags": [],
            "siblings": siblings,
            "cardData": _card(files),
        }
        self.send_json(information)

    def _tree(self, repository: Repository, commit: str, files: Files, folder: str) -> None:
        inside = f"{folder}/" if folder else ""
        entries = [e for e in self._entries(commit, files) if e["path"].startswith(inside)]
        if folder and not entries:
            raise _Refused(404, f"{folder} does not exist on {commit}", "EntryNotFound")
        if self.query.get("recursive", [""])[0].lower() not in ("true", "1"):
            entries = [entry for entry in entries if "/" not in entry["path"][len(inside) :]]
        start = int(self.query.get("cursor", ["0"])[0])
        stop = start + int(self.query.get("limit", [self.hub.page_size])[0])
        headers = {}
        if stop < len(entries):
            query = urlencode({**{k: v[0] for k, v in self.query.items()}, "cursor": stop})
            address = f"{self.hub.endpoint}{quote(self.asked.path)}?{query}"
            headers["Link"] = f'<{address}>; rel="next"'
        self.send_json(entries[start:stop], **headers)

    def _entries(self, commit: str, files: Files) -> list[dict]:
        """Files and folders as trees and paths-info list them."""
        folders = {str(p) for name in files for p in Path(name).parents if str(p) != "."}
        entries = [
            {"type": "directory", "oid": hashlib.sha1(f.encode()).hexdigest(), "size": 0, "path": f}
            for f in folders
        ]
        for name, blob in files.items():
            entry = {"type": "file", "oid": blob.git_sha1, "size": blob.size, "path": name}
            if blob.lfs:
                entry["lfs"] = {"oid": blob.sha256, "size": blob.size, "pointerSize": 134}
            entries.append(entry)
        if "true" in (
            v.lower() for v in self.query.get("expand", []) + self.form.get("expand", [])
        ):
            for entry in entries:
                entry["lastCommit"] = {"id": commit, "title": "Add files", "date": DATE}
        return sorted(entries, key=lambda entry: str(entry["path"]))

    def _resolve(self, kind: str, parts: list[str]) -> None:
        at = parts.index("resolve")
        repository = self._repository(kind, "/".join(parts[:at]))
        commit = self._commit(repository, parts[at + 1])
        self._check_access(repository)
        name = "/".join(parts[at + 2 :])
        blob = repository.commits[commit].get(name)
        headers = {"X-Repo-Commit": commit}
        if blob is None:
            raise _Refused(404, "Entry not found", "EntryNotFound", **headers)
        if blob.lfs:
            headers["Location"] = f"{self.hub.cdn}/{blob.sha256}/{quote(name)}"
            headers["X-Linked-Etag"] = f'"{blob.sha256}"'
            headers["X-Linked-Size"] = str(blob.size)
            self.send(302, **headers)
        else:
            kind_of_file = self.TYPES.get(Path(name).suffix, "text/plain; charset=utf-8")
            self.send_blob(blob, {**headers, "Content-Type": kind_of_file})

    def _check_access(self, repository: Repository) -> None:
        if repository.gated_for is None:
            return
        token = self.headers.get("Authorization")
        if token is None:
            raise _Refused(401, f"Access to {repository.address} is restricted.", "GatedRepo")
        if token != f"Bearer {repository.gated_for}":
            message = f"Access to {repository.address} is restricted and you are not in the list."
            raise _Refused(403, message, "GatedRepo")


def _card(files: Files) -> dict:
    """Settings at the head of a repository's README."""
    readme = b"".join(files["README.md"].chunks(0, 1 << 30)) if "README.md" in files else b""
    match = re.match(r"---\n(.*?)\n---\n", readme.decode(), flags=re.DOTALL)
    return yaml.safe_load(match[1]) if match else {}

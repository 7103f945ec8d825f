"""A model hub on loopback: the wire format of the Hugging Face hub, for the tests.

It serves repositories (models and data sets) that a test hands it, as branches that move from
commit to commit, and speaks what `huggingface_hub` and `datasets` ask: repository information,
refs, trees, paths-info, and files with ranges, entity tags and the redirect of large files to a
second server that stands for the content delivery network. That one has its own port, because the
clients decide by origin which headers they send along.

A test asks for what goes wrong with :meth:`LoopbackHub.fault`, and reads what was asked for from
`requests`.
"""

import hashlib
import json
import threading
from collections.abc import Mapping
from pathlib import Path

from tests.loopback_content import Blob, Fault, Repository, Request
from tests.loopback_handlers import CdnHandler, HubHandler, Server


class LoopbackHub:
    """The hub, at `endpoint` (HF_ENDPOINT), with its files also at `cdn`."""

    def __init__(self) -> None:
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.blobs: dict[str, Blob] = {}
        self.faults: list[Fault] = []
        self.requests: list[Request] = []
        self.page_size = 1000
        self.lock = threading.Lock()
        self._servers = [Server(self, HubHandler), Server(self, CdnHandler)]
        self.endpoint, self.cdn = (f"http://127.0.0.1:{s.server_port}" for s in self._servers)
        for server in self._servers:
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()

    def add_revision(
        self,
        kind: str,
        repository: str,
        branch: str,
        files: Mapping[str, bytes | Path] | Path,
    ) -> str:
        """Commit files (content or path by name, or a whole folder) to a branch: its sha.

        A branch that is there already moves; its older commits can still be asked for.
        """
        if isinstance(files, Path):
            folder = files
            found = (path for path in sorted(folder.rglob("*")) if path.is_file())
            files = {path.relative_to(folder).as_posix(): path for path in found}
        blobs = {name: Blob.of(name, source) for name, source in files.items()}
        with self.lock:
            place = self.repositories.setdefault(
                (kind, repository), Repository(kind=kind, name=repository)
            )
            parent = place.branches.get(branch, "")
            content = sorted((name, blob.etag) for name, blob in blobs.items())
            told = json.dumps([kind, repository, branch, parent, content])
            commit = hashlib.sha1(told.encode()).hexdigest()
            place.commits[commit] = blobs
            place.branches[branch] = commit
            self.blobs |= {blob.sha256: blob for blob in blobs.values() if blob.lfs}
        return commit

    def gate(self, kind: str, repository: str, token: str) -> None:
        """Open the repository's files only to those who send this token."""
        self.repositories[kind, repository].gated_for = token

    def fault(self, match: str, *, times: int | None = 1, **what) -> None:
        """Let requests fail whose path contains `match`: the next `times`, or all with None.

        status=429, retry_after="1": that answer. hang=5: silence for so many seconds, then the
        connection closes. cut_after=1000: the connection closes after so many bytes of a file.
        flip=True: one bit of a file is wrong. shorter_by=3: the file ends early and says so.
        whole=True: the whole file, whatever range was asked for. bytes_per_second=1e6: a file comes
        slowly.
        """
        with self.lock:
            self.faults.append(Fault(match=match, times=times, **what))

    def take_fault(self, path: str, *, in_body: bool) -> Fault | None:
        """The fault that meets this request, counted as used."""
        with self.lock:
            for fault in self.faults:
                if fault.in_body == in_body and fault.match in path and fault.times != 0:
                    fault.times = None if fault.times is None else fault.times - 1
                    return fault
        return None

    def asked(self, match: str = "", method: str = "GET") -> list[Request]:
        """Requests of a method whose path contains `match`, in the order they came."""
        return [r for r in list(self.requests) if r.method == method and match in r.path]

    def sent(self, match: str = "") -> int:
        """Bytes of content that were sent for paths that contain `match`."""
        return sum(request.sent for request in self.asked(match))

    def clear(self) -> None:
        """Forget repositories, faults and requests."""
        with self.lock:
            self.repositories.clear()
            self.blobs.clear()
            self.faults.clear()
            self.requests.clear()
            self.page_size = 1000

    def close(self) -> None:
        """Stop both servers."""
        for server in self._servers:
            server.shutdown()
            server.server_close()

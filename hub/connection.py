"""The door to a model hub: huggingface_hub, with patience and plain words.

A request to a busy, broken or silent hub is repeated after a growing pause, or after the one that
it names, for up to PATIENCE_SECONDS, or REACH_SECONDS if it was never there. No message repeats a
token or an address, because the addresses of large files carry signatures.
"""

import difflib
import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from contextvars import ContextVar
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
from huggingface_hub import (
    HfApi,
    constants,
    get_token,
    hf_hub_download,
    is_offline_mode,
    set_client_factory,
)
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import parse_ratelimit_headers
from huggingface_hub.utils.logging import set_verbosity_error

TIMEOUT_SECONDS = 30.0  # of silence
PATIENCE_SECONDS = 900.0  # of pauses before one request
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0
REACH_SECONDS = 60.0  # of pauses while there is no connection and nothing has come yet
BUSY = (408, 429, 500, 502, 503, 504, *range(520, 525))  # the last are a proxy's own
PASSING = (httpx2.TimeoutException, httpx2.NetworkError, httpx2.RemoteProtocolError)

logger = logging.getLogger("grokpath.hub")
_repository: ContextVar[str | None] = ContextVar("repository", default=None)


class HubError(ValueError):
    """What a hub refuses, or that it stays busy or out of reach."""


class _PatientClient(httpx2.Client):
    """Sends a request within :func:`patient` again while the hub is busy or out of reach."""

    _reached = False

    def send(self, request: httpx2.Request, **settings: Any) -> httpx2.Response:
        """The answer to a request."""
        if offline():
            raise OfflineModeIsEnabled("HF_HUB_OFFLINE is set")
        repository = _repository.get()
        if repository is None:
            return super().send(request, **settings)
        request.extensions["timeout"] = httpx2.Timeout(TIMEOUT_SECONDS).as_dict()
        pause, waited = FIRST_PAUSE_SECONDS, 0.0
        while True:
            wait, patience = pause, PATIENCE_SECONDS
            try:
                response = super().send(request, **settings)
                self._reached = True
                if response.status_code not in BUSY:
                    return response
                response.close()
                trouble, wait = _status(response), max(_requested_pause(response), pause)
            except PASSING as error:
                trouble = f"is out of reach ({type(error).__name__})"
                if isinstance(error, httpx2.ConnectError) and not self._reached:
                    patience = REACH_SECONDS
            if waited + wait > patience:
                raise HubError(
                    f"{repository}: the hub at {endpoint()} {trouble}; gave up after {waited:.0f} "
                    f"s of waiting, with {wait:.0f} s more to wait. Run again later: complete "
                    "files stay cached. Without a network set HF_HUB_OFFLINE=1"
                )
            logger.warning("%s: the hub %s; next attempt in %.0f s", repository, trouble, wait)
            time.sleep(wait)
            waited += wait
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)


set_client_factory(lambda: _PatientClient(follow_redirects=True, timeout=None))
set_verbosity_error()  # the library's warnings repeat signed addresses
constants.HF_HUB_DISABLE_XET = True  # its downloads do not pass through the patient client


@contextmanager
def patient(repository: str, revision: str | None = None, kind: str = "model") -> Iterator[None]:
    """Requests in here are patient; what the hub refuses is one plain message.

    Raises
    ------
    HubError
        When the hub refuses, or stays busy or out of reach for longer than patience lasts.
    """
    before = _repository.set(repository)
    try:
        yield
    except (HfHubHTTPError, LocalEntryNotFoundError, httpx2.TransportError) as error:
        cause = error.__cause__ if isinstance(error, LocalEntryNotFoundError) else error
        # Not chained: the library's messages hold signed addresses.
        raise HubError(_explained(cause, repository, revision, kind)) from None
    finally:
        _repository.reset(before)


def offline() -> bool:
    """Whether the user wants no requests to a hub (HF_HUB_OFFLINE)."""
    return bool(is_offline_mode())


def endpoint() -> str:
    """Address of the hub (HF_ENDPOINT) for a reader, without what may be a password in it."""
    return re.sub(r"//[^/@]*@", "//", str(constants.ENDPOINT))


# ---------------------------------------------------------------- requests


def branches(repository: str) -> dict[str, str]:
    """Commit of every branch of a model repository, by name."""
    with patient(repository):
        refs = HfApi().list_repo_refs(repository)
    return {branch.name: branch.target_commit for branch in refs.branches}


def listing(repository: str, revision: str) -> dict[str, Any]:
    """Commit of a branch, tag or commit of a model repository, and its files with digests."""
    with patient(repository, revision):
        info = HfApi().model_info(repository, revision=revision, files_metadata=True)
    files = [
        {
            "name": file.rfilename,
            "size": file.size,
            "sha256": file.lfs.sha256 if file.lfs else None,
            "git_sha1": file.blob_id,
        }
        for file in info.siblings or ()
    ]
    return {"commit": info.sha, "files": files}


def dataset_commit(repository: str, revision: str) -> str:
    """Commit that a branch or tag of a data set points at now."""
    with patient(repository, revision, "dataset"):
        return str(HfApi().dataset_info(repository, revision=revision).sha)


def download(
    repository: str, commit: str, name: str, cache: Path, on_bytes: Callable[[int], None]
) -> None:
    """Download a file into a cache of huggingface_hub, unless its content is there already.

    A connection that breaks is resumed where it broke, as often as new data arrive.

    Raises
    ------
    HubError
        When the hub refuses.
    OSError
        When the disk is full; without a number when the file has another size than listed or the
        connection broke too often.
    """
    num_bytes = 0

    def count(more: int) -> None:
        nonlocal num_bytes
        num_bytes += more
        on_bytes(num_bytes)

    def progress_bar(**_: Any) -> Any:
        return nullcontext(SimpleNamespace(update=count))

    with patient(repository, commit):
        try:
            hf_hub_download(
                repository, name, revision=commit, cache_dir=cache, tqdm_class=progress_bar
            )
        except httpx2.TransportError as error:
            raise OSError(f"the hub is out of reach ({type(error).__name__})") from None


# ---------------------------------------------------------------- words


def _status(response: httpx2.Response) -> str:
    return f"answers {response.status_code} {response.reason_phrase}".rstrip()


def _requested_pause(response: httpx2.Response) -> float:
    """Seconds that the hub asks to wait, 0 when it does not say."""
    limit = parse_ratelimit_headers(response.headers)
    if limit is not None and limit.remaining == 0:
        return float(limit.reset_in_seconds)
    after = response.headers.get("Retry-After", "").strip()
    return float(after) if after.isdigit() else 0.0


def _explained(
    error: BaseException | None, repository: str, revision: str | None, kind: str
) -> str:
    """A refusal in plain words, with what to do next."""
    token = "the token in use has no access" if get_token() else "no token is set (HF_TOKEN)"
    hub = f"the hub at {endpoint()}"
    if isinstance(error, GatedRepoError):
        return (
            f"{repository} is open only to those who accepted its terms, and {token}; accept them "
            f"at {endpoint()}/{repository} and set HF_TOKEN to a token of that account"
        )
    if isinstance(error, RepositoryNotFoundError):
        hint = near(repository, _repositories_of(repository.split("/")[0], kind))
        return (
            f"{repository}: no such {kind} repository at {endpoint()}{hint} If it is private: "
            f"{token}"
        )
    if isinstance(error, RevisionNotFoundError):
        hint = near(str(revision), branches(repository)) if kind == "model" else "."
        return f"{repository} has no revision {revision}{hint}"
    if isinstance(error, HfHubHTTPError):
        what = f"revision {revision}" if revision else "its branches"
        return f"{repository}: {hub} {_status(error.response)} to a request for {what}; {token}"
    return f"{repository}: {hub} cannot be reached ({type(error).__name__}); see HF_ENDPOINT"


def near(name: str, names: Iterable[str]) -> str:
    """`; did you mean ...?` with the names that look most alike, or a full stop."""
    alike = difflib.get_close_matches(name, list(names), n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(alike)}?" if alike else "."


def _repositories_of(owner: str, kind: str) -> list[str]:
    """Names of an owner's repositories, as far as they can be had."""
    listed = HfApi().list_models if kind == "model" else HfApi().list_datasets
    with suppress(HfHubHTTPError, httpx2.TransportError, HubError):
        return [found.id for found in listed(author=owner, limit=500)]
    return []

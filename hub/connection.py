"""The door to a model hub: every request goes through here, with patience and plain words.

huggingface_hub does the speaking. What it leaves to its callers is decided here, once: a busy,
broken or silent hub is asked again after a growing pause, or after the one it asks for, until
PATIENCE_SECONDS have gone by without a byte, or REACH_SECONDS if it was never there. No message
repeats a token or an address, because the addresses of large files carry signatures.
"""

import difflib
import logging
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import BinaryIO, TypeVar

import httpx2
from huggingface_hub import (
    HfApi,
    constants,
    get_session,
    get_token,
    hf_hub_url,
    hf_raise_for_status,
    is_offline_mode,
)
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import build_hf_headers, parse_ratelimit_headers

TIMEOUT_SECONDS = 30.0  # of silence
PATIENCE_SECONDS = 900.0  # of pauses without a byte in between
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0
REACH_SECONDS = 60.0  # of pauses while there is no connection and nothing has come yet
BUSY = (408, 429, 500, 502, 503, 504, *range(520, 525))  # the last are a proxy's own
OUT_OF_REACH = (httpx2.TimeoutException, httpx2.NetworkError, httpx2.RemoteProtocolError)

T = TypeVar("T")
logger = logging.getLogger("grokpath.hub")


@dataclass(frozen=True)
class ListedFile:
    """One file of a commit, as the hub lists it; `sha256` only for files it stores as large."""

    name: str
    size: int
    sha256: str | None
    git_sha1: str


@dataclass(frozen=True)
class Listing:
    """All files of one commit."""

    commit: str
    files: tuple[ListedFile, ...]


def offline() -> bool:
    """Whether the user asked that no hub be spoken to (HF_HUB_OFFLINE)."""
    return bool(is_offline_mode())


def endpoint() -> str:
    """Address of the hub (HF_ENDPOINT) for a reader, without what may be a password in it."""
    return re.sub(r"//[^/@]*@", "//", str(constants.ENDPOINT))


def branches(repository: str) -> dict[str, str]:
    """Commit of every branch of a model repository, by name."""

    def names_and_commits() -> dict[str, str]:
        get_session().timeout = TIMEOUT_SECONDS  # this call of the library takes none
        refs = HfApi().list_repo_refs(repository)
        return {branch.name: branch.target_commit for branch in refs.branches}

    return ask(names_and_commits, repository)


def listing(repository: str, revision: str) -> Listing:
    """Files of a model repository at a branch, tag or commit, with their digests."""
    info = ask(
        lambda: HfApi().model_info(
            repository, revision=revision, files_metadata=True, timeout=TIMEOUT_SECONDS
        ),
        repository,
        revision,
    )
    files = (
        ListedFile(f.rfilename, f.size, f.lfs.sha256 if f.lfs else None, f.blob_id)
        for f in info.siblings
    )
    return Listing(info.sha, tuple(files))


def dataset_commit(repository: str, revision: str) -> str:
    """Commit that a branch or tag of a data set points at now."""
    info = ask(
        lambda: HfApi().dataset_info(repository, revision=revision, timeout=TIMEOUT_SECONDS),
        repository,
        revision,
        kind="dataset",
    )
    return str(info.sha)


def download(
    repository: str,
    commit: str,
    name: str,
    *,
    size: int,
    out: BinaryIO,
    on_bytes: Callable[[int], None],
) -> None:
    """Append to an open file what it lacks of a file on the hub.

    A connection that breaks is taken up again where it broke. The file may still end with the wrong
    size: what a server sends is for the caller to check.

    Parameters
    ----------
    size
        Bytes of the whole file; no more than this and one chunk is ever written.
    on_bytes
        Told how many bytes of the file are here, after each chunk.
    """
    address = hf_hub_url(repository, name, revision=commit)

    def take_up() -> None:
        start = out.seek(0, 2)
        if start >= size:
            return
        headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
        with get_session().stream(
            "GET", address, headers=headers, timeout=TIMEOUT_SECONDS
        ) as response:
            if response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                return  # the hub's file is shorter than listed
            hf_raise_for_status(response)
            if start and response.status_code == HTTPStatus.OK:  # all of it, not the rest
                out.truncate(out.seek(0))
            for chunk in response.iter_bytes():
                out.write(chunk)
                on_bytes(out.tell())
                if out.tell() > size:
                    return

    ask(take_up, repository, commit, progress=out.tell)


def ask(
    call: Callable[[], T],
    repository: str,
    revision: str | None = None,
    *,
    kind: str = "model",
    progress: Callable[[], int] = lambda: 0,
) -> T:
    """Result of a request, made again while the hub is busy; other failures in plain words.

    Parameters
    ----------
    call
        The request; what an earlier, broken one achieved is its own business.
    repository, revision, kind
        What is asked for: a `model` or a `dataset`. Only for the messages.
    progress
        Grows while something arrives; patience starts anew whenever it has changed.

    Raises
    ------
    ValueError
        When the hub refuses, or stays busy or out of reach for longer than patience lasts.
    """
    pause, waited, had = FIRST_PAUSE_SECONDS, 0.0, progress()
    while True:
        try:
            return call()
        except (HfHubHTTPError, *OUT_OF_REACH) as error:
            trouble = _passing_trouble(error)
            if trouble is None:
                # Not chained: the library's messages hold signed addresses.
                raise ValueError(_explained(error, repository, revision, kind)) from None
            if progress() != had:
                pause, waited, had = FIRST_PAUSE_SECONDS, 0.0, progress()
            wait = max(_asked_pause(error), pause)
            absent = isinstance(error, httpx2.ConnectError) and not progress()
            if waited + wait > (REACH_SECONDS if absent else PATIENCE_SECONDS):
                raise ValueError(
                    f"{repository}: the hub at {endpoint()} {trouble}; gave up after "
                    f"{waited:.0f} s of waiting, with {wait:.0f} s more to wait. Run again later: "
                    "what is here already is kept. Without a network set HF_HUB_OFFLINE=1"
                ) from None
            logger.warning("%s: the hub %s; asking again in %.0f s", repository, trouble, wait)
            time.sleep(wait)
            waited += wait
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)


def _passing_trouble(error: Exception) -> str | None:
    """What is wrong for now; None when asking again would not help."""
    if not isinstance(error, HfHubHTTPError):
        return f"is out of reach ({type(error).__name__})"
    return _answer(error) if error.response.status_code in BUSY else None


def _answer(error: HfHubHTTPError) -> str:
    return f"answers {error.response.status_code} {error.response.reason_phrase}".rstrip()


def _asked_pause(error: Exception) -> float:
    """Seconds that the hub asks to wait, 0 when it does not say."""
    if not isinstance(error, HfHubHTTPError):
        return 0.0
    limit = parse_ratelimit_headers(error.response.headers)
    if limit is not None and limit.remaining == 0:
        return float(limit.reset_in_seconds)
    told = error.response.headers.get("Retry-After", "").strip()
    if told.isdigit():
        return float(told)
    try:
        return max((parsedate_to_datetime(told) - datetime.now(UTC)).total_seconds(), 0.0)
    except (ValueError, TypeError):  # neither seconds nor a date with its zone
        return 0.0


def _explained(error: Exception, repository: str, revision: str | None, kind: str) -> str:
    """A refusal in plain words, with what to do next."""
    token = "the token in use has no access" if get_token() else "no token is set (HF_TOKEN)"
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
    assert isinstance(error, HfHubHTTPError)
    what = f"revision {revision}" if revision else "its branches"
    return (
        f"{repository}: the hub at {endpoint()} {_answer(error)} to a request for {what}; {token}"
    )


def near(name: str, names: Iterable[str]) -> str:
    """`; did you mean ...?` with the names that look most alike, or a full stop."""
    alike = difflib.get_close_matches(name, list(names), n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(alike)}?" if alike else "."


def _repositories_of(owner: str, kind: str) -> list[str]:
    """Names of an owner's repositories, as far as they can be had."""
    try:
        answer = get_session().get(
            f"{constants.ENDPOINT}/api/{kind}s",
            params={"author": owner, "limit": 500},
            headers=build_hf_headers(),
            timeout=TIMEOUT_SECONDS,
        )
    except httpx2.HTTPError:
        return []
    return [entry["id"] for entry in answer.json()] if answer.is_success else []

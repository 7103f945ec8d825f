"""Addresses of an MLflow server, and of its pages and files as they may be shown: no password."""

import http.client
import urllib.error
import urllib.request
from urllib.parse import quote, urlsplit, urlunsplit

STORES = "http://, https://, sqlite:///, postgresql://, mysql:// or mssql://"
SCHEMES = ("http", "https", "sqlite", "postgresql", "mysql", "mssql", "file", "databricks", "uc")
WHAT_TO_DO = "correct MLFLOW_TRACKING_URI, or unset it to use the embedded store"


def check(uri: str, seconds: float = 10.0) -> None:
    """Refuse an MLflow server that does not answer, and an address that names no MLflow store.

    Any answer counts, a refusal too. Databases are not opened.

    Raises
    ------
    ConnectionError
        The server does not answer.
    ValueError
        The address has a scheme that MLflow does not know.
    """
    shown = redacted(uri)
    if not is_server(uri):
        scheme, found, _ = uri.partition("://")
        if found and scheme.split("+")[0].split("-")[0] not in SCHEMES:
            raise ValueError(
                f"{shown} names no MLflow store; expected a URI that starts with {STORES}: "
                f"{WHAT_TO_DO}"
            )
        return
    try:
        urllib.request.urlopen(f"{shown.rstrip('/')}/health", timeout=seconds).close()
    except urllib.error.HTTPError:
        return
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise ConnectionError(
            f"{shown} does not answer as an MLflow server ({reason}); start it, {WHAT_TO_DO}"
        ) from None


def is_server(uri: str) -> bool:
    """Whether a tracking URI names a server and not a database."""
    return urlsplit(uri).scheme in ("http", "https")


def redacted(uri: str) -> str:
    """The address without user name and password."""
    parts = urlsplit(uri)
    if "@" not in parts.netloc:
        return uri
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def run_page(uri: str, experiment_id: str, run_id: str, file: str | None = None) -> str:
    """Address of a run's page on a server, or of the page that shows one of its files."""
    page = f"{redacted(uri).rstrip('/')}/#/experiments/{experiment_id}/runs/{run_id}"
    return page if file is None else f"{page}/artifacts/{quote(file)}"


def run_file(uri: str, run_id: str, file: str) -> str:
    """Address of the content of one of a run's files on a server."""
    return f"{redacted(uri).rstrip('/')}/get-artifact?path={quote(file)}&run_uuid={run_id}"

"""Addresses of an MLflow server's pages and files, as they may be shown: without a password."""

from urllib.parse import quote, urlsplit, urlunsplit


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

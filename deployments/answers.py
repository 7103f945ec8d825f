"""Asking a server something, with the user name and password that this environment knows."""

import base64
import json
import os
import urllib.error
import urllib.request
from typing import Any


def answers(url: str) -> bool:
    """Whether a request succeeds."""
    return _asked(url, None) is not None


def answer(url: str, credentials: str | None = None) -> dict[str, Any]:
    """What is answered, empty if nothing; `credentials` are `user:password`."""
    content: dict[str, Any] = json.loads(_asked(url, credentials) or b"{}")
    return content


def _asked(url: str, credentials: str | None) -> bytes | None:
    known = credentials or os.environ.get("PREFECT_API_AUTH_STRING")
    request = urllib.request.Request(url)
    if known:
        request.add_header("Authorization", f"Basic {base64.b64encode(known.encode()).decode()}")
    try:
        with urllib.request.urlopen(request, timeout=5) as answered:
            content: bytes = answered.read()
            return content
    except (urllib.error.URLError, OSError):
        return None

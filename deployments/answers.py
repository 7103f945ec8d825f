"""Whether a server answers, with the user name and password that this environment knows."""

import base64
import os
import urllib.error
import urllib.request


def answers(url: str, credentials: str | None = None) -> bool:
    """Whether a request succeeds; `credentials` are `user:password`, by default Prefect's."""
    known = credentials or os.environ.get("PREFECT_API_AUTH_STRING")
    request = urllib.request.Request(url)
    if known:
        request.add_header("Authorization", f"Basic {base64.b64encode(known.encode()).decode()}")
    try:
        with urllib.request.urlopen(request, timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False

"""Prefect's server, behind a check of the Host and Origin headers, which it has not itself.

Without it, a web page that someone on this machine looks at could talk to the server: by a name
that was made to point at 127.0.0.1, or by requests from another origin.
"""

import os
from typing import Any
from urllib.parse import SplitResult, urlsplit

HOSTS = "GROKPATH_UP_HOSTS"
"""Names that requests may be made to, with commas between."""


class OnlyOwnPages:
    """ASGI middleware: requests under our names only, and from our own pages or no page at all."""

    def __init__(self, app: Any, hosts: frozenset[str]) -> None:
        self._app, self._hosts = app, hosts

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass on what is ours, refuse the rest."""
        if scope["type"] == "lifespan" or self._is_ours(dict(scope["headers"])):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            plain = [(b"content-type", b"text/plain")]
            await send({"type": "http.response.start", "status": 403, "headers": plain})
            await send({"type": "http.response.body", "body": b"foreign host or origin"})

    def _is_ours(self, headers: dict[bytes, bytes]) -> bool:
        host = urlsplit("//" + headers.get(b"host", b"").decode("latin-1"))
        if _name(host.hostname) not in self._hosts:
            return False
        origin = headers.get(b"origin")
        if origin is None:
            return True
        page = urlsplit(origin.decode("latin-1"))
        usual = {"http": 80, "https": 443}.get(page.scheme)
        same_port = _port(page, usual) == _port(host, usual)
        return _name(page.hostname) in self._hosts and same_port


def _name(host: str | None) -> str:
    host = (host or "").lower()
    return f"[{host}]" if ":" in host else host


def _port(parts: SplitResult, usual: int | None) -> int | None:
    try:
        return parts.port or usual
    except ValueError:
        return None


def main() -> None:
    """Serve at PREFECT_SERVER_API_HOST and _PORT until told to stop."""
    import uvicorn
    from prefect.server.api.server import create_app
    from prefect.settings import get_current_settings

    server = get_current_settings().server
    hosts = frozenset(name.lower() for name in os.environ[HOSTS].split(","))
    uvicorn.run(
        OnlyOwnPages(create_app(final=True), hosts),
        host=server.api.host,
        port=server.api.port,
        timeout_keep_alive=server.api.keepalive_timeout,
        timeout_graceful_shutdown=3,
        log_level=server.logging_level.lower(),
    )


if __name__ == "__main__":
    main()

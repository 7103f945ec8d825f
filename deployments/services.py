"""One service of `grokpath up` or of compose.yaml, with what its environment says.

    python -m deployments.services prefect | mlflow | register | worker POOL

PREFECT_SERVER_API_AUTH_STRING holds the password for both servers and their clients; here each gets
it under the name that it knows. On an address that others reach, which a container's are, nothing
starts without a good one (:mod:`deployments.settings`).
"""

import os
import sys
from typing import Any
from urllib.parse import urlsplit

from deployments import settings

ALL_ADDRESSES = "0.0.0.0"
LISTENS_ON = {"prefect": "PREFECT_SERVER_API_HOST", "mlflow": "MLFLOW_HOST"}


def main() -> None:
    """Check the password and become the service."""
    words = sys.argv[1:]
    try:
        command, env = service(words)
    except ValueError as error:
        sys.exit(f"failed: {error}")
    os.environ.update(env)
    if words == ["prefect"]:
        serve_prefect()
        return
    os.environ.pop(settings.AUTH, None)  # clients and MLflow know it by other names
    if "MLFLOW_AUTH_ADMIN_USERNAME" in env:
        set_mlflow_password(env["MLFLOW_AUTH_ADMIN_USERNAME"], env["MLFLOW_AUTH_ADMIN_PASSWORD"])
    os.execv(sys.executable, [sys.executable, "-m", *command])


def service(words: list[str]) -> tuple[list[str], dict[str, str]]:
    """Module and arguments of a service, and what is added to its environment.

    Raises
    ------
    ValueError
        When there is no such service, or no good password where one is needed.
    """
    # Only `grokpath up` says of a client that no password is needed.
    host = os.environ.get(LISTENS_ON.get(words[0], "GROKPATH_HOST"), ALL_ADDRESSES)
    known = settings.credentials(host)
    client, admin = {}, {}
    if known is not None:
        user, _, password = known.mlflow.partition(":")
        client = {settings.MLFLOW_USER: user, settings.MLFLOW_PASSWORD: password}
        client["PREFECT_API_AUTH_STRING"] = known.prefect
        admin = {"MLFLOW_AUTH_ADMIN_USERNAME": user, "MLFLOW_AUTH_ADMIN_PASSWORD": password}
    match words:
        case ["prefect"]:
            return [], client
        case ["mlflow"]:
            return ["mlflow", "server", *(["--app-name", "basic-auth"] if known else [])], admin
        case ["register", *more]:
            return ["deployments.register", *more], client
        case ["worker", pool]:
            return ["prefect", "worker", "start", "--pool", pool, "--type", "process"], client
    raise ValueError(
        f"no service {' '.join(words)!r}; expected prefect, mlflow, register or worker POOL"
    )


class OwnPages:
    """ASGI middleware: requests of web pages of the same origin, or of no page at all.

    Without it, and without the check of the host name, a web page that someone on this machine
    looks at could send requests to Prefect's server.
    """

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass on what is ours, refuse the rest."""
        from starlette.responses import PlainTextResponse

        headers = {name: value.decode("latin-1") for name, value in scope.get("headers", ())}
        origin = headers.get(b"origin")
        if origin is None or urlsplit(origin).netloc.lower() == headers.get(b"host", "").lower():
            await self._app(scope, receive, send)
        else:
            await PlainTextResponse("foreign origin", status_code=403)(scope, receive, send)


def serve_prefect() -> None:
    """Serve at PREFECT_SERVER_API_HOST and _PORT, under the names in GROKPATH_UP_HOSTS."""
    import uvicorn
    from prefect.server.api.server import create_app
    from prefect.settings import get_current_settings
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    server = get_current_settings().server
    uvicorn.run(
        TrustedHostMiddleware(
            OwnPages(create_app(final=True)),
            allowed_hosts=os.environ[settings.HOSTS].split(","),
            www_redirect=False,
        ),
        host=server.api.host,
        port=server.api.port,
        timeout_keep_alive=server.api.keepalive_timeout,
        timeout_graceful_shutdown=3,
        log_level=server.logging_level.lower(),
    )


def set_mlflow_password(user: str, password: str) -> None:
    """Give MLflow's administrator this password: MLflow itself takes it only the first time."""
    from mlflow.server.auth.config import read_auth_config
    from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore

    store = SqlAlchemyStore()
    store.init_db(read_auth_config().database_uri)
    if not store.has_user(user):
        store.create_user(user, password, is_admin=True)
    elif not store.authenticate_user(user, password) or not store.get_user(user).is_admin:
        store.update_user(user, password=password, is_admin=True)


if __name__ == "__main__":
    main()

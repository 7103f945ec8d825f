"""The options of `grokpath up`, and the settings of each of its processes.

Settings go through the environment, so that no password is among the arguments that every user of
the machine can list; and no process gets more than it needs: only a server knows its database.
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.engine import URL

from deployments import safety
from deployments.mlflow_server import SETTINGS as MLFLOW_AUTH_SETTINGS
from deployments.postgres import address_of
from deployments.prefect_server import HOSTS
from deployments.safety import Address, Credentials

HEARTBEAT_SECONDS = 30
"""So often a flow run reports that it lives; without it nobody notices when it dies."""


@dataclass(frozen=True)
class Options:
    """The options of `grokpath up`."""

    root: Path
    host: str
    prefect_port: int
    mlflow_port: int
    allowed_hosts: tuple[str, ...]
    workers: bool
    num_cards: int
    database_url: str | None


def environments(
    options: Options, where: Address, credentials: Credentials | None, server: URL | None
) -> dict[str, dict[str, str]]:
    """Environments of `prefect`, `mlflow` and `worker`; only a server's has its database."""
    ours = (
        "PREFECT_SERVER_",
        "PREFECT_API_",
        "PREFECT_UI_",
        "PREFECT_PROFILE",
        "MLFLOW_",
        "GROKPATH_DATABASE_",
    )
    common = {
        **{name: value for name, value in os.environ.items() if not name.startswith(ours)},
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "PYTHONUNBUFFERED": "1",
        "GROKPATH_ROOT": str(options.root),
        "PREFECT_HOME": str(options.root / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PREFECT_API_URL": f"http://{where.url_host}:{options.prefect_port}/api",
        "MLFLOW_TRACKING_URI": f"http://{where.url_host}:{options.mlflow_port}",
    }
    worker = {**common, "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS)}
    if credentials is not None:
        user, _, password = credentials.mlflow.partition(":")
        worker |= {
            "PREFECT_API_AUTH_STRING": credentials.prefect,
            safety.MLFLOW_USER: user,
            safety.MLFLOW_PASSWORD: password,
        }
    return {
        "prefect": common | _prefect_settings(options, where, credentials, server),
        "mlflow": common | _mlflow_settings(options, where, credentials, server),
        "worker": worker,
    }


def _prefect_settings(
    options: Options, where: Address, credentials: Credentials | None, server: URL | None
) -> dict[str, str]:
    settings = {
        "PREFECT_SERVER_API_HOST": where.bind,
        "PREFECT_SERVER_API_PORT": str(options.prefect_port),
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": (
            address_of("prefect", server)
            if server
            else f"sqlite+aiosqlite:///{options.root / 'prefect.db'}"
        ),
        # A page may be shown under several names; it talks to the one it came from.
        "PREFECT_UI_API_URL": "/api",
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": "",
        HOSTS: ",".join(where.hosts),
    }
    return settings | ({safety.AUTH: credentials.prefect} if credentials else {})


def _mlflow_settings(
    options: Options, where: Address, credentials: Credentials | None, server: URL | None
) -> dict[str, str]:
    settings = {
        "MLFLOW_HOST": where.bind,
        "MLFLOW_PORT": str(options.mlflow_port),
        "MLFLOW_WORKERS": "1",
        "MLFLOW_UVICORN_OPTS": "--log-level warning --timeout-graceful-shutdown 3",
        "MLFLOW_BACKEND_STORE_URI": (
            address_of("mlflow", server) if server else f"sqlite:///{options.root / 'mlflow.db'}"
        ),
        "MLFLOW_ARTIFACTS_DESTINATION": str(options.root / "mlartifacts"),
        # It runs code that a request brings.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_SERVER_ALLOWED_HOSTS": ",".join(
            name for host in where.hosts for name in (host, f"{host}:{options.mlflow_port}")
        ),
        "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": ",".join(
            [f"http://{host}:{options.mlflow_port}" for host in where.hosts]
            # As a proxy's pages, which come encrypted.
            + [f"https://{host}" for host in options.allowed_hosts]
        ),
    }
    if credentials is None:
        return settings
    user, _, password = credentials.mlflow.partition(":")
    return settings | {
        "MLFLOW_AUTH_ADMIN_USERNAME": user,
        "MLFLOW_AUTH_ADMIN_PASSWORD": password,
        MLFLOW_AUTH_SETTINGS: str(_mlflow_users(options.root)),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": safety.kept_secret(options.root / "secrets" / "mlflow"),
    }


def _mlflow_users(root: Path) -> Path:
    """MLflow's file about users: without a permission nobody may do anything."""
    file = root / "secrets" / "mlflow-auth.ini"
    file.parent.mkdir(mode=0o700, exist_ok=True)
    users = file.with_name("mlflow-users.db")
    users.touch(mode=0o600)
    file.write_text(
        "[mlflow]\n"
        "default_permission = NO_PERMISSIONS\n"
        f"database_uri = sqlite:///{users}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
        "grant_default_workspace_access = false\n",
        encoding="utf-8",
    )
    return file

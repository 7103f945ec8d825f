"""MLflow's server; where there is a password, its administrator is given that one first.

MLflow itself takes the administrator's password only the first time, so that a changed one would
leave the old one in force.
"""

import os
import sys

SETTINGS = "MLFLOW_AUTH_CONFIG_PATH"


def main() -> None:
    """Become the server, with options from the environment (MLFLOW_HOST, ...)."""
    command = [sys.executable, "-m", "mlflow", "server"]
    if SETTINGS in os.environ:
        user, password = (f"MLFLOW_AUTH_ADMIN_{word}" for word in ("USERNAME", "PASSWORD"))
        set_password(os.environ[user], os.environ[password])
        command += ["--app-name", "basic-auth"]
    os.execv(sys.executable, command)


def set_password(user: str, password: str) -> None:
    """Make the user an administrator with this password."""
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

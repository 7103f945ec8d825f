"""Become one of the services of compose.yaml, by the rules of `grokpath up`.

    python -m deployments.in_container prefect | mlflow | register | worker POOL

A container listens on all its addresses, so nothing starts without a good password
(:mod:`deployments.safety`). One variable, PREFECT_SERVER_API_AUTH_STRING, holds it for both servers
and their clients; here each is told what it calls it.
"""

import os
import sys

from deployments import safety

ALL_ADDRESSES = "0.0.0.0"  # of the container; the ports that are published say who reaches it


def main() -> None:
    """Check the password and become the service."""
    try:
        module, told = service(sys.argv[1:])
    except ValueError as error:
        sys.exit(f"failed: {error}")
    os.environ.update(told)
    if sys.argv[1] in ("register", "worker"):  # clients know no server's settings
        os.environ.pop(safety.AUTH, None)
    os.execv(sys.executable, [sys.executable, "-m", *module])


def service(asked: list[str]) -> tuple[list[str], dict[str, str]]:
    """Module and arguments of a service, and what its environment says besides.

    Raises
    ------
    ValueError
        When there is no such service, or no good password.
    """
    known = safety.credentials(ALL_ADDRESSES)
    assert known is not None
    user, _, password = known.mlflow.partition(":")
    client = {
        "PREFECT_API_AUTH_STRING": known.prefect,
        safety.MLFLOW_USER: user,
        safety.MLFLOW_PASSWORD: password,
    }
    match asked:
        case ["prefect"]:
            return ["deployments.prefect_server"], {"PREFECT_API_AUTH_STRING": known.prefect}
        case ["mlflow"]:
            return ["deployments.mlflow_server"], {
                "MLFLOW_AUTH_ADMIN_USERNAME": user,
                "MLFLOW_AUTH_ADMIN_PASSWORD": password,
            }
        case ["register", *words]:
            return ["deployments.register", *words], client
        case ["worker", pool]:
            return ["prefect", "worker", "start", "--pool", pool, "--type", "process"], client
    raise ValueError(
        f"no service {' '.join(asked)!r}; expected prefect, mlflow, register or worker POOL"
    )


if __name__ == "__main__":
    main()

"""Commands that operate grokpath as a service: `grokpath up`."""

import os
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer
from rich.console import Console

from store import environment

DATABASE_URL = "GROKPATH_DATABASE_URL"


def add_operating_commands(app: typer.Typer, out: Console, friendly: Any) -> None:
    """Add the commands to the command line; errors are told as there."""

    @app.command()
    def up(
        host: Annotated[
            str,
            typer.Option(
                envvar="GROKPATH_HOST",
                help="Address to listen on. Any but this machine's own (127.0.0.1) needs a "
                "password: PREFECT_SERVER_API_AUTH_STRING=user:password.",
            ),
        ] = "127.0.0.1",
        prefect_port: Annotated[
            int, typer.Option(envvar="GROKPATH_PREFECT_PORT", min=1, max=65535)
        ] = 4200,
        mlflow_port: Annotated[
            int, typer.Option(envvar="GROKPATH_MLFLOW_PORT", min=1, max=65535)
        ] = 5000,
        allowed_host: Annotated[
            list[str] | None,
            typer.Option(
                envvar="GROKPATH_ALLOWED_HOSTS",
                help="Another name under which browsers may ask, such as that of a proxy. May be "
                "given more than once.",
            ),
        ] = None,
        workers: Annotated[
            bool,
            typer.Option(
                "--workers/--no-workers",
                envvar="GROKPATH_WORKERS",
                help="Start workers: one for the pool cpu and, with a card, one for gpu.",
            ),
        ] = True,
        postgres: Annotated[
            bool,
            typer.Option(
                "--postgres",
                envvar="GROKPATH_POSTGRES",
                help="Keep both servers' data in a PostgreSQL of their own in the data folder.",
            ),
        ] = False,
        database_url: Annotated[
            str | None,
            typer.Option(
                envvar=DATABASE_URL,
                help="Keep them in this PostgreSQL server, postgresql://user@host:port; with a "
                "password only by the environment variable.",
            ),
        ] = None,
    ) -> None:
        """Start Prefect, MLflow and workers on this machine; Ctrl-C ends them.

        Makes work pools, limits, deployments and automations where they are missing, and prints
        the addresses. Data are kept in the data folder. Exit code 0 when it was asked to stop
        (Ctrl-C, SIGTERM, SIGHUP), 1 when something could not start or ended by itself.
        """
        with friendly():
            from deployments.environment import Wanted
            from deployments.up import up as start
            from store import artifacts
            from tasks.devices import cards

            _check_database(postgres, database_url)
            artifacts.check_root()
            environment.find_room(artifacts.root())
            wanted = Wanted(
                root=artifacts.root(),
                host=host,
                prefect_port=prefect_port,
                mlflow_port=mlflow_port,
                allowed_hosts=tuple(allowed_host or ()),
                workers=workers,
                num_cards=len(cards()),
                postgres=postgres,
                database_url=database_url,
            )
            start(wanted, out)


def _check_database(postgres: bool, database_url: str | None) -> None:
    if postgres and database_url:
        raise ValueError("--postgres starts a server, --database-url names one; give one of them")
    if database_url and urlsplit(database_url).password and DATABASE_URL not in os.environ:
        raise ValueError(
            "every user of this machine can read a password on the command line; give the address "
            f"by the environment variable {DATABASE_URL}"
        )

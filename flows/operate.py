"""The command that operates grokpath as a service: `grokpath up`."""

import os
from typing import Annotated
from urllib.parse import urlsplit

import typer

from flows.console import app, friendly, out
from store import environment

DATABASE_URL = "GROKPATH_DATABASE_URL"


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
            help="Another name under which browsers may call, such as that of a proxy. May be "
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
    database_url: Annotated[
        str | None,
        typer.Option(
            envvar=DATABASE_URL,
            help="PostgreSQL server for the data of both, postgresql://user@host:port, instead "
            "of SQLite; with a password only by the environment variable.",
        ),
    ] = None,
) -> None:
    """Start Prefect, MLflow and workers on this machine; Ctrl-C ends them.

    Creates work pools and limits where they are missing, registers deployments and automations
    anew (their switches stay), and prints the addresses. Exit code 0 after Ctrl-C, SIGTERM or
    SIGHUP, 1 when something could not start or ended by itself.
    """
    with friendly():
        from deployments.settings import Options
        from deployments.up import up as start
        from store import artifacts
        from tasks.devices import cards

        _check_database(database_url)
        artifacts.check_root()
        environment.find_room(artifacts.root())
        options = Options(
            root=artifacts.root(),
            host=host,
            prefect_port=prefect_port,
            mlflow_port=mlflow_port,
            allowed_hosts=tuple(allowed_host or ()),
            workers=workers,
            num_cards=len(cards()),
            database_url=database_url,
        )
        if code := start(options, out):
            raise typer.Exit(code)


def _check_database(database_url: str | None) -> None:
    if database_url and urlsplit(database_url).password and DATABASE_URL not in os.environ:
        raise ValueError(
            "every user of this machine can read a password on the command line; give the address "
            f"by the environment variable {DATABASE_URL}"
        )

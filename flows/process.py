"""The process of a command: how it ends, and the warnings that it shows."""

import atexit
import logging
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from rich.console import Console


def run_and_leave(command: Callable[[], Any]) -> None:
    """Run a command and end the process once its exit handlers have run.

    Taking down the interpreter piece by piece, with what Prefect, MLflow and torch hold, would take
    up to ten seconds more.
    """
    exit_code: list[Any] = [1]
    atexit.register(_leave, exit_code)  # registered first, so it runs last
    try:
        command()
    except SystemExit as ending:
        exit_code[0] = ending.code
        raise


def _leave(exit_code: list[Any]) -> None:
    code = exit_code[0]
    logging.shutdown()  # whose own handler was registered before
    with suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 1 if code else 0)


def show_warnings(console: Console) -> None:
    """Print what grokpath warns of, whose log Prefect keeps off the terminal."""
    logger = logging.getLogger("prefect.grokpath")
    if not any(isinstance(handler, _Warnings) for handler in logger.handlers):
        logger.addHandler(_Warnings(console))


class _Warnings(logging.Handler):
    def __init__(self, console: Console) -> None:
        super().__init__(logging.WARNING)
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Print it, unless it was printed with the plan."""
        if not record.getMessage().startswith("left out: "):
            self._console.print(f"warning: {record.getMessage()}", markup=False, soft_wrap=True)

"""The process of a command: how it ends, and the warnings that it shows."""

import atexit
import logging
import os
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Any

from rich.console import Console

HUB_SECONDS = 3.0


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


def offline_without_hub() -> None:
    """Set HF_HUB_OFFLINE where the hub does not answer at once: a plan does not wait for it.

    To be called before huggingface_hub is imported. Then what the hub answered last time counts.
    """
    answers: list[int] = []

    def request() -> None:
        try:
            with urllib.request.urlopen(
                os.environ.get("HF_ENDPOINT", "https://huggingface.co"), timeout=HUB_SECONDS
            ) as answer:
                answers.append(answer.status)
        except urllib.error.HTTPError as error:
            answers.append(error.code)
        except OSError:
            pass

    waiting = threading.Thread(target=request, daemon=True)  # looking up a name has no timeout
    waiting.start()
    waiting.join(HUB_SECONDS)
    if not any(status < HTTPStatus.INTERNAL_SERVER_ERROR for status in answers):
        os.environ["HF_HUB_OFFLINE"] = "1"


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

"""What all commands share: the application, its terminal, how errors are shown and how it ends.

Only light imports stand at the top of command modules; torch, Prefect and DuckDB are imported where
they are used, so that `--help` answers at once. Exit codes: 0 done, 1 failed, 2 the request cannot
be understood, 3 incomplete.
"""

import atexit
import errno
import logging
import os
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from store import environment

if TYPE_CHECKING:
    from studies.spec import Study
    from tasks.plan import Plan

FAILED, BAD_REQUEST, INCOMPLETE = 1, 2, 3
HUB_SECONDS = 3.0
"""How long a plan waits for the hub before it goes on offline."""

app = typer.Typer(
    help="Watch memorization turn into generalization while a mixture-of-experts language model "
    "is pretrained.\n\nA STUDY is a YAML file, or the name of one that ships with grokpath: "
    "`nano` (the default study, minutes on two cores) or `smoke` (the same path in about a "
    "minute).\n\nWhatever was computed before is reused; after a failure or a kill, run again.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
# A file or a pipe has no width that lines would have to fit in.
out = Console(highlight=False, width=None if sys.stdout.isatty() else 10_000)
err = Console(stderr=True, highlight=False)

StudyArgument = Annotated[
    str,
    typer.Argument(
        metavar="STUDY",
        help="Study file, or the name of one that ships: nano, smoke, nano_variants, nano_choose, "
        "nano_judge, olmoe_1b_7b and its relatives.",
    ),
]

OverlayOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--overlay",
        help="YAML file, or `pilot`, `tiny` or `all`, that changes a few fields; repeatable.",
    ),
]


@app.callback()
def common(
    root: Annotated[
        Path | None,
        typer.Option(
            help="Folder for everything a study produces. "
            "Default: $GROKPATH_ROOT, else ./grokpath-data."
        ),
    ] = None,
) -> None:
    """Settings that hold for every command."""
    if root is not None:
        os.environ["GROKPATH_ROOT"] = str(root.expanduser().absolute())


@contextmanager
def friendly(verbose: bool = False) -> Iterator[None]:
    """One message instead of a traceback, and the right exit code."""
    try:
        yield
    except (typer.Exit, typer.Abort):
        raise
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except BrokenPipeError:  # the reader, such as `head`, has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        from studies.load import StudyError

        if verbose:
            raise
        if isinstance(error, StudyError):
            err.print(str(error), markup=False, soft_wrap=True)
            raise typer.Exit(BAD_REQUEST) from None
        name = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        err.print(f"failed: {name}{error}{_advice(error)}", markup=False, soft_wrap=True)
        raise typer.Exit(FAILED) from None


def _advice(error: Exception) -> str:
    """What to do about an error of the system itself, or of one in a step."""
    causes = [one for one in (error, *getattr(error, "causes", ())) if isinstance(one, OSError)]
    if not causes:
        return ""
    error = causes[0]
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "\nfree some space and run again; everything finished so far is saved"
    if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        return "\nmake it writable, or choose another folder with --root or GROKPATH_ROOT"
    return ""


def print_stopping() -> None:
    """Say that the command ends at once, and what that costs."""
    out.show_cursor(True)
    err.print("stopping; everything finished so far is saved, run again to go on")


def load(study: str, overlays: Sequence[str | Path] | None = None) -> "Study":
    """The study of a file or name, with overlays."""
    from studies.load import load_study

    return load_study(study, overlays or ())


def plan_of(spec: "Study") -> "Plan":
    """What a run of the study would do."""
    if any(series.source.kind == "hub" for series in spec.series):
        offline_without_hub()
    quiet_prefect(False)
    from flows.study import plan_study

    return plan_study(spec)


def quiet_prefect(verbose: bool) -> None:
    """Before Prefect is imported: its log stays out of the terminal; its pages still get all."""
    from store.artifacts import root

    environment.find_room(root())
    show_warnings(err)
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    if not verbose:
        os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")


def print_left_out(plan: "Plan") -> None:
    """Name checkpoints and series that have no part in the study."""
    for one in [*plan.left_out, *filter(None, [plan.unresolved])]:
        err.print(str(one), markup=False, soft_wrap=True)


def print_plan_line(spec: "Study", plan: "Plan") -> None:
    """How many steps there are, and how many are reused."""
    total = len(plan.entries)
    reused = sum(entry.artifact is not None for entry in plan.entries)
    out.print(f"{spec.name}: {total} steps, {reused} reused, {total - reused} to be run")
    print_left_out(plan)


# ---------------------------------------------------------------- the process


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

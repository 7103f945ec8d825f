"""A Prefect server of our own, which lives exactly as long as the command that started it.

Prefect starts a temporary server by itself when none is configured. That one shares the terminal's
Ctrl-C, so it is gone while Prefect still wants to report that the run was stopped, and it
survives when the command is killed. This one is in a session of its own and ends when its standard
input does, that is with the command, however that ends.

It has a database of its own in the data folder, and no settings but its own: an address, a password
or a database that the environment or a profile names for another server is not for this one. The
user's Prefect database is neither written nor migrated.
"""

import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

STARTUP_SECONDS = 120.0
SECONDS_OF_SILENCE = 10.0
"""A server that takes longer, as the first one of a data folder may, is announced."""
FOLDER = "prefect"
"""Prefect's own folder in the data folder, which `grokpath up` uses as well."""


@contextmanager
def prefect_server(root: Path) -> Iterator[None]:
    """The Prefect server that is configured (`PREFECT_API_URL`, profile), or one for the meantime.

    Parameters
    ----------
    root
        The data folder, where the temporary server has its database.

    Raises
    ------
    RuntimeError
        When the temporary server does not answer; with what it printed.
    """
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from tasks.events import MEANTIME

    if PREFECT_API_URL.value():
        yield
        return
    port = _free_port()
    home = root / FOLDER
    home.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.server", str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env=_own_settings(home),
        cwd=home,  # Prefect reads .env, prefect.toml and pyproject.toml of the working folder
    )
    lines: list[bytes] = []
    threading.Thread(target=_drain, args=(process, lines), daemon=True).start()
    _wait_until_healthy(process, port, lines)
    os.environ[MEANTIME] = "1"
    with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{port}/api"}):
        yield
    # Not stopped here: Prefect sends its last logs and events while this process ends.


def _own_settings(home: Path) -> dict[str, str]:
    others = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return others | {
        "PREFECT_HOME": str(home),
        "PREFECT_UI_ENABLED": "0",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _drain(process: "subprocess.Popen[bytes]", lines: list[bytes]) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        lines.append(line)
        del lines[:-50]


def _wait_until_healthy(process: "subprocess.Popen[bytes]", port: int, lines: list[bytes]) -> None:
    started = time.monotonic()
    announced, last = False, "nothing answered"
    while time.monotonic() - started < STARTUP_SECONDS and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/health", timeout=5):
                return
        except (urllib.error.URLError, OSError) as error:
            last = str(error)
        if not announced and time.monotonic() - started > SECONDS_OF_SILENCE:
            announced = True
            print("waiting for the temporary Prefect server", file=sys.stderr)  # noqa: T201
        time.sleep(0.1)
    ended = process.poll() is not None
    process.kill()
    output = b"".join(lines).decode(errors="replace").strip()
    why = "ended by itself" if ended else f"did not answer within {STARTUP_SECONDS:.0f} s ({last})"
    raise RuntimeError(
        f"the temporary Prefect server {why}; set PREFECT_API_URL to use one of your own. "
        + (f"Its last lines:\n{output}" if output else "It printed nothing.")
    )


def main() -> None:
    """Serve until standard input ends."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import uvicorn
    from prefect.server.api.server import create_app

    uvicorn.run(
        create_app(ephemeral=True, final=True),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        log_level="error",
    )


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    main()

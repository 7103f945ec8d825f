"""A Prefect server of our own, which lives exactly as long as the command that started it.

Prefect starts a temporary server by itself when none is configured. That one shares the terminal's
Ctrl-C, so it is gone while Prefect still wants to tell it that the run was stopped, and it survives
when the command is killed. This one is in a session of its own and ends when its standard input
does, that is with the command, however that ends.
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

STARTUP_SECONDS = 120.0


@contextmanager
def prefect_server() -> Iterator[None]:
    """The Prefect server that is configured (`PREFECT_API_URL`, profile), or one for the meantime.

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
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.server", str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, "PREFECT_UI_ENABLED": "0"},
    )
    said: list[bytes] = []
    threading.Thread(target=_drain, args=(process, said), daemon=True).start()
    _wait_until_healthy(process, port, said)
    os.environ[MEANTIME] = "1"
    with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{port}/api"}):
        yield
    # Not stopped here: Prefect sends its last logs and events while this process ends.


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _drain(process: "subprocess.Popen[bytes]", said: list[bytes]) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        said.append(line)
        del said[:-50]


def _wait_until_healthy(process: "subprocess.Popen[bytes]", port: int, said: list[bytes]) -> None:
    deadline = time.monotonic() + STARTUP_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    process.kill()
    raise RuntimeError(
        "the temporary Prefect server did not start; set PREFECT_API_URL to use one of your own. "
        "It said:\n" + b"".join(said).decode(errors="replace")
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

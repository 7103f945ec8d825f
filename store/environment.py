"""The environment of grokpath's processes, set before Prefect is imported; children inherit it.

* Nothing on this machine is reached through a proxy. A proxy variable without an exception for
  loopback sends Prefect's and MLflow's clients to the proxy, which cannot reach our servers;
  address ranges such as 127.0.0.0/8 are no exception for any of their HTTP libraries.
* Python does not look into the working folder for modules: a `flows.py` there is not ours.
* Where the home folder cannot be written to, as in many containers, caches go to the data folder.
"""

import os
import tempfile
from pathlib import Path

LOOPBACK = ("127.0.0.1", "localhost", "::1")
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
CACHES = {
    "PREFECT_HOME": "~/.prefect",
    "HF_HOME": "~/.cache/huggingface",
    "XDG_CACHE_HOME": "~/.cache",
}
"""Folders that libraries write to, by the variable that moves them."""
READ_THERE = {
    "PREFECT_PROFILES_PATH": "~/.prefect/profiles.toml",
    "HF_TOKEN_PATH": "~/.cache/huggingface/token",
}
"""Settings of the user's in these folders, which stay where they are."""


def prepare() -> None:
    """What holds for every process, wherever its data are."""
    reach_directly(*LOOPBACK)
    os.environ.setdefault("PYTHONSAFEPATH", "1")


def reach_directly(*hosts: str) -> None:
    """Except hosts from the proxies that are configured, if any are."""
    if not any(os.environ.get(name) for name in PROXIES):
        return
    found = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    excepted = [host.strip() for host in found.split(",") if host.strip()]
    if "*" not in excepted:
        value = ",".join(dict.fromkeys([*excepted, *hosts]))
        os.environ |= {"no_proxy": value, "NO_PROXY": value}


def find_room(root: Path) -> None:
    """Move caches below the data folder where the home folder cannot be written to."""
    if os.path.expanduser("~") == "~":  # noqa: PTH111 (Path.home() raises here)
        os.environ["HOME"] = str(root / "home")
    for variable, place in CACHES.items():
        usual = Path(place).expanduser()
        if os.environ.get(variable) or _is_writable(usual):
            continue
        elsewhere = root / "home" / usual.name
        elsewhere.mkdir(parents=True, exist_ok=True)
        os.environ[variable] = str(elsewhere)
        for setting, file in READ_THERE.items():
            if Path(file).expanduser().parent == usual and Path(file).expanduser().is_file():
                os.environ.setdefault(setting, str(Path(file).expanduser()))


def _is_writable(folder: Path) -> bool:
    """Whether files can be created in a folder, which is created if it is not there yet."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False

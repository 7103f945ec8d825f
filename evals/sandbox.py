"""A sandbox for model-written code: one process, cut off from everything.

Two kinds, tried in this order: bubblewrap, and the same made with `unshare` and `mount` of
util-linux. Each gives a process user, mount, PID, network, IPC and UTS namespaces of its own: no
network, no home, no file of this machine but /usr, the Python installation and NumPy, all
read-only, a small /tmp in memory, an empty environment. It runs without capabilities, as an
unprivileged user also when we are root, and dies with us. Where neither kind works,
:func:`find_sandbox` raises; nothing is ever run without. See docs/sandbox.md.
"""

import contextlib
import importlib.util
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from evals.boxed.hello import GREETING

NOBODY = 65534
MEBIBYTE = 2**20
SECONDS_TO_TRY = 60
ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "PYTHONHASHSEED": "0",  # the order of a set of strings must not change a verdict
    "OPENBLAS_NUM_THREADS": "1",
}
LAST_NAMESPACE = ["unshare", "--user", f"--map-user={NOBODY}", f"--map-group={NOBODY}", "--"]


@dataclass(frozen=True)
class SandboxLimits:
    """What a program may use.

    Attributes
    ----------
    memory_mb
        Address space of each process, MiB.
    cpu_seconds
        Processor time of each process, seconds; the limit that decides for honest programs.
    wall_seconds
        Time for the whole problem, seconds: ends what sleeps or waits.
    processes
        Processes and threads in one sandbox.
    file_mb
        Size of each file, and of /tmp, MiB; it is memory.
    output_mb
        Answers of a program to all its calls, MiB.
    """

    memory_mb: int = 1024
    cpu_seconds: int = 10
    wall_seconds: float = 30.0
    processes: int = 16
    file_mb: int = 16
    output_mb: int = 16

    def of_process(self) -> str:
        """The limits that a process in the sandbox puts on itself, as JSON."""
        names = ("memory_mb", "cpu_seconds", "processes", "file_mb")
        return json.dumps({name: getattr(self, name) for name in names})


class SandboxUnavailable(ValueError):
    """No sandbox works on this machine, so model-written code is not run."""


BOXED = ("humaneval_plus", "mbpp_plus")
"""Benchmarks of ours whose programs run in the sandbox."""


def find_sandbox() -> str:
    """The kind of sandbox that works here, `bubblewrap` or `unshare`; it has been tried.

    Raises
    ------
    SandboxUnavailable
        With what was tried and what to do.
    """
    return _find(os.environ.get("PATH", ""))


@lru_cache(maxsize=8)
def _find(_path: str) -> str:
    problems = []
    for kind, programs in (("bubblewrap", ["bwrap"]), ("unshare", ["unshare", "setpriv", "sh"])):
        missing = [program for program in programs if shutil.which(program) is None]
        problem = f"{', '.join(missing)} not found" if missing else _problem_of(kind)
        if not problem:
            return kind
        problems.append(f"{kind}: {problem}")
    raise SandboxUnavailable(
        f"no sandbox for model-written code works on this machine ({'; '.join(problems)}), so this "
        "benchmark is refused. Install bubblewrap (Debian: apt install bubblewrap) and allow user "
        "namespaces to unprivileged users, or leave benchmarks with programs out of the study"
    )


def _problem_of(kind: str) -> str:
    """Why a kind of sandbox does not work here; empty when it does."""
    limits = SandboxLimits()
    try:
        done = subprocess.run(
            [*_command(kind, limits.file_mb), *_python("hello"), limits.of_process()],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS_TO_TRY,
            cwd="/",
            env=ENVIRONMENT,
        )
    except subprocess.TimeoutExpired:
        return f"no answer after {SECONDS_TO_TRY} s"
    if done.stdout == GREETING:
        return ""
    return done.stderr.strip()[-300:] or f"it ended with code {done.returncode}"


def start(
    module: str,
    arguments: Sequence[str],
    *,
    stdin: int,
    stdout: int,
    keep: Sequence[int] = (),
    file_mb: int,
) -> "subprocess.Popen[bytes]":
    """Start a program of `evals.boxed` in a sandbox of its own.

    Parameters
    ----------
    module, arguments
        Its name in `evals.boxed`, and what its `main` gets.
    stdin, stdout
        Descriptors that it has as standard input and output; standard error goes nowhere.
    keep
        Further descriptors that it keeps, under their numbers.
    file_mb
        Size of its /tmp, MiB.

    Returns
    -------
    subprocess.Popen
        The outer process of the sandbox; :func:`end` ends all that is in it. The thread that
        started it must live as long.
    """
    return subprocess.Popen(
        [*_command(find_sandbox(), file_mb), *_python(module), *arguments],
        stdin=stdin,
        stdout=stdout,
        stderr=subprocess.DEVNULL,
        pass_fds=keep,
        cwd="/",
        env=ENVIRONMENT,
        start_new_session=True,  # kill(0, ...) would reach our process group from inside
    )


def end(process: "subprocess.Popen[bytes]") -> None:
    """Kill everything in a sandbox; nothing of it is left when this returns.

    The first process of a PID namespace dies only after all others in it, and its parent, which
    is `process`, ends only after that.
    """
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while process.poll() is None:
        first = children.read_text().split() if children.exists() else []
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(first[0]) if first else process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=1)


# ---------------------------------------------------------------- what is in it, and how it is made


def _python(module: str) -> list[str]:
    """Command line of `evals.boxed.<module>`, to be followed by the arguments of its `main`."""
    interpreter = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    code = (
        "import sys; sys.path[:0] = ['/box', '/packages']; "
        f"from evals.boxed.{module} import main; main(*sys.argv[1:])"
    )
    return [interpreter, "-I", "-S", "-B", "-X", "utf8", "-c", code]


def _folders() -> dict[str, Path]:
    """Folders in the sandbox and where they come from, parents before what is inside them."""
    prefix = Path(sys.base_prefix).resolve()
    found = {"/usr": Path("/usr")}
    if not prefix.is_relative_to("/usr"):
        found[str(prefix)] = prefix
    found["/box/evals/boxed"] = Path(__file__).parent.resolve() / "boxed"
    spec = importlib.util.find_spec("numpy")
    assert spec is not None
    assert spec.origin is not None
    packages = Path(spec.origin).parent.parent
    for name in ("numpy", "numpy.libs"):
        if (packages / name).is_dir():
            found[f"/packages/{name}"] = packages / name
    for name in ("/bin", "/sbin", "/lib", "/lib64"):
        if Path(name).is_dir() and not Path(name).is_symlink():
            found[name] = Path(name)
    return found


def _links() -> dict[str, str]:
    names = ("bin", "sbin", "lib", "lib64")
    return {
        name: str(Path(f"/{name}").readlink()) for name in names if Path(f"/{name}").is_symlink()
    }


def _command(kind: str, file_mb: int) -> list[str]:
    """The command that runs what follows it in a sandbox."""
    return (_bubblewrap if kind == "bubblewrap" else _unshare)(file_mb)


def _found(program: str) -> str:
    """Path of a program by our own PATH; what runs in the sandbox has another."""
    return str(shutil.which(program))


def _bubblewrap(file_mb: int) -> list[str]:
    command = [_found("bwrap"), "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"]
    command += ["--unshare-cgroup-try", "--die-with-parent", "--new-session", "--hostname", "box"]
    if os.geteuid() != 0:
        command += ["--unshare-user", "--uid", str(NOBODY), "--gid", str(NOBODY)]
    command += ["--proc", "/proc", "--dev", "/dev", "--remount-ro", "/dev"]
    command += ["--perms", "1777", "--size", str(file_mb * MEBIBYTE), "--tmpfs", "/tmp"]
    for inside, outside in _folders().items():
        for parent in reversed(Path(inside).parents[:-1]):  # else only root could walk there
            command += ["--perms", "0755", "--dir", str(parent)]
        command += ["--ro-bind", str(outside), inside]
    for name, target in _links().items():
        command += ["--symlink", target, f"/{name}"]
    command += ["--remount-ro", "/", "--chdir", "/tmp", "--"]
    return [*command, *_become_nobody()] if os.geteuid() == 0 else command


def _become_nobody() -> list[str]:
    """Give up root, then enter a user namespace: the kernel counts no processes of root.

    To become another user takes the signal at the parent's death away, so it is set again.
    """
    command = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    command += ["--pdeathsig", "KILL"]
    return [*command, "--bounding-set=-all", "--inh-caps=-all", "--", *LAST_NAMESPACE]


def _unshare(file_mb: int) -> list[str]:
    """The same with util-linux: a shell script of mounts, run as root of the new namespaces."""
    lines = [
        "set -e",
        "mount -t tmpfs -o mode=755,size=1m,nosuid,nodev box /mnt",
        "cd /mnt",
        "mkdir proc dev tmp old",
        "mount -t proc -o nosuid,nodev,noexec proc proc",
        f"mount -t tmpfs -o mode=1777,size={file_mb}m,nosuid,nodev box tmp",
    ]
    for device in ("null", "zero", "random", "urandom"):
        lines += [f": > dev/{device}", f"mount --bind /dev/{device} dev/{device}"]
    for inside, outside in _folders().items():
        here = shlex.quote(f".{inside}")
        lines += [
            f"mkdir -p {here}",
            f"mount --bind {shlex.quote(str(outside))} {here}",
            f"mount -o remount,bind,ro,nosuid,nodev {here}",
        ]
    lines += [f"ln -s {shlex.quote(target)} {name}" for name, target in _links().items()]
    lines += ["pivot_root . old", "umount -l old", "rmdir old", "hostname box"]
    lines += ["mount -o remount,bind,ro,nosuid,nodev /", "cd /tmp"]
    root = os.geteuid() == 0
    # For a user a second user namespace: what is in it cannot undo mounts made in the first.
    last = _become_nobody() if root else LAST_NAMESPACE
    lines += [f'exec {shlex.join(last)} "$@"']
    command = [_found("setpriv"), "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork"]
    command += ["--kill-child", "--net", "--ipc", "--uts", "--cgroup"]
    command += [] if root else ["--user", "--map-root-user"]
    return [*command, "--", "sh", "-c", "\n".join(lines), "sh"]

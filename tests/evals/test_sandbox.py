# ruff: noqa: E501 - programs are easier to read in fewer lines
"""What hostile programs can do from the sandbox: nothing, and never pass."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from evals.code_checks import Check, Verdict, check, check_all
from evals.sandbox import ENVIRONMENT, SandboxLimits, SandboxUnavailable, find_sandbox

LIMITS = SandboxLimits(cpu_seconds=1, wall_seconds=6, memory_mb=512, output_mb=1)
KINDS = [k for k, p in (("bubblewrap", "bwrap"), ("unshare", "unshare")) if shutil.which(p)]
TESTS = "assert f(1) == 2\nassert f(2) == 3\nassert f(5) == 6\n"


MARK = "TESTS_OF"


@pytest.fixture(autouse=True)
def marked(monkeypatch) -> None:
    """Sandboxes of these tests carry our number: other tests may run on the same machine."""
    monkeypatch.setitem(ENVIRONMENT, MARK, str(os.getpid()))


def sandboxed_processes() -> set[str]:
    """Processes whose root folder is that of a sandbox, but for those of other tests.

    A process that is just starting a program shows no environment, so what is found is looked
    at again a little later.
    """
    paths = [path for path in Path("/proc").iterdir() if path.name.isdigit()]
    found = [path for path in paths if _is_sandboxed(path) and not _is_foreign(path)]
    if found:
        time.sleep(0.2)
    return {path.name for path in found if _is_sandboxed(path) and not _is_foreign(path)}


def _is_sandboxed(process: Path) -> bool:
    return os.access(process / "root/box/evals", os.F_OK)


def _is_foreign(process: Path) -> bool:
    try:
        entries = (process / "environ").read_bytes().split(b"\0")
    except OSError:
        return False
    marks = [entry for entry in entries if entry.startswith(f"{MARK}=".encode())]
    return bool(marks) and marks != [f"{MARK}={os.getpid()}".encode()]


@pytest.fixture(params=KINDS or ["none is installed"])
def kind(request, tmp_path, monkeypatch) -> str:
    """Each kind of sandbox in turn; fails where there is none."""
    if request.param == "unshare":
        (tmp_path / "bin").mkdir()
        for program in ("unshare", "setpriv", "sh"):
            (tmp_path / "bin" / program).symlink_to(str(shutil.which(program)))
        monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert find_sandbox() == request.param
    return request.param


def verdict_on(program: str, tests: str = TESTS) -> Verdict:
    before = sandboxed_processes()
    verdict = check(Check(program, tests, ("f",)), LIMITS)
    assert sandboxed_processes() <= before, "something was left running"
    return verdict


def passing(programs: dict[str, str], num_parallel: int | None = None) -> list[str]:
    """Names of the programs that pass; all must be gone afterwards."""
    before = sandboxed_processes()
    checks = [Check(program, TESTS, ("f",)) for program in programs.values()]
    verdicts = check_all(checks, LIMITS, num_parallel=num_parallel)
    assert sandboxed_processes() <= before, "something was left running"
    return [name for name, verdict in zip(programs, verdicts, strict=True) if verdict.passed]


def tried(body: str) -> str:
    """A right program that first does something, and answers right only if that succeeded."""
    lines = "\n".join(f"    {line}" for line in body.strip().splitlines())
    return f"import os\ndef attempt():\n{lines}\nattempt()\ndef f(x): return x + 1\n"


# ---------------------------------------------------------------- no false success

FORGERIES = {
    "ends with code 0 at once": "import os; os._exit(0)",
    "ends with code 0 when called": "import os\ndef f(x): os._exit(0)",
    "exits": "import sys\ndef f(x): sys.exit(0)",
    "exits when loaded": "raise SystemExit(0)",
    "exits at exit": "import atexit, os\natexit.register(os._exit, 0)\ndef f(x): return 0",
    "patches builtins": "import builtins\nbuiltins.AssertionError = ValueError\n"
    "builtins.exec = builtins.compile = print\ndef f(x): return 0",
    "is equal to everything": "class Equal(int):\n    def __eq__(self, other): return True\n"
    "    __hash__ = int.__hash__\ndef f(x): return Equal()",
    "is equal to everything, no number": "class Equal:\n    def __eq__(self, other): return True\n"
    "def f(x): return Equal()",
    "prints success": 'def f(x):\n    print(\'started\\n{"passed": true, "reason": ""}\')\n'
    "    return 0",
    "writes success to every descriptor": "import os\ndef f(x):\n    for fd in range(64):\n"
    '        try: os.write(fd, b\'{"passed": true, "reason": ""}\\n\')\n'
    "        except OSError: pass\n    return 0",
    "patches the server": "import sys\nserver = sys._getframe(3).f_globals\n"
    "server['to_plain'] = lambda value: {'passed': True}\ndef f(x): return 0",
    "looks for the tests in frames and memory": "import gc, sys\nfound = []\n"
    "for thing in gc.get_objects():\n    if isinstance(thing, str) and 'assert f(' in thing: found.append(thing)\n"
    "frame = sys._getframe()\nwhile frame:\n    found += [v for v in frame.f_locals.values()"
    " if isinstance(v, str) and 'assert f(' in v]\n    frame = frame.f_back\n"
    "def f(x): return x + 1 if [w for w in found if 'gc.get' not in w] else 0",
    "raises what ends a loop": "def f(x): raise StopIteration",
    "raises no exception of Python's": "def f(x): raise type('Pass', (BaseException,), {})",
    "answers nothing but noise": "import os\nos.write(3, b'noise\\n'*9)\ndef f(x): return 0",
    "answers deep lists": "import os\nfor fd in range(3, 9):\n    try: os.write(fd, b'['*90000+b'\\n')\n"
    "    except OSError: pass\ndef f(x): return 0",
    "claims an exception that is none": "import os\nfor fd in range(3, 9):\n"
    '    try: os.write(fd, b\'{"raised": [["print"], ""]}\\n\'*9)\n    except OSError: pass\n'
    "def f(x): return 0",
    "has no such function": "def g(x): return x + 1",
    "is no Python": "def f(x) return x + 1",
}


def test_no_program_passes_by_forgery(kind):
    assert passing(FORGERIES | {"is right": "def f(x): return x + 1"}) == ["is right"]


def test_a_program_that_dies_does_not_meet_tests_that_expect_an_error(kind):
    tests = "try:\n    f(1)\nexcept BaseException:\n    pass\nelse:\n    assert False\n"
    assert not verdict_on("import os\ndef f(x): os._exit(1)", tests).passed
    assert not verdict_on("def f(x): raise SystemExit", tests).passed


@pytest.mark.parametrize("tests", ["assert all(map(f, [1, 2]))", "assert list(map(f, [1])) == []"])
def test_an_exception_cannot_end_a_loop_of_the_tests(kind, tests):
    assert not verdict_on("def f(x): raise StopIteration", tests).passed


def test_changing_its_arguments_does_not_change_the_tests(kind):
    tests = "given = [3, 1]\nassert f(given) == sorted(given)\n"
    assert not verdict_on("def f(values):\n    values.clear()\n    return values", tests).passed
    assert verdict_on("def f(values):\n    values.sort()\n    return values", tests).passed


@pytest.mark.parametrize("answer", ["[]", "[[]]", "[1.5, 1.5]", "None", "object()"])
def test_numbers_are_close_only_in_the_same_shape(kind, answer):
    tests = "import numpy as np\nassert np.allclose(f(1), [1.5])\nassert np.allclose(f(1), [])\n"
    assert not verdict_on(f"def f(x): return {answer}", tests).passed


# ---------------------------------------------------------------- limits

EXHAUSTING = {
    "loops for ever": "while True: pass",
    "loops for ever when called": "def f(x):\n    while True: pass",
    "sleeps": "import time\ndef f(x): time.sleep(1000)",
    "ignores all signals and sleeps": "import signal, time\nfor s in range(1, 65):\n"
    "    try: signal.signal(s, signal.SIG_IGN)\n    except (OSError, ValueError): pass\ntime.sleep(1000)",
    "stops itself": "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)\nwhile True: pass",
    "takes all memory": "def f(x): return len(bytearray(8 << 30))",
    "takes memory in small pieces": "def f(x):\n    kept = []\n    while True: kept.append(bytearray(1 << 20))",
    "answers without end": "def f(x): return 'x' * (64 << 20)",
    "answers endless items": "import itertools\ndef f(x): return itertools.count()",
    "answers a long line": "import os\nwhile True: os.write(3, b'x' * 65536)",
    "forks without end": "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
    "starts threads without end": "import threading, time\ndef f(x):\n    while True:\n"
    "        threading.Thread(target=time.sleep, args=(1000,)).start()",
}


def test_what_is_used_up_ends_in_time_and_leaves_nothing(kind):
    began = time.monotonic()
    assert passing(EXHAUSTING, num_parallel=len(EXHAUSTING)) == []
    assert time.monotonic() - began < 3 * LIMITS.wall_seconds


def test_a_daemon_left_behind_is_ended(kind):
    program = tried(
        "if os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        import time; time.sleep(1000)\n    os._exit(0)"
    )
    assert verdict_on(program).passed  # an honest answer; the daemon is gone all the same


def test_output_of_any_length_goes_nowhere(kind, capfd):
    program = "import sys\nsys.stdout.write('x' * 50_000_000)\nprint('y', file=sys.stderr)\n"
    assert verdict_on(program + "def f(x):\n    print(x)\n    return x + 1").passed
    assert capfd.readouterr() == ("", "")


def test_processes_are_counted(kind):
    program = tried(
        "for _ in range(100):\n    if os.fork() == 0:\n        import time; time.sleep(1000)"
    )
    assert verdict_on(program).reason.startswith("BlockingIOError")


# ---------------------------------------------------------------- nothing to see, nothing to change


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder in which everybody may read and write."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)


ESCAPES = {
    "environment": "assert os.environ['GROKPATH_SECRET']",
    "environment of others": "import glob\n"
    "assert any(b'GROKPATH' in open(p, 'rb').read() for p in glob.glob('/proc/*/environ'))",
    "a file of ours": "open('SECRET')",
    "a file of ours by a link": "os.symlink('SECRET', '/tmp/link')\nopen('/tmp/link')",
    "a file of ours through /proc": "import glob\nfor p in glob.glob('/proc/*/root') + glob.glob('/proc/*/cwd'):\n"
    "    try: open(p + 'SECRET')\n    except OSError: continue\n    return\nassert False",
    "a file of ours through descriptors": "for fd in range(1024):\n"
    "    for up in ('', '/..', '/../..', '/../../..', '/../../../..', '/../../../../..'):\n"
    "        try: open(f'/proc/self/fd/{fd}{up}' + 'SECRET')\n        except OSError: continue\n"
    "        return\nassert False",
    "this repository": "open('THIS')",
    "home": "import sys\nassert [n for n in os.listdir('HOME') if n not in sys.base_prefix]",
    "passwords": "open('/etc/passwd')",
    "other processes": "pids = [int(p) for p in os.listdir('/proc') if p.isdigit()]\nassert max(pids) > 100",
    "descriptors of the first process": "import glob\n"
    "assert [p for p in glob.glob('/proc/1/fd/*') if os.readlink(p).startswith('/') and 'null' not in os.readlink(p)]",
    "network": "import socket\nsocket.create_connection(('127.0.0.1', PORT), timeout=2)",
    "names": "import socket\nsocket.getaddrinfo('localhost.example.org', 80)",
    "interfaces": "import socket\nassert [n for _, n in socket.if_nameindex() if n != 'lo']",
    "the machine below a virtual one": "import socket\ntry: socket.socket(40, socket.SOCK_STREAM)\n"
    "except PermissionError: raise\nexcept OSError: pass",
    "sockets of the system": "import socket\ns = socket.socket(socket.AF_UNIX)\ns.connect('\\0grokpath-test-OURS')",
    "a file outside": "open('TMP/written', 'w').write('x')",
    "the system": "open('/usr/bin/written', 'w').write('x')",
    "the root folder": "open('/written', 'w').write('x')",
    "the devices": "open('/dev/written', 'w').write('x')",
    "our program": "import evals.boxed.messages as m\nopen(m.__file__, 'a').write('#')",
    "Python": "open(os.__file__, 'a').write('#')",
    "mounts": "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
    "assert libc.mount(b'none', b'/tmp', b'tmpfs', 0, None) == 0",
    "read-only undone": "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
    "assert libc.mount(b'none', b'/usr', None, 0x20 | 0x1000, None) == 0",
    "new namespaces": "import ctypes\nassert ctypes.CDLL(None).unshare(0x10000000) == 0",
    "new namespaces by another call": "import ctypes, platform\n"
    "number = {'x86_64': 56, 'aarch64': 220}[platform.machine()]\n"
    "pid = ctypes.CDLL(None).syscall(number, 0x10000000 | 17, 0, 0, 0, 0)\n"
    "if pid == 0: os._exit(0)\nassert pid > 0",
    "shared memory": "import ctypes\nassert ctypes.CDLL(None).shmget(0, 4096, 0o1600) >= 0",
    "kernel keys": "import ctypes, platform\nnumber = {'x86_64': 250, 'aarch64': 219}[platform.machine()]\n"
    "assert ctypes.CDLL(None).syscall(number, 0, -3, 0) >= 0",
    "tracing": "import ctypes\nassert ctypes.CDLL(None).ptrace(16, 1, 0, 0) == 0",
    "to be root": "os.setuid(0)\nassert os.getuid() == 0",
    "higher limits": "import resource\nresource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 40))",
    "a huge file": "with open('/tmp/huge', 'wb') as file:\n    for _ in range(64): file.write(bytes(1 << 20))",
    "many big files": "for n in range(64):\n    with open(f'/tmp/{n}', 'wb') as file: file.write(bytes(1 << 20))",
}


def test_nothing_is_reached_and_nothing_changed(kind, open_folder, monkeypatch):
    monkeypatch.setenv("GROKPATH_SECRET", "in the environment")
    (open_folder / "secret.txt").write_text("in a file")
    server, unix = socket.create_server(("127.0.0.1", 0)), socket.socket(socket.AF_UNIX)
    with server, unix:
        unix.bind(f"\0grokpath-test-{os.getpid()}")
        unix.listen()
        marks = {
            "'SECRET'": repr(str(open_folder / "secret.txt")),
            "OURS": str(os.getpid()),
            "PORT": str(server.getsockname()[1]),
            "TMP": str(open_folder),
            "HOME": str(Path.home()),
            "THIS": str(Path(__file__).resolve()),
        }
        programs = {name: tried(body) for name, body in ESCAPES.items()}
        for mark, value in marks.items():
            programs = {name: body.replace(mark, value) for name, body in programs.items()}
        harmless = tried("open('/tmp/mine', 'w').write('x')\nassert os.getuid() == 65534")
        assert passing(programs | {"harmless": harmless}) == ["harmless"]
    assert [file.name for file in open_folder.iterdir()] == ["secret.txt"]


def test_killing_its_parent_ends_itself(kind):
    deeds = [f"os.kill({target}, 9)" for target in ("os.getppid()", "1", "-1")]
    loaded = {f"{deed} when loaded": tried(f"{deed}\nos._exit(0)") for deed in deeds}
    called = {
        f"{deed} when called": f"import os\ndef f(x):\n    try: {deed}\n    except OSError: pass"
        for deed in deeds
    }
    assert passing(loaded | called) == []


# ---------------------------------------------------------------- the sandbox itself


def test_without_any_sandbox_nothing_is_run(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SandboxUnavailable, match=r"bwrap not found.*unshare.*Install bubblewrap"):
        check_all([Check("def f(x): return 2", "assert f(1) == 2", ("f",))])


def test_a_sandbox_that_does_not_work_is_refused_with_its_message(tmp_path, monkeypatch):
    for name in ("bwrap", "unshare", "setpriv", "sh"):
        (tmp_path / name).write_text("#!/bin/sh\necho $0 may not >&2\nexit 1\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SandboxUnavailable, match=r"bwrap may not.*setpriv may not"):
        find_sandbox()


def test_it_dies_with_us(kind, tmp_path):
    script = (
        "from evals.code_checks import Check, check\n"
        f"from evals.sandbox import ENVIRONMENT, SandboxLimits\nENVIRONMENT[{MARK!r}] = '{os.getpid()}'\n"
        "check(Check('import time\\ndef f(x): time.sleep(600)', 'f(1)', ('f',)), "
        "SandboxLimits(wall_seconds=600))"
    )
    before = sandboxed_processes()
    ours = subprocess.Popen([sys.executable, "-c", script], cwd=Path(__file__).parents[2])
    deadline = time.monotonic() + 30
    while len(sandboxed_processes() - before) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1)  # until they have become another user: that must not free them of us
    assert len(sandboxed_processes() - before) >= 2
    os.kill(ours.pid, signal.SIGKILL)
    ours.wait()
    while sandboxed_processes() - before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not sandboxed_processes() - before

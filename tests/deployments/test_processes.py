"""What is started ends with whoever started it, also what lost its parent on the way."""

import signal
import subprocess
import sys
import textwrap

import psutil
import pytest

from tests.operated import wait_until_gone
from tests.servers import CHECKOUT

SCRIPT = """
    import subprocess, sys, time
    from deployments.processes import in_child

    def body():
        # Its parent ends at once, and it stays.
        subprocess.run(["sh", "-c", "sleep 600 & echo $!"], check=True)
        time.sleep(float(sys.argv[1]))
        return 3

    sys.exit(in_child(body))
"""


def started(seconds):
    """The script, and the process that it leaves an orphan."""
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT), str(seconds)]
    process = subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True)
    return process, psutil.Process(int(process.stdout.readline()))


def test_when_the_body_ends_its_orphans_end_and_the_code_is_its_own():
    process, orphan = started(1)
    assert process.wait(20) == 3
    wait_until_gone([orphan], seconds=5)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_the_body(number):
    process, orphan = started(600)
    process.send_signal(number)
    assert process.wait(20) == 0
    wait_until_gone([orphan], seconds=5)


def test_a_killed_parent_takes_all_with_it():
    process, orphan = started(600)
    (child,) = psutil.Process(process.pid).children()
    process.kill()
    process.wait(20)
    wait_until_gone([child, orphan], seconds=20)


def test_a_killed_child_leaves_nothing():
    process, orphan = started(600)
    (child,) = psutil.Process(process.pid).children()
    child.kill()
    assert process.wait(20) == signal.SIGKILL
    wait_until_gone([orphan], seconds=5)

"""Wall time, CPU time and peak memory of the nano study: from nothing, and run again.

    python benchmarks/nano_study.py [--study nano] [--repeat 3]

Runs the command a user runs, each time with an empty data folder and an empty Prefect home, then
again with everything there. Peak memory is the largest sum of resident memory over the command and
all processes it started, sampled five times a second. Writes benchmarks/nano_study.md.
"""

import argparse
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

HERE = Path(__file__).parent
MIB = 2**20


@dataclass(frozen=True)
class Measured:
    """One run of the command."""

    wall_seconds: float
    cpu_seconds: float
    peak_mib: float


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--study", default="nano")
    parser.add_argument("--repeat", type=int, default=1)
    options = parser.parse_args()
    rows = []
    for attempt in range(1, options.repeat + 1):
        with tempfile.TemporaryDirectory() as folder:
            environment = {
                **os.environ,
                "GROKPATH_ROOT": f"{folder}/data",
                "PREFECT_HOME": f"{folder}/prefect",
            }
            for what in ("from nothing", "run again"):
                measured = measure(options.study, environment)
                rows.append((attempt, what, measured))
                print(attempt, what, measured, flush=True)
    (HERE / "nano_study.md").write_text(table(options.study, rows))


def measure(study: str, environment: dict[str, str]) -> Measured:
    """Run the command once; raises when it fails."""
    command = [str(Path(sys.executable).parent / "grokpath"), "run", study]
    started, cpu_before = time.monotonic(), children_cpu_seconds()
    process = psutil.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    peak = 0
    while process.poll() is None:
        peak = max(peak, resident(process))
        time.sleep(0.2)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with exit code {process.returncode}")
    return Measured(time.monotonic() - started, children_cpu_seconds() - cpu_before, peak / MIB)


def children_cpu_seconds() -> float:
    """CPU time of all ended children, theirs included."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def resident(process: psutil.Process) -> int:
    """Resident bytes of a process and its descendants; shared pages count for each."""
    total = 0
    for one in [process, *process.children(recursive=True)]:
        try:
            total += one.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


def table(study: str, rows: list[tuple[int, str, Measured]]) -> str:
    """The result as Markdown."""
    cores = os.cpu_count()
    lines = [
        f"# `grokpath run {study}`: time and memory",
        "",
        f"`python benchmarks/nano_study.py --study {study}`, {cores} cores, {processor()}, "
        f"Python {platform.python_version()}.",
        "",
        "| attempt | run | wall s | CPU s | peak memory MiB |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {attempt} | {what} | {m.wall_seconds:.1f} | {m.cpu_seconds:.1f} | {m.peak_mib:.0f} |"
        for attempt, what, m in rows
    ]
    return "\n".join(lines) + "\n"


def processor() -> str:
    """Name of the processor."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":")[1].strip()
    return platform.machine()


if __name__ == "__main__":
    main()

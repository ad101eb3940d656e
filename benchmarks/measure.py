# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a command and measures it with all its descendants: wall time, CPU time, memory."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import tempfile
import threading
import time
import typing as t

_INTERVAL = 0.05  # seconds between two samples of the memory


@dataclasses.dataclass
class Cost:
    """The cost of a command. ``largest``: KiB of its largest process; ``together``: KiB of all its processes at one moment (PSS).

    ``others``: CPU seconds that everything else used meanwhile, the kernel's own threads too.
    """

    wall: float = 0.0
    cpu: float = 0.0
    largest: int = 0
    together: int = 0
    others: float = 0.0

    def then(self, other: Cost) -> Cost:
        """Return the cost of both in sequence."""
        return Cost(
            self.wall + other.wall,
            self.cpu + other.cpu,
            max(self.largest, other.largest),
            max(self.together, other.together),
            self.others + other.others,
        )


def run(argv: t.Sequence[str], *, stdin: str = "", env: t.Mapping[str, str] | None = None) -> tuple[Cost, str]:
    """Run a command, which must succeed; return its cost and output."""
    with tempfile.TemporaryFile() as reading, tempfile.TemporaryFile() as writing, tempfile.TemporaryFile() as errors:
        reading.write(stdin.encode())
        reading.seek(0)
        begin, worked = time.monotonic(), busy()
        process = subprocess.Popen(
            argv, stdin=reading, stdout=writing, stderr=errors, env=env, cwd="/", start_new_session=True
        )
        watch = _Watch(process.pid)
        watch.start()
        try:
            _pid, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        wall, worked = time.monotonic() - begin, busy() - worked
        process.returncode = os.waitstatus_to_exitcode(status)
        watch.stop()
        printed, complaints = (_content(file) for file in (writing, errors))
    if process.returncode:
        raise RuntimeError(f"{argv[0]} ended with {process.returncode}: {printed[-2000:]}{complaints[-2000:]}")
    cpu = usage.ru_utime + usage.ru_stime
    return Cost(wall, cpu, watch.largest, watch.together, max(0.0, worked - cpu)), printed


def busy() -> float:
    """Return the CPU seconds of this machine: user, nice, system, irq, softirq, proc(5)."""
    with open("/proc/stat", encoding="ascii") as file:
        ticks = list(map(int, file.readline().split()[1:]))
    return sum(ticks[place] for place in (0, 1, 2, 5, 6)) / os.sysconf("SC_CLK_TCK")


def _content(file: t.IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()


class _Watch(threading.Thread):
    """Samples the memory of a process and its descendants. Not ru_maxrss, which a new program inherits from its parent."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid = pid
        self._done = threading.Event()
        self.largest = 0
        self.together = 0

    def run(self) -> None:
        while not self._done.wait(_INTERVAL):
            together = 0
            for pid in _descendants(self._pid):
                together += _number(f"/proc/{pid}/smaps_rollup", "Pss:")
                self.largest = max(self.largest, _number(f"/proc/{pid}/status", "VmHWM:"))
            self.together = max(self.together, together)

    def stop(self) -> None:
        self._done.set()
        self.join()


def _descendants(pid: int) -> t.Iterator[int]:
    yield pid
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
        for task in tasks:
            with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as file:
                children = file.read().split()
            for child in children:
                yield from _descendants(int(child))
    except OSError:
        return  # it has ended


def _number(path: str, word: str) -> int:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return next((int(line.split()[1]) for line in file if line.startswith(word)), 0)
    except OSError:
        return 0

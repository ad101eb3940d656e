# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Report the progress of long work while it runs: phases and counts in a file of root, and one line of the journal for each phase.

A controller that waits for the work names a link to the file, see ``REQUESTED``, because it does not know where the file is.

Must never contain a name, and never make the work fail or wait: an error of the file or the journal is ignored, and the file is not made
durable. Without ``reported`` around them, the other functions do nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import socket
import time
import typing as t

FILE = "progress.json"
# The environment variable with the number of the link, which plugins/plugin_utils/_progress.py sets and reads from.
REQUESTED = "WHATSAPP_OPS_PROGRESS"
_RUNTIME = "/run/whatsapp-ops"
_WRITING = f".{FILE}."
_VERSION = 1
_EVERY = 0.3  # seconds between two writes
_FILES_AT_ONCE = 100  # a process counts that many files by itself before it adds them up with the others
_JOURNAL = "/run/systemd/journal/socket"
_LARGEST = 4096  # bytes
_COUNTS = ("accounts", "accounts_total", "files", "files_total")
_WORDS = 40  # characters of a phase


class _Counter:
    """Counts across forked processes: the size of a file in memory that they share, because each write appends atomically.

    That takes O_APPEND: the position of such a file, which they share as well, is not locked while one of them writes.
    """

    def __init__(self) -> None:
        self._memory = os.memfd_create("progress")
        fcntl.fcntl(self._memory, fcntl.F_SETFL, os.O_APPEND)

    def add(self, number: int) -> None:
        os.write(self._memory, bytes(number))

    def value(self) -> int:
        return os.fstat(self._memory).st_size

    def reset(self) -> None:
        os.ftruncate(self._memory, 0)

    def close(self) -> None:
        os.close(self._memory)


class _Work:
    """The work in progress: the open directory of its file, what it is doing, and what is done of how much."""

    def __init__(self, directory: int, kind: str, unit: str) -> None:
        self.directory = directory
        self.facts: dict[str, t.Any] = {"version": _VERSION, "work": kind, "unit": unit, "started": time.time()}
        self.facts.update(pid=os.getpid(), born=_born(os.getpid()))
        self.accounts, self.files = _Counter(), _Counter()
        self.pending = 0
        self.next_write = 0.0
        self.link = _linked(directory)
        self.begin("start")

    def begin(self, phase: str) -> None:
        """Enter a phase."""
        self.facts.update(phase=phase, phase_started=time.time())
        self.expect(None, None)

    def expect(self, accounts: int | None, files: int | None) -> None:
        """Count from zero."""
        self.accounts.reset()
        self.files.reset()
        self.pending = 0
        self.facts.update(accounts_total=accounts, files_total=files)
        self.write()

    def write(self) -> None:
        """Write the file by a rename. Each process has its own temporary name."""
        self.next_write = time.monotonic() + _EVERY
        counted = {"accounts": self.accounts.value(), "files": self.files.value(), "updated": time.time()}
        temporary = f"{_WRITING}{os.getpid():012x}"  # as other temporary files, see leftovers.py
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(temporary, flags, 0o600, dir_fd=self.directory)
        try:
            os.write(descriptor, json.dumps({**self.facts, **counted}).encode())
        finally:
            os.close(descriptor)
        os.rename(temporary, FILE, src_dir_fd=self.directory, dst_dir_fd=self.directory)

    def end(self) -> None:
        """Remove the file and the link."""
        self.accounts.close()
        self.files.close()
        with contextlib.suppress(OSError):
            clear(self.directory)
            if self.link:
                os.unlink(self.link)


_works: list[_Work] = []  # the work in progress, if any


@contextlib.contextmanager
def reported(directory: int, kind: str, unit: str = "") -> t.Iterator[None]:
    """Report the work of the body in the open ``directory``, which only root can enter. ``kind``: migration, backup, ..."""
    work = None
    with contextlib.suppress(OSError, AttributeError):  # no memfd_create before Linux 3.17 or in some builds of Python
        clear(directory)
        work = _Work(directory, kind, unit)
        _works.append(work)
    try:
        yield
    finally:
        if work:
            _works.remove(work)
            work.end()


def phase(name: str) -> None:
    """Enter a phase of the work, and log it."""
    if _works and _works[-1].facts["phase"] != name:
        with contextlib.suppress(OSError):
            _works[-1].begin(name)
        _log(f"{_works[-1].facts['work']} of {_works[-1].facts['unit'] or 'sessions'}: {name}")


def expect(accounts: int | None = None, files: int | None = None) -> None:
    """Set how much there is to do from now on, with nothing of it done; None if unknown."""
    if _works:
        with contextlib.suppress(OSError):
            _works[-1].expect(accounts, files)


def advance(accounts: int = 0, files: int = 0) -> None:
    """Count what was done, in any process of the work."""
    if not _works:
        return
    work = _works[-1]
    work.pending += files
    if work.pending < _FILES_AT_ONCE and not accounts:
        return
    with contextlib.suppress(OSError):
        work.files.add(work.pending)
        work.pending = 0
        work.accounts.add(accounts)
        if time.monotonic() >= work.next_write:
            work.write()


def backend(is_up: bool) -> None:
    """State whether the backend is up. Not called for one that was not running before."""
    if _works:
        _works[-1].facts["backend"] = "up" if is_up else "down"
        _written()


def clear(directory: int) -> None:
    """Remove the file, also the one of a killed run. Raises OSError."""
    for name in os.listdir(directory):
        if name == FILE or name.startswith(_WRITING):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=directory)


def read(directory: int) -> dict[str, t.Any] | None:
    """Return the progress of the run that is working on the open directory; None if there is none, or the file is not readable.

    ``elapsed_seconds`` and ``phase_seconds`` are by the clock of this host.
    """
    try:
        descriptor = os.open(FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    except OSError:
        return None
    try:
        kept = json.loads(os.read(descriptor, _LARGEST))
        return _described(kept) if _born(int(kept["pid"])) == kept["born"] else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    finally:
        os.close(descriptor)


def _linked(directory: int) -> str:
    """Make the link that the controller asked for, and return its path; '' if it asked for none, or if that is not possible."""
    number = os.environ.get(REQUESTED, "")
    if not re.fullmatch("[0-9a-f]{16}", number):
        return ""
    link = f"{_RUNTIME}/progress-{number}"
    try:
        os.makedirs(_RUNTIME, mode=0o755, exist_ok=True)
        os.symlink(f"{os.readlink(f'/proc/self/fd/{directory}')}/{FILE}", link)
    except OSError:
        return ""
    return link


def _described(kept: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    now = time.time()
    return {
        "work": str(kept["work"])[:_WORDS],
        "phase": str(kept["phase"])[:_WORDS],
        **{name: None if kept[name] is None else int(kept[name]) for name in _COUNTS},
        "backend": str(kept["backend"]) if kept.get("backend") in ("up", "down") else None,
        "elapsed_seconds": max(0, int(now - float(kept["started"]))),
        "phase_seconds": max(0, int(now - float(kept["phase_started"]))),
    }


def _born(pid: int) -> int:
    """Return when a process started, in ticks since boot, which distinguishes it from a later one of the same PID. Raises OSError."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        return int(file.read(_LARGEST).rpartition(b")")[2].split()[19])


def _written() -> None:
    with contextlib.suppress(OSError):
        _works[-1].write()


def _log(message: str) -> None:
    """Send one line to the journal by its native protocol, without waiting for it."""
    entry = f"MESSAGE={message}\nPRIORITY=6\nSYSLOG_IDENTIFIER=whatsapp-ops\n"
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as out:
        out.sendto(entry.encode(), _JOURNAL)

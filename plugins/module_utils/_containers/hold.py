# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Suspend the processes of a running container, and mount a directory of the host over one inside it.

What a program writes while it stops would be lost with its container. Therefore its accounts are copied to the sessions path while it is
suspended, the sessions path is mounted over its directory, and only then is it stopped: everything it writes from then on goes to the
sessions path. This is safe if none of its files there is open: writes go through open files, so nothing is half written and no later write
goes to the former directory. A program that keeps files open (SQLite, a browser) is left alone.

It uses signals instead of the control group freezer: they work with every engine and both versions of control groups, and the process that
resumes the container (rescue.py, if this run is killed) needs no other information.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
import typing as t

from .._core.errors import SessionsError
from .._fs.fdopen import DirFd
from .._proc.control_groups import processes_of
from .._proc.process_view import View, inode_of
from .._proc.procfs import stat_of
from .command_lines import same_or_below
from .view import Root, is_same_tree, opened_plain

_STILL_WITHIN = 5.0  # seconds: signals take effect at once, except for processes that wait for a disk
_CLOSED_WITHIN = 10.0  # seconds: programs like Baileys open a file only briefly
_LATE = 5.0  # seconds: extra time for a check that began before the deadline
_BETWEEN = 0.05
_OPEN_TREE, _MOVE_MOUNT = 428, 429  # system call numbers, equal on all architectures, Linux 5.2
_CLONE = 1
_FROM_EMPTY_PATH, _TO_EMPTY_PATH, _AT_EMPTY_PATH = 0x4, 0x40, 0x1000
_NEW_MOUNTS = 0x20000  # CLONE_NEWNS
_PRIVATE = 1 << 18  # MS_PRIVATE
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC

_libc = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def held_still(groups: t.Sequence[str], inside: str) -> t.Iterator[None]:
    """Suspend all processes of the control groups at a moment when nothing below ``inside`` is open; resume them at the end.

    Raises SessionsError if that is impossible.
    """
    deadline = time.monotonic() + _CLOSED_WITHIN
    try:
        while True:
            stop_all(groups)
            busy = _who_has_open(groups, inside, deadline + _LATE)
            if not busy:
                break
            if time.monotonic() > deadline:
                raise SessionsError(
                    f"PID {busy} in the container keeps files of its accounts open, so they cannot be migrated while it is running"
                )
            continue_all(groups)
            time.sleep(_BETWEEN)
        yield
    finally:
        continue_all(groups)


def require_still(groups: t.Sequence[str], inside: str) -> None:
    """Check again that all processes of the groups are suspended with nothing below ``inside`` open. Raises SessionsError."""
    processes = processes_of(groups)
    if not processes.complete or not processes.pids or not all(map(_is_still, processes.pids)):
        raise SessionsError("a process of the container was resumed or started while its accounts were copied")
    busy = _who_has_open(groups, inside, time.monotonic() + _CLOSED_WITHIN)
    if busy:
        raise SessionsError(f"PID {busy} in the container has opened files of its accounts")


def stop_all(groups: t.Sequence[str]) -> None:
    """Suspend all processes of the groups, including new ones. Raises SessionsError if one keeps running."""
    deadline = time.monotonic() + _STILL_WITHIN
    while True:
        processes = processes_of(groups)
        if not processes.complete or not processes.pids:
            raise SessionsError("not all processes of the container are visible, so they cannot be suspended")
        moving = [pid for pid in processes.pids if not _is_still(pid)]
        if not moving:
            return
        for pid in moving:
            _send(pid, signal.SIGSTOP)
        if time.monotonic() > deadline:
            raise SessionsError(f"PID {moving[0]} in the container cannot be suspended")
        time.sleep(0.002)


def continue_all(groups: t.Sequence[str]) -> None:
    """Resume all processes of the groups."""
    for pid in processes_of(groups).pids:
        _send(pid, signal.SIGCONT)


def require_whole(pid: int, root: Root) -> None:
    """Check that the directory on the host is all that the container sees there. Raises SessionsError if it is not."""
    try:
        with View(pid) as view, view.opened(root.inside) as looked_at:
            directory = DirFd(os.open(f"/proc/self/fd/{looked_at}", _DIRECTORY))
        try:
            with opened_plain(root.path) as own:
                same = inode_of(directory) == root.inode and is_same_tree(directory, own)
        finally:
            os.close(directory)
    except OSError as error:
        raise SessionsError(f"cannot read {root.there} in the container: {error.strerror}") from error
    if not same:
        raise SessionsError(f"the content of {root.there} in the container differs from {root.on_host} on the host")


def mount_over(pid: int, root: Root, path: str) -> None:
    """Mount the directory ``path`` of the host over a directory in the container of process ``pid``.

    Raises SessionsError if the kernel cannot, or if the directory was replaced.
    """
    try:
        with View(pid) as view, view.opened(root.inside) as target:
            if inode_of(target) != root.inode:
                raise SessionsError(f"{root.there} in the container was replaced by another directory")
            source = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                _attach(source, target, pid)
                if view.inode(root.inside) != inode_of(source):
                    raise SessionsError(f"{path} was mounted in the container but is not visible at {root.there}")
            finally:
                os.close(source)
    except OSError as error:
        raise SessionsError(
            f"cannot mount {path} in the running container: {error.strerror} (Linux 5.2 or newer and root are needed)"
        ) from error


def _attach(source: int, target: int, pid: int) -> None:
    tree = _checked(
        _libc.syscall(ctypes.c_long(_OPEN_TREE), source, b"", ctypes.c_uint(_CLONE | os.O_CLOEXEC | _AT_EMPTY_PATH))
    )
    mounts = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        child = os.fork()  # a multithreaded process cannot enter another mount namespace, setns(2)
        if not child:
            os._exit(_attached(mounts, tree, target))
        number = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if number:
            raise OSError(number, os.strerror(number) if number > 0 else f"signal {-number}")
    finally:
        os.close(mounts)
        os.close(tree)


def _attached(mounts: int, tree: int, target: int) -> int:
    """Enter the mount namespace and attach the tree; return 0 or the error number. Runs in a child process."""
    try:
        _checked(_libc.setns(mounts, _NEW_MOUNTS))
        flags = ctypes.c_uint(_FROM_EMPTY_PATH | _TO_EMPTY_PATH)
        _checked(_libc.syscall(ctypes.c_long(_MOVE_MOUNT), tree, b"", target, b"", flags))
        os.fchdir(tree)
        _checked(_libc.mount(None, b".", None, ctypes.c_ulong(_PRIVATE), None))
    except OSError as error:
        return error.errno or 255
    except BaseException:
        return 255
    return 0


def _is_still(pid: int) -> bool:
    """Return whether all threads of a process are stopped, or the process has ended."""
    try:
        return all(_state(pid, int(thread)) in "TtZX" for thread in os.listdir(f"/proc/{pid}/task"))
    except OSError:
        return True


def _state(pid: int, thread: int) -> str:
    try:
        return stat_of(pid, thread).state
    except (FileNotFoundError, ProcessLookupError):
        return "X"


def _send(pid: int, number: int) -> None:
    with contextlib.suppress(OSError):
        os.kill(pid, number)


def _who_has_open(groups: t.Sequence[str], inside: str, deadline: float) -> int:
    """Return a PID that uses something below ``inside`` (open, mapped, working directory) or has other mounts than the rest; else 0.

    Raises SessionsError if the check takes too long.
    """
    mounts = ""
    for pid in processes_of(groups).pids:
        try:
            own = os.readlink(f"/proc/{pid}/ns/mnt")
            mounts = mounts or own
            if own != mounts:
                return pid
            links = [f"/proc/{pid}/fd/{number}" for number in os.listdir(f"/proc/{pid}/fd")]
            links.append(f"/proc/{pid}/cwd")
            if any(same_or_below(_led(link), inside) for link in _in_time(links, deadline)):
                return pid
            with open(f"/proc/{pid}/maps", encoding="utf-8", errors="surrogateescape") as maps:
                if any(same_or_below(_mapped(line), inside) for line in _in_time(maps, deadline)):
                    return pid
        except (FileNotFoundError, ProcessLookupError):
            continue  # the process ended
        except OSError:
            return pid
    return 0


def _in_time(items: t.Iterable[str], deadline: float) -> t.Iterator[str]:
    for item in items:
        if time.monotonic() > deadline:
            raise SessionsError(
                "the container has more open files and processes than can be checked while it is suspended"
            )
        yield item


def _led(link: str) -> str:
    try:
        return os.readlink(link).removesuffix(" (deleted)")
    except OSError:
        return ""


def _mapped(line: str) -> str:
    _before, slash, path = line.rstrip("\n").partition("/")
    return f"{slash}{path}".removesuffix(" (deleted)")


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return int(result)

# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Undoes an unfinished cutover and starts the backend.

Called as functions by the run itself, and run as a program if the run was killed or the host crashed.

The program is a copy of this file in the control directory (control_directory.py), which only root can access. systemd starts it before the
backend is stopped. It waits for the run's lock, which the kernel releases whenever the run ends, and kills a run that keeps the backend
stopped for too long. After a boot, a separate unit runs it before the backend, see guard.py. So this file must import nothing but the
standard library, and it trusts nothing but its arguments and the intent.

An intent lists what a cutover is about to do, and is written durably before the first step: ``moves`` (renames, in order, each with
its reason), ``folders`` (their source and target directories: path to device and inode), ``files`` (the former content of configuration
files) and ``staying`` (entries of the sessions path that are not moved). It is marked ``committed`` when everything is done, right before
the backend is started, and removed after that. An intent that exists and is not committed must be undone.

The directories of moves may belong to other users, who can replace them. A run keeps them open and passes them as ``opened`` (by path);
code that opens them by path refuses directories other than those in the intent.
"""

from __future__ import annotations

import base64
import contextlib
import enum
import errno
import fcntl
import functools
import json
import os
import signal
import stat
import subprocess
import sys
import time
import typing as t

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_DEEPEST = 64
_LARGEST_FILE = 1 << 20  # bytes: no drop-in and no environment file is larger
_LARGEST_DOCUMENT = 1 << 28
_LOOK_AT_MOST = 20.0  # seconds: an account that takes longer to check counts as used

Opened = t.Mapping[str, int]


class MoveKind(str, enum.Enum):
    """The reason of a rename."""

    TAKING = "taking"  # an account, from a legacy path to staging
    DISPLACING = "displacing"  # an account, from the sessions path to the displaced ones
    PUBLISHING = "publishing"  # an account, to the sessions path
    BESIDE = "beside"  # a companion, to the sessions path, unless it exists there
    LEAVING = "leaving"  # a tombstone, to a legacy path


class Target(t.TypedDict):
    """The entry ``new_name`` of the directory ``target`` (a real path), and its inode."""

    target: str
    new_name: str
    inode: int


class Move(Target):
    """One rename: ``name`` in the directory ``source`` (a real path) becomes the target. ``why``: a MoveKind."""

    why: str
    source: str
    name: str


class KeptFile(t.TypedDict):
    """The former content of a file in base64, None if it did not exist; ``folder``: device and inode of its directory."""

    path: str
    content: str | None
    mode: int
    uid: int
    gid: int
    folder: list[int] | None


class _Announced(t.TypedDict):
    boot: str
    folders: dict[str, list[int]]
    moves: list[Move]
    files: list[KeptFile]


class Intent(_Announced, total=False):
    """The planned changes of a cutover, as intent.json holds them."""

    version: int
    path: str
    staying: list[Target]
    committed: bool


class Exchanged(OSError):
    """The directory at a path is not the one in the intent."""

    def __init__(self, path: str) -> None:
        super().__init__(errno.ESTALE, f"{path} was replaced with another directory")


def undo_moves(intent: Intent, opened: Opened | None = None) -> None:
    """Undo the completed part of an intent: restore the content of files and reverse renames. Idempotent.

    Does nothing once the intent is ``committed``, because the backend may already use the new path.
    """
    if intent.get("committed"):
        return
    failed: list[OSError] = []
    undo = [functools.partial(_restore_file, file, intent, opened) for file in reversed(intent["files"])]
    undo += [functools.partial(_reverse, move, intent, opened) for move in reversed(intent["moves"])]
    for step in undo:
        try:
            step()
        except OSError as error:  # a full disk prevents restoring files, but not moving accounts back
            failed.append(error)
    if failed:
        raise failed[0]


def unreversible_moves(intent: Intent, opened: Opened | None = None) -> list[Move]:
    """Return the completed renames that cannot be reversed, because a new entry exists at the former path."""
    if intent.get("committed"):
        return []
    return [move for move in intent["moves"] if _is_stuck(move, intent, opened)]


def undo_committed(path: str, opened: Opened | None = None) -> bool:
    """Undo the committed cutover of the intent at ``path``, because its backend does not start.

    Returns False without changing anything if an account at the sessions path was written to since: then the legacy copy is older.
    """
    intent, committed = _read_intent(path)
    if not intent.get("committed") or is_used(intent, committed, opened):
        return False
    intent["committed"] = False  # made durable first: a run killed from this point on must be undone
    _rewrite(path, json.dumps(intent).encode())
    undo_moves(intent, opened)
    if not unreversible_moves(intent, opened):
        os.unlink(path)
    return True


def is_used(intent: Intent, since: int, opened: Opened | None = None) -> bool:
    """Whether an account at the sessions path was written to after ``since`` (nanoseconds since the epoch). Publishing changes no file.

    Accounts that stayed at the sessions path count only after the commit: until then, only this collection changes their directories.
    """
    deadline = time.monotonic() + _LOOK_AT_MOST
    published = [move for move in intent["moves"] if move["why"] == MoveKind.PUBLISHING]
    staying = intent.get("staying", ()) if intent.get("committed") else ()
    return any(_was_written(entry, since, deadline, intent, opened) for entry in (*published, *staying))


def kept_file(path: str, at_most: int = _LARGEST_FILE) -> KeptFile:
    """Return the current state of the file ``path`` for an intent; ``content`` is None if it does not exist.

    Content, owner and mode come from the same descriptor. Raises OSError if it is not a regular file, or too large.
    """
    directory, name = os.path.split(path)
    real = os.path.realpath(directory)
    path = os.path.join(real, name)
    gone: KeptFile = {"path": path, "content": None, "mode": 0, "uid": 0, "gid": 0, "folder": None}
    try:
        parent = open_real(real)
    except FileNotFoundError:
        return gone
    try:
        folder = identity_of(parent)
        try:
            content, status = _read_regular(parent, path, at_most)
        except FileNotFoundError:
            return {**gone, "folder": folder}
    finally:
        os.close(parent)
    return {
        "path": path,
        "content": base64.b64encode(content).decode("ascii"),
        "mode": stat.S_IMODE(status.st_mode),
        "uid": status.st_uid,
        "gid": status.st_gid,
        "folder": folder,
    }


def planned_move(why: MoveKind, source: str, name: str, target: str, new_name: str, inode: int) -> Move:
    """Return one rename between two directories (real paths) for an intent."""
    return {"why": why.value, "source": source, "name": name, "target": target, "new_name": new_name, "inode": inode}


def staying_entry(folder: str, name: str, inode: int) -> Target:
    """Return an entry of a directory (real path) of the sessions path that is not moved, for an intent."""
    return {"target": folder, "new_name": name, "inode": inode}


def identity_of(descriptor: int) -> list[int]:
    """Return device and inode of an open directory."""
    status = os.fstat(descriptor)
    return [status.st_dev, status.st_ino]


def open_real(path: str) -> int:
    """Open a directory by its real path; symbolic links in it are refused."""
    return _open_below(os.open("/", _DIRECTORY), path)


def open_folder(path: str, intent: Intent | None, opened: Opened | None) -> int:
    """Open a source or target directory of a move: one of the intent, or one below it, such as the slots in the staging area.

    Uses the descriptor of the run, or the directory at the path if it is the same one as in the intent. Raises Exchanged, OSError.
    """
    known, folders = path, intent["folders"] if intent else {}
    while known not in folders and (opened is None or known not in opened):
        if known in ("", "/"):
            raise Exchanged(path)
        known = os.path.dirname(known)
    if opened is not None and known in opened:
        here = os.dup(opened[known])
    else:
        here = open_real(known)
        if intent is None or not _is_same(here, folders[known], intent):
            os.close(here)
            raise Exchanged(known)
    return _open_below(here, path[len(known) :])


def _is_same(descriptor: int, known: t.Sequence[int], intent: Intent) -> bool:
    device, inode = identity_of(descriptor)
    return inode == known[1] and (device == known[0] or intent["boot"] != boot())


def _open_below(here: int, path: str) -> int:
    """Open a directory below the open one ``here``, and close ``here``."""
    for part in path.split("/"):
        if part:
            try:
                below = os.open(part, _DIRECTORY, dir_fd=here)
            finally:
                os.close(here)
            here = below
    return here


def boot() -> str:
    """Return the ID of this boot: device numbers are valid only within one boot."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def _restore_file(file: KeptFile, intent: Intent, opened: Opened | None) -> None:
    directory, name = os.path.split(file["path"])
    try:
        parent = open_real(directory)
    except FileNotFoundError:
        return  # its directory was never created
    try:
        if file["folder"] is not None and not _is_same(parent, file["folder"], intent):
            raise Exchanged(directory)
        if file["content"] is None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=parent)
        else:
            _write(parent, name, file)
        os.fsync(parent)
    finally:
        os.close(parent)


def _read_regular(parent: int, path: str, at_most: int) -> tuple[bytes, os.stat_result]:
    """Read the regular file ``path`` in its open directory without blocking, even if it was replaced with a FIFO."""
    try:
        descriptor = os.open(os.path.basename(path), _FILE, dir_fd=parent)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise OSError(error.errno, f"{path} cannot be read ({error.strerror})") from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, f"{path} is not a regular file")
    with os.fdopen(descriptor, "rb") as file:
        content = file.read(at_most + 1)
    if len(content) > at_most:
        raise OSError(errno.EFBIG, f"{path} is larger than {at_most} bytes")
    return content, status


def _read_intent(path: str) -> tuple[Intent, int]:
    """Return an intent and when it was written (nanoseconds since the epoch)."""
    parent = open_real(os.path.realpath(os.path.dirname(path)))
    try:
        content, status = _read_regular(parent, path, _LARGEST_DOCUMENT)
    finally:
        os.close(parent)
    return json.loads(content), status.st_mtime_ns


def _write(parent: int, name: str, file: t.Mapping[str, t.Any]) -> None:
    temporary = f".{name}.{os.urandom(6).hex()}"
    descriptor = os.open(
        temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=parent
    )
    try:
        with os.fdopen(descriptor, "wb") as writing:
            writing.write(base64.b64decode(file["content"]))
            writing.flush()
            os.fchown(descriptor, file["uid"], file["gid"])
            os.fchmod(descriptor, file["mode"])
            os.fsync(descriptor)
        os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=parent)
        raise


def _rewrite(path: str, content: bytes) -> None:
    parent = open_real(os.path.realpath(os.path.dirname(path)))
    try:
        kept = {"content": base64.b64encode(content), "mode": 0o600, "uid": os.geteuid(), "gid": os.getegid()}
        _write(parent, os.path.basename(path), kept)
        os.fsync(parent)
    finally:
        os.close(parent)


def _was_written(entry: Target, since: int, deadline: float, intent: Intent, opened: Opened | None) -> bool:
    try:
        parent = open_folder(entry["target"], intent, opened)
    except FileNotFoundError:
        return False
    try:
        if _inode(parent, entry["new_name"]) != entry["inode"]:
            return False
        return _is_newer_at(parent, entry["new_name"], since, deadline, _DEEPEST)
    finally:
        os.close(parent)


def _is_newer_at(parent: int, name: str, since: int, deadline: float, levels: int) -> bool:
    """Whether an entry, or anything below it, was written after ``since``; also True if checking takes too long."""
    try:
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if status.st_mtime_ns > since or time.monotonic() > deadline:
            return True
        if not stat.S_ISDIR(status.st_mode):
            return False
        directory = os.open(name, _DIRECTORY, dir_fd=parent)
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        if not levels:
            return True  # deeper than any library creates directories, so they were created since
        with os.scandir(directory) as entries:
            return any(_is_newer_at(directory, entry.name, since, deadline, levels - 1) for entry in entries)
    finally:
        os.close(directory)


def _reverse(move: Move, intent: Intent, opened: Opened | None) -> None:
    with contextlib.ExitStack() as stack:
        target = _opened_where_moved(move, intent, opened, stack)
        if target is None:
            return
        source = _opened(move["source"], intent, opened, stack)
        if _is_free(source, move["name"], target, move["new_name"]):
            os.rename(move["new_name"], move["name"], src_dir_fd=target, dst_dir_fd=source)
            os.fsync(source)
            os.fsync(target)


def _is_stuck(move: Move, intent: Intent, opened: Opened | None) -> bool:
    with contextlib.ExitStack() as stack:
        try:
            target = _opened_where_moved(move, intent, opened, stack)
            if target is None:
                return False
            source = _opened(move["source"], intent, opened, stack)
        except (Exchanged, FileNotFoundError):
            return True  # its current or its former directory cannot be reached
        return not _is_free(source, move["name"], target, move["new_name"])


def _opened_where_moved(move: Move, intent: Intent, opened: Opened | None, stack: contextlib.ExitStack) -> int | None:
    """Open the target directory of a move; None if the move was not done."""
    try:
        target = _opened(move["target"], intent, opened, stack)
    except FileNotFoundError:
        return None
    return target if _inode(target, move["new_name"]) == move["inode"] else None


def _opened(path: str, intent: Intent, opened: Opened | None, stack: contextlib.ExitStack) -> int:
    descriptor = open_folder(path, intent, opened)
    stack.callback(os.close, descriptor)
    return descriptor


def _is_free(directory: int, name: str, there: int, moved: str) -> bool:
    """Whether ``moved`` can be renamed to ``name``: that does not exist, or both are directories and it is empty."""
    try:
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return True
    if not stat.S_ISDIR(found.st_mode) or not stat.S_ISDIR(os.stat(moved, dir_fd=there, follow_symlinks=False).st_mode):
        return False
    try:
        below = os.open(name, _DIRECTORY, dir_fd=directory)
    except (FileNotFoundError, NotADirectoryError):
        return False  # it is being changed at this moment
    try:
        with os.scandir(below) as entries:
            return next(entries, None) is None
    finally:
        os.close(below)


def _inode(directory: int, name: str) -> int | None:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False).st_ino
    except FileNotFoundError:
        return None


class Rescue(t.NamedTuple):
    """The arguments of the program: files of the run in /run, the intent, the unit and whether it ran before, and the run's process.

    ``start``: ``yes``, ``no``, or ``only`` to start the unit without ever undoing the cutover.
    ``frozen``: the control groups of the container, one per line, whose processes the run keeps frozen while the flag exists.
    """

    lock: str
    busy: str
    flag: str
    guard: str
    boot_unit: str
    boot_link: str
    intent: str
    unit: str
    start: str
    run: str
    run_since: str
    held_at_most: str
    frozen: str = ""
    starts: str = ""


def _main(given: Rescue) -> None:
    _wait_for_the_end(given)
    if not os.path.lexists(given.busy):
        return  # the run ended normally and has done all of this
    held = os.path.lexists(given.flag)
    if held and not _source_is_gone(given):  # not committed yet, see guard.py
        try:
            _take_back_all(given.intent)
        except (OSError, ValueError, KeyError):
            pass  # the intent is kept for the next run, and the backend must be started in any case
    for path in (given.flag, given.guard, given.boot_link, given.boot_unit, given.busy):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    _systemctl("daemon-reload")
    if given.starts:
        run_all(start_of(given.starts, given.intent), 900.0)
        return
    if given.frozen:
        if held and _end_hold(given):
            _systemctl("restart", "--", given.unit)
        _start(given.unit)  # no rollback: the former accounts were deleted with their container
        return
    if given.start != "no" and not _start(given.unit) and given.start == "yes" and _gone_back(given):
        _systemctl("daemon-reload")
        _start(given.unit)


def _end_hold(given: Rescue) -> bool:
    """Resume the frozen processes of a container, or kill them if their accounts are already published; return whether they are.

    After the commit they could write to the former path, which is deleted with the container. What they wrote before is published.
    """
    ended = _is_committed(given.intent)
    for pid in _pids_in(given.frozen.split("\n")):
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL if ended and _state(pid) in "Tt" else signal.SIGCONT)
    return ended


def _source_is_gone(given: Rescue) -> bool:
    """Whether the container has ended, so that its layer is deleted and the copies are kept for the next run, see kept_copies.py."""
    return bool(given.frozen) and all(_state(pid) in "ZX" for pid in _pids_in(given.frozen.split("\n")))


def _state(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return "X"


def start_of(starts: str, intent: str) -> list[list[str]]:
    """Return the commands that start a container of Compose: a new one if the intent is committed, otherwise the existing one."""
    return t.cast("list[list[str]]", json.loads(starts)["published" if _is_committed(intent) else "former"])


def run_all(commands: t.Iterable[t.Sequence[str]], seconds: float) -> str:
    """Run all commands in order, even if one fails. Return the error message of the last one, '' if that succeeded."""
    failed = ""
    for words in commands:
        failed = ""
        try:
            # This is a standalone program without Ansible.
            done = subprocess.run(  # pylint: disable=ansible-bad-function
                words,
                check=False,
                timeout=seconds,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
            )
            if done.returncode:
                failed = (done.stderr.strip().splitlines() or [f"{words[0]} failed with exit code {done.returncode}"])[
                    -1
                ]
        except (OSError, subprocess.TimeoutExpired) as error:
            failed = str(error)
    return failed


def _is_committed(path: str) -> bool:
    try:
        return bool(_read_intent(path)[0].get("committed"))
    except (OSError, ValueError):
        return False


def _pids_in(groups: t.Iterable[str]) -> t.Iterator[int]:
    """Yield the PIDs in control groups and those below them, cgroups(7): version 2, hybrid and version 1 as mounted by systemd."""
    for group in groups:
        for top in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"):
            for directory, _below, files in os.walk(f"{top}/{group.strip('/')}"):
                if "cgroup.procs" in files:
                    with contextlib.suppress(OSError), open(f"{directory}/cgroup.procs", encoding="ascii") as file:
                        yield from [int(line) for line in file if line.strip().isdecimal() and int(line)]


def _wait_for_the_end(given: Rescue) -> None:
    """Wait until the run has ended. Kill it if it keeps the backend stopped for too long."""
    limit = float(given.held_at_most)

    def look(_number: int, _frame: t.Any) -> None:
        try:
            # If this clock is set meanwhile, the run is at worst killed early.
            held = time.time() - os.stat(given.flag).st_mtime
        except FileNotFoundError:
            return
        if held > limit:
            _end(int(given.run), given.run_since)

    signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, 1.0, 1.0)
    with open(given.lock, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
    signal.setitimer(signal.ITIMER_REAL, 0)


def _end(process: int, since: str) -> None:
    """Kill the run, but no other process that has reused its PID. Its child processes end with it, see pool.py."""
    with contextlib.suppress(OSError):
        if started_at(process) == since:
            os.kill(process, signal.SIGKILL)


def started_at(process: int) -> str:
    """Return the start time of a process in clock ticks after boot, proc(5)."""
    with open(f"/proc/{process}/stat", encoding="utf-8", errors="replace") as file:
        return file.read().rpartition(")")[2].split()[19]


def _start(unit: str) -> bool:
    _systemctl("reset-failed", "--", unit)
    return _systemctl("start", "--", unit)


def _gone_back(given: Rescue) -> bool:
    """Undo the cutover of a run that was killed after the commit, because the backend does not start; return whether it was undone."""
    _systemctl("stop", "--", given.unit)
    try:
        return undo_committed(given.intent)
    except (OSError, ValueError, KeyError):
        return False


def _systemctl(*words: str) -> bool:
    """Run systemctl; return whether it succeeded. systemd applies the unit's own timeouts; this one only prevents waiting forever."""
    argv = ["systemctl", *words]
    try:
        # This is a standalone program without Ansible.
        return subprocess.run(argv, check=False, timeout=900).returncode == 0  # pylint: disable=ansible-bad-function
    except subprocess.TimeoutExpired:
        return False


def _take_back_all(path: str) -> None:
    try:
        intent, _written = _read_intent(path)
    except FileNotFoundError:
        return  # the run was killed before the intent was written
    if intent.get("committed"):
        return  # undo_committed may still need it
    undo_moves(intent)
    if not unreversible_moves(intent):
        os.unlink(path)


def _main_at_boot(intent: str, boot_unit: str, boot_link: str, starts: str = "") -> None:
    """Undo what was not committed before systemd starts the backend after a boot, so that it finds its accounts at the former path.

    Also starts the container of a Compose service.
    """
    try:
        _take_back_all(intent)
    finally:
        for path in (boot_link, boot_unit):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        _systemctl("daemon-reload")  # systemd has still loaded the files for the new path
        if starts:
            run_all(start_of(starts, intent), 900.0)


if __name__ == "__main__":
    if sys.argv[1] == "boot":
        _main_at_boot(*sys.argv[2:])
    else:
        _main(Rescue(*sys.argv[1:]))

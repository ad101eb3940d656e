# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Takes back a cutover that did not finish, and starts the backend.

Used as a function by the run itself, and as a program when the run was killed, or the whole host with it.

As a program it is a copy of this file in the control directory (_control.py), where only root gets. systemd starts it before the backend
is stopped; it waits for the run's lock, which the kernel releases when the run ends in whatever way, and ends a run that holds the backend
stopped for too long. After a boot a unit of its own runs it before the backend, see _cutover.py. So this file must not import anything but
the standard library, and it trusts nothing but its arguments and the intent.

An intent is the list of what a cutover is about to do, written durably before the first step: ``moves`` (renames, in order, each with
the reason for it), ``folders`` (which directories they lead from and to: path to device and inode), ``files`` (what configuration files
hold before) and ``staying`` (what is at the sessions path already, and is not moved). It is ``committed`` when all is done, right before
the backend is started, and removed after that; while it is there and not committed, taking back is what is right.

The directories that moves are about may belong to other users, who can exchange them. A run has them open and passes them on as
``opened`` (by path); whoever opens them by path refuses another one than the intent knows.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import fcntl
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
_LOOK_AT_MOST = 20.0  # seconds: an account that takes longer to look through counts as used

# Why something is renamed: out of a legacy path, out of the way, to the sessions path, and to the sessions path because it lies
# beside accounts. What is beside gives way to what is there already. And to a legacy path, to be left in the place of an account.
TAKING, DISPLACING, PUBLISHING, BESIDE, LEAVING = "taking", "displacing", "publishing", "beside", "leaving"

Opened = t.Mapping[str, int]


class Exchanged(OSError):
    """Another directory lies where the intent knows one."""

    def __init__(self, path: str) -> None:
        super().__init__(errno.ESTALE, f"{path} is not the directory that it was")


def take_back(intent: t.Mapping[str, t.Any], opened: Opened | None = None) -> None:
    """Undo what was done of an intent: files get their former content, renames are reversed. Doing it twice does no harm.

    Nothing is undone once the intent is ``committed``: the backend may be at work on the new path already.
    """
    if intent.get("committed"):
        return
    failed: list[OSError] = []
    for undo, all_done in ((_restore_file, intent["files"]), (_reverse, intent["moves"])):
        for done in reversed(all_done):
            try:
                undo(done, intent, opened)
            except OSError as error:  # a full disk keeps a file from being restored, not an account
                failed.append(error)
    if failed:
        raise failed[0]


def stuck_moves(intent: t.Mapping[str, t.Any], opened: Opened | None = None) -> list[t.Mapping[str, t.Any]]:
    """Return the renames that were done and cannot be reversed, because something new took the former place."""
    if intent.get("committed"):
        return []
    return [move for move in intent["moves"] if _is_stuck(move, intent, opened)]


def go_back(path: str, opened: Opened | None = None) -> bool:
    """Take back the committed cutover of the intent at ``path``, because its backend does not start.

    Returns False, having done nothing, when an account at the sessions path was written to since: the legacy copy is the older one then.
    """
    intent, committed = _read_intent(path)
    if not intent.get("committed") or is_used(intent, committed, opened):
        return False
    intent["committed"] = False  # durably: who is killed from here on has to be taken back
    _rewrite(path, json.dumps(intent).encode())
    take_back(intent, opened)
    if not stuck_moves(intent, opened):
        os.unlink(path)
    return True


def is_used(intent: t.Mapping[str, t.Any], since: int, opened: Opened | None = None) -> bool:
    """Whether an account at the sessions path was written to since (nanoseconds since the epoch): publishing itself changes no file.

    What was there before counts once the backend was sent there: until then only we change something in its directories.
    """
    deadline = time.monotonic() + _LOOK_AT_MOST
    published = [move for move in intent["moves"] if move["why"] == PUBLISHING]
    staying = intent.get("staying", ()) if intent.get("committed") else ()
    return any(_was_written(entry, since, deadline, intent, opened) for entry in (*published, *staying))


def kept_file(path: str, at_most: int = _LARGEST_FILE) -> dict[str, t.Any]:
    """Describe what the file ``path`` holds now, for an intent; ``content`` is None when it is not there.

    Content, owner and mode come from one descriptor. Raises OSError for what is no regular file, or too large to be one that is changed.
    """
    directory, name = os.path.split(path)
    real = os.path.realpath(directory)
    path = os.path.join(real, name)
    gone = {"path": path, "content": None, "mode": 0, "uid": 0, "gid": 0, "folder": None}
    try:
        parent = open_real(real)
    except FileNotFoundError:
        return gone
    try:
        folder = identity_of(parent)
        try:
            content, status = _read_regular(parent, name, at_most)
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


def planned_move(why: str, source: str, name: str, target: str, new_name: str, inode: int) -> dict[str, t.Any]:
    """Describe one rename between two directories (real paths), for an intent."""
    return {"why": why, "source": source, "name": name, "target": target, "new_name": new_name, "inode": inode}


def staying_entry(folder: str, name: str, inode: int) -> dict[str, t.Any]:
    """Describe what is in a directory (real path) of the sessions path and is not moved, for an intent."""
    return {"target": folder, "new_name": name, "inode": inode}


def identity_of(descriptor: int) -> list[int]:
    """Return which directory an open one is: device and inode."""
    status = os.fstat(descriptor)
    return [status.st_dev, status.st_ino]


def open_real(path: str) -> int:
    """Open a directory by its real path: a link anywhere on the way is refused."""
    return _open_below(os.open("/", _DIRECTORY), path)


def open_folder(path: str, intent: t.Mapping[str, t.Any], opened: Opened | None) -> int:
    """Open a directory that a move leads from or to: one that the intent knows, or one below it, as the slots in our own staging area.

    A known one is what the run has open, or what is at its path if it is that very directory. Raises Exchanged, OSError.
    """
    known, folders = path, intent.get("folders", {})
    while known not in folders and (opened is None or known not in opened):
        if known in ("", "/"):
            raise Exchanged(path)
        known = os.path.dirname(known)
    if opened is not None and known in opened:
        here = os.dup(opened[known])
    else:
        here = open_real(known)
        if not _is_same(here, folders[known], intent):
            os.close(here)
            raise Exchanged(known)
    return _open_below(here, path[len(known) :])


def _is_same(descriptor: int, known: t.Sequence[int], intent: t.Mapping[str, t.Any]) -> bool:
    device, inode = identity_of(descriptor)
    return inode == known[1] and (device == known[0] or intent["boot"] != boot())


def _open_below(here: int, path: str) -> int:
    """Open a directory below an open one, which is closed."""
    for part in path.split("/"):
        if part:
            try:
                below = os.open(part, _DIRECTORY, dir_fd=here)
            finally:
                os.close(here)
            here = below
    return here


def boot() -> str:
    """Return the name of this boot: device numbers count only within one."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def _restore_file(file: t.Mapping[str, t.Any], intent: t.Mapping[str, t.Any], opened: Opened | None) -> None:
    directory, name = os.path.split(file["path"])
    try:
        parent = open_real(directory)
    except FileNotFoundError:
        return  # its directory was never made
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


def _read_regular(parent: int, name: str, at_most: int) -> tuple[bytes, os.stat_result]:
    """Read a regular file of an open directory, without waiting for anybody: a FIFO in its place would make us wait for its writer."""
    descriptor = os.open(name, _FILE, dir_fd=parent)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, f"{name} is not a regular file")
        content = file.read(at_most + 1)
    if len(content) > at_most:
        raise OSError(errno.EFBIG, f"{name} is larger than {at_most} bytes")
    return content, status


def _read_intent(path: str) -> tuple[dict[str, t.Any], int]:
    """Return an intent and when it was written (nanoseconds since the epoch)."""
    parent = open_real(os.path.realpath(os.path.dirname(path)))
    try:
        content, status = _read_regular(parent, os.path.basename(path), _LARGEST_DOCUMENT)
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


def _was_written(
    entry: t.Mapping[str, t.Any], since: int, deadline: float, intent: t.Mapping[str, t.Any], opened: Opened | None
) -> bool:
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
    """Whether an entry, or anything below it where it is a directory, was written after ``since``; what takes too long to see was."""
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
            return True  # no library goes that deep, so somebody made it
        with os.scandir(directory) as entries:
            return any(_is_newer_at(directory, entry.name, since, deadline, levels - 1) for entry in entries)
    finally:
        os.close(directory)


def _reverse(move: t.Mapping[str, t.Any], intent: t.Mapping[str, t.Any], opened: Opened | None) -> None:
    with contextlib.ExitStack() as stack:
        target = _opened_where_moved(move, intent, opened, stack)
        if target is None:
            return
        source = _opened(move["source"], intent, opened, stack)
        if _is_free(source, move["name"], target, move["new_name"]):
            os.rename(move["new_name"], move["name"], src_dir_fd=target, dst_dir_fd=source)
            os.fsync(source)
            os.fsync(target)


def _is_stuck(move: t.Mapping[str, t.Any], intent: t.Mapping[str, t.Any], opened: Opened | None) -> bool:
    with contextlib.ExitStack() as stack:
        try:
            target = _opened_where_moved(move, intent, opened, stack)
            if target is None:
                return False
            source = _opened(move["source"], intent, opened, stack)
        except (Exchanged, FileNotFoundError):
            return True  # it is out of reach, or its former place is
        return not _is_free(source, move["name"], target, move["new_name"])


def _opened_where_moved(
    move: t.Mapping[str, t.Any], intent: t.Mapping[str, t.Any], opened: Opened | None, stack: contextlib.ExitStack
) -> int | None:
    """Open the directory that something was to be moved to; None where it is not there, so that it was never moved."""
    try:
        target = _opened(move["target"], intent, opened, stack)
    except FileNotFoundError:
        return None
    return target if _inode(target, move["new_name"]) == move["inode"] else None


def _opened(path: str, intent: t.Mapping[str, t.Any], opened: Opened | None, stack: contextlib.ExitStack) -> int:
    descriptor = open_folder(path, intent, opened)
    stack.callback(os.close, descriptor)
    return descriptor


def _is_free(directory: int, name: str, there: int, moved: str) -> bool:
    """Whether what is ``moved`` can be renamed to ``name``: nothing is there, or an empty directory, which a directory replaces."""
    try:
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return True
    if not stat.S_ISDIR(found.st_mode) or not stat.S_ISDIR(os.stat(moved, dir_fd=there, follow_symlinks=False).st_mode):
        return False
    try:
        below = os.open(name, _DIRECTORY, dir_fd=directory)
    except (FileNotFoundError, NotADirectoryError):
        return False  # somebody changes it right now
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
    """What the program is given: files of the run in /run, the intent, the unit and whether it ran before, and the run's process.

    ``start``: ``yes``, ``no``, or ``only`` where it is to be started and never taken back.
    ``frozen``: the control groups of the container, a line each, whose processes the run holds still while the flag is there.
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
        return  # the run ended by itself and did all of this
    held = os.path.lexists(given.flag)
    if held and not _source_is_gone(given):  # not committed yet, see _cutover.py
        try:
            _take_back_all(given.intent)
        except (OSError, ValueError, KeyError):
            pass  # the intent stays for the next run, and the backend has to be started all the same
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
        _start(given.unit)  # there is no way back: what it had before went with its container
        return
    if given.start != "no" and not _start(given.unit) and given.start == "yes" and _gone_back(given):
        _systemctl("daemon-reload")
        _start(given.unit)


def _end_hold(given: Rescue) -> bool:
    """Let the processes of a container go on, or end those that are still held where their accounts are published; return the latter.

    What they would write from then on could go to the former place, which is thrown away. All that they wrote is published.
    """
    ended = _is_committed(given.intent)
    for pid in _pids_in(given.frozen.split("\n")):
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL if ended and _state(pid) in "Tt" else signal.SIGCONT)
    return ended


def _source_is_gone(given: Rescue) -> bool:
    """Whether no process of the container is left: its layer went with it, and the copies are for the next run, see _kept_copies.py."""
    return bool(given.frozen) and all(_state(pid) in "ZX" for pid in _pids_in(given.frozen.split("\n")))


def _state(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return "X"


def start_of(starts: str, intent: str) -> list[list[str]]:
    """Return the commands that start a container of Compose: the one that is there, or, once all is published, a new one."""
    return t.cast("list[list[str]]", json.loads(starts)["published" if _is_committed(intent) else "former"])


def run_all(commands: t.Iterable[t.Sequence[str]], seconds: float) -> str:
    """Run commands one after the other, each whatever the others say; return what the last one says where it fails, else ''."""
    failed = ""
    for words in commands:
        failed = ""
        try:
            # This is a program of its own, without Ansible.
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
                failed = (done.stderr.strip().splitlines() or [f"{words[0]} ended with {done.returncode}"])[-1]
        except (OSError, subprocess.TimeoutExpired) as error:
            failed = str(error)
    return failed


def _is_committed(path: str) -> bool:
    try:
        return bool(_read_intent(path)[0].get("committed"))
    except (OSError, ValueError):
        return False


def _pids_in(groups: t.Iterable[str]) -> t.Iterator[int]:
    """Yield the processes of control groups and of those below, cgroups(7): version 2, mixed, version 1 as systemd has them."""
    for group in groups:
        for top in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"):
            for directory, _below, files in os.walk(f"{top}/{group.strip('/')}"):
                if "cgroup.procs" in files:
                    with contextlib.suppress(OSError), open(f"{directory}/cgroup.procs", encoding="ascii") as file:
                        yield from [int(line) for line in file if line.strip().isdecimal() and int(line)]


def _wait_for_the_end(given: Rescue) -> None:
    """Wait until the run is gone. One that holds the backend stopped for too long, whatever keeps it, is ended."""
    limit = float(given.held_at_most)

    def look(_number: int, _frame: t.Any) -> None:
        try:
            held = (
                time.time() - os.stat(given.flag).st_mtime
            )  # this clock may be set meanwhile: the run is only ended early then
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
    """Kill the run, and nobody who got its number since; its helpers die with it, see _workers.py."""
    with contextlib.suppress(OSError):
        if started_at(process) == since:
            os.kill(process, signal.SIGKILL)


def started_at(process: int) -> str:
    """Return when a process was started, in the kernel's own count, proc(5)."""
    with open(f"/proc/{process}/stat", encoding="utf-8", errors="replace") as file:
        return file.read().rpartition(")")[2].split()[19]


def _start(unit: str) -> bool:
    _systemctl("reset-failed", "--", unit)
    return _systemctl("start", "--", unit)


def _gone_back(given: Rescue) -> bool:
    """A run was killed after it committed, and the backend does not start on the new path."""
    _systemctl("stop", "--", given.unit)
    try:
        return go_back(given.intent)
    except (OSError, ValueError, KeyError):
        return False


def _systemctl(*words: str) -> bool:
    """Ask systemd, who ends each start and stop by the unit's own limits; a limit of ours keeps us from waiting for ever."""
    argv = ["systemctl", *words]
    try:
        # This is a program of its own, without Ansible.
        return subprocess.run(argv, check=False, timeout=900).returncode == 0  # pylint: disable=ansible-bad-function
    except subprocess.TimeoutExpired:
        return False


def _take_back_all(path: str) -> None:
    try:
        intent, _written = _read_intent(path)
    except FileNotFoundError:
        return  # killed before anything was announced
    if intent.get("committed"):
        return  # going back may still have to read it
    take_back(intent)
    if not stuck_moves(intent):
        os.unlink(path)


def _main_at_boot(intent: str, boot_unit: str, boot_link: str, starts: str = "") -> None:
    """The host has booted, and systemd is about to start the backend: undo what was not committed, so that it finds its former path.

    A container of Compose is started from here.
    """
    try:
        _take_back_all(intent)
    finally:
        for path in (boot_link, boot_unit):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        _systemctl("daemon-reload")  # what systemd read before are the files of the new path
        if starts:
            run_all(start_of(starts, intent), 900.0)


if __name__ == "__main__":
    if sys.argv[1] == "boot":
        _main_at_boot(*sys.argv[2:])
    else:
        _main(Rescue(*sys.argv[1:]))

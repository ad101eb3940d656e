# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Takes back a cutover that did not finish, and starts the backend.

Used as a function by the run itself, and as a program when the run was killed, or the whole host with it.

As a program it is a copy of this file in /run, started by systemd before the backend is stopped: it waits for the run's lock, which
the kernel releases when the run ends in whatever way. After a boot it is the copy that lies beside the intent, see _cutover.py. So this
file must not import anything but the standard library.

An intent is the list of what a cutover is about to do, written durably before the first step: ``moves`` (renames, in order, each with
the reason for it) and ``files`` (what configuration files hold before). It is ``committed`` when all is done, right before the backend
is started, and removed after that; while it is there and not committed, taking back is what is right.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import stat
import subprocess
import sys
import typing as t

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_DEEPEST = 64

# Why something is renamed: out of a legacy path, out of the way, to the sessions path, and to the sessions path because it lies
# beside accounts. What is beside gives way to what is there already. And to a legacy path, to be left in the place of an account.
TAKING, DISPLACING, PUBLISHING, BESIDE, LEAVING = "taking", "displacing", "publishing", "beside", "leaving"


def take_back(intent: t.Mapping[str, t.Any]) -> None:
    """Undo what was done of an intent: files get their former content, renames are reversed. Doing it twice does no harm.

    Nothing is undone once the intent is ``committed``: the backend may be at work on the new path already.
    """
    if intent.get("committed"):
        return
    failed: list[OSError] = []
    for undo, all_done in ((_restore_file, intent["files"]), (_reverse, intent["moves"])):
        for done in reversed(all_done):
            try:
                undo(done)
            except OSError as error:  # a full disk keeps a file from being restored, not an account
                failed.append(error)
    if failed:
        raise failed[0]


def stuck_moves(intent: t.Mapping[str, t.Any]) -> list[t.Mapping[str, t.Any]]:
    """Return the renames that were done and cannot be reversed, because something new took the former place."""
    if intent.get("committed"):
        return []
    return [move for move in intent["moves"] if _is_stuck(move)]


def go_back(path: str) -> bool:
    """Take back the committed cutover of the intent at ``path``, because its backend does not start.

    Returns False, having done nothing, when a published account was written to since: the legacy copy is the older one then.
    """
    with open(path, "rb") as file:
        committed = os.fstat(file.fileno()).st_mtime_ns
        intent = json.load(file)
    if not intent.get("committed") or is_used(intent, committed):
        return False
    intent["committed"] = False  # durably: who is killed from here on has to be taken back
    _rewrite(path, json.dumps(intent).encode())
    take_back(intent)
    if not stuck_moves(intent):
        os.unlink(path)
    return True


def is_used(intent: t.Mapping[str, t.Any], since: int) -> bool:
    """Whether a published account was written to since (nanoseconds since the epoch): publishing itself changes no file."""
    published = (move for move in intent["moves"] if move["why"] == PUBLISHING)
    return any(_was_written(move, since) for move in published)


def kept_file(path: str) -> dict[str, t.Any]:
    """Describe what the file ``path`` holds now, for an intent; ``content`` is None when it is not there."""
    directory, name = os.path.split(path)
    path = os.path.join(os.path.realpath(directory), name)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return {"path": path, "content": None, "mode": 0, "uid": 0, "gid": 0}
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        content = base64.b64encode(file.read()).decode("ascii")
    return {
        "path": path,
        "content": content,
        "mode": stat.S_IMODE(status.st_mode),
        "uid": status.st_uid,
        "gid": status.st_gid,
    }


def planned_move(why: str, source: str, name: str, target: str, new_name: str, inode: int) -> dict[str, t.Any]:
    """Describe one rename between two directories (real paths), for an intent."""
    return {"why": why, "source": source, "name": name, "target": target, "new_name": new_name, "inode": inode}


def open_real(path: str) -> int:
    """Open a directory by its real path: a link anywhere on the way is refused."""
    here = os.open("/", _DIRECTORY)
    for part in path.split("/"):
        if part:
            try:
                below = os.open(part, _DIRECTORY, dir_fd=here)
            finally:
                os.close(here)
            here = below
    return here


def _restore_file(file: t.Mapping[str, t.Any]) -> None:
    directory, name = os.path.split(file["path"])
    try:
        parent = open_real(directory)
    except FileNotFoundError:
        return  # its directory was never made
    try:
        if file["content"] is None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=parent)
        else:
            _write(parent, name, file)
        os.fsync(parent)
    finally:
        os.close(parent)


def _write(parent: int, name: str, file: t.Mapping[str, t.Any]) -> None:
    temporary = f".{name}.taken-back"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary, dir_fd=parent)
    descriptor = os.open(
        temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=parent
    )
    with os.fdopen(descriptor, "wb") as writing:
        writing.write(base64.b64decode(file["content"]))
        writing.flush()
        os.fchown(descriptor, file["uid"], file["gid"])
        os.fchmod(descriptor, file["mode"])
        os.fsync(descriptor)
    os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)


def _rewrite(path: str, content: bytes) -> None:
    parent = open_real(os.path.realpath(os.path.dirname(path)))
    try:
        kept = {"content": base64.b64encode(content), "mode": 0o600, "uid": os.geteuid(), "gid": os.getegid()}
        _write(parent, os.path.basename(path), kept)
        os.fsync(parent)
    finally:
        os.close(parent)


def _was_written(move: t.Mapping[str, t.Any], since: int) -> bool:
    try:
        parent = open_real(move["target"])
    except FileNotFoundError:
        return False
    try:
        if _inode(parent, move["new_name"]) != move["inode"]:
            return False
        return _newest_at(parent, move["new_name"], _DEEPEST) > since
    finally:
        os.close(parent)


def _newest_at(parent: int, name: str, levels: int) -> int:
    """Return the newest modification time of an entry, and of all below it where it is a directory; 0 where it is gone."""
    try:
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if not stat.S_ISDIR(status.st_mode):
            return status.st_mtime_ns
        directory = os.open(name, _DIRECTORY, dir_fd=parent)
    except (FileNotFoundError, NotADirectoryError):
        return 0
    try:
        return _newest(directory, levels)
    finally:
        os.close(directory)


def _newest(directory: int, levels: int) -> int:
    """Return the newest modification time of a directory and all below it."""
    names = os.listdir(directory) if levels else []
    return max([os.fstat(directory).st_mtime_ns, *(_newest_at(directory, name, levels - 1) for name in names)])


def _reverse(move: t.Mapping[str, t.Any]) -> None:
    try:
        source, target = open_real(move["source"]), open_real(move["target"])
    except FileNotFoundError:
        return  # one of the two was never made, so nothing was moved
    try:
        if _inode(target, move["new_name"]) == move["inode"] and _is_free(
            source, move["name"], target, move["new_name"]
        ):
            os.rename(move["new_name"], move["name"], src_dir_fd=target, dst_dir_fd=source)
            os.fsync(source)
            os.fsync(target)
    finally:
        os.close(source)
        os.close(target)


def _is_stuck(move: t.Mapping[str, t.Any]) -> bool:
    try:
        source, target = open_real(move["source"]), open_real(move["target"])
    except FileNotFoundError:
        return False
    try:
        moved = _inode(target, move["new_name"]) == move["inode"]
        return moved and not _is_free(source, move["name"], target, move["new_name"])
    finally:
        os.close(source)
        os.close(target)


def _is_free(directory: int, name: str, there: int, moved: str) -> bool:
    """Whether what is ``moved`` can be renamed to ``name``: nothing is there, or an empty directory, which a directory replaces."""
    try:
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return True
    if not stat.S_ISDIR(found.st_mode) or not stat.S_ISDIR(os.stat(moved, dir_fd=there, follow_symlinks=False).st_mode):
        return False
    below = os.open(name, _DIRECTORY, dir_fd=directory)
    try:
        return not os.listdir(below)
    finally:
        os.close(below)


def _inode(directory: int, name: str) -> int | None:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False).st_ino
    except FileNotFoundError:
        return None


def _main(lock: str, busy: str, flag: str, guard: str, boot: str, intent: str, unit: str, start: str) -> None:
    with open(lock, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
    if not os.path.lexists(busy):
        return  # the run ended by itself and did all of this
    if os.path.lexists(flag):  # not committed yet, see _cutover.py
        try:
            _take_back_all(intent)
        except (OSError, ValueError):
            pass  # the intent stays for the next run, and the backend has to be started all the same
    for path in (flag, guard, boot, busy):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    subprocess.run(["systemctl", "daemon-reload"], check=False)
    if start == "yes" and not _started(unit) and _gone_back(intent, unit):
        subprocess.run(["systemctl", "daemon-reload"], check=False)
        _started(unit)


def _started(unit: str) -> bool:
    subprocess.run(["systemctl", "reset-failed", "--", unit], check=False)
    return subprocess.run(["systemctl", "start", "--", unit], check=False).returncode == 0


def _gone_back(intent: str, unit: str) -> bool:
    """A run was killed after it committed, and the backend does not start on the new path."""
    subprocess.run(["systemctl", "stop", "--", unit], check=False)
    try:
        return go_back(intent)
    except (OSError, ValueError):
        return False


def _take_back_all(path: str) -> None:
    try:
        with open(path, "rb") as file:
            intent = json.load(file)
    except FileNotFoundError:
        return  # killed before anything was announced
    if intent.get("committed"):
        return  # going back may still have to read it
    take_back(intent)
    if not stuck_moves(intent):
        os.unlink(path)


def _main_at_boot(intent: str, boot: str) -> None:
    """The host has booted, and systemd is about to start the backend: see that the accounts are where it will look for them."""
    try:
        with contextlib.suppress(FileNotFoundError), open(intent, "rb") as file:
            if not _is_switched(json.load(file)):
                _take_back_all(intent)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(boot)


def _is_switched(intent: t.Mapping[str, t.Any]) -> bool:
    """Whether all accounts are published and the environment, which is that of the backend, names the sessions path."""
    published = [move for move in intent["moves"] if move["why"] == PUBLISHING]
    named = (f"{os.path.realpath(value)}/" for value in os.environ.values() if value.startswith("/"))
    return (
        bool(published)
        and any(value.startswith(f"{intent['path']}/") for value in named)
        and all(map(_is_done, published))
    )


def _is_done(move: t.Mapping[str, t.Any]) -> bool:
    try:
        target = open_real(move["target"])
    except FileNotFoundError:
        return False
    try:
        return bool(_inode(target, move["new_name"]) == move["inode"])
    finally:
        os.close(target)


if __name__ == "__main__":
    if sys.argv[1] == "boot":
        _main_at_boot(*sys.argv[2:])
    else:
        _main(*sys.argv[1:])

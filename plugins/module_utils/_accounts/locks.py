# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Remove locks that keep a library from starting although the account is not in use: of another host, of a dead process, or damaged.

The lock itself is no proof. What counts is whether any process of this host, in any container, has something of the account open.
"""

from __future__ import annotations

import contextlib
import os
import typing as t

from .._fs.fdopen import DirFd, folders_in, opened_below, opened_directory
from .._fs.patterns import name_matcher
from .._layouts.account import open_account
from .._layouts.layout import DAMAGED, FOREIGN, STALE, Layout
from .._layouts.search import account_names

_REMOVABLE = (STALE, FOREIGN, DAMAGED)

Inode = tuple[int, int]


def locked_accounts(path: str, layout: Layout) -> tuple[str, ...]:
    """Return the accounts at the sessions path ``path`` with removable locks."""
    if not layout.locks:
        return ()
    try:
        with opened_directory(path) as root:
            return _locked_in(root, layout)
    except FileNotFoundError:
        return ()


def remove_locks(path: str, names: t.Iterable[str], layout: Layout, inode: int = 0) -> None:
    """Remove the locks of the accounts ``names`` at the sessions path, unless they are in use now.

    ``inode``: of the directory that was observed before; if it was replaced, nothing is removed.
    """
    with opened_directory(path) as root:
        if inode not in (0, os.fstat(root).st_ino):
            return
        for name in set(names).intersection(_locked_in(root, layout)):
            with _opened_account(root, name) as account:
                if account is not None and _is_removable(account, layout):
                    for folder, lock in _locks_in(account, layout):
                        with contextlib.suppress(FileNotFoundError), opened_below(account, folder) as opened:
                            os.unlink(lock, dir_fd=opened)


def _locked_in(root: DirFd, layout: Layout) -> tuple[str, ...]:
    inodes: dict[str, set[Inode]] = {}
    for name in account_names(root, layout):
        with _opened_account(root, name) as account:
            if account is not None and _is_removable(account, layout):
                inodes[name] = _inodes_of(account, layout)
    used = _open_inodes() if inodes else set()
    return tuple(name for name in inodes if not inodes[name] & used)


def _is_removable(account: DirFd, layout: Layout) -> bool:
    return layout.lock_of(account) in _REMOVABLE and bool(_locks_in(account, layout))


def _locks_in(account: DirFd, layout: Layout) -> list[tuple[str, str]]:
    """Return folder and name of each lock in an open account: in it, or in a directory of it that is the browser's profile."""
    found = []
    for folder in (".", *folders_in(account)):
        with contextlib.suppress(OSError), opened_below(account, folder) as opened:
            found += [(folder, name) for name in _lock_names(opened, layout)]
    return found


def _lock_names(directory: DirFd, layout: Layout) -> list[str]:
    """Return the names of the locks in an open directory. A directory with such a name was not created by a library."""
    is_lock = name_matcher(layout.locks)
    with os.scandir(directory) as entries:
        return [entry.name for entry in entries if is_lock(entry.name) and not entry.is_dir(follow_symlinks=False)]


def _inodes_of(account: DirFd, layout: Layout) -> set[Inode]:
    """Return the inodes that a process using the account has open: its files, or the directory itself."""
    from .._fs.walk_tree import files_below

    status = os.fstat(account)
    found = {(status.st_dev, status.st_ino)}
    for _name, status in files_below(account, layout.volatile_matcher, None):
        found.add((status.st_dev, status.st_ino))
    return found


def _open_inodes() -> set[Inode]:
    """Return the inodes that other processes have open or as their working directory."""
    found = set()
    for pid in os.listdir("/proc"):
        if pid.isdecimal() and int(pid) != os.getpid():
            for link in _links_of(pid):
                with contextlib.suppress(OSError):  # the process ended or closed the file
                    status = os.stat(link)
                    found.add((status.st_dev, status.st_ino))
    return found


def _links_of(pid: str) -> t.Iterator[str]:
    yield f"/proc/{pid}/cwd"
    try:
        numbers = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return
    yield from (f"/proc/{pid}/fd/{number}" for number in numbers)


@contextlib.contextmanager
def _opened_account(root: DirFd, name: str) -> t.Iterator[DirFd | None]:
    try:
        account = open_account(root, name)
    except OSError:
        yield None  # removed since it was listed
        return
    try:
        yield account if _is_own(root, account) else None
    finally:
        os.close(account)


def _is_own(root: DirFd, account: DirFd) -> bool:
    """Return whether an account belongs to the owner of its root, who could have moved another user's directory there; root is trusted."""
    owner = os.fstat(root).st_uid
    return owner in (0, os.geteuid()) or os.fstat(account).st_uid in (0, owner)
